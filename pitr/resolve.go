package pitr

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strings"
	"time"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// position is a target found in an archive: the commits of history with commit LSN < cut are kept.
type position struct {
	history  uint32
	cut      segment.LSN
	at       segment.LSN // the LSN that coverage is judged by
	window   catalog.Window
	snapshot catalog.SnapshotPoint
	warnings []string
}

// planner finds a target in a source.
type planner struct {
	src    source
	target Target
	zone   *time.Location
}

// resolve finds the target. Every refusal is a fault: Uncovered, or Usage where the target is ambiguous.
func (p *planner) resolve(ctx context.Context) (position, error) {
	if err := p.target.check(); err != nil {
		return position{}, err
	}
	if err := p.checkHistory(); err != nil {
		return position{}, err
	}
	if len(p.src.windows()) == 0 {
		return position{}, fault.New(fault.Uncovered, "archiver status says how far it is; archiver snapshot takes a base snapshot",
			"nothing can be restored: the archive has no base snapshot yet")
	}
	switch p.target.Kind {
	case ToLatest, "":
		return p.latest()
	case ToLSN:
		return p.lsn(p.target.LSN)
	case ToTime:
		return p.time(ctx)
	case ToXID:
		return p.xid(ctx)
	case ToMark:
		return p.mark()
	case ToSnapshot:
		return p.named()
	}
	return position{}, fault.New(fault.Usage, "", "unknown kind of target %q", p.target.Kind)
}

func (p *planner) checkHistory() error {
	if p.target.History == 0 {
		return nil
	}
	for _, h := range p.src.histories() {
		if h.Number == p.target.History {
			return nil
		}
	}
	return fault.New(fault.Usage, "the archive has "+p.listHistories(p.src.histories()), "--history %d: there is no such history", p.target.History)
}

// wanted reports whether a history may hold the target.
func (p *planner) wanted(history uint32) bool {
	return p.target.History == 0 || p.target.History == history
}

func (p *planner) latest() (position, error) {
	number := p.target.History
	for _, h := range p.src.histories() {
		if p.target.History == 0 && h.Number > number {
			number = h.Number
		}
	}
	var last *catalog.Window
	for _, w := range p.src.windows() {
		if w.History == number {
			last = &w
		}
	}
	if last == nil {
		return position{}, p.uncovered(fmt.Sprintf("history %d, the newest, has no base snapshot yet", number), p.nearestWindows(number))
	}
	pos := position{history: number, cut: last.To, at: last.To, window: *last}
	return p.withSnapshot(pos)
}

// nearestWindows lists what else there is when a history can't be restored at all.
func (p *planner) nearestWindows(without uint32) string {
	var best *catalog.Window
	for _, w := range p.src.windows() {
		if w.History != without {
			best = &w
		}
	}
	if best == nil {
		return ""
	}
	return fmt.Sprintf("--history %d --to-latest ends at LSN %s, %s", best.History, best.To, DescribeTime(best.ToTime, p.zone))
}

// lsn finds the window that covers at: half-open, so inclusive at < to, exclusive at <= to.
func (p *planner) lsn(at segment.LSN) (position, error) {
	if err := p.ambiguousLSN(at); err != nil {
		return position{}, err
	}
	for _, w := range p.src.windows() {
		if !p.wanted(w.History) || at < w.From || at > w.To || (at == w.To && !p.target.Exclusive) {
			continue
		}
		// A window that begins where this one ends would cover the exclusive end as well: same state.
		return p.withSnapshot(position{history: w.History, cut: p.cutAfter(at), at: at, window: w})
	}
	return position{}, p.uncoveredLSN(at)
}

// cutAfter turns a commit position into a cut: past it, or at it when the target is exclusive.
func (p *planner) cutAfter(at segment.LSN) segment.LSN {
	if p.target.Exclusive || at == math.MaxUint64 {
		return at
	}
	return at + 1
}

