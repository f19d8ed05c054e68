package follow

import (
	"context"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/pitr"
	"tidemark/segment"
)

// goal is where a follower was told to end. Commits with a commit LSN < cut are applied, once cut is known:
// a moment, transaction or mark that is not archived yet is found when the segment that holds it comes.
type goal struct {
	target pitr.Target
	cut    segment.LSN // 0: not known

	history uint32 // that it lies in; 0: not known
}

// endless reports whether there is no target.
func (g *goal) endless() bool { return g.target.Kind == pitr.ToLatest || g.target.Kind == "" }

// past turns the position of a commit into a cut.
func (g *goal) past(lsn segment.LSN) segment.LSN {
	if g.target.Exclusive {
		return lsn
	}
	return lsn + 1
}

// find looks for the goal in an archive. A target that lies ahead of what is archived is no error: it is
// waited for. The plan is nil then.
func (g *goal) find(ctx context.Context, f *follower, a *pitr.Archive) (*pitr.Plan, error) {
	if g.endless() {
		return nil, nil
	}
	plan, err := pitr.MakePlan(ctx, a, g.target, f.o.Zone)
	switch {
	case err == nil:
		g.cut, g.history = plan.Cut, plan.History
		return plan, nil
	case fault.CodeOf(err) != fault.Uncovered || !g.ahead(a.View()):
		return nil, err
	case g.target.Kind == pitr.ToLSN:
		g.cut = g.past(g.target.LSN)
	}
	f.o.Log.Info("the target is not archived yet: waiting for it", "target", g.target.Describe(f.o.Zone))
	return nil, nil
}

// ahead reports whether a target that the archive does not cover may still come.
func (g *goal) ahead(v *catalog.View) bool {
	h, ok := v.Newest()
	if g.target.History != 0 {
		h, ok = v.History(g.target.History)
	}
	switch g.target.Kind {
	case pitr.ToLSN:
		return !ok || g.target.LSN >= h.End
	case pitr.ToTime:
		return !ok || g.target.Time >= h.RunningMax
	case pitr.ToMark:
		return len(v.FindMark(g.target.Name)) == 0
	}
	return g.target.Kind == pitr.ToXID
}

// look sees whether an entry that comes next holds the goal.
func (g *goal) look(ctx context.Context, a *pitr.Archive, e *catalog.Entry, from segment.LSN) error {
	s := e.Segment
	if g.cut != 0 || s == nil || g.elsewhere(e.History) {
		return nil
	}
	switch g.target.Kind {
	case pitr.ToMark:
		for _, m := range s.Marks {
			if m.Name == g.target.Name && m.LSN >= from {
				g.cut = g.past(m.LSN)
				return nil
			}
		}
		return nil
	case pitr.ToTime:
		if !g.later(s.MaxCommitTime) {
			return nil
		}
	case pitr.ToXID:
		if g.target.XID < s.MinXID || s.MaxXID < g.target.XID {
			return nil
		}
	default:
		return nil
	}
	x, err := a.Index(ctx, *e)
	if err != nil {
		return err
	}
	for _, t := range x.Transactions {
		switch {
		case t.CommitLSN < from:
		case g.target.Kind == pitr.ToXID && t.XID == g.target.XID:
			g.cut = g.past(t.CommitLSN)
			return nil
		case g.target.Kind == pitr.ToTime && !t.Foreign && g.later(t.CommitTime):
			g.cut = t.CommitLSN
			return nil
		}
	}
	return nil
}

// elsewhere reports whether the goal is known to lie in another history.
func (g *goal) elsewhere(history uint32) bool {
	return g.history != 0 && g.history != history || g.target.History != 0 && g.target.History != history
}

// later reports whether a commit at t ends a walk towards the target's moment.
func (g *goal) later(t segment.Timestamp) bool {
	if g.target.Exclusive {
		return t >= g.target.Time
	}
	return t > g.target.Time
}

// check refuses a goal that the database has gone past. Plan is the one that find returned.
func (g *goal) check(r *record, plan *pitr.Plan, where string) error {
	if g.cut == 0 || g.cut >= r.Position {
		return nil
	}
	if plan != nil && plan.LastKept != nil && plan.LastKept.LSN == r.CommitLSN {
		return nil // nothing was committed between the two
	}
	return fault.New(fault.Uncovered, "follow into another, empty database",
		"%s lies before what the database has: all commits before LSN %s (%s)", where, r.Position, r.lastKept())
}

func (g *goal) reachedBy(position segment.LSN) bool { return g.cut != 0 && position >= g.cut }
