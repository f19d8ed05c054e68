package fold

import "tidemark/segment"

// lasts has a bit for each operation of a table that is the last of a key whose row is there in the end. It takes the
// place of the keys in the second reading: its bits are read in order, while every key is somewhere else in memory.
type lasts struct {
	bits []uint64
	left hash // sums of the keys' hashes, less those that were met
}

// lastsShare is the part of the memory that all bits together may take.
const lastsShare = 8

// listLasts makes the bits of the tables whose operations are not replayed in order, as far as there is room.
func (f *Folder) listLasts() {
	room := f.memory / lastsShare
	for _, t := range f.tables {
		size := int64(t.number/64+1) * 8
		if t.given != nil || t.ordered || size > room {
			continue
		}
		room -= size
		t.lasts = t.keys.lasts(t.number)
	}
}

// lasts lists the last operations of a table that has had so many.
func (k *keys) lasts(operations uint64) *lasts {
	l := &lasts{bits: make([]uint64, operations/64+1)}
	for i := range k.slots {
		if e := &k.slots[i]; e.is(flagUsed) && e.is(flagLive) {
			n := e.number()
			l.bits[n/64] |= 1 << (n % 64)
			l.left[0] += e.hash[0]
			l.left[1] += e.hash[1]
		}
	}
	return l
}

// has reports whether the operation with that number is one. Beyond the last there is none.
func (l *lasts) has(n uint64) bool {
	return n/64 < uint64(len(l.bits)) && l.bits[n/64]&(1<<(n%64)) != 0
}

// none reports whether there is none from one operation to another, both included.
func (l *lasts) none(from, to uint64) bool {
	if to/64 >= uint64(len(l.bits)) {
		return false
	}
	for w := from / 64; w <= to/64; w++ {
		found := l.bits[w]
		if w == from/64 {
			found &= ^uint64(0) << (from % 64)
		}
		if w == to/64 {
			found &= ^uint64(0) >> (63 - to%64)
		}
		if found != 0 {
			return false
		}
	}
	return true
}

// decideByLasts is Decide for a table whose last operations are listed.
func (f *Folder) decideByLasts(t *Table, r *segment.Record) (Action, error) {
	t.decided++
	if !t.lasts.has(t.decided) {
		return Skip, nil
	}
	if r.Op == segment.OpDelete {
		return Skip, refuse(t, otherwise)
	}
	if err := t.locate(r.Relation); err != nil {
		return Skip, err
	}
	h, err := f.hash(t, r.New)
	if err != nil {
		return Skip, err
	}
	t.lasts.left[0] -= h[0]
	t.lasts.left[1] -= h[1]
	if r.Op == segment.OpUpdate {
		return Insert, nil
	}
	return Keep, nil
}

// PassOver reports whether Decide would say Skip of the next operations of a table, so many of them, and takes them
// for decided if so.
func (f *Folder) PassOver(t *Table, operations int64) bool {
	if t.lasts == nil || !t.lasts.none(t.decided+1, t.decided+uint64(operations)) {
		return false
	}
	t.decided += uint64(operations)
	return true
}
