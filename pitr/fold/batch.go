package fold

import (
	"slices"

	"tidemark/segment"
)

// Batch is a run of operations of all tables, in order, less all that Note doesn't need of them. Batches are filled by
// one goroutine and noted by another.
type Batch struct{ ops []op }

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
func (b *Batch) Reset() { b.ops = b.ops[:0] }

// Empty takes a TRUNCATE of a table.
func (b *Batch) Empty(t *Table) {
	t.reduced++
	b.ops = append(b.ops, op{t: t, kind: opEmpty})
}

// Reduce takes a row operation of a table into a Batch. A table that turns out not to be one that can be folded is
// given up: Table knows it no more.
func (b *Batch) Reduce(t *Table, r *segment.Record) {
	if err := b.reduce(t, r); err != nil {
		t.given = err
		b.ops = append(b.ops, op{t: t, kind: opGive})
	}
}

func (b *Batch) reduce(t *Table, r *segment.Record) error {
	if err := t.first.locate(r.Relation); err != nil {
		return err
	}
	old, row, moved, err := t.first.rows(r)
	if err != nil {
		return err
	}
	t.reduced++
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
