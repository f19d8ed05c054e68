package rows

import (
	"context"
	"fmt"
	"os"

	"tidemark/bench/lab"
	"tidemark/bench/report"
)

const bulk = 1000 // rows a transaction of bulk events

// transport is a way to reach the source.
type transport struct {
	name, label string
	dsn         func(*lab.Source) (string, error)
	wall, cpu   float64 // goals; 0: none
}

var transports = []transport{
	{"tcp", "TCP", func(s *lab.Source) (string, error) { return s.DSN(), nil }, 0.95, 0.5},
	{"unix", "Unix socket", func(s *lab.Source) (string, error) { return s.Server.SocketDSN(s.Database), nil }, 1.05, 0.75},
	{"tls", "TLS", (*lab.Source).TLS, 1.05, 0},
}

// drain reads a slot of a million events into an archive in a folder, and with pg_recvlogical into a file.
var drain = Scenario{
	Name: "drain",
	Rows: []string{"drain-tcp-wall", "drain-tcp-cpu", "drain-unix-wall", "drain-unix-cpu", "drain-tls-wall", "drain-memory"},
	Run: func(ctx context.Context, b *Bench) error {
		src, n, err := b.eventSource(ctx, bulk)
		if err != nil {
			return err
		}
		var all []lab.Usage
		for _, t := range transports {
			wallRow, cpuRow := "drain-"+t.name+"-wall", "drain-"+t.name+"-cpu"
			if !b.WantAny(wallRow, cpuRow, "drain-memory") {
				continue
			}
			p, err := b.drainBoth(ctx, src, t, n)
			if err != nil {
				return err
			}
			all = append(all, p.ours...)
			b.Add(report.Compare(wallRow, fmt.Sprintf("draining a slot of %d events into a folder, wall", n), report.AtMost(t.wall),
				wall("archiver", p.ours), wall("pg_recvlogical", p.theirs)).In(t.label, "1000", b.Cores(), "CPU of the walsender: "+p.walsenders()))
			if t.cpu > 0 {
				b.Add(report.Compare(cpuRow, "CPU of the reader alone, the same runs", report.AtMost(t.cpu),
					cpu("archiver", p.ours), cpu("pg_recvlogical", p.theirs)).In(t.label, "1000", b.Cores()))
			}
		}
		if len(all) > 0 {
			b.Add(report.Worst("drain-memory", "resident memory of the archiver, file store: the most of all runs", report.AtMost(32),
				memory("archiver", all)).In("TCP, Unix socket, TLS", "1000", b.Cores()))
		}
		return nil
	},
}

// eventSource makes a source with a million events behind its archive, so many rows a transaction.
func (b *Bench) eventSource(ctx context.Context, rows int, settings ...map[string]string) (*lab.Source, int, error) {
	server, err := b.Server(settings...)
	if err != nil {
		return nil, 0, err
	}
	src, err := b.NewSource(ctx, server, "events", eventFunctions, eventTable("events"))
	if err != nil {
		return nil, 0, err
	}
	n := b.N(1_000_000)
	b.Logf("  writing %d events, %d a transaction", n, rows)
	if err := writeEvents(ctx, server, src.Database, "events", 1, n, rows); err != nil {
		return nil, 0, err
	}
	return src, n, src.Ended(ctx)
}

func (b *Bench) drainBoth(ctx context.Context, src *lab.Source, t transport, n int) (pair, error) {
	dsn, err := t.dsn(src)
	if err != nil {
		return pair{}, err
	}
	b.Logf("  %s", t.label)
	return b.interleave(
		func(run int) (lab.Usage, error) { return b.drainToFolder(ctx, src, dsn, n) },
		func(int) (lab.Usage, error) { return src.Foreign(ctx, dsn) })
}

// drainToFolder drains into a folder, and looks that all events are in the archive.
func (b *Bench) drainToFolder(ctx context.Context, src *lab.Source, dsn string, n int) (lab.Usage, error) {
	folder, err := src.NewFolder("archive")
	if err != nil {
		return lab.Usage{}, err
	}
	defer os.RemoveAll(folder)
	u, err := src.Drain(ctx, dsn, folder, nil)
	if err != nil {
		return u, err
	}
	return u, complete(ctx, folder, n)
}

// complete tells whether an archive's segments hold so many events.
func complete(ctx context.Context, url string, n int) error {
	sum, err := lab.Archived(ctx, url)
	if err == nil && sum.Inserts != int64(n)+1 { // and the one that ends it
		err = fmt.Errorf("%s holds %d inserted rows, not %d", url, sum.Inserts, n+1)
	}
	return err
}

// drainS3 compares draining to S3 with draining to a folder.
var drainS3 = Scenario{
	Name: "drain-s3",
	Rows: []string{"drain-s3-wall"},
	Run: func(ctx context.Context, b *Bench) error {
		src, n, err := b.eventSource(ctx, bulk)
		if err != nil {
			return err
		}
		store, err := b.S3(ctx)
		if err != nil {
			return err
		}
		environ(store.Environ())
		p, err := b.interleave(
			func(run int) (lab.Usage, error) {
				url := store.S3URL(fmt.Sprintf("run-%d", run))
				if err := src.Upload(ctx, url); err != nil {
					return lab.Usage{}, err
				}
				u, err := src.Drain(ctx, src.DSN(), url, store.Environ())
				if err != nil {
					return u, err
				}
				return u, complete(ctx, url, n)
			},
			func(int) (lab.Usage, error) { return b.drainToFolder(ctx, src, src.DSN(), n) })
		if err != nil {
			return err
		}
		b.Add(report.Compare("drain-s3-wall", fmt.Sprintf("draining a slot of %d events to S3 on loopback, against draining into a folder, wall", n), report.AtMost(1.10),
			wall("archiver to S3", p.ours), wall("archiver to a folder", p.theirs)).In("TCP, and HTTP to versitygw", "1000", b.Cores(),
			fmt.Sprintf("memory to S3: %.1f MiB at most", report.Worst("", "", report.Goal{}, memory("", p.ours)).Value)))
		return nil
	},
}
