package rows

import (
	"context"
	"fmt"
	"os"
	"strings"

	"tidemark/bench/lab"
	"tidemark/bench/report"
)

// environ lets this process use the store as well.
func environ(variables []string) {
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		os.Setenv(name, value)
	}
}

// largeValues archives what takes memory: values of nearly a gigabyte (the most that PostgreSQL sends), a
// transaction of all events at once, wide rows; by the stream and by a base snapshot, to S3 and to a folder.
var largeValues = Scenario{
	Name: "memory",
	Rows: []string{"memory-any"},
	Run: func(ctx context.Context, b *Bench) error {
		server, err := b.Server()
		if err != nil {
			return err
		}
		src, err := b.NewSource(ctx, server, "large", eventFunctions, eventTable("events"),
			"CREATE TABLE value (id int PRIMARY KEY, body text); ALTER TABLE value ALTER body SET STORAGE EXTERNAL")
		if err != nil {
			return err
		}
		if err := b.writeLarge(ctx, src); err != nil {
			return err
		}
		store, err := b.S3(ctx)
		if err != nil {
			return err
		}
		environ(store.Environ())
		return b.measureLarge(ctx, src, store.S3URL("stream"), store.S3URL("snapshot"), store.Environ())
	},
}

// writeLarge commits 250,000 events in one transaction, and a value of almost a gigabyte that zstd can only halve.
func (b *Bench) writeLarge(ctx context.Context, src *lab.Source) error {
	n := b.N(250_000)
	b.Logf("  writing %d events in a transaction, and a value of 992 MB", n)
	if err := writeEvents(ctx, src.Server, src.Database, "events", 1, n, n); err != nil {
		return err
	}
	repeats := max(1, int(31*min(1, b.Scale)))
	err := src.Server.Exec(ctx, src.Database, fmt.Sprintf("INSERT INTO value SELECT 1, repeat(string_agg(md5(i::text), ''), %d) FROM generate_series(1, 1000000) i", repeats))
	if err != nil {
		return err
	}
	return src.Ended(ctx)
}

func (b *Bench) measureLarge(ctx context.Context, src *lab.Source, stream, snapshot string, env []string) error {
	var usages []lab.Usage
	var notes []string
	note := func(what string, u lab.Usage, err error) error {
		if err == nil {
			usages = append(usages, u)
			notes = append(notes, fmt.Sprintf("%s: %.1f MiB, %.1f s", what, float64(u.Memory)/mib, u.Wall.Seconds()))
			b.Logf("  %s", notes[len(notes)-1])
		}
		return err
	}
	if err := src.Upload(ctx, stream); err != nil {
		return err
	}
	u, err := src.Drain(ctx, src.DSN(), stream, env)
	if err := note("stream to S3", u, err); err != nil {
		return err
	}
	folder, err := src.NewFolder("archive")
	if err != nil {
		return err
	}
	u, err = src.Drain(ctx, src.DSN(), folder, nil)
	if err := note("stream to a folder", u, err); err != nil {
		return err
	}
	if err := src.Drop(ctx, src.Slot()); err != nil {
		return err
	}
	u, err = src.CatchUp(ctx, src.DSN(), snapshot, env)
	if err := note("base snapshot to S3", u, err); err != nil {
		return err
	}
	b.Add(report.Worst("memory-any", "resident memory of the archiver: values of 1 GB, a transaction of 100 MB, S3 and folder, stream and base snapshot", report.AtMost(96),
		memory("archiver", usages)).In("TCP, HTTP to versitygw", "250000", b.Cores(), notes...))
	return nil
}
