package fold

import (
	"errors"
	"hash/maphash"
	"math"
	"sync"
)

// DefaultMemory bounds the hashes held, in bytes: those of eight million keys.
const DefaultMemory = 256 << 20

// Counts are the operations of one table.
type Counts struct{ Inserted, Updated, Deleted, Truncated int64 }

// Table is a table whose rows are folded.
type Table struct {
	name    string
	oid     uint32
	key     []string // names of the key's columns
	once    bool     // it is folded in one pass or not at all
	keys    keys
	counts  Counts
	live    int64 // rows more than there were at first or, when emptied, how many there are
	emptied bool
	number  uint64 // of the operation noted last
	read    uint64 // how many operations were read again
	emptyAt uint64 // number of the last TRUNCATE of this pass, 0 for none
	tangled bool   // a row took over values from a row with another key
	ordered bool   // some key's operations are replayed in order
	given   error  // why the table can't be folded
	lasts   *lasts // which operations are the last of a key; nil: the keys say
}

// Folder folds the operations of several tables. Reducers reduce operations, and one goroutine notes them meanwhile. Once
// everything is noted, Rows and Readings may be used by several.
type Folder struct {
	memory      int64
	seeds       [2]maphash.Seed
	first, last uint64 // keys with such a first word are looked at
	pass        int
	tables      map[uint32]*Table // by OID at the source
	mu          sync.Mutex        // of what Readings came to
	sink        uint64            // so that touch is not found to be for nothing
}

// New makes a Folder without tables. Memory bounds what it holds, in bytes; 0: DefaultMemory.
func New(memory int64) *Folder {
	if memory <= 0 {
		memory = DefaultMemory
	}
	return &Folder{memory: memory, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, last: math.MaxUint64, tables: map[uint32]*Table{}}
}

// Add has a table folded, by its OID at the source and the columns of its primary key, which is its replica
// identity. With once it is folded in one pass or not at all: further passes put rows of different moments side by side.
func (f *Folder) Add(oid uint32, name string, key []string, once bool) {
	f.tables[oid] = &Table{name: name, oid: oid, key: key, once: once}
}

// Table returns a table that is folded; nil for others.
func (f *Folder) Table(oid uint32) *Table {
	if f == nil {
		return nil
	}
	if t := f.tables[oid]; t != nil && t.given == nil {
		return t
	}
	return nil
}

// Tables returns the tables that are folded.
func (f *Folder) Tables() (all []*Table) {
	if f == nil {
		return nil
	}
	for oid := range f.tables {
		if t := f.Table(oid); t != nil {
			all = append(all, t)
		}
	}
	return all
}

// Given returns why a table that was added is not folded after all; nil if it is.
func (f *Folder) Given() map[string]error {
	reasons := map[string]error{}
	for _, t := range f.tables {
		if t.given != nil {
			reasons[t.name] = t.given
		}
	}
	return reasons
}

// OID is that of the table at the source.
func (t *Table) OID() uint32 { return t.oid }

// Name is namespace.name, as the base snapshot has it.
func (t *Table) Name() string { return t.name }

// Counts are the operations noted in the first pass.
func (t *Table) Counts() Counts { return t.counts }

// Live is how many rows more there are in the end than the base snapshot has or, if it was emptied, how many.
func (t *Table) Live() (rows int64, emptied bool) { return t.live, t.emptied }

// InOrder reports whether operations of some keys come in order, with updates and deletes; otherwise all
// that a Decider asks for are inserts.
func (t *Table) InOrder() bool { return t.ordered }

// mine reports whether a key is looked at in this pass.
func (f *Folder) mine(h hash) bool { return h[0] >= f.first && h[0] <= f.last }

// Pass is the number of the pass, from 0. Operations of tables that are not folded, and such as are the same in every
// pass, belong to the first. Without a Folder there is one.
func (f *Folder) Pass() int {
	if f == nil {
		return 0
	}
	return f.pass
}

// EndNotes ends the first reading of a pass.
func (f *Folder) EndNotes() {
	for _, t := range f.tables {
		if t.given != nil {
			continue
		}
		if f.pass == 0 && f.last != math.MaxUint64 && (t.tangled || t.once) {
			why := "rows took over values from rows with other keys"
			if t.once {
				why = "unique indexes beside the primary key are there before the rows"
			}
			t.given, t.keys = errors.New(why+", and not all keys fit into memory"), keys{}
			continue
		}
		t.ordered = t.keys.count(flagPartial)+t.keys.count(flagPinned) > 0
	}
	f.listLasts()
}

// Next begins another pass, over keys that found no room in the passes before; false if there are none.
func (f *Folder) Next() bool {
	if f == nil || f.last == math.MaxUint64 {
		return false
	}
	f.first, f.last = f.last+1, math.MaxUint64
	f.pass++
	for _, t := range f.tables {
		t.keys, t.number, t.read, t.emptyAt, t.lasts = keys{}, 0, 0, 0, nil
	}
	return true
}

// room makes room for one more key of a table, if need be by looking at fewer keys in this pass.
func (f *Folder) room(t *Table) {
	for t.keys.full() {
		held := 0
		for _, o := range f.tables {
			held += len(o.keys.slots)
		}
		// While a table grows the old slots are held beside the new ones.
		if int64(held+t.keys.grown())*entrySize <= f.memory || t.keys.grown() == firstSlots || f.last-f.first < 1<<20 {
			t.keys.grow()
			return
		}
		f.last = f.first + (f.last-f.first)/2
		for _, o := range f.tables {
			o.keys.keep(f.last)
		}
	}
}

// Contradiction is an operation or a row that doesn't fit what went before: the archive is not what it was.
type Contradiction struct{ Table, What string }

func (c *Contradiction) Error() string { return "table " + c.Table + ": " + c.What }

func refuse(t *Table, what string) error { return &Contradiction{Table: t.name, What: what} }
