package pgoutput

import "tidemark/segment"

// row decodes an insert, update or delete: relation, then the tuples that the operation has.
func (d *Decoder) row(op segment.Op) error {
	c := &d.c
	id := c.uint32()
	role := segment.TupleRole(c.uint8())
	columns, err := d.columnsOf(id)
	switch {
	case err != nil:
		return err
	case !allowed(op, role):
		return c.fail("tuple %q in a row operation %q", byte(role), byte(op))
	}
	if err := d.sink.Row(op, id); err != nil {
		return err
	}
	if err := d.tuple(role, columns); err != nil {
		return err
	}
	if op == segment.OpUpdate && role != segment.New {
		if role = segment.TupleRole(c.uint8()); c.err != nil || role != segment.New {
			return c.fail("tuple %q where the new one is due", byte(role))
		}
		if err := d.tuple(role, columns); err != nil {
			return err
		}
	}
	if err := c.end(); err != nil {
		return err
	}
	return d.sink.EndRow()
}

// allowed reports whether a row operation may have role as its first tuple.
func allowed(op segment.Op, role segment.TupleRole) bool {
	switch role {
	case segment.New:
		return op != segment.OpDelete
	case segment.OldKey, segment.OldFull:
		return op != segment.OpInsert
	}
	return false
}

// columnsOf returns the number of columns of a relation that was described before.
func (d *Decoder) columnsOf(id uint32) (int, error) {
	if d.c.err != nil {
		return 0, d.c.err
	}
	if d.lastCol >= 0 && d.lastRel == id {
		return d.lastCol, nil
	}
	n, known := d.columns[id]
	if !known {
		return 0, d.c.failAt(1, "relation %d was not described", id)
	}
	d.lastRel, d.lastCol = id, n
	return n, nil
}

func (d *Decoder) tuple(role segment.TupleRole, columns int) error {
	c := &d.c
	n := c.count()
	if c.err != nil || n != columns {
		return c.fail("a tuple of %d columns for a relation of %d", n, columns)
	}
	if err := d.sink.Tuple(role, n); err != nil {
		return err
	}
	for range n {
		if err := d.value(); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) value() error {
	c := &d.c
	switch kind := segment.Kind(c.uint8()); kind {
	case segment.Null:
		return d.sink.Null()
	case segment.Unchanged:
		return d.sink.Unchanged()
	case segment.Text:
		n := c.length("a value")
		if c.err != nil {
			return c.err
		}
		if err := d.sink.Value(n); err != nil {
			return err
		}
		return d.bytes(n)
	case 'b':
		return c.fail("a value in binary form, which was not asked for")
	default:
		return c.fail("unknown kind of value %q", byte(kind))
	}
}
