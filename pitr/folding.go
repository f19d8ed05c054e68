package pitr

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/pitr/apply"
	"tidemark/pitr/fold"
	"tidemark/segment"
)

// A table is folded where enough of its rows are updated or deleted: at least foldLeast operations, and one for
// every foldShare rows of the base snapshot, all of whose keys must be looked at. A variable for tests.
var foldLeast int64 = 2_000

const foldShare = 200

// planFold chooses the tables that are folded: those whose rows are told apart by a primary key, in a range that
// changes nothing but rows. The schema is there, with the indexes that come before the rows.
func (r *run) planFold() {
	if r.o.NoFold || r.o.SchemaOnly || r.o.DataOnly || r.plan.SchemaChanges > 0 || r.plan.TablesCut || len(r.plan.Inexact) > 0 {
		return
	}
	changed := map[string]int64{}
	for _, t := range r.plan.Tables {
		changed[t.Table] = t.Updates + t.Deletes
	}
	for _, t := range r.chosen.tables {
		n := changed[t.String()]
		if n < max(foldLeast, t.Rows/foldShare) || t.Identity != "d" || len(t.Key) == 0 || t.Extension != "" {
			continue
		}
		if r.fold == nil {
			r.fold = fold.New(r.o.FoldMemory)
		}
		r.fold.Add(t.OID, t.String(), t.Key, r.uniqueBeside(t))
	}
}

// uniqueBeside reports whether a table has another unique index than its primary key's already, or one for an exclusion constraint.
func (r *run) uniqueBeside(t *basesnapshot.Table) bool {
	return slices.ContainsFunc(r.chosen.items, func(it basesnapshot.SchemaItem) bool {
		unique := it.Kind == "CONSTRAINT" && !strings.Contains(it.SQL, " PRIMARY KEY (") || it.Kind == "INDEX" && strings.Contains(it.SQL, "CREATE UNIQUE INDEX ")
		return r.early[it.ID] && unique && r.dependsOnTable(&it, t)
	})
}

// folded returns the table of the base snapshot as one that is folded; nil if it isn't.
func (r *run) folded(t *basesnapshot.Table) *fold.Table { return r.fold.Table(t.OID) }

// scan reads the range for the first time, and notes what becomes of the rows that are folded.
func (r *run) scan(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	lanes := make([]*scanLane, min(scanLanes, runtime.GOMAXPROCS(0), max(1, len(r.entries))))
	for i := range lanes {
		l := &scanLane{run: r, full: make(chan scanned, laneBatches), free: make(chan *fold.Batch, laneBatches), reducer: r.fold.Reducer()}
		lanes[i] = l
		g.Go(func() error { return l.reduce(ctx, r.laneEntries(i, len(lanes)), readAhead/len(lanes)) })
	}
	g.Go(func() error { return r.noteScanned(ctx, lanes) })
	if err := g.Wait(); err != nil {
		return err
	}
	r.fold.EndNotes()
	for table, why := range r.fold.Given() {
		r.o.Log.Debug("its changes are replayed in order", "table", table, "why", why)
	}
	return nil
}

// Segments are read by several, each some of them, and noted in order. laneBatches is how many batches, of 256 KiB, each may be ahead: most of
// a segment's.
const (
	scanLanes   = 2
	laneBatches = 64
)

// scanLane reads some of the segments for scan.
type scanLane struct {
	run     *run
	reducer *fold.Reducer
	full    chan scanned
	free    chan *fold.Batch
	made    int
}

// scanned is a batch of a segment; the last one of it may be empty.
type scanned struct {
	batch *fold.Batch
	last  bool
}

