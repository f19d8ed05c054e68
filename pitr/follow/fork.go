package follow

import (
	"errors"
	"fmt"

	"tidemark/catalog"
	"tidemark/segment"
)

// errCrossed says that the row stands in the next history now.
var errCrossed = errors.New("the feed goes on in the next history")

// fork is where the source left the history that is followed, with nothing missing from there on: a standby of it
// was promoted, and its slot came along.
type fork struct {
	at segment.LSN // commits of the old history at or after it, the new primary never received
	to uint32      // the history that goes on
}

// forkOf returns where the source left a history. If another history follows it and it isn't known that nothing is
// missing between the two, the reason is given.
func forkOf(v *catalog.View, history uint32) (k fork, why string) {
	old, _ := v.History(history)
	next, ok := v.History(history + 1)
	b := next.Begins
	switch {
	case !ok:
		return fork{}, ""
	case b.Parent != history || b.Fork == 0 || b.SystemID != old.Begins.SystemID || b.Database != old.Begins.Database || b.Encoding != old.Begins.Encoding:
		return fork{}, b.Reason
	case next.From > b.Fork || next.Pruned > b.Fork:
		return fork{}, fmt.Sprintf("%s; what it committed from LSN %s to %s is not archived", b.Reason, b.Fork, max(next.From, next.Pruned))
	}
	return fork{at: b.Fork, to: next.Number}, b.Reason
}

// leads reports whether a feed of one history may come to a later one.
func leads(v *catalog.View, from, to uint32) bool {
	for ; from < to; from++ {
		if k, _ := forkOf(v, from); k.to == 0 {
			return false
		}
	}
	return from == to
}

// bounded finds out where the history ends for this feeder: at the fork to the next one, if it goes on there, or at
// its own end. A target in this very history, or --history, keeps the feed in it.
func (w *feeder) bounded() {
	w.bound, w.next = 0, 0
	k, _ := forkOf(w.f.log.View(), w.r.History)
	if k.to == 0 || w.goal.target.History == w.r.History || w.goal.history == w.r.History || w.at.CommitLSN >= k.at {
		return
	}
	w.bound, w.next = k.at, k.to
}

// cross brings the row into the next history, once all of this one before the fork is applied. The position may go
// back: what the archive held beyond the fork was no commit.
func (w *feeder) cross() error {
	if w.next == 0 || w.at.EndLSN < w.bound || w.goal.reachedBy(w.at.EndLSN) {
		return nil
	}
	_, why := forkOf(w.f.log.View(), w.r.History)
	w.f.o.Log.Warn("the source left this history, and the feed goes on in the next with nothing missing", "history", w.r.History, "next", w.next, "fork", w.bound, "reason", why)
	w.mu.Lock()
	w.final = fmt.Sprintf(", history = %d", w.next)
	w.mu.Unlock()
	w.at.EndLSN = w.bound
	w.applier.Advance(w.at)
	return errCrossed
}

// ended says why the feed can't go on in the history that came after this one.
func (w *feeder) ended(end segment.LSN) error {
	k, why := forkOf(w.f.log.View(), w.r.History)
	if k.to != 0 {
		if w.at.CommitLSN >= k.at {
			why += fmt.Sprintf("; the database has commits from LSN %s on that history %d lacks, up to transaction %d at LSN %s", k.at, k.to, w.at.XID, w.at.CommitLSN)
		} else {
			why += "; the feed was told to stay in this history"
		}
	}
	return w.lost("history %d has ended at LSN %s, and history %d began (%s)", w.r.History, end, w.r.History+1, why)
}

// over reports whether a commit lies past what is to be applied.
func (w *feeder) over(commit segment.LSN) bool {
	return w.goal.reachedBy(commit) || w.bound != 0 && commit >= w.bound
}

// limit cuts a position at the goal, and at the fork.
func (w *feeder) limit(lsn segment.LSN) segment.LSN {
	for _, end := range []segment.LSN{w.goal.cut, w.bound} {
		if end != 0 {
			lsn = min(lsn, end)
		}
	}
	return lsn
}
