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
// for a few catalog objects and segment indexes (six at most, but for an xid that many segments may
// hold), however long the archive is. Zone is the one that times are shown in, besides UTC.
//
// Errors are faults: Uncovered for a target outside the windows (with the nearest ones inside), Usage
// for an ambiguous one, Damage.
func MakePlan(ctx context.Context, a *Archive, t Target, zone *time.Location) (*Plan, error) {
	return makePlan(ctx, a, t, zone)
}

// planRequests is how many requests a plan may make: with the six that opening a catalog takes they are
// twelve. What must be known takes six at most; what is left over is spent on counting by table.
const planRequests = 6

func makePlan(ctx context.Context, src source, t Target, zone *time.Location) (*Plan, error) {
	pl := &planner{src: src, target: t, zone: zone}
	before := src.requests()
	pos, err := pl.resolve(ctx)
	if err != nil {
		return nil, err
	}
	s := pos.snapshot
	plan := &Plan{
		Target: t, Archive: src.archiveID(), History: pos.history, Cut: pos.cut, Warnings: pos.warnings, snapshot: s, zone: zone,
		Snapshot: PlanSnapshot{
			ID: s.Snapshot.ID, LSN: s.LSN, Time: s.Snapshot.Time,
			Tables: s.Snapshot.Tables, Rows: s.Snapshot.Rows, Bytes: s.Snapshot.StoredBytes,
		},
		Bytes: s.Snapshot.StoredBytes, Tables: []PlanTable{},
	}
	if err := pl.totals(ctx, plan); err != nil {
		return nil, err
	}
	if err := pl.edges(ctx, plan); err != nil {
		return nil, err
	}
	left := planRequests - (src.requests() - before)
	if plan.Cut > s.LSN && src.unread(plan.History, s.LSN, plan.Cut) > left {
		plan.TablesUnlisted, plan.TablesCut = true, false
	} else if plan, err = pl.walk(ctx, plan); err != nil {
		return nil, err
	}
	if plan.Inexact = pl.inexactRanges(plan.History, s.LSN, plan.Cut); len(plan.Inexact) > 0 {
		plan.exactHint = pl.wholeAgain(plan)
	}
	plan.warn(t)
	return plan, nil
}

// walkAll returns the plan with every entry of its range, of which MakePlan may have read but the ends.
func (plan *Plan) walkAll(ctx context.Context, src source) (*Plan, error) {
	if plan.walked {
		return plan, nil
	}
	return (&planner{src: src, target: plan.Target, zone: plan.zone}).walk(ctx, plan)
}

// totals adds up what the range from the snapshot to the cut holds, by the catalog's summaries. Segments
// that reach over an end are counted by their index. The windows vouch for the tiling.
func (p *planner) totals(ctx context.Context, plan *Plan) error {
	from, to := plan.snapshot.LSN, plan.Cut
	if from >= to {
		return nil
	}
	for _, g := range p.src.gaps() {
		if g.History == plan.History && g.To > from && g.From < to {
			return p.uncoveredLSN(max(from, g.From))
		}
	}
	all, err := p.src.sums(ctx, plan.History, from, to)
	if err != nil {
		return err
	}
	plan.add(all, 1)
	var seen uint64
	for _, end := range []segment.LSN{from, to} {
		e, ok, err := p.src.spanning(ctx, plan.History, end)
		if err != nil {
			return err
		}
		if !ok || seen == e.Seq {
			continue
		}
		seen = e.Seq
		part, err := p.part(ctx, plan, tableSums{}, e)
		if err != nil {
			return err
		}
		plan.add(catalog.CountsOf(e.Segment), -1)
		plan.add(part, 1)
	}
	return nil
}

// add adds counts to the plan, so many times.
func (plan *Plan) add(c catalog.Counts, times int64) {
	plan.Segments += times * c.Segments
	plan.Objects += times * c.Objects
	plan.Bytes += times * c.StoredBytes
	plan.Transactions += times * c.Transactions
	plan.Inserts += times * c.Inserts
	plan.Updates += times * c.Updates
	plan.Deletes += times * c.Deletes
	plan.Truncates += times * c.Truncates
	plan.SchemaChanges += times * c.DDL
}

// walk goes through the entries from the snapshot to the cut, checks that they tile that range without
// a gap, and counts what they hold, by table too.
func (p *planner) walk(ctx context.Context, of *Plan) (*Plan, error) {
	plan := *of
	plan.Segments, plan.Objects, plan.Transactions, plan.Inserts, plan.Updates, plan.Deletes, plan.Truncates = 0, 0, 0, 0, 0, 0, 0
	plan.Bytes, plan.SchemaChanges = plan.Snapshot.Bytes, 0
	plan.TablesUnlisted, plan.walked = false, true
	sum := tableSums{}
	at := plan.snapshot.LSN
	if at < plan.Cut {
		for e, err := range p.src.stream(ctx, plan.History, plan.snapshot.LSN, plan.Cut) {
			if err != nil {
				return nil, err
			}
			if e.From > at || e.Kind == catalog.KindGap {
				return nil, p.uncoveredLSN(max(at, e.From))
			}
			at = max(at, e.To)
			if e.Kind == catalog.KindSegment && e.Segment.Transactions > 0 {
				if err := p.walkSegment(ctx, &plan, sum, e); err != nil {
					return nil, err
				}
			}
		}
	}
	// An exclusive cut may be the very end of what is archived; an inclusive one lies one byte past its LSN.
	if at < plan.Cut {
		return nil, p.uncoveredLSN(at)
	}
	plan.Tables = sum.sorted()
	return &plan, nil
}

