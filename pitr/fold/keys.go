package fold

import (
	"math"
	"math/bits"
)

// hash identifies a key of a table: 128 bits, keyed anew for each Folder.
type hash [2]uint64

// entry is what is known of a key: the number of the operation that touched it last, shifted, and flags.
type entry struct {
	hash  hash
	state uint64
}

const (
	flagLive    = 1 << iota // the row is there after the last operation
	flagPartial             // the last operation left out values that the row has had since
	flagPinned              // a row with another key took such values over from this one
	flagBefore              // the row was there before the first operation: the base snapshot has it
	flagUsed                // the slot is taken

	flagBits = 5
)

func (e *entry) number() uint64   { return e.state >> flagBits }
func (e *entry) is(f uint64) bool { return e.state&f != 0 }

// inOrder reports whether the operations of the key are replayed one after the other.
func (e *entry) inOrder() bool { return e.state&(flagPartial|flagPinned) != 0 }

// set replaces number and flags, keeping what is never forgotten.
func (e *entry) set(number, flags uint64) {
	e.state = number<<flagBits | e.state&(flagPinned|flagBefore) | flags | flagUsed
}

// keys is a hash table with open addressing; its size is a power of two.
type keys struct {
	slots []entry
	used  int
}

const firstSlots = 1 << 10

// entrySize is the size of an entry in bytes.
const entrySize = 24

// find returns the entry of a key, nil if there is none.
func (k *keys) find(h hash) *entry {
	if len(k.slots) == 0 {
		return nil
	}
	mask := uint64(len(k.slots) - 1)
	for i := h[1] & mask; ; i = (i + 1) & mask {
		e := &k.slots[i]
		if !e.is(flagUsed) {
			return nil
		}
		if e.hash == h {
			return e
		}
	}
}

// touched is how many keys are looked up ahead. Each lies somewhere else in memory, so that looking it up is waiting
// for memory and little else: the processor waits for several at once if none depends on another.
const touched = 32

// touch has the entries of keys brought near the processor. Its result says nothing; it is there to be used.
func (k *keys) touch(hashes []hash) (sum uint64) {
	for _, h := range hashes {
		sum += k.at(h)
	}
	return sum
}

// at reads the slot in which the search for a key begins.
func (k *keys) at(h hash) uint64 {
	if len(k.slots) == 0 {
		return 0
	}
	return k.slots[h[1]&uint64(len(k.slots)-1)].state
}

// full reports whether the next insert must be preceded by grow.
func (k *keys) full() bool { return k.used*4 >= len(k.slots)*3 }

// insert adds a key that is not there.
func (k *keys) insert(h hash) *entry {
	mask := uint64(len(k.slots) - 1)
	i := h[1] & mask
	for k.slots[i].is(flagUsed) {
		i = (i + 1) & mask
	}
	k.used++
	k.slots[i] = entry{hash: h, state: flagUsed}
	return &k.slots[i]
}

// grown is how many slots grow would make.
func (k *keys) grown() int { return max(firstSlots, 2*len(k.slots)) }

func (k *keys) grow() { k.rebuild(k.grown(), math.MaxUint64) }

// rebuild keeps the keys whose first word is at most last, in a table of so many slots.
func (k *keys) rebuild(slots int, last uint64) {
	old := k.slots
	k.slots, k.used = make([]entry, slots), 0
	for i := range old {
		if e := &old[i]; e.is(flagUsed) && e.hash[0] <= last {
			k.insert(e.hash).state = e.state
		}
	}
}

// keep forgets the keys whose first word is above last.
func (k *keys) keep(last uint64) {
	n := 0
	for i := range k.slots {
		if e := &k.slots[i]; e.is(flagUsed) && e.hash[0] <= last {
			n++
		}
	}
	k.rebuild(max(firstSlots, 1<<bits.Len(uint(n*4/3))), last)
}

// count counts the keys with a flag.
func (k *keys) count(flag uint64) (n int64) {
	for i := range k.slots {
		if e := &k.slots[i]; e.is(flagUsed) && e.is(flag) {
			n++
		}
	}
	return n
}
