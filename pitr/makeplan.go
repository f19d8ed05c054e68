package pitr

import (
	"context"
	"fmt"
	"time"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// MakePlan finds the target in the archive and works out what a restore to it reads. It asks the store
// for a few catalog objects and segment indexes, and for nothing else. Zone is the one that times are
// shown in, besides UTC.
//
// Errors are faults: Uncovered for a target outside the windows (with the nearest ones inside), Usage
// for an ambiguous one, Damage.
func MakePlan(ctx context.Context, a *Archive, t Target, zone *time.Location) (*Plan, error) {
	return makePlan(ctx, a, t, zone)
}

func makePlan(ctx context.Context, src source, t Target, zone *time.Location) (*Plan, error) {
	pl := &planner{src: src, target: t, zone: zone}
	pos, err := pl.resolve(ctx)
	if err != nil {
		return nil, err
	}
	s := pos.snapshot
	plan := &Plan{
		Target: t, Archive: src.archiveID(), History: pos.history, Cut: pos.cut, Warnings: pos.warnings, snapshot: s,
		Snapshot: PlanSnapshot{
			ID: s.Snapshot.ID, LSN: s.LSN, Time: s.Snapshot.Time,
			Tables: s.Snapshot.Tables, Rows: s.Snapshot.Rows, Bytes: s.Snapshot.StoredBytes,
		},
		Bytes: s.Snapshot.StoredBytes,
	}
	if err := pl.count(ctx, plan); err != nil {
		return nil, err
	}
	if err := pl.edges(ctx, plan, pos); err != nil {
		return nil, err
	}
	plan.warn(t)
	return plan, nil
}

// count walks the entries from the snapshot to the cut, checks that they tile that range without a
// gap, and adds up what they hold. Entries that reach over an end are counted by their index.
func (p *planner) count(ctx context.Context, plan *Plan) error {
	sum := tableSums{}
	at := plan.snapshot.LSN
	if at >= plan.Cut {
		plan.Tables = sum.sorted()
		return nil
	}
	for e, err := range p.src.stream(ctx, plan.History, plan.snapshot.LSN, plan.Cut) {
		if err != nil {
			return err
		}
		if e.From > at || e.Kind == catalog.KindGap {
			return p.uncoveredLSN(max(at, e.From))
		}
		at = max(at, e.To)
		if e.Kind == catalog.KindSegment && e.Segment.Transactions > 0 {
			if err := p.countSegment(ctx, plan, sum, e); err != nil {
				return err
			}
		}
	}
	// An exclusive cut may be the very end of what is archived; an inclusive one lies one byte past its LSN.
	if at < plan.Cut {
		return p.uncoveredLSN(at)
	}
	plan.Tables = sum.sorted()
	return nil
}

func (p *planner) countSegment(ctx context.Context, plan *Plan, sum tableSums, e catalog.Entry) error {
	s := e.Segment
	if s.LastCommitLSN < plan.snapshot.LSN || s.FirstCommitLSN >= plan.Cut {
		return nil
	}
	if s.FirstCommitLSN >= plan.snapshot.LSN && s.LastCommitLSN < plan.Cut {
		plan.addEntry(e, s.Transactions)
		plan.TablesCut = plan.TablesCut || s.TablesCut
		sum.addCounts(s.Tables)
		return nil
	}
	x, err := p.src.index(ctx, e)
	if err != nil {
		return err
	}
	var n int64
	for i := range x.Transactions {
		t := &x.Transactions[i]
		if t.CommitLSN >= plan.snapshot.LSN && t.CommitLSN < plan.Cut {
			n++
			sum.addTransaction(x, t)
		}
	}
	if n > 0 {
		plan.addEntry(e, n)
	}
	return nil
}

func (plan *Plan) addEntry(e catalog.Entry, transactions int64) {
	plan.entries = append(plan.entries, e)
	plan.Segments++
	plan.Objects += len(e.Segment.Objects)
	plan.Bytes += e.Segment.StoredBytes
	plan.Transactions += transactions
}

// edges names the last commit kept and the first left out.
func (p *planner) edges(ctx context.Context, plan *Plan, pos position) (err error) {
	if plan.LastKept, err = p.lastBefore(ctx, plan, pos.window); err != nil {
		return err
	}
	plan.FirstLeftOut, err = p.firstFrom(ctx, plan)
	return err
}

// lastBefore finds the last archived commit before the cut: among the entries to replay or, if nothing
// is replayed, in the stretch before the snapshot, looking back further and further.
func (p *planner) lastBefore(ctx context.Context, plan *Plan, w catalog.Window) (*Commit, error) {
	if n := len(plan.entries); n > 0 {
		return p.lastIn(ctx, plan.entries[n-1], plan.Cut)
	}
	begin := w.From
	for _, h := range p.src.histories() {
		if h.Number == plan.History {
			begin = min(begin, h.From)
		}
	}
	for reach := segment.LSN(16 << 20); ; reach *= 16 {
		from := begin
		if plan.Cut > begin && plan.Cut-begin > reach {
			from = plan.Cut - reach
		}
		var last *catalog.Entry
		for e, err := range p.src.stream(ctx, plan.History, from, plan.Cut) {
			switch {
			case err != nil:
				return nil, err
			case e.Kind == catalog.KindGap:
				last = nil
			case e.Kind == catalog.KindSegment && e.Segment.Transactions > 0 && e.Segment.FirstCommitLSN < plan.Cut:
				last = &e
			}
		}
		if last != nil {
			return p.lastIn(ctx, *last, plan.Cut)
		}
		if from == begin {
			return nil, nil
		}
	}
}

func (p *planner) lastIn(ctx context.Context, e catalog.Entry, cut segment.LSN) (*Commit, error) {
	x, err := p.src.index(ctx, e)
	if err != nil {
		return nil, err
	}
	for i := len(x.Transactions) - 1; i >= 0; i-- {
		if t := &x.Transactions[i]; t.CommitLSN < cut {
			return commitOf(x, t), nil
		}
	}
	return nil, nil
}

// firstFrom finds the first archived commit at or after the cut, up to the next gap.
func (p *planner) firstFrom(ctx context.Context, plan *Plan) (*Commit, error) {
	for e, err := range p.src.stream(ctx, plan.History, plan.Cut, 0) {
		if err != nil {
			return nil, err
		}
		if e.Kind == catalog.KindGap && e.To > plan.Cut {
			plan.Warnings = append(plan.Warnings, fmt.Sprintf("the first commit left out is not known: a gap follows (%s)", e.Gap.Reason))
			return nil, nil
		}
		if e.Kind != catalog.KindSegment || e.Segment.Transactions == 0 || e.Segment.LastCommitLSN < plan.Cut {
			continue
		}
		x, err := p.src.index(ctx, e)
		if err != nil {
			return nil, err
		}
		for i := range x.Transactions {
			if t := &x.Transactions[i]; t.CommitLSN >= plan.Cut {
				plan.warnOrder(x.Transactions[i:])
				return commitOf(x, t), nil
			}
		}
		return nil, fault.New(fault.Damage, "restorer verify shows what else is damaged",
			"segment %s has no commit at %s, which its catalog entry names as its last", e.Segment.Objects[0].Key, e.Segment.LastCommitLSN)
	}
	return nil, nil
}

// warnOrder tells of commits that come after the stop though their times are not later than the target:
// commit times don't rise strictly in commit order, and PostgreSQL's recovery leaves them out as well.
func (plan *Plan) warnOrder(after []segment.Transaction) {
	if plan.Target.Kind != ToTime {
		return
	}
	var n int
	for _, t := range after {
		if !t.Foreign && (t.CommitTime < plan.Target.Time || (t.CommitTime == plan.Target.Time && !plan.Target.Exclusive)) {
			n++
		}
	}
	if n > 0 {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("%d commits with a time up to the target come after the stop in commit order and are left out, as in PostgreSQL's own recovery", n))
	}
}

// warn adds what a person should know about the target itself.
func (plan *Plan) warn(t Target) {
	if k := plan.LastKept; k != nil && t.Kind == ToLSN && !t.Exclusive && k.LSN == t.LSN {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf(
			"LSN %s is itself the commit of transaction %d, which is kept; a position read inside a transaction can equal its own commit: --exclusive leaves it out", t.LSN, k.XID))
	}
	if t.Kind != ToTime {
		return
	}
	if k := plan.LastKept; k != nil && k.Foreign {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf(
			"the last commit kept came from another node and bears that node's time (%s); it did not count for the stop", k.Time))
	}
}
