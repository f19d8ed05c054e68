package rows

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"tidemark/bench/lab"
	"tidemark/bench/report"
)

// small makes a source with an empty table and a base snapshot: what made-up archives begin with.
func (b *Bench) small(ctx context.Context) (*lab.Source, error) {
	server, err := b.Server()
	if err != nil {
		return nil, err
	}
	return b.NewSource(ctx, server, "small", eventColumns("events"))
}

// planYear plans restores from a year of segments of ten seconds with a base snapshot a day, in S3. Of the segments'
// objects only those are there that a plan reads.
var planYear = Scenario{
	Name: "plan-year",
	Rows: []string{"plan-time", "plan-memory", "plan-requests"},
	Run: func(ctx context.Context, b *Bench) error {
		entries := uint64(3_153_600*b.Scale) / 64 * 64
		url, counter, targets, env, err := b.makeYear(ctx, entries)
		if err != nil {
			return err
		}
		times, memories, requests := report.Side{Name: "restorer plan", Unit: "s"}, report.Side{Name: "restorer plan", Unit: "MiB"}, report.Side{Name: "restorer plan", Unit: "requests"}
		var notes []string
		for range b.Runs {
			for _, target := range targets {
				counter.Take()
				u, err := lab.Run(ctx, b.Restorer(env, append([]string{"plan", "--archive", url, "-o", "json"}, target...)...))
				if err != nil {
					return err
				}
				n := counter.Take()
				times.Runs, memories.Runs, requests.Runs = append(times.Runs, u.Wall.Seconds()), append(memories.Runs, float64(u.Memory)/mib), append(requests.Runs, float64(n))
				if len(notes) < len(targets) {
					notes = append(notes, fmt.Sprintf("%v: %.3f s, %.1f MiB, %d requests", target, u.Wall.Seconds(), float64(u.Memory)/mib, n))
				}
			}
		}
		what := fmt.Sprintf("plan of a restore from %d entries (a segment each ten seconds, a base snapshot a day)", entries)
		b.Add(report.Absolute("plan-time", what+", wall", report.AtMost(0.5), times).In("HTTP to versitygw", "1", b.Cores(), notes...))
		b.Add(report.Worst("plan-memory", what+", resident memory", report.AtMost(48), memories).In("HTTP to versitygw", "1", b.Cores()))
		b.Add(report.Worst("plan-requests", what+", requests", report.AtMost(12), requests).In("HTTP to versitygw", "1", b.Cores()))
		return nil
	},
}

// makeYear makes the archive, and says where to, in ways that read different parts of it.
func (b *Bench) makeYear(ctx context.Context, entries uint64) (url string, counter *lab.Counter, targets [][]string, env []string, err error) {
	src, err := b.small(ctx)
	if err != nil {
		return "", nil, nil, nil, err
	}
	folder := b.Path("year")
	l, err := newLine(ctx, src, folder)
	if err != nil {
		return "", nil, nil, nil, err
	}
	middle := entries / 3 * 2
	l.transactions, l.rows, l.snapshots = 2, 1, 8_640
	l.real = func(n uint64) bool { return n > entries-entries/l.snapshots-70 || n+70 > middle && n < middle+70 }
	l.deletes = func(uint64) bool { return false }
	b.Logf("  making %d entries", entries)
	if err := l.extend(ctx, entries); err != nil {
		return "", nil, nil, nil, err
	}
	store, err := b.S3(ctx)
	if err != nil {
		return "", nil, nil, nil, err
	}
	environ(store.Environ())
	if err := lab.CopyArchive(ctx, folder, store.S3URL("year")); err != nil {
		return "", nil, nil, nil, err
	}
	if counter, err = b.Count(store); err != nil {
		return "", nil, nil, nil, err
	}
	between := l.at(middle, 0).Time().Add(time.Second).Format(time.RFC3339Nano)
	targets = [][]string{{"--to-latest"}, {"--to-time", between}, {"--to-xid", fmt.Sprint(l.xid(middle, 1))}}
	return counter.Through(store, store.S3URL("year")), counter, targets, store.Environ(), nil
}

// logDay finds one DELETE among the transactions of a day.
var logDay = Scenario{
	Name: "log-day",
	Rows: []string{"log-delete"},
	Run: func(ctx context.Context, b *Bench) error {
		src, err := b.small(ctx)
		if err != nil {
			return err
		}
		const segments, transactions, rows = 8_640, 116, 10
		entries := uint64(segments*min(1, b.Scale)+10) / 64 * 64
		folder := b.Path("day")
		l, err := newLine(ctx, src, folder)
		if err != nil {
			return err
		}
		l.transactions, l.rows = transactions, rows
		l.real, l.deletes = func(uint64) bool { return true }, func(n uint64) bool { return n == entries*5/8 }
		b.Logf("  making %d segments", entries)
		if err := l.extend(ctx, entries); err != nil {
			return err
		}
		side, err := b.findDelete(ctx, folder)
		if err != nil {
			return err
		}
		b.Add(report.Absolute("log-delete", fmt.Sprintf("restorer log --op delete over a day of 10-second segments (%d) with %d rows, finding one DELETE, wall", l.n, l.n*transactions*rows),
			report.AtMost(2), side).In("folder", fmt.Sprint(rows), b.Cores()))
		return nil
	},
}

func (b *Bench) findDelete(ctx context.Context, folder string) (side report.Side, err error) {
	side = report.Side{Name: "restorer log", Unit: "s"}
	for range b.Runs {
		u, err := lab.Run(ctx, b.Restorer(nil, "log", "--archive", folder, "--op", "delete", "-o", "json"))
		if err != nil {
			return side, err
		}
		var found struct {
			Rows int64 `json:"rows"`
		}
		if n := bytes.Count(u.Output, []byte("\n")); n != 1 || json.Unmarshal(u.Output, &found) != nil {
			return side, fmt.Errorf("restorer log found %d transactions: %.300s", n, u.Output)
		}
		side.Runs = append(side.Runs, u.Wall.Seconds())
	}
	return side, nil
}
