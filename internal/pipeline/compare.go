package pipeline

import (
	"fmt"

	"tidemark/catalog"
	"tidemark/segment"
	"tidemark/walstream"
)

// verdict is what a comparison of archive and server at START demands.
type verdict int

const (
	resume     verdict = iota // the server continues the archive's line of WAL
	newHistory                // it does not: the archive's history ends here, another begins
	gap                       // it continues it, but part of the stream is gone
)

// judgement is a verdict with its reason and, for a fork at a promotion, where it left the old line.
type judgement struct {
	verdict verdict
	reason  string
	fork    segment.LSN // 0 when it isn't known
}

// compare judges what the server says of itself at START against the newest history, whose tiling ends at
// end and whose server was last seen on timeline. Rules 1 and 2 of the page on Postgres' behaviour: system
// identifier, timeline switches, the flush position and the slot's confirmed position each can show that
// the server is not where the archive left it; the server itself checks none of them.
func compare(h *catalog.History, timeline int32, end segment.LSN, id walstream.Identity) judgement {
	switch {
	case id.SystemID != h.SystemID:
		return judgement{verdict: newHistory, reason: fmt.Sprintf("the source is another cluster (system identifier %s, archived %s)", id.SystemID, h.SystemID)}
	case id.Database != h.Database:
		return judgement{verdict: newHistory, reason: fmt.Sprintf("the source is another database (%s, archived %s)", id.Database, h.Database)}
	case id.Timeline != timeline:
		if j := compareTimelines(timeline, end, id); j.verdict != resume {
			return j
		}
	}
	if id.FlushLSN < end {
		return judgement{verdict: newHistory, reason: rolledBack(id.FlushLSN, end).reason}
	}
	if id.Slot.ConfirmedFlush > end {
		return judgement{verdict: gap, reason: fmt.Sprintf("slot was advanced to %s by someone else, the archive ends at %s", id.Slot.ConfirmedFlush, end)}
	}
	if id.Publication == nil {
		return judgement{verdict: gap, reason: fmt.Sprintf("publication %q is gone: what is written without it can't be decoded", h.Publication)}
	}
	return judgement{verdict: resume}
}

// compareTimelines judges a promotion: the server's past must contain the archive's timeline, and must
// not have left it before the archive's end.
func compareTimelines(timeline int32, end segment.LSN, id walstream.Identity) judgement {
	for _, s := range id.Switches {
		if s.Timeline != timeline {
			continue
		}
		if end <= s.SwitchPoint {
			return judgement{verdict: resume}
		}
		return judgement{
			verdict: newHistory, fork: s.SwitchPoint,
			reason: fmt.Sprintf("the server was promoted at %s of timeline %d, the archive holds commits up to %s that it never received", s.SwitchPoint, timeline, end),
		}
	}
	return judgement{verdict: newHistory, reason: fmt.Sprintf("the server's timeline %d does not descend from the archived timeline %d", id.Timeline, timeline)}
}

// archivedCommit is what identifies a commit that the server sends again.
type archivedCommit struct {
	xid  uint32
	time segment.Timestamp
}

// resent checks that what the server sends again after START is what the archive holds of it: each commit
// below the archive's end, none missing, none different. A server restored from an older copy fails here
// even when its LSNs have since overtaken the archive.
type resent struct {
	end      segment.LSN
	expected map[segment.LSN]archivedCommit
}

// newResent returns a check for the archived commits at or after the slot's confirmed position.
func newResent(end segment.LSN, expected map[segment.LSN]archivedCommit) *resent {
	return &resent{end: end, expected: expected}
}

// covers reports whether the archive already holds a commit.
func (r *resent) covers(commit segment.LSN) bool { return commit < r.end }

// seen checks one commit that is covered.
func (r *resent) seen(b segment.Begin) error {
	want, ok := r.expected[b.CommitLSN]
	if !ok {
		return &divergedError{reason: fmt.Sprintf("the server sent a commit at %s (xid %d) that the archive does not hold, below its end %s", b.CommitLSN, b.XID, r.end)}
	}
	if want.xid != b.XID || want.time != b.CommitTime {
		return &divergedError{reason: fmt.Sprintf("the commit at %s is xid %d of %s on the server, xid %d of %s in the archive", b.CommitLSN, b.XID, b.CommitTime, want.xid, want.time)}
	}
	delete(r.expected, b.CommitLSN)
	return nil
}

// done reports whether everything that had to come again has come.
func (r *resent) done(walEnd segment.LSN) bool { return len(r.expected) == 0 || walEnd >= r.end }

// passed is told that the server's decoding has reached the archive's end: nothing may be missing.
func (r *resent) passed() error {
	for lsn, c := range r.expected {
		return &divergedError{reason: fmt.Sprintf("the archive holds a commit at %s (xid %d) that the server did not send again", lsn, c.xid)}
	}
	r.expected = nil
	return nil
}

// divergedError says that the server's WAL is not the archive's: a new history must begin.
type divergedError struct {
	reason string
	fork   segment.LSN // where the server left the archive's line of WAL, 0 if that isn't known
	// timeline is the one that the server was on then: another may have taken its place since.
	timeline int32
}

// rolledBack is the error for a server whose WAL ends before the archive does.
func rolledBack(flush, end segment.LSN) *divergedError {
	return &divergedError{reason: fmt.Sprintf("the server's WAL ends at %s, the archive already holds %s: its data directory was rolled back to an older copy", flush, end)}
}

func (e *divergedError) Error() string { return e.reason }
