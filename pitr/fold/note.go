package fold

import (
	"errors"
	"slices"

	"tidemark/segment"
)

// Note takes a row operation of a table in the first reading. An error is one of the archive: the operation
// doesn't fit those before. A table that turns out not to be one that can be folded is given up without an error.
func (f *Folder) Note(t *Table, r *segment.Record) error {
	if err := t.locate(r.Relation); err != nil {
		f.give(t, err)
		return nil
	}
	t.number++
	if f.pass == 0 {
		t.count(r.Op)
	}
	err := f.note(t, r)
	if errors.Is(err, errNoKey) {
		f.give(t, err)
		return nil
	}
	return err
}

func (t *Table) count(op segment.Op) {
	switch op {
	case segment.OpInsert:
		t.counts.Inserted++
		t.live++
	case segment.OpUpdate:
		t.counts.Updated++
	case segment.OpDelete:
		t.counts.Deleted++
		t.live--
	}
}

func (f *Folder) note(t *Table, r *segment.Record) error {
	old, row, moved, err := f.rows(t, r)
	if err != nil {
		return err
	}
	partial := uint64(0)
	if r.Op == segment.OpUpdate && slices.ContainsFunc(r.New, func(v segment.Value) bool { return v.Kind == segment.Unchanged }) {
		partial = flagPartial
		t.tangled = t.tangled || moved
	}
	if r.Op == segment.OpDelete || moved {
		if err := f.gone(t, old, partial != 0); err != nil {
			return err
		}
	}
	if r.Op == segment.OpDelete || !f.mine(row) {
		return nil
	}
	e, known := f.entry(t, row)
	if e == nil {
		return nil
	}
	wasThere := r.Op == segment.OpUpdate && !moved
	switch {
	case !known && wasThere && t.emptyAt > 0, known && wasThere && !e.is(flagLive):
		return refuse(t, "an update of a row that is not there")
	case known && !wasThere && e.is(flagLive):
		return refuse(t, "a row comes with a key that another one has")
	case !known && wasThere:
		e.state |= flagBefore
	}
	e.set(t.number, flagLive|partial)
	return nil
}

// gone notes that the row with a key is no more; taken says that another one took over values of it.
func (f *Folder) gone(t *Table, h hash, taken bool) error {
	if !f.mine(h) {
		return nil
	}
	e, known := f.entry(t, h)
	switch {
	case e == nil:
		return nil
	case known && !e.is(flagLive), !known && t.emptyAt > 0:
		return refuse(t, "a delete, or a change of the key, of a row that is not there")
	case !known:
		e.state |= flagBefore
	}
	e.set(t.number, 0)
	if taken {
		e.state |= flagPinned
	}
	return nil
}

// entry returns the entry of a key, and whether it was known. Nil: making room for it ended the pass's
// interest in it.
func (f *Folder) entry(t *Table, h hash) (e *entry, known bool) {
	if e = t.keys.find(h); e != nil {
		return e, true
	}
	if f.room(t); !f.mine(h) {
		return nil, false
	}
	return t.keys.insert(h), false
}

// rows returns the hashes of the row that was and of the one that is, and whether an update changed the key.
func (f *Folder) rows(t *Table, r *segment.Record) (old, row hash, moved bool, err error) {
	if r.OldRole != 0 {
		if old, err = f.hash(t, r.Old); err != nil {
			return old, row, false, err
		}
	}
	if r.Op == segment.OpDelete {
		return old, row, false, nil
	}
	if row, err = f.hash(t, r.New); err != nil {
		return old, row, false, err
	}
	return old, row, r.OldRole != 0 && old != row, nil
}

// Empty notes a TRUNCATE of a table.
func (f *Folder) Empty(t *Table) {
	t.number++
	if f.pass == 0 {
		t.counts.Truncated++
		t.live, t.emptied = 0, true
	}
	t.emptyAt, t.keys = t.number, keys{}
}
