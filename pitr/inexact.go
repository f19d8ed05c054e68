package pitr

import (
	"fmt"
	"slices"
	"strings"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// inexactRanges are those that a replay from a snapshot to a cut touches.
func (p *planner) inexactRanges(history uint32, from, to segment.LSN) []catalog.Inexact {
	var out []catalog.Inexact
	for _, i := range p.src.inexact() {
		if i.History == history && from < i.To && i.From < to {
			out = append(out, i.Inexact)
		}
	}
	return out
}

// wholeAgain names what can be restored exactly on both sides of the plan's inexact ranges.
func (p *planner) wholeAgain(plan *Plan) string {
	first, last := plan.Inexact[0].From, segment.LSN(0)
	for _, i := range plan.Inexact {
		first, last = min(first, i.From), max(last, i.To)
	}
	near := []string{fmt.Sprintf("before it --to-lsn %s --exclusive%s", max(first, plan.Snapshot.LSN), p.historyFlag(plan.History))}
	var next *catalog.SnapshotPoint
	for _, s := range p.src.snapshots() {
		if s.History == plan.History && s.LSN >= last && (next == nil || s.LSN < next.LSN) {
			next = &s
		}
	}
	if next != nil {
		near = append(near, fmt.Sprintf("after it --to-snapshot %s (%s)", next.Snapshot.ID, DescribeTime(next.Snapshot.Time, p.zone)))
	}
	return "the nearest that can be restored exactly: " + strings.Join(near, ", ") + "; --accept-inexact goes past it"
}

// CheckInexact refuses a plan whose replay does not give what the source had in one of the tables that the
// patterns choose (none: in any). The error is a fault: Uncovered, naming the reason and the nearest targets
// that are exact.
func (plan *Plan) CheckInexact(patterns []string) error {
	filter, err := newTableFilter(patterns)
	if err != nil {
		return err
	}
	touched := plan.inexactFor(filter.matchQualified)
	if len(touched) == 0 {
		return nil
	}
	more := ""
	if n := len(touched) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return fault.New(fault.Uncovered, plan.exactHint, "%s can't be restored exactly: %s%s", plan.Target.Describe(plan.zone), describeInexact(touched[0]), more)
}

// inexactFor are the ranges that concern a table that wants says yes to.
func (plan *Plan) inexactFor(wants func(table string) bool) []catalog.Inexact {
	var out []catalog.Inexact
	for _, i := range plan.Inexact {
		if len(i.Tables) == 0 || slices.ContainsFunc(i.Tables, wants) {
			out = append(out, i)
		}
	}
	return out
}

func describeInexact(i catalog.Inexact) string {
	where := "at LSN " + i.From.String()
	if i.To > i.From+1 {
		where = "from LSN " + i.From.String() + " to " + i.To.String()
	}
	if len(i.Tables) > 0 {
		shown := i.Tables[:min(5, len(i.Tables))]
		where += ", " + strings.Join(shown, ", ")
		if n := len(i.Tables) - len(shown); n > 0 {
			where += fmt.Sprintf(" and %d more", n)
		}
	}
	return i.Reason + " (" + where + ")"
}

// checkInexact refuses a restore that would not be exact, or notes what isn't.
func (r *run) checkInexact() error {
	touched := r.plan.inexactFor(r.chosen.wantsQualified)
	if len(touched) == 0 {
		return nil
	}
	if !r.o.AcceptInexact {
		return r.plan.CheckInexact(r.o.Tables)
	}
	r.doubted = true
	for _, i := range touched {
		r.note("not exact: " + describeInexact(i))
	}
	return nil
}

// withheld reports whether rows of a relation in a transaction may not fit what the target has. What a single change at
// a position did counts from there on, anything else from the start.
func (r *run) withheld(rel *segment.Relation, commit segment.LSN) bool {
	return r.o.AcceptInexact && slices.ContainsFunc(r.plan.Inexact, func(i catalog.Inexact) bool {
		return (i.To > i.From+1 || commit >= i.From) && (len(i.Tables) == 0 || slices.Contains(i.Tables, rel.String()))
	})
}
