package segment

import (
	"encoding/binary"
	"fmt"
)

// Row begins a row operation: OpInsert, OpUpdate or OpDelete on the relation with that OID. Its one or
// two tuples follow, then EndRow. ErrUnknownRelation if the segment has no definition yet; the Writer
// stays usable then, and Row may be called again after Relation.
func (w *Writer) Row(op Op, id uint32) error {
	if w.state != inside || op != OpInsert && op != OpUpdate && op != OpDelete {
		return w.misuse("Row")
	}
	r := w.last
	if r == nil || r.id != id {
		if r = w.relations[id]; r == nil {
			return fmt.Errorf("segment: row of OID %d: %w", id, ErrUnknownRelation)
		}
		w.last = r
	}
	if r.frameOf != w.block.number+1 && w.block.full() {
		if err := w.cut(0); err != nil {
			return err
		}
	}
	w.cur = w.tupleFrame(r)
	w.row = rowState{op: op, relation: r}
	w.state = inRow
	w.ledger.RawBytes += rawRow
	return nil
}

// tupleFrame returns the open block's frame for a relation's tuples.
func (w *Writer) tupleFrame(r *relation) *frame {
	if r.frameOf != w.block.number+1 {
		r.frame = w.block.frame(streamTuples+uint32(r.version), r.columns)
		r.frameOf = w.block.number + 1
	}
	return r.frame
}

// Tuple begins a tuple of the open row. The number of columns must be that of the relation's
// definition, as it always is in the stream; each column is a call of Null, Unchanged or Value.
func (w *Writer) Tuple(role TupleRole, columns int) error {
	row := &w.row
	if w.state != inRow || row.missing != 0 || row.done {
		return w.misuse("Tuple")
	}
	if columns != row.relation.columns {
		return w.fail(fmt.Errorf("segment: a tuple of %d columns for relation OID %d, which has %d: %w", columns, row.relation.id, row.relation.columns, ErrOrder))
	}
	switch {
	case role == New && row.op != OpDelete:
		row.done = true
	case (role == OldKey || role == OldFull) && row.op != OpInsert && row.old == 0:
		row.old = role
		row.done = row.op == OpDelete
	default:
		return w.misuse("Tuple")
	}
	if row.tuples == 0 {
		w.count(rowCode(row.op, row.old))
	}
	row.tuples++
	row.missing = columns
	w.ledger.RawBytes += rawTuple
	return nil
}

// count adds the open row to the run of equal operations.
func (w *Writer) count(code byte) {
	if w.run.count > 0 && w.run.code == code && w.run.relation == w.row.relation {
		w.run.count++
		return
	}
	w.flushRun()
	w.run = run{code: code, relation: w.row.relation, count: 1}
}

// rowCode returns the opcode of a row operation.
func rowCode(op Op, old TupleRole) byte {
	switch {
	case op == OpInsert:
		return codeInsert
	case op == OpUpdate && old == 0:
		return codeUpdate
	case op == OpUpdate && old == OldKey:
		return codeUpdateKey
	case op == OpUpdate:
		return codeUpdateOld
	case old == OldKey:
		return codeDeleteKey
	}
	return codeDeleteOld
}

// Null takes a column that is NULL.
func (w *Writer) Null() error { return w.tag(0) }

// Unchanged takes a TOASTed column that the UPDATE did not touch.
func (w *Writer) Unchanged() error { return w.tag(1) }

func (w *Writer) tag(tag byte) error {
	if w.row.missing == 0 || w.state != inRow {
		return w.misuse("column")
	}
	w.row.missing--
	w.cur.buf = append(w.cur.buf, tag)
	w.block.bytes++
	w.ledger.RawBytes++
	return nil
}

// Value announces a text value of size bytes. If size isn't 0, calls of Bytes that come to size follow.
func (w *Writer) Value(size int) error {
	if w.row.missing == 0 || w.state != inRow {
		return w.misuse("Value")
	}
	if size < 0 || size > maxValueSize {
		return w.fail(fmt.Errorf("segment: a value of %d bytes: %w", size, ErrTooLarge))
	}
	w.row.missing--
	n := len(w.cur.buf)
	w.cur.buf = binary.AppendUvarint(w.cur.buf, uint64(size)+2)
	w.block.bytes += len(w.cur.buf) - n
	w.ledger.RawBytes += rawValue + int64(size)
	if size > 0 {
		w.left = int64(size)
		w.state = inValue
	}
	return nil
}

// EndRow ends the open row, whose tuples must be complete.
func (w *Writer) EndRow() error {
	if w.state != inRow || w.row.missing != 0 || !w.row.done {
		return w.misuse("EndRow")
	}
	w.state = inside
	return w.endOp()
}
