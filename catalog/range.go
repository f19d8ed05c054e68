package catalog

import (
	"context"
	"slices"

	"tidemark/segment"
)

// What can be told of a range of an archive's WAL with few requests: most of it from the summaries of
// books and chapters.

// Sums returns the counts of the segments that touch r, mostly without reading them. A segment that
// only touches r counts as a whole.
func (v *View) Sums(ctx context.Context, r Range) (Counts, error) {
	var sums Counts
	partly := func(s *summary) bool {
		if !s.overlaps(r) {
			return false
		}
		if s.Segments == 0 {
			return false
		}
		p := s.Ranges[0]
		whole := len(s.Ranges) == 1 && p.From >= r.From && (r.To == 0 || p.To <= r.To)
		if whole {
			sums.add(s.Counts)
		}
		return !whole
	}
	before := ""
	for s := range v.st.runs {
		if s.First > 0 && partly(s) {
			lines, err := v.linesOf(ctx, s, before)
			if err != nil {
				return sums, asFault(err)
			}
			sums.addLines(lines, s, r)
		}
		before = s.Hash
	}
	return sums, nil
}

// addLines adds the segments of a run that touch r, at a glance.
func (c *Counts) addLines(lines [][]byte, s *summary, r Range) {
	for i, line := range lines {
		g := glance(line)
		if e, ok := g.stream(); ok && g.kind() == KindSegment && r.touches(e.History, e.From, e.To) && !slices.Contains(s.Void, s.First+uint64(i)) {
			c.add(g.counts())
		}
	}
}

// Spanning returns the stream entry that lsn cuts in two (From < lsn < To), if it may hold
// transactions; ok is false if there is none.
func (v *View) Spanning(ctx context.Context, history uint32, lsn segment.LSN) (e Entry, ok bool, err error) {
	spans := func(r reach) bool { return r.History == history && r.From < lsn && lsn < r.To }
	runs := func(s *summary) bool { return s.Transactions > 0 && slices.ContainsFunc(s.Ranges, spans) }
	for e, err := range v.scan(ctx, runs, func(g glance) bool {
		r, ok := g.stream()
		return ok && spans(r) && g.kind() == KindSegment
	}) {
		return e, err == nil, err
	}
	return e, false, nil
}

// FirstSegment returns the first segment entry with a commit in r; ok is false if there is none. (It
// goes by the segments' first and last commits, between which a bound of r may find none.)
func (v *View) FirstSegment(ctx context.Context, r Range) (e Entry, ok bool, err error) {
	for e, err := range v.scan(ctx, func(s *summary) bool { return s.mayCommitIn(r) }, r.commits) {
		return e, err == nil, err
	}
	return e, false, nil
}

// LastSegment returns the last segment entry with a commit in r, as FirstSegment does the first.
func (v *View) LastSegment(ctx context.Context, r Range) (e Entry, ok bool, err error) {
	type place struct {
		run    *summary
		before string // the hash that its lines begin from
	}
	var places []place
	before := ""
	for s := range v.st.runs {
		if s.First > 0 && s.mayCommitIn(r) {
			places = append(places, place{s, before})
		}
		before = s.Hash
	}
	for _, p := range slices.Backward(places) {
		lines, err := v.linesOf(ctx, p.run, p.before)
		if err != nil {
			return e, false, asFault(err)
		}
		for i, line := range slices.Backward(lines) {
			seq := p.run.First + uint64(i)
			if !r.commits(line) || slices.Contains(p.run.Void, seq) {
				continue
			}
			if e, err = decodeEntry(line); err != nil {
				return e, false, asFault(lineError(logKey(seq), err))
			}
			return e, true, nil
		}
	}
	return e, false, nil
}

func (s *summary) mayCommitIn(r Range) bool { return s.Transactions > 0 && s.overlaps(r) }

// commits reports whether a line is a segment with a commit in r.
func (r Range) commits(g glance) bool {
	e, ok := g.stream()
	if !ok || !r.touches(e.History, e.From, e.To) || g.kind() != KindSegment {
		return false
	}
	var first, last segment.LSN
	if first.UnmarshalText(g.text("first_commit_lsn")) != nil || last.UnmarshalText(g.text("last_commit_lsn")) != nil {
		return false // it holds none
	}
	return last >= r.From && (r.To == 0 || first < r.To)
}

// Unread returns how many books and chapters Entries of r would have to read, because they are not in
// memory: about as many requests.
func (v *View) Unread(r Range) int {
	n := 0
	for s := range v.st.runs {
		if s.First > 0 && s.Last <= v.st.Seq-uint64(len(v.lines)) && s.overlaps(r) && !v.lib.holds(s) {
			n++
		}
	}
	return n
}

// Read returns how many books and chapters were read so far, through this view and all others of its Log.
func (v *View) Read() int { return int(v.lib.read.Load()) }
