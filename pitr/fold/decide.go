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

// Decider says what becomes of one table's operations in a Reading.
type Decider struct {
	view
	decided uint64 // number of the operation decided last
	met     hash   // sums of the keys' hashes of the last operations, where those are listed
}

// Decide says what becomes of the next operation, which must be the same as in the first reading. An error means
// that it was not.
func (d *Decider) Decide(r *segment.Record) (Action, error) {
	d.decided++
	if d.t.lasts != nil {
		return d.byLasts(r)
	}
	if err := d.locate(r.Relation); err != nil {
		return Skip, err
	}
	old, row, moved, err := d.rows(r)
	if err != nil {
		return Skip, err
	}
	if d.decided <= d.t.emptyAt {
		return Skip, nil
	}
	was := d.fate(old, r.Op == segment.OpDelete || moved)
	is := d.fate(row, r.Op != segment.OpDelete)
	switch {
	case was.changed || is.changed:
		return Skip, refuse(d.t, otherwise)
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

// byLasts is Decide for a table whose last operations are listed.
func (d *Decider) byLasts(r *segment.Record) (Action, error) {
	if !d.t.lasts.has(d.decided) {
		return Skip, nil
	}
	if r.Op == segment.OpDelete {
		return Skip, refuse(d.t, otherwise)
	}
	if err := d.locate(r.Relation); err != nil {
		return Skip, err
	}
	h, err := d.hash(r.New)
	if err != nil {
		return Skip, err
	}
	d.met[0] += h[0]
	d.met[1] += h[1]
	if r.Op == segment.OpUpdate {
		return Insert, nil
	}
	return Keep, nil
}

// PassOver reports whether Decide would say Skip of the next operations, so many of them, and takes them for decided
// if so.
func (d *Decider) PassOver(operations int64) bool {
	if d.t.lasts == nil || !d.t.lasts.none(d.decided+1, d.decided+uint64(operations)) {
		return false
	}
	d.decided += uint64(operations)
	return true
}

// Empty passes a TRUNCATE over.
func (d *Decider) Empty() { d.decided++ }

// fate is what a key's entry says of the operation being decided.
type fate struct {
	ordered bool // the key's operations come in order
	last    bool // this is the last one
	changed bool // the key was never noted
}

// fate looks a key up; nothing is said of one that is not concerned, or not looked at in this pass.
func (d *Decider) fate(h hash, concerned bool) fate {
	if !concerned || !d.f.mine(h) {
		return fate{}
	}
	e := d.t.keys.find(h)
	if e == nil || e.number() < d.decided {
		return fate{changed: true}
	}
	return fate{ordered: e.inOrder(), last: e.number() == d.decided}
}
