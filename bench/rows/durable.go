package rows

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tidemark/bench/lab"
	"tidemark/bench/report"
	"tidemark/catalog"
	"tidemark/objectstore"
	"tidemark/segment"
)

// durable measures how long a commit waits until the archive holds it, with segments of a second, beside a
// moderate load.
var durable = Scenario{
	Name: "durable",
	Rows: []string{"durable-p99"},
	Run: func(ctx context.Context, b *Bench) error {
		src, err := b.benchSource(ctx, 10)
		if err != nil {
			return err
		}
		folder, err := src.NewFolder("durable")
		if err != nil {
			return err
		}
		p, err := lab.Start(ctx, b.Archiver(nil, "run", "--source", src.DSN(), "--archive", folder, "--segment-max-age", "1s"))
		if err != nil {
			return err
		}
		defer p.Interrupt()
		if _, err := caughtUp(ctx, src, p, src.Slot()); err != nil {
			return err
		}
		side := report.Side{Name: "archiver", Unit: "s"}
		var notes []string
		for range b.Runs {
			waits, err := b.probe(ctx, src, folder)
			if err != nil {
				return err
			}
			slices.Sort(waits)
			side.Runs = append(side.Runs, waits[len(waits)*99/100].Seconds())
			notes = append(notes, fmt.Sprintf("%d commits: median %.2f s, p99 %.2f s, longest %.2f s", len(waits), waits[len(waits)/2].Seconds(), waits[len(waits)*99/100].Seconds(), waits[len(waits)-1].Seconds()))
			b.Logf("  %s", notes[len(notes)-1])
		}
		b.Add(report.Absolute("durable-p99", "commit to durable in a folder, segments of 1 s, beside 500 transactions a second, 99th percentile", report.AtMost(1.3), side).In("TCP", "2", b.Cores(), notes...))
		return nil
	},
}

// commit is one that waits to be archived.
type commit struct {
	lsn segment.LSN // at or past its end
	at  time.Time   // when the client had the answer
}

// probe commits a hundred times a second, and returns how long each commit waited.
func (b *Bench) probe(ctx context.Context, src *lab.Source, folder string) ([]time.Duration, error) {
	seconds := max(4, int(20*min(1, b.Scale)))
	load := make(chan error, 1)
	go func() {
		_, err := timedPgbench(src, seconds, 500)
		load <- err
	}()
	commits := make(chan commit, 10_000)
	failed := make(chan error, 1)
	go func() {
		defer close(commits)
		failed <- commitOften(ctx, src, time.Duration(seconds)*time.Second, commits)
	}()
	waits, err := watchArchive(ctx, folder, commits)
	if err != nil {
		return nil, err
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	return waits, <-load
}

func commitOften(ctx context.Context, src *lab.Source, d time.Duration, out chan<- commit) error {
	conn, err := lab.Connect(ctx, src.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		if _, err := conn.Exec(ctx, "INSERT INTO ended VALUES (0)"); err != nil {
			return err
		}
		at := time.Now()
		var text string
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
			return err
		}
		lsn, err := segment.ParseLSN(text)
		if err != nil {
			return err
		}
		out <- commit{lsn, at}
	}
	return nil
}

// watchArchive looks at the catalog's end until all commits are in.
func watchArchive(ctx context.Context, folder string, commits <-chan commit) (waits []time.Duration, err error) {
	store, err := objectstore.Open(ctx, folder)
	if err != nil {
		return nil, err
	}
	log, err := catalog.Open(ctx, store)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	seen := time.Now() // when the log's view was made
	for c := range commits {
		for log.View().End(1) < c.lsn {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			if err := log.Refresh(ctx); err != nil {
				return nil, err
			}
			seen = time.Now()
			if time.Since(c.at) > time.Minute {
				return nil, fmt.Errorf("a commit before %s is not archived after a minute", c.lsn)
			}
		}
		waits = append(waits, max(0, seen.Sub(c.at)))
	}
	return waits, nil
}
