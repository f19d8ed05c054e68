package pitr

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// time finds a moment in every history that may hold it. Several hits are ambiguous: two primaries
// were alive at that moment.
func (p *planner) time(ctx context.Context) (position, error) {
	var hits []position
	var in []catalog.HistoryPoint
	for _, h := range p.src.histories() {
		if !p.wanted(h.Number) {
			continue
		}
		pos, ok, err := p.timeIn(ctx, h.Number)
		if err != nil {
			return position{}, err
		}
		if ok {
			hits, in = append(hits, pos), append(in, h)
		}
	}
	switch len(hits) {
	case 0:
		return position{}, p.uncoveredTime()
	case 1:
		return hits[0], nil
	}
	return position{}, p.ambiguous(fmt.Sprintf("%d histories cover %s", len(hits), DescribeTime(p.target.Time, p.zone)), in)
}

// timeIn applies PostgreSQL's rule for recovery_target_time (src/backend/access/transam/xlogrecovery.c,
// recoveryStopsBefore) to one history: walk in commit order and stop before the first commit that is
// later than the target, or, exclusive, not earlier. Commits from other nodes carry those nodes' times
// and don't stop the walk. Without such a commit the moment isn't settled: ok is false.
//
// The walk may begin at the newest snapshot that holds no commit the rule would have stopped before.
func (p *planner) timeIn(ctx context.Context, history uint32) (pos position, ok bool, err error) {
	for _, w := range p.windowsFromNewest(history) {
		for _, s := range p.snapshotsFromNewest(w) {
			if p.stops(s.EligibleFrom) {
				continue
			}
			stop, found, err := p.firstStop(ctx, history, s.LSN, w.To)
			if err != nil || !found {
				return position{}, false, err
			}
			pos := position{history: history, cut: stop.CommitLSN, at: stop.CommitLSN, window: w, snapshot: s}
			return pos, true, nil
		}
	}
	return position{}, false, nil
}

// stops reports whether a commit at t lies beyond the target.
func (p *planner) stops(t segment.Timestamp) bool {
	if p.target.Exclusive {
		return t >= p.target.Time
	}
	return t > p.target.Time
}

// firstStop finds the first local commit of [from, to) beyond the target. No commit before from is.
func (p *planner) firstStop(ctx context.Context, history uint32, from, to segment.LSN) (*segment.Transaction, bool, error) {
	after := p.target.Time
	if p.target.Exclusive {
		after--
	}
	e, ok, err := p.src.firstLater(ctx, history, after)
	if err != nil || !ok || e.From >= to {
		return nil, false, err
	}
	x, err := p.src.index(ctx, e, 0)
	if err != nil {
		return nil, false, err
	}
	for i := range x.Transactions {
		t := &x.Transactions[i]
		if !t.Foreign && t.CommitLSN >= from && p.stops(t.CommitTime) {
			return t, true, nil
		}
	}
	return nil, false, fault.New(fault.Damage, "restorer verify shows what else is damaged",
		"segment %s holds no commit later than %s, which its catalog entry says it does", e.Segment.Objects[0].Key, DescribeTime(after, p.zone))
}

func (p *planner) windowsFromNewest(history uint32) []catalog.Window {
	var out []catalog.Window
	for _, w := range p.src.windows() {
		if w.History == history {
			out = append(out, w)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].From > out[j].From })
	return out
}

func (p *planner) snapshotsFromNewest(w catalog.Window) []catalog.SnapshotPoint {
	var out []catalog.SnapshotPoint
	for _, s := range p.src.snapshots() {
		if s.History == w.History && s.LSN >= w.From && s.LSN <= w.To {
			out = append(out, s)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].LSN > out[j].LSN })
	return out
}

// archivedXID is a transaction found by its id.
type archivedXID struct {
	history uint32
	t       segment.Transaction
}

// xid finds the transaction in every history that may hold it.
func (p *planner) xid(ctx context.Context) (position, error) {
	var hits []archivedXID
	for e, err := range p.src.withXID(ctx, p.target.XID) {
		if err != nil {
			return position{}, err
		}
		if !p.wanted(e.History) {
			continue
		}
		x, err := p.src.index(ctx, e, 0)
		if err != nil {
			return position{}, err
		}
		for _, t := range x.Transactions {
			if t.XID == p.target.XID {
				hits = append(hits, archivedXID{e.History, t})
			}
		}
	}
	switch len(hits) {
	case 0:
		return position{}, fault.New(fault.Uncovered,
			"restorer log lists the transactions; the ids of subtransactions and of transactions that wrote nothing are not archived",
			"no archived transaction has the id %d", p.target.XID)
	case 1:
		p.target.History = hits[0].history
		return p.lsn(hits[0].t.CommitLSN)
	}
	var each []string
	for _, h := range hits {
		each = append(each, fmt.Sprintf("--history %d --to-lsn %s (committed %s)", h.history, h.t.CommitLSN, h.t.CommitTime))
	}
	return position{}, fault.New(fault.Usage, "say which with "+strings.Join(each, " or "), "%d archived transactions have the id %d", len(hits), p.target.XID)
}
