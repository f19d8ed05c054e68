package fold

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"tidemark/segment"
)

// view finds the keys of a table's rows, as one reading sees them.
type view struct {
	f       *Folder
	t       *Table
	shape   *segment.Relation // the definition last seen, and where its key is
	at      []int
	scratch []byte
}

// Types whose text is the same for the same value, and another for another: only by such keys are rows told apart
// without asking the server. OIDs from src/include/catalog/pg_type.dat.
var keyTypes = []uint32{
	16, 17, 18, 19, 20, 21, 23, 25, 26, // bool, bytea, "char", name, int8, int2, int4, text, oid
	1042, 1043, 1082, 1083, 1114, 1184, 1700, 2950, // bpchar, varchar, date, time, timestamp, timestamptz, numeric, uuid
}

// locate finds the key's columns in a definition.
func (v *view) locate(rel *segment.Relation) error {
	if v.shape == rel {
		return nil
	}
	at := make([]int, len(v.t.key))
	for i, name := range v.t.key {
		if at[i] = slices.IndexFunc(rel.Columns, func(c segment.Column) bool { return c.Name == name && c.Key() }); at[i] < 0 {
			return errors.New("its replica identity is not the primary key that it had in the base snapshot")
		}
		if !slices.Contains(keyTypes, rel.Columns[at[i]].TypeOID) {
			return fmt.Errorf("key column %s is of a type whose values are not told apart by their text", name)
		}
	}
	n := 0
	for _, c := range rel.Columns {
		if c.Key() {
			n++
		}
	}
	if n != len(at) || rel.Identity != 'd' {
		return errors.New("its replica identity is not the primary key that it had in the base snapshot")
	}
	v.shape, v.at = rel, at
	return nil
}

// rows returns the hashes of the row that was and of the one that is, and whether an update changed the key.
func (v *view) rows(r *segment.Record) (old, row hash, moved bool, err error) {
	if r.OldRole != 0 {
		if old, err = v.hash(r.Old); err != nil {
			return old, row, false, err
		}
	}
	if r.Op == segment.OpDelete {
		return old, row, false, nil
	}
	if row, err = v.hash(r.New); err != nil {
		return old, row, false, err
	}
	return old, row, r.OldRole != 0 && old != row, nil
}

var errNoKey = errors.New("a key is null, very large, or was not sent")

// hash returns the hash of a row's key.
func (v *view) hash(row []segment.Value) (hash, error) {
	b := v.scratch[:0]
	for _, i := range v.at {
		if i >= len(row) || row[i].Kind != segment.Text || row[i].Large != nil {
			return hash{}, errNoKey
		}
		b = appendKey(b, row[i].Data)
	}
	v.scratch = b
	return v.f.sum(b), nil
}

// appendKey appends one column of a key so that no two keys look alike.
func appendKey(b, v []byte) []byte {
	n := len(v)
	return append(append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24)), v...)
}

func (f *Folder) sum(b []byte) hash {
	return hash{maphash.Bytes(f.seeds[0], b), maphash.Bytes(f.seeds[1], b)}
}