func (p *planner) walkSegment(ctx context.Context, plan *Plan, sum tableSums, e catalog.Entry) error {
	part, err := p.part(ctx, plan, sum, e)
	if err != nil || part.Segments == 0 {
		return err
	}
	plan.add(part, 1)
	plan.entries = append(plan.entries, e)
	return nil
}

// part counts what a segment holds of the plan's range; zero if that is no commit.
func (p *planner) part(ctx context.Context, plan *Plan, sum tableSums, e catalog.Entry) (c catalog.Counts, err error) {
	s := e.Segment
	if s.LastCommitLSN < plan.snapshot.LSN || s.FirstCommitLSN >= plan.Cut {
		return c, nil
	}
	if s.FirstCommitLSN >= plan.snapshot.LSN && s.LastCommitLSN < plan.Cut {
		plan.TablesCut = plan.TablesCut || s.TablesCut
		sum.addCounts(s.Tables)
		return catalog.CountsOf(s), nil
	}
	x, err := p.src.index(ctx, e, 0)
	if err != nil {
		return c, err
	}
	for i := range x.Transactions {
		t := &x.Transactions[i]
		if t.CommitLSN < plan.snapshot.LSN || t.CommitLSN >= plan.Cut {
			continue
		}
		c.Transactions++
		c.DDL += int64(t.DDL)
		for _, change := range t.Changes {
			c.Inserts += change.Inserts
			c.Updates += change.Updates
			c.Deletes += change.Deletes
			c.Truncates += change.Truncates
		}
		sum.addTransaction(x, t)
	}
	if c.Transactions > 0 {
		c.Segments, c.Objects, c.StoredBytes = 1, int64(len(s.Objects)), s.StoredBytes
	}
	return c, nil
}

// edges names the last commit kept and the first left out.
func (p *planner) edges(ctx context.Context, plan *Plan) (err error) {
	if plan.LastKept, err = p.lastBefore(ctx, plan); err != nil {
		return err
	}
	plan.FirstLeftOut, err = p.firstFrom(ctx, plan)
	return err
}

// lastBefore finds the last archived commit before the cut and after the last gap: one that is replayed
// or, if none is, the last before the snapshot.
func (p *planner) lastBefore(ctx context.Context, plan *Plan) (*Commit, error) {
	var from segment.LSN
	for _, h := range p.src.histories() {
		if h.Number == plan.History {
			from = max(h.From, h.Pruned)
		}
	}
	for _, g := range p.src.gaps() {
		if g.History == plan.History && g.From < plan.Cut {
			from = max(from, g.To)
		}
	}
	if from >= plan.Cut {
		return nil, nil
	}
	e, ok, err := p.src.lastSegment(ctx, plan.History, from, plan.Cut)
	if err != nil || !ok {
		return nil, err
	}
	var lowest segment.LSN
	if last := e.Segment.LastCommitLSN; last < plan.Cut {
		lowest = last
	}
	x, err := p.src.index(ctx, e, lowest)
	if err != nil {
		return nil, err
	}
	for i := len(x.Transactions) - 1; i >= 0; i-- {
		if t := &x.Transactions[i]; t.CommitLSN < plan.Cut {
			return commitOf(x, t), nil
		}
	}
	return nil, misnamed(e, "before", e.Segment.FirstCommitLSN, "first")
}

// misnamed is for a segment that lacks the first or last commit that the catalog says it has.
func misnamed(e catalog.Entry, side string, at segment.LSN, which string) error {
	return fault.New(fault.Damage, verifyHint, "segment %s has no commit at or %s %s, which its catalog entry names as its %s",
		e.Segment.Objects[0].Key, side, at, which)
}

// firstFrom finds the first archived commit at or after the cut, up to the next gap.
func (p *planner) firstFrom(ctx context.Context, plan *Plan) (*Commit, error) {
	var gap *catalog.GapPoint
	for _, g := range p.src.gaps() {
		if g.History == plan.History && g.To > plan.Cut {
			gap = &g
			break
		}
	}
	if gap == nil || gap.From > plan.Cut {
		var to segment.LSN
		if gap != nil {
			to = gap.From
		}
		e, ok, err := p.src.firstSegment(ctx, plan.History, plan.Cut, to)
		if err != nil {
			return nil, err
		}
		if ok {
			return p.firstIn(ctx, plan, e)
		}
	}
	if gap != nil {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf("the first commit left out is not known: a gap follows (%s)", gap.Reason))
	}
	return nil, nil
}

func (p *planner) firstIn(ctx context.Context, plan *Plan, e catalog.Entry) (*Commit, error) {
	x, err := p.src.index(ctx, e, 0)
	if err != nil {
		return nil, err
	}
	for i := range x.Transactions {
		if t := &x.Transactions[i]; t.CommitLSN >= plan.Cut {
			plan.warnOrder(x.Transactions[i:])
			return commitOf(x, t), nil
		}
	}
	return nil, misnamed(e, "after", e.Segment.LastCommitLSN, "last")
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
