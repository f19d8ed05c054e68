package fold

import (
	"slices"

	"tidemark/segment"
)

// Batch is a run of operations of all tables, in order, less all that Note doesn't need of them. Batches are filled by
// one goroutine, with its Reducer, and noted by another.
type Batch struct {
	ops   []op
	given map[*Table]error // why tables are not folded after all
}

// op is what is left of an operation.
type op struct {
	t    *Table
	key  hash // that the row has in the end; of a row that is no more, the one that it had
	kind opKind
	part bool // an update that left out values that it didn't change
}

type opKind uint8

const (
	opInsert opKind = iota
	opUpdate
	opDelete
	opLeave // the first half of an update that changes the key: the old one
	opMove  // its second half, which comes next
	opEmpty
	opGive // the table is not folded after all
)

// batchOps is how many operations make a Batch full.
const batchOps = 8192

// Full reports whether it is time to note the Batch.
func (b *Batch) Full() bool { return len(b.ops) >= batchOps }

// Reset makes the Batch empty, to be filled again.
func (b *Batch) Reset() { b.ops, b.given = b.ops[:0], nil }

// Reducer fills Batches with the operations of parts of the first reading. One goroutine uses it; several Reducers may be at work, each on
// other parts.
type Reducer struct{ views map[uint32]*view }

// Reducer makes one, for the tables that are folded.
func (f *Folder) Reducer() *Reducer {
	r := &Reducer{views: map[uint32]*view{}}
	for _, t := range f.Tables() {
		r.views[t.oid] = &view{t: t, f: f}
	}
	return r
}

// Folds reports whether a table, by its OID at the source, is folded as far as this Reducer knows.
func (r *Reducer) Folds(oid uint32) bool { return r.views[oid] != nil }

// Empty takes a TRUNCATE of a table into a Batch. Of tables that are not folded it takes nothing.
func (r *Reducer) Empty(b *Batch, oid uint32) {
	if v := r.views[oid]; v != nil {
		b.ops = append(b.ops, op{t: v.t, kind: opEmpty})
	}
}

// Reduce takes a row operation into a Batch, unless it is of a table that is not folded. A table that turns out not to be
// one that can be is given up.
func (r *Reducer) Reduce(b *Batch, rec *segment.Record) {
	v := r.views[rec.Relation.ID]
	if v == nil {
		return
	}
	if err := b.reduce(v, rec); err != nil {
		delete(r.views, rec.Relation.ID)
		if b.given == nil {
			b.given = map[*Table]error{}
		}
		b.given[v.t] = err
		b.ops = append(b.ops, op{t: v.t, kind: opGive})
	}
}

func (b *Batch) reduce(v *view, r *segment.Record) error {
	if err := v.locate(r.Relation); err != nil {
		return err
	}
	old, row, moved, err := v.rows(r)
	if err != nil {
		return err
	}
	t := v.t
	part := r.Op == segment.OpUpdate && slices.ContainsFunc(r.New, func(v segment.Value) bool { return v.Kind == segment.Unchanged })
	switch {
	case r.Op == segment.OpInsert:
		b.ops = append(b.ops, op{t: t, key: row, kind: opInsert})
	case r.Op == segment.OpDelete:
		b.ops = append(b.ops, op{t: t, key: old, kind: opDelete})
	case moved:
		b.ops = append(b.ops, op{t: t, key: old, kind: opLeave, part: part}, op{t: t, key: row, kind: opMove, part: part})
	default:
		b.ops = append(b.ops, op{t: t, key: row, kind: opUpdate, part: part})
	}
	return nil
}
