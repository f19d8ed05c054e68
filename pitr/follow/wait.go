package follow

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// beat is how often the row is written while nothing is applied: a sign of life, and the follower's way to
// learn of a promotion.
const beat = 2 * time.Second

// The longest time between two looks at the archive: while entries come, and once none came for a while.
const (
	busyPoll = 500 * time.Millisecond
	idlePoll = 2 * time.Second
	idle     = time.Minute
)

// wait waits until the archive has more than end of the history, or another history goes on from it.
func (w *feeder) wait(ctx context.Context, stop <-chan struct{}, end segment.LSN) error {
	for began, poll := time.Now(), w.f.o.Poll; ; {
		if err := w.f.refresh(ctx); err != nil {
			return err
		}
		view := w.f.log.View()
		if view.End(w.r.History) > end {
			return nil
		}
		if newest, _ := view.Newest(); newest.Number > w.r.History {
			if w.bounded(); w.next != 0 {
				return nil
			}
			return w.ended(end)
		}
		if err := w.checkInexact(ctx); err != nil {
			return err
		}
		if w.state == Promoting {
			return errEnd
		}
		w.f.oldest.Store(0)
		if err := w.rest(ctx, stop, poll); err != nil {
			return err
		}
		poll = min(2*poll, busyPoll)
		if time.Since(began) > idle {
			poll = idlePoll
		}
	}
}

// rest waits for a while and keeps the row fresh.
func (w *feeder) rest(ctx context.Context, stop <-chan struct{}, d time.Duration) error {
	if time.Since(w.beaten) >= beat {
		w.applier.Advance(w.at)
		if err := w.applier.Flush(ctx); err != nil {
			return err
		}
		w.beaten = time.Now()
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-stop:
		return errStopped
	case <-time.After(d):
		return nil
	}
}

// dueTimes says, where a delay is asked for, when each transaction of a segment may be applied. The time
// that a transaction from another node bears is that node's: the time its segment was archived counts.
func (w *feeder) dueTimes(ctx context.Context, e *catalog.Entry) (map[segment.LSN]time.Time, error) {
	if w.f.o.Delay <= 0 || w.state == Promoting {
		return nil, nil
	}
	x, err := w.archive.Index(ctx, *e)
	if err != nil {
		return nil, err
	}
	due := make(map[segment.LSN]time.Time, len(x.Transactions))
	for _, t := range x.Transactions {
		at := t.CommitTime.Time()
		if t.Foreign {
			at = e.At
		}
		due[t.CommitLSN] = at.Add(w.f.o.Delay)
	}
	return due, nil
}

// delay waits until a transaction is due.
func (w *feeder) delay(ctx context.Context, stop <-chan struct{}, commit segment.LSN, due time.Time) error {
	for {
		left := due.Sub(w.f.o.Now())
		if left <= 0 {
			return nil
		}
		if err := w.applier.Flush(ctx); err != nil {
			return err
		}
		if err := w.f.refresh(ctx); err != nil {
			return err
		}
		if w.bounded(); w.over(commit) {
			return nil // what was waited for is no commit any more
		}
		if err := w.rest(ctx, stop, min(left, beat)); err != nil {
			return err
		}
	}
}

// unaccepted gives the ranges of the history whose replay is not exact, but for those that were accepted.
func (w *feeder) unaccepted() []catalog.InexactPoint {
	return slices.DeleteFunc(w.f.log.View().Inexact(), func(i catalog.InexactPoint) bool {
		return i.History != w.r.History || i.Seq <= w.r.Accepted
	})
}

// checkInexact refuses what was found only later not to be the source's, and ranges of which nothing came.
func (w *feeder) checkInexact(ctx context.Context) error {
	for _, i := range w.unaccepted() {
		if i.Touches(w.r.SnapshotLSN, w.at.EndLSN) {
			if err := w.refuse(ctx, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse stops at a change that can't be replayed exactly, unless it is accepted.
func (w *feeder) refuse(ctx context.Context, i catalog.InexactPoint) error {
	what := "some tables"
	if len(i.Tables) > 0 {
		what = fmt.Sprint(i.Tables)
	}
	if w.f.o.AcceptInexact {
		w.mu.Lock()
		defer w.mu.Unlock()
		if i.Seq > w.accepted {
			w.f.o.Log.Warn("going on past a change that can't be replayed exactly", "lsn", i.From, "reason", i.Reason, "tables", what)
			w.accepted = i.Seq
			w.applier.Reconsider()
		}
		return nil
	}
	err := fault.New(fault.Uncovered, "--accept-inexact goes on all the same; to be exact, begin anew with an empty database: the archiver takes a base snapshot after each such change",
		"what follows LSN %s can't be replayed exactly (%s; %s); the database has all commits before LSN %s", i.From, i.Reason, what, w.at.EndLSN)
	return w.flushed(ctx, err)
}

// doubts reports whether rows of a relation may not fit what the database has: what somebody accepted made some of them differ.
func (w *feeder) doubts(rel *segment.Relation, _ segment.LSN) bool {
	w.mu.Lock()
	accepted := max(w.r.Accepted, w.accepted)
	w.mu.Unlock()
	view := w.f.log.View()
	return slices.ContainsFunc(view.Inexact(), func(i catalog.InexactPoint) bool {
		return i.Seq <= accepted && i.To > w.r.SnapshotLSN && leads(view, i.History, w.r.History) && (len(i.Tables) == 0 || slices.Contains(i.Tables, rel.String()))
	})
}
