package fold

import "tidemark/segment"

// Action is what becomes of an operation.
type Action int

// What becomes of an operation.
const (
	Skip            Action = iota // nothing
	Keep                          // it is replayed as it is
	Insert                        // its new row is inserted
	Delete                        // the row with the old key is deleted
	DeleteAndInsert               // both, in that order
)

const otherwise = "it reads otherwise than the first time"

// Decide says what becomes of an operation in the second reading, which must be the same as the first. An
// error means that it was not.
func (f *Folder) Decide(t *Table, r *segment.Record) (Action, error) {
	if t.lasts != nil {
		return f.decideByLasts(t, r)
	}
	if err := t.locate(r.Relation); err != nil {
		return Skip, err
	}
	t.decided++
	old, row, moved, err := f.rows(t, r)
	if err != nil {
		return Skip, err
	}
	if t.decided <= t.emptyAt {
		return Skip, nil
	}
	was := f.fate(t, old, r.Op == segment.OpDelete || moved)
	is := f.fate(t, row, r.Op != segment.OpDelete)
	switch {
	case was.changed || is.changed:
		return Skip, refuse(t, otherwise)
	case r.Op == segment.OpDelete && was.ordered:
		return Keep, nil
	case r.Op == segment.OpDelete:
		return Skip, nil
	case !moved && is.ordered:
		return Keep, nil
	case !moved && is.last && r.Op == segment.OpUpdate:
		return Insert, nil
	case !moved && is.last:
		return Keep, nil
	case !moved:
		return Skip, nil
	case was.ordered && is.ordered:
		return Keep, nil
	case was.ordered && is.last:
		return DeleteAndInsert, nil
	case was.ordered:
		return Delete, nil
	case is.ordered, is.last:
		return Insert, nil
	}
	return Skip, nil
}

// fate is what a key's entry says of the operation being decided.
type fate struct {
	ordered bool // the key's operations come in order
	last    bool // this is the last one
	changed bool // the key was never noted
}

// fate looks a key up; nothing is said of one that is not concerned, or not looked at in this pass.
func (f *Folder) fate(t *Table, h hash, concerned bool) fate {
	if !concerned || !f.mine(h) {
		return fate{}
	}
	e := t.keys.find(h)
	if e == nil || e.number() < t.decided {
		return fate{changed: true}
	}
	return fate{ordered: e.inOrder(), last: e.number() == t.decided}
}

// Replayed checks that the second reading was as long as the first.
func (f *Folder) Replayed() error {
	for _, t := range f.Tables() {
		if t.decided != t.number || t.lasts != nil && t.lasts.left != (hash{}) {
			return refuse(t, otherwise)
		}
	}
	return nil
}

// DecideEmpty passes a TRUNCATE over in the second reading.
func (f *Folder) DecideEmpty(t *Table) { t.decided++ }
