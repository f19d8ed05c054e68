package rows

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/bench/lab"
	"tidemark/bench/report"
	"tidemark/catalog"
	"tidemark/objectstore"
	"tidemark/segment"
)

// measureLag writes at a rate, beside archiver and follower, with transactions numbered from there on, and measures the
// longest time that something archived waited to be applied.
func (b *Bench) measureLag(ctx context.Context, s *standbys, f feed, rate float64, from int) error {
	archiver, err := lab.Start(ctx, b.Archiver(nil, "run", "--source", s.src.DSN(), "--archive", s.folder, "--segment-max-age", "1s"))
	if err != nil {
		return err
	}
	defer archiver.Interrupt()
	if _, err := caughtUp(ctx, s.src, archiver, s.src.Slot()); err != nil {
		return err
	}
	follower, err := lab.Start(ctx, b.Restorer(nil, "follow", "--archive", s.folder, "--into", s.standby.DSN("shop")))
	if err != nil {
		return err
	}
	defer follower.Interrupt()
	side := report.Side{Name: "restorer follow", Unit: "s"}
	var notes []string
	slowest := rate
	transactions := int(rate * max(5, 25*min(1, b.Scale)))
	for run := range b.Runs {
		lag, took, err := s.lag(ctx, follower, func() error { return s.write(ctx, f, transactions, from+run*transactions, rate) })
		if err != nil {
			return fmt.Errorf("%s: %w", f.lag, err)
		}
		done := float64(transactions) / took.Seconds()
		side.Runs, slowest = append(side.Runs, lag.Seconds()), min(slowest, done)
		notes = append(notes, fmt.Sprintf("half the subscription's rate is %.0f transactions/s; %.0f were committed; longest lag %.2f s", rate, done, lag.Seconds()))
		b.Logf("  lag, run %d: %s", run+1, notes[len(notes)-1])
	}
	what := "longest lag behind the archive's end at half the native subscription's rate, segments of 1 s, " + f.what
	if slowest < 0.95*rate {
		what += fmt.Sprintf("; with all of it on one machine the source committed %.0f transactions/s of %.0f", slowest, rate)
	}
	b.Add(report.Worst(f.lag, what, report.AtMost(2), side).
		In("TCP", fmt.Sprint(f.rows), b.Cores(), notes...))
	return nil
}

// lag watches the standby until all that write commits is applied, and returns the longest time that something archived
// waited, and the time that writing took.
func (s *standbys) lag(ctx context.Context, follower *lab.Process, write func() error) (longest, took time.Duration, err error) {
	w, err := s.watch(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer w.close(ctx)
	if err := s.settled(ctx, follower, w); err != nil {
		return 0, 0, err
	}
	w.longest = 0
	began, written := time.Now(), make(chan error, 1)
	go func() { written <- write() }()
	writing := true
	err = follower.Until(ctx, "all is written", func() bool {
		select {
		case err := <-written:
			took, writing, w.err = time.Since(began), false, err
		default:
			w.look(ctx)
		}
		return !writing || w.err != nil
	})
	if err == nil {
		err = w.err
	}
	if err == nil {
		err = s.settled(ctx, follower, w)
	}
	return w.longest, took, err
}

// settled waits until all that is committed is archived and applied.
func (s *standbys) settled(ctx context.Context, follower *lab.Process, w *lagWatch) error {
	if err := s.src.Ended(ctx); err != nil {
		return err
	}
	err := follower.Until(ctx, "all is applied", func() bool {
		w.look(ctx)
		return w.err != nil || w.archived >= s.src.End && len(w.waiting) == 0
	})
	if err == nil {
		err = w.err
	}
	return err
}

// lagWatch compares an archive's end with the position of a standby.
type lagWatch struct {
	log      *catalog.Log
	standby  *pgx.Conn
	archived segment.LSN   // the end seen last
	waiting  []arrival     // ends seen and not reached yet, in order
	longest  time.Duration // that one of them waited
	err      error         // of the last look
}

// arrival is an archive's end and when it was first seen.
type arrival struct {
	end segment.LSN
	at  time.Time
}

func (s *standbys) watch(ctx context.Context) (*lagWatch, error) {
	store, err := objectstore.Open(ctx, s.folder)
	if err != nil {
		return nil, err
	}
	w := &lagWatch{}
	if w.log, err = catalog.Open(ctx, store); err != nil {
		return nil, err
	}
	w.standby, err = lab.Connect(ctx, s.standby.DSN("shop"))
	return w, err
}

func (w *lagWatch) close(ctx context.Context) { _ = w.standby.Close(ctx) }

// look looks at both once.
func (w *lagWatch) look(ctx context.Context) {
	if w.err = w.log.Refresh(ctx); w.err != nil {
		return
	}
	if end := w.log.View().End(1); end > w.archived {
		w.archived, w.waiting = end, append(w.waiting, arrival{end, time.Now()})
	}
	var text string
	if w.err = w.standby.QueryRow(ctx, "SELECT position::text FROM tidemark.follow").Scan(&text); w.err != nil {
		return
	}
	var at segment.LSN
	if at, w.err = segment.ParseLSN(text); w.err != nil {
		return
	}
	for len(w.waiting) > 0 && w.waiting[0].end <= at {
		w.longest = max(w.longest, time.Since(w.waiting[0].at))
		w.waiting = w.waiting[1:]
	}
}
