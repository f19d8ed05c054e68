package verify

import (
	"cmp"
	"context"
	"slices"

	"tidemark/catalog"
	"tidemark/segment"
)

// stretch is a contiguous part of a history whose segments are all sound.
type stretch struct {
	from, to   segment.LSN
	runningMax segment.Timestamp // of commit times, at to
}

// windows returns what can be restored without damaged segments and snapshots.
func (v *verifier) windows(ctx context.Context) ([]catalog.Window, error) {
	if v.report.OK() {
		return v.view.Windows(), nil
	}
	var windows []catalog.Window
	for _, h := range v.view.Histories() {
		stretches, err := v.stretches(ctx, h)
		if err != nil {
			return nil, err
		}
		sound := slices.DeleteFunc(slices.Clone(v.view.Snapshots()), func(p catalog.SnapshotPoint) bool {
			return p.History != h.Number || v.badSnapshot[p.Snapshot.ID]
		})
		windows = append(windows, join(h.Number, stretches, sound)...)
	}
	return windows, nil
}

// stretches cuts a history at its gaps, at damaged segments and where the catalog can't be read.
func (v *verifier) stretches(ctx context.Context, h catalog.HistoryPoint) ([]stretch, error) {
	var all []stretch
	open := false
	err := v.eachEntry(ctx, h, func(e catalog.Entry) {
		if e.Kind == catalog.KindGap || v.badEntries[e.Seq] {
			open = false
			return
		}
		if !open {
			all = append(all, stretch{from: e.From})
			open = true
		}
		last := &all[len(all)-1]
		last.to, last.runningMax = e.To, runningMax(e)
	}, func() { open = false })
	return all, err
}

func runningMax(e catalog.Entry) segment.Timestamp {
	if e.Kind == catalog.KindSegment {
		return e.Segment.RunningMax
	}
	return e.Watermark.RunningMax
}

// join makes a window of each stretch that a snapshot lies in, from the first such snapshot on, and one
// of each snapshot that lies in none. (catalog.View.Windows has the same rule.)
func join(history uint32, stretches []stretch, snapshots []catalog.SnapshotPoint) []catalog.Window {
	windows := map[int]*catalog.Window{}
	var alone []catalog.Window
	for _, p := range snapshots {
		i := slices.IndexFunc(stretches, func(s stretch) bool { return s.from <= p.LSN && p.LSN <= s.to })
		if i < 0 {
			alone = append(alone, catalog.Window{History: history, From: p.LSN, To: p.LSN, FromTime: p.EligibleFrom, ToTime: p.EligibleFrom})
			continue
		}
		w := windows[i]
		if w == nil {
			w = &catalog.Window{History: history, From: p.LSN, FromTime: p.EligibleFrom}
			windows[i] = w
		}
		w.From, w.FromTime = min(w.From, p.LSN), min(w.FromTime, p.EligibleFrom)
		w.To, w.ToTime = stretches[i].to, max(w.FromTime, stretches[i].runningMax)
	}
	for _, w := range windows {
		alone = append(alone, *w)
	}
	slices.SortFunc(alone, func(a, b catalog.Window) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return alone
}
