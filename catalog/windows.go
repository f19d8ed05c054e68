package catalog

import (
	"cmp"
	"slices"

	"tidemark/segment"
)

// Window is a part of a history that can be restored. An LSN target X is inside if From <= X < To
// (inclusive) or From <= X <= To (exclusive), a time T likewise between FromTime and ToTime.
type Window struct {
	History  uint32            `json:"history"`
	From     segment.LSN       `json:"from_lsn"`
	To       segment.LSN       `json:"to_lsn"`
	FromTime segment.Timestamp `json:"from_time"`
	ToTime   segment.Timestamp `json:"to_time"` // the running maximum of commit times at To; never before FromTime
}

// stretch is a contiguous part of a history's tiling.
type stretch struct {
	from, to   segment.LSN
	runningMax segment.Timestamp // at to
}

// stretches cuts a history at its gaps and at what was pruned.
func (s *state) stretches(h *HistoryPoint) []stretch {
	var all []stretch
	from := max(h.From, h.Pruned)
	for _, g := range s.Gaps {
		if g.History != h.Number || g.To <= from {
			continue
		}
		if g.From >= from {
			all = append(all, stretch{from, g.From, g.RunningMax})
		}
		from = g.To
	}
	return append(all, stretch{from, h.End, h.RunningMax})
}

// Windows returns what can be restored, by history and LSN.
func (v *View) Windows() []Window {
	var windows []Window
	for i := range v.st.Histories {
		windows = append(windows, v.st.windows(&v.st.Histories[i])...)
	}
	return windows
}

func (s *state) windows(h *HistoryPoint) []Window {
	stretches := s.stretches(h)
	byStretch := make(map[int]*Window)
	var windows []*Window
	for _, p := range s.Snapshots {
		if p.History != h.Number {
			continue
		}
		i := slices.IndexFunc(stretches, func(r stretch) bool { return r.from <= p.LSN && p.LSN <= r.to })
		w := byStretch[i]
		if i < 0 || w == nil {
			w = &Window{History: h.Number, From: p.LSN, To: p.LSN, FromTime: p.EligibleFrom, ToTime: p.EligibleFrom}
			windows = append(windows, w)
		}
		if i >= 0 {
			byStretch[i] = w
			w.From, w.FromTime = min(w.From, p.LSN), min(w.FromTime, p.EligibleFrom)
			w.To, w.ToTime = stretches[i].to, max(w.FromTime, stretches[i].runningMax)
		}
	}
	slices.SortFunc(windows, func(a, b *Window) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	out := make([]Window, 0, len(windows))
	for _, w := range windows {
		out = append(out, *w)
	}
	return out
}

// SnapshotsFor returns the snapshots from which lsn can be reached without crossing a gap, the
// nearest (the one with the least to replay) first. lsn may be a snapshot's own position.
func (v *View) SnapshotsFor(history uint32, lsn segment.LSN) []SnapshotPoint {
	h := v.st.history(history)
	if h == nil {
		return nil
	}
	stretches := v.st.stretches(h)
	reaches := func(p SnapshotPoint) bool {
		return p.LSN == lsn || slices.ContainsFunc(stretches, func(r stretch) bool { return r.from <= p.LSN && p.LSN <= lsn && lsn <= r.to })
	}
	return v.st.candidates(history, reaches)
}

// SnapshotsForTime returns the snapshots that may serve a time target, the nearest first: no commit
// before them is later than t, and a later commit is archived beyond them. For an exclusive target
// ask with a microsecond less.
func (v *View) SnapshotsForTime(history uint32, t segment.Timestamp) []SnapshotPoint {
	h := v.st.history(history)
	if h == nil {
		return nil
	}
	stretches := v.st.stretches(h)
	serves := func(p SnapshotPoint) bool {
		return p.EligibleFrom <= t && slices.ContainsFunc(stretches, func(r stretch) bool {
			return r.from <= p.LSN && p.LSN <= r.to && t < r.runningMax
		})
	}
	return v.st.candidates(history, serves)
}

func (s *state) candidates(history uint32, ok func(SnapshotPoint) bool) []SnapshotPoint {
	var found []SnapshotPoint
	for _, p := range s.Snapshots {
		if p.History == history && ok(p) {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b SnapshotPoint) int { return cmp.Compare(b.LSN, a.LSN) })
	return found
}