// ambiguousLSN refuses an LSN that several histories have, unless one is named.
func (p *planner) ambiguousLSN(at segment.LSN) error {
	if p.target.History != 0 {
		return nil
	}
	var in []catalog.HistoryPoint
	for _, h := range p.src.histories() {
		if h.From <= at && at <= h.End {
			in = append(in, h)
		}
	}
	if len(in) < 2 {
		return nil
	}
	return p.ambiguous(fmt.Sprintf("LSN %s lies in %d histories", at, len(in)), in)
}

func (p *planner) ambiguous(what string, in []catalog.HistoryPoint) error {
	return fault.New(fault.Usage, "say which with --history: "+p.listHistories(in), "%s", what)
}

// listHistories is for hints: number, range, when it could be restored, why it began.
func (p *planner) listHistories(in []catalog.HistoryPoint) string {
	parts := make([]string, 0, len(in))
	for _, h := range in {
		s := fmt.Sprintf("%d (LSN %s to %s", h.Number, h.From, h.End)
		for _, w := range p.src.windows() {
			if w.History == h.Number {
				s += fmt.Sprintf(", recoverable %s to %s", w.FromTime, w.ToTime)
			}
		}
		if h.Begins.Reason != "" {
			s += ", " + h.Begins.Reason
		}
		parts = append(parts, s+")")
	}
	return strings.Join(parts, "; ")
}

func (p *planner) mark() (position, error) {
	var found []catalog.MarkPoint
	for _, m := range p.src.marks() {
		if m.Name == p.target.Name && p.wanted(m.History) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return position{}, fault.New(fault.Uncovered, p.markHint(), "the archive has no mark %q", p.target.Name)
	case 1:
	default:
		var each []string
		for _, m := range found {
			each = append(each, fmt.Sprintf("--history %d --to-lsn %s (%s)", m.History, m.LSN, m.Time))
		}
		return position{}, fault.New(fault.Usage, "say which with "+strings.Join(each, " or "), "there are %d marks %q", len(found), p.target.Name)
	}
	p.target.History = found[0].History
	return p.lsn(found[0].LSN)
}

// markHint names the newest few marks.
func (p *planner) markHint() string {
	marks := append([]catalog.MarkPoint(nil), p.src.marks()...)
	if len(marks) == 0 {
		return "it has none at all; archiver mark NAME makes one"
	}
	sort.SliceStable(marks, func(i, j int) bool { return marks[i].Time > marks[j].Time })
	var names []string
	for _, m := range marks[:min(5, len(marks))] {
		names = append(names, fmt.Sprintf("%q (%s)", m.Name, m.Time))
	}
	return "the newest are " + strings.Join(names, ", ") + "; restorer list shows all"
}

func (p *planner) named() (position, error) {
	var ids []string
	for _, s := range p.src.snapshots() {
		if s.Snapshot.ID != p.target.Name {
			ids = append(ids, s.Snapshot.ID)
			continue
		}
		if !p.wanted(s.History) {
			return position{}, fault.New(fault.Usage, "", "snapshot %s belongs to history %d, not %d", s.Snapshot.ID, s.History, p.target.History)
		}
		for _, w := range p.src.windows() {
			if w.History == s.History && w.From <= s.LSN && s.LSN <= w.To {
				return position{history: s.History, cut: s.LSN, at: s.LSN, window: w, snapshot: s}, nil
			}
		}
	}
	sort.Strings(ids)
	return position{}, fault.New(fault.Uncovered, "it has "+strings.Join(ids[max(0, len(ids)-10):], ", "), "the archive has no snapshot %s", p.target.Name)
}

// withSnapshot picks the newest snapshot of the position's window at or before it.
func (p *planner) withSnapshot(pos position) (position, error) {
	found := false
	for _, s := range p.src.snapshots() {
		inside := s.History == pos.history && s.LSN >= pos.window.From && s.LSN <= pos.at
		if inside && (!found || s.LSN >= pos.snapshot.LSN) {
			found = true
			pos.snapshot = s
		}
	}
	if !found {
		return position{}, p.uncoveredLSN(pos.at)
	}
	return pos, nil
}
