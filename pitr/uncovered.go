package pitr

import (
	"fmt"
	"slices"
	"strings"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
)

func (p *planner) uncovered(what, hint string) error {
	return fault.New(fault.Uncovered, hint, "%s is outside what the archive covers: %s", p.target.Describe(p.zone), what)
}

// uncoveredLSN names the nearest LSNs that can be restored on both sides of at.
func (p *planner) uncoveredLSN(at segment.LSN) error {
	var below, above *catalog.Window
	for _, w := range p.src.windows() {
		if !p.wanted(w.History) {
			continue
		}
		if w.To <= at && (below == nil || w.To > below.To) {
			below = &w
		}
		if w.From > at && (above == nil || w.From < above.From) {
			above = &w
		}
	}
	var near []string
	if below != nil {
		near = append(near, fmt.Sprintf("before it %s(%s)", p.lsnFlags(*below, below.To), DescribeTime(below.ToTime, p.zone)))
	}
	if above != nil {
		near = append(near, fmt.Sprintf("after it %s(%s)", p.lsnFlags(*above, above.From), DescribeTime(above.FromTime, p.zone)))
	}
	what := "nothing before it is archived"
	switch {
	case p.unbased(at):
		what = "it is archived, but no base snapshot leads up to it"
	case below != nil && above != nil:
		what = "it lies in a gap"
	case below != nil:
		what = "it is not archived yet"
	}
	return p.uncovered(what, "the nearest that can be restored: "+strings.Join(near, ", "))
}

// unbased reports whether at is archived in a stretch that begins without a base snapshot.
func (p *planner) unbased(at segment.LSN) bool {
	holds := func(history uint32, from, to segment.LSN) bool { return p.wanted(history) && from <= at && at < to }
	archived := func(h catalog.HistoryPoint) bool { return holds(h.Number, max(h.From, h.Pruned), h.End) }
	missing := func(g catalog.GapPoint) bool { return holds(g.History, g.From, g.To) }
	covered := func(w catalog.Window) bool { return holds(w.History, w.From, w.To) }
	return slices.ContainsFunc(p.src.histories(), archived) && !slices.ContainsFunc(p.src.gaps(), missing) && !slices.ContainsFunc(p.src.windows(), covered)
}

// lsnFlags are the flags that restore to an end of a window, followed by a space.
func (p *planner) lsnFlags(w catalog.Window, at segment.LSN) string {
	s := fmt.Sprintf("--to-lsn %s --exclusive ", at)
	if len(p.src.histories()) > 1 {
		s += fmt.Sprintf("--history %d ", w.History)
	}
	return s
}

// uncoveredTime names the nearest moments that can be restored on both sides of the target.
func (p *planner) uncoveredTime() error {
	at := p.target.Time
	var below, above *catalog.Window
	for _, w := range p.src.windows() {
		if !p.wanted(w.History) {
			continue
		}
		if w.ToTime <= at && !w.ToTime.IsZero() && (below == nil || w.ToTime > below.ToTime) {
			below = &w
		}
		if w.FromTime > at && (above == nil || w.FromTime < above.FromTime) {
			above = &w
		}
	}
	var near []string
	what := "nothing that early can be restored"
	if below != nil {
		what = "a moment is settled once a later commit is archived, and the last one archived is at " + DescribeTime(below.ToTime, p.zone)
		near = append(near, fmt.Sprintf("before it --to-time %s --exclusive", below.ToTime))
		if above == nil {
			near = append(near, fmt.Sprintf("everything archived: --to-lsn %s --exclusive%s", below.To, p.historyFlag(below.History)))
		}
	}
	if above != nil {
		if below != nil {
			what = "it lies in a gap"
		}
		near = append(near, fmt.Sprintf("after it %s(%s)", p.lsnFlags(*above, above.From), DescribeTime(above.FromTime, p.zone)))
	}
	return p.uncovered(what, "the nearest that can be restored: "+strings.Join(near, ", "))
}

// historyFlag is " --history N" where there are several.
func (p *planner) historyFlag(history uint32) string {
	if len(p.src.histories()) < 2 {
		return ""
	}
	return fmt.Sprintf(" --history %d", history)
}