// empty gives a batch to fill.
func (l *scanLane) empty(ctx context.Context) (*fold.Batch, error) {
	select {
	case b := <-l.free:
		return b, nil
	default:
	}
	if l.made < laneBatches {
		l.made++
		return new(fold.Batch), nil
	}
	select {
	case b := <-l.free:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// reduce reads segments, and gives away batch after batch.
func (l *scanLane) reduce(ctx context.Context, entries []int, ahead int) error {
	r := l.run
	want := func(rel *segment.Relation) bool { return l.reducer.Folds(rel.ID) && r.wantsRows(rel) }
	return r.readEntries(ctx, entries, ahead, func(ctx context.Context, source *segmentParts) error {
		b, err := l.empty(ctx)
		if err != nil {
			return err
		}
		each := func(rec *segment.Record) (err error) {
			switch {
			case rec.Op == segment.OpTruncate:
				for _, rel := range rec.TruncateRelations {
					l.reducer.Empty(b, rel.ID)
				}
			case rec.Relation != nil && rec.Op != segment.OpRelation:
				l.reducer.Reduce(b, rec)
			}
			if b.Full() {
				l.full <- scanned{b, false} // there is room for all batches
				b, err = l.empty(ctx)
			}
			return err
		}
		if err := source.read(look{want: want, each: each}); err != nil {
			return err
		}
		l.full <- scanned{b, true}
		return nil
	})
}

// noteScanned notes what the lanes have read, segment after segment, with a mark between them.
func (r *run) noteScanned(ctx context.Context, lanes []*scanLane) error {
	r.marks = append(r.marks[:0], r.fold.Mark())
	for i := range r.entries {
		l := lanes[i%len(lanes)]
		for last := false; !last; {
			var s scanned
			select {
			case s = <-l.full:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := r.fold.Note(s.batch); err != nil {
				return contradiction(err)
			}
			s.batch.Reset()
			l.free <- s.batch
			last = s.last
		}
		r.marks = append(r.marks, r.fold.Mark())
	}
	return nil
}

// readAgain begins the second reading of a segment.
func (r *run) readAgain(entry int) *fold.Reading {
	if r.fold == nil {
		return nil
	}
	return r.fold.Read(r.marks[entry], r.marks[entry+1])
}

// contradiction makes one that folding found a fault; other errors stay what they are.
func contradiction(err error) error {
	if _, ok := errors.AsType[*fold.Contradiction](err); ok {
		return fault.Wrap(err, fault.Damage, verifyHint, "what is archived contradicts itself")
	}
	return err
}

// foldedFilter makes what leaves rows out of the base snapshot of a table; nil where all are loaded.
func (r *run) foldedFilter(t *basesnapshot.Table) (*fold.Snapshot, error) {
	f := r.folded(t)
	if f == nil {
		return nil, nil
	}
	s, err := r.fold.Snapshot(f, t.CopyColumns())
	return s, fault.Wrap(err, fault.Damage, verifyHint, "fold %s", t)
}

// replayFolded applies what is left of an operation.
func replayFolded(ctx context.Context, a *apply.Applier, d *fold.Decider, rec *segment.Record) error {
	action, err := d.Decide(rec)
	if err != nil {
		return changedMeanwhile(err)
	}
	switch action {
	case fold.Skip:
		return nil
	case fold.Keep:
		return a.Apply(ctx, rec)
	case fold.Delete, fold.DeleteAndInsert:
		if err := a.Apply(ctx, &segment.Record{Op: segment.OpDelete, Relation: rec.Relation, OldRole: rec.OldRole, Old: rec.Old}); err != nil || action == fold.Delete {
			return err
		}
	}
	return a.Apply(ctx, &segment.Record{Op: segment.OpInsert, Relation: rec.Relation, New: rec.New})
}

// withoutFolded leaves the folded tables out of a TRUNCATE; nil if nothing remains.
func (r *run) withoutFolded(again *fold.Reading, rec *segment.Record) *segment.Record {
	var others []*segment.Relation
	for _, rel := range rec.TruncateRelations {
		if d := again.Table(rel.ID); d != nil {
			d.Empty()
		} else if r.fold.Pass() == 0 {
			others = append(others, rel)
		}
	}
	if len(others) == len(rec.TruncateRelations) {
		return rec
	}
	if len(others) == 0 {
		return nil
	}
	out := &segment.Record{Op: rec.Op, Truncate: segment.Truncate{Options: rec.Truncate.Options}, TruncateRelations: others}
	for _, rel := range others {
		out.Truncate.Relations = append(out.Truncate.Relations, rel.ID)
	}
	return out
}

// foldedCounts puts what the folded tables saw in the place of what was applied.
func (r *run) foldedCounts(counts map[string]apply.Counts) {
	for _, t := range r.fold.Tables() {
		counts[t.Name()] = apply.Counts(t.Counts())
		rows, emptied := t.Live()
		if !emptied {
			rows += r.tableRows(t.Name()).Copied
		}
		r.rowsOf[r.targets[t.Name()]] = rows
	}
}

// furtherPasses folds the keys that found no room in memory at first.
func (r *run) furtherPasses(ctx context.Context) error {
	for r.fold.Next() {
		var tables []*basesnapshot.Table
		for _, t := range r.chosen.tables {
			if r.folded(t) != nil {
				tables = append(tables, t)
			}
		}
		r.o.Log.Info("not all keys fit into memory at once: the archive is read again", "pass", r.fold.Pass()+1)
		if err := r.phase(ctx, PhaseFold, "bytes", r.replayBytes(), r.scan); err != nil {
			return err
		}
		if err := r.phase(ctx, PhaseSnapshot, "bytes", storedBytes(tables), func(ctx context.Context) error { return r.loadTables(ctx, tables) }); err != nil {
			return err
		}
		if err := r.phase(ctx, PhaseKeys, "steps", 0, r.prepareReplay); err != nil {
			return err
		}
		if err := r.phase(ctx, PhaseReplay, "bytes", r.replayBytes(), r.replay); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) replayBytes() int64 { return r.plan.Bytes - r.plan.Snapshot.Bytes }

func storedBytes(tables []*basesnapshot.Table) (n int64) {
	for _, t := range tables {
		n += t.StoredBytes()
	}
	return n
}
