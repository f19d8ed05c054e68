package catalog

import (
	"context"
	"iter"
	"slices"

	"tidemark/segment"
)

// Range is a half-open part of a history's WAL. To 0 means to its end.
type Range struct {
	History  uint32
	From, To segment.LSN
}

func (r Range) touches(history uint32, from, to segment.LSN) bool {
	return r.History == history && to > r.From && (r.To == 0 || from < r.To)
}

// Entries yields the stream entries (segment, watermark, gap) that touch r, in order. Void entries are
// left out. Books and chapters that hold nothing of r are not read; what is read is checked against
// the chain before anything of it is yielded. An error ends it; damage is a fault naming the object.
func (v *View) Entries(ctx context.Context, r Range) iter.Seq2[Entry, error] {
	return v.scan(ctx, func(s *summary) bool { return s.overlaps(r) }, func(g glance) bool {
		e, ok := g.stream()
		return ok && r.touches(e.History, e.From, e.To)
	})
}

// EntriesSince is Entries without the books and chapters whose local commits are all earlier than a time.
func (v *View) EntriesSince(ctx context.Context, r Range, since segment.Timestamp) iter.Seq2[Entry, error] {
	return v.scan(ctx, func(s *summary) bool { return s.overlaps(r) && (s.MaxTime.IsZero() || s.MaxTime >= since) }, func(g glance) bool {
		e, ok := g.stream()
		return ok && r.touches(e.History, e.From, e.To)
	})
}

// FindTime returns the first segment entry of a history that holds a local commit later than t; ok is
// false if none does yet. It is where replay towards t (inclusive) ends, from any snapshot of
// SnapshotsForTime(history, t). For an exclusive target ask with a microsecond less.
func (v *View) FindTime(ctx context.Context, history uint32, t segment.Timestamp) (e Entry, ok bool, err error) {
	h, _ := v.History(history)
	runs := func(s *summary) bool {
		return slices.ContainsFunc(s.Ranges, func(p reach) bool { return p.History == history && p.To > h.Pruned && p.RunningMax > t })
	}
	later := func(g glance) bool {
		e, ok := g.stream()
		return ok && e.History == history && e.To > h.Pruned && g.kind() == KindSegment && !g.time("max_commit_time").IsZero() && g.time("max_commit_time") > t
	}
	for e, err := range v.scan(ctx, runs, later) {
		return e, err == nil, err
	}
	return e, false, nil
}

// FindXID yields the segment entries of all histories that may hold a transaction, oldest first; the
// segments' indexes tell.
func (v *View) FindXID(ctx context.Context, xid uint32) iter.Seq2[Entry, error] {
	return v.scan(ctx, func(s *summary) bool { return s.MinXID <= xid && xid <= s.MaxXID }, func(g glance) bool {
		e, ok := g.stream()
		return ok && g.kind() == KindSegment && g.number("min_xid") <= int64(xid) && int64(xid) <= g.number("max_xid") && !v.pruned(e)
	})
}

// FindLSN returns the stream entry whose range holds lsn; ok is false if there is none.
func (v *View) FindLSN(ctx context.Context, history uint32, lsn segment.LSN) (e Entry, ok bool, err error) {
	for e, err := range v.Entries(ctx, Range{History: history, From: lsn, To: lsn + 1}) {
		return e, err == nil, err
	}
	return e, false, nil
}

// All yields every entry of the catalog in order, void ones too. It reads every book.
func (v *View) All(ctx context.Context) iter.Seq2[Entry, error] {
	all := func(glance) bool { return true }
	return v.walk(ctx, func(*summary) bool { return true }, all, true)
}

// Entry returns the entry of a seq; ok is false if there is none.
func (v *View) Entry(ctx context.Context, seq uint64) (e Entry, ok bool, err error) {
	if seq == v.head.Seq {
		return v.head, seq > 0, nil
	}
	holds := func(s *summary) bool { return s.First <= seq && seq <= s.Last }
	is := func(g glance) bool { n, _, _ := linkOf(g); return n == seq }
	for e, err := range v.walk(ctx, holds, is, true) {
		return e, err == nil, err
	}
	return e, false, nil
}

func (v *View) pruned(r reach) bool {
	h := v.st.history(r.History)
	return h == nil || r.To <= h.Pruned
}

// runningMaxAt returns the greatest commit time of the stream entries that begin before lsn.
func (v *View) runningMaxAt(ctx context.Context, history uint32, lsn segment.LSN) (segment.Timestamp, error) {
	h := v.st.history(history)
	if lsn <= h.From {
		return 0, nil
	}
	if lsn >= h.End {
		return h.RunningMax, nil
	}
	e, _, err := v.FindLSN(ctx, history, lsn-1)
	return e.runningMax(), err
}

func (v *View) scan(ctx context.Context, runs func(*summary) bool, entries func(glance) bool) iter.Seq2[Entry, error] {
	return v.walk(ctx, runs, entries, false)
}

// walk yields the entries wanted of the runs wanted, in order.
func (v *View) walk(ctx context.Context, runs func(*summary) bool, entries func(glance) bool, void bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		before := ""
		for s := range v.st.runs {
			if s.First > 0 && runs(s) {
				lines, err := v.linesOf(ctx, s, before)
				if err != nil {
					yield(Entry{}, asFault(err))
					return
				}
				if !yieldLines(lines, s, entries, void, yield) {
					return
				}
			}
			before = s.Hash
		}
	}
}

// runs yields the books, the chapters, and the open chapter.
func (s *state) runs(yield func(*summary) bool) {
	for _, part := range [][]summary{s.Books, s.Chapters, {s.open}} {
		for i := range part {
			if !yield(&part[i]) {
				return
			}
		}
	}
}

func (v *View) linesOf(ctx context.Context, s *summary, before string) ([][]byte, error) {
	if s.First > v.st.Seq-uint64(len(v.lines)) {
		return v.lines, nil
	}
	return v.lib.run(ctx, s, before)
}

// yieldLines decodes and yields the lines wanted of a run.
func yieldLines(lines [][]byte, s *summary, want func(glance) bool, void bool, yield func(Entry, error) bool) bool {
	for i, line := range lines {
		seq := s.First + uint64(i)
		if !want(line) || (!void && slices.Contains(s.Void, seq)) {
			continue
		}
		e, err := decodeEntry(line)
		if err != nil {
			yield(Entry{}, asFault(lineError(logKey(seq), err)))
			return false
		}
		if !yield(e, nil) {
			return false
		}
	}
	return true
}
