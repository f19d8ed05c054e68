package fold

// lasts has a bit for each operation of a table that is the last of a key whose row is there in the end. It takes the
// place of the keys in the second reading: its bits are read in order, while every key is somewhere else in memory.
type lasts struct {
	bits []uint64
	left hash // sums of the keys' hashes, less those that Readings met
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
