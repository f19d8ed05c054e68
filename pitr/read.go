package pitr

import (
	"context"

	"tidemark/segment"
)

// look says what of a segment is read, and what becomes of it.
type look struct {
	want func(*segment.Relation) bool        // relations whose rows are read
	pass func(*segment.Relation, int64) bool // rows passed over, as a segment.Reader does; nil: none
	each func(*segment.Record) error
}

// Parts read ahead of those being decoded, of at most about 8 MiB each.
const readAhead = 4

// laneEntries are the numbers of a lane's segments: one in so many.
func (r *run) laneEntries(lane, lanes int) (mine []int) {
	for i := lane; i < len(r.entries); i += lanes {
		mine = append(mine, i)
	}
	return mine
}

// readEntries gives the segments with these numbers one after the other to read, which takes all of each. At most so
// many parts are read ahead.
func (r *run) readEntries(ctx context.Context, entries []int, ahead int, read func(context.Context, *segmentParts) error) error {
	ctx, cancel := context.WithCancel(ctx)
	parts, wait := r.fetchParts(ctx, entries, ahead)
	defer func() {
		cancel()
		wait()
	}()
	for _, i := range entries {
		source := &segmentParts{run: r, parts: parts, entry: i, left: len(r.entries[i].Segment.Objects)}
		if err := read(ctx, source); err != nil {
			return err
		}
	}
	return nil
}

// read reads the segment to its end, where all that it holds is proven, except when the cut lies in it.
func (s *segmentParts) read(how look) error {
	r, pass := s.run, how.pass
	e := r.entries[s.entry]
	if e.From < r.plan.Snapshot.LSN || e.To > r.plan.Cut {
		pass = nil // some of its rows don't count
	}
	skip := false
	for rec, err := range r.o.Archive.records(e, s.next, segment.ReaderOptions{Want: how.want, Pass: pass}) {
		if err != nil {
			return err
		}
		if rec.Op == segment.OpBegin {
			if rec.Begin.CommitLSN >= r.plan.Cut {
				return s.drain()
			}
			skip = rec.Begin.CommitLSN < r.plan.Snapshot.LSN
		}
		if skip && rec.Op != segment.OpRelation && rec.Op != segment.OpType {
			continue
		}
		if err := how.each(rec); err != nil {
			return err
		}
	}
	return nil
}

// largeValue is the size in bytes above which a value is streamed instead of held.
const largeValue = 1 << 20
