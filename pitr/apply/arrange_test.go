package apply

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/segment"
)

// row changes of a table (id, u, n), made at random so that each fits what came before.
type changer struct {
	rel  *segment.Relation
	rows map[int][2]string // by id
	free []string          // values of u that no row has
	out  []segment.Record
}

func (c *changer) step(t *testing.T) {
	id, n := rand.IntN(60), fmt.Sprint(rand.IntN(1000))
	old, there := c.rows[id]
	tuple := func(id int, u, n string) []segment.Value {
		return []segment.Value{value(fmt.Sprint(id)), value(u), value(n)}
	}
	take := func() string {
		u := c.free[len(c.free)-1] // what was given back last: it is wanted again at once
		c.free = c.free[:len(c.free)-1]
		return u
	}
	switch k := rand.IntN(10); {
	case !there:
		u := take()
		c.out = append(c.out, segment.Record{Op: segment.OpInsert, Relation: c.rel, New: tuple(id, u, n)})
		c.rows[id] = [2]string{u, n}
	case k < 3:
		c.out = append(c.out, segment.Record{Op: segment.OpDelete, Relation: c.rel, OldRole: segment.OldKey, Old: key(id)})
		delete(c.rows, id)
		c.free = append(c.free, old[0])
	case k < 4: // changes the key
		to := rand.IntN(60)
		if _, taken := c.rows[to]; taken {
			return
		}
		c.out = append(c.out, segment.Record{Op: segment.OpUpdate, Relation: c.rel, OldRole: segment.OldKey, Old: key(id), New: tuple(to, old[0], n)})
		delete(c.rows, id)
		c.rows[to] = [2]string{old[0], n}
	case k < 6: // gives u back and takes another
		u := take()
		c.free = append(c.free, old[0])
		c.out = append(c.out, segment.Record{Op: segment.OpUpdate, Relation: c.rel, New: tuple(id, u, n)})
		c.rows[id] = [2]string{u, n}
	default:
		u := segment.Value{Kind: segment.Unchanged}
		c.out = append(c.out, segment.Record{Op: segment.OpUpdate, Relation: c.rel, New: []segment.Value{value(fmt.Sprint(id)), u, value(n)}})
		c.rows[id] = [2]string{old[0], n}
	}
}

// TestBuffersAreSortedWhereNothingIsLost: whatever is done to rows in whatever order, a table has in the end what it
// should; and only where nothing but its key is unique the order is changed.
func TestBuffersAreSortedWhereNothingIsLost(t *testing.T) {
	d := newTarget(t, "sorted")
	// A value of u goes from row to row: only without a unique index may the one that takes it come first.
	server.MustExec(t, "sorted", `CREATE TABLE only_key (id int PRIMARY KEY, u text, n text); CREATE TABLE two_keys (id int PRIMARY KEY, u text UNIQUE, n text);
		CREATE TABLE excluded (id int PRIMARY KEY, u text, n text, EXCLUDE USING hash (u WITH =)); CREATE TABLE numbered (id numeric PRIMARY KEY, u text, n text);
		CREATE TABLE partial (id int PRIMARY KEY, u text, n text); CREATE UNIQUE INDEX ON partial (u) WHERE n <> ''`)
	sorted := map[string]bool{"only_key": true, "two_keys": false, "excluded": false, "numbered": false, "partial": false}
	for i := range 2 * len(sorted) {
		name, atomic := slices.Sorted(maps.Keys(sorted))[i/2], i%2 == 0
		commutes := sorted[name]
		t.Run(fmt.Sprintf("%s, atomic %v", name, atomic), func(t *testing.T) {
			server.MustExec(t, "sorted", "TRUNCATE "+name)
			keyType := uint32(int4OID)
			if name == "numbered" {
				keyType = 1700
			}
			c := &changer{rows: map[int][2]string{}, rel: &segment.Relation{ID: 7, Namespace: "public", Name: name, Identity: 'd', Columns: []segment.Column{
				{Flags: 1, Name: "id", TypeOID: keyType, Modifier: -1}, {Name: "u", TypeOID: textOID, Modifier: -1}, {Name: "n", TypeOID: textOID, Modifier: -1}}}}
			for i := range 70 {
				c.free = append(c.free, fmt.Sprintf("u%d", i))
			}
			a := d.applier(Atomic{})
			if !atomic {
				var err error
				a, err = New(t.Context(), Options{Connect: d.connect, Workers: 2})
				require.NoError(t, err)
			}
			for n := range 20 {
				at := segment.LSN(1000 * (n + 1))
				c.out = []segment.Record{{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: at, XID: uint32(n + 1)}}}
				for range 300 {
					c.step(t)
				}
				feed(t, a, append(c.out, segment.Record{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: at, EndLSN: at + 5}}))
				require.Equal(t, commutes, a.order[0].commutes)
				if n%3 == 0 {
					require.NoError(t, a.Flush(t.Context()))
				}
			}
			_, err := a.Finish(t.Context())
			require.NoError(t, err)
			var want []string
			for id, v := range c.rows {
				want = append(want, fmt.Sprintf("%d %s %s", id, v[0], v[1]))
			}
			slices.Sort(want)
			got := strings.Split(d.value("select string_agg(id || ' ' || u || ' ' || n, ';' order by 1) from "+name), ";")
			slices.Sort(got)
			require.Equal(t, want, got)
		})
	}
}

// TestSortedBuffer: each key's operations stay in order, and those between keys come together.
func TestSortedBuffer(t *testing.T) {
	table := &table{commutes: true, insertKeys: []int{0}, keys: []int{0}, plain: []int{0, 1}}
	insert := &statement{op: segment.OpInsert, newCols: []int{0, 1}}
	update := &statement{op: segment.OpUpdate, newCols: []int{1, 0}, keyFrom: 1, many: "some"}
	remove := &statement{op: segment.OpDelete, oldCols: []int{0}, many: "some"}
	rekey := &statement{op: segment.OpUpdate, newCols: []int{1}, oldCols: []int{0}, keyFrom: 1}
	table.insert = insert
	b := newBuffer(table)
	add := func(s *statement, id int) {
		b.add(s, &segment.Record{New: []segment.Value{text(id), text(0)}, Old: []segment.Value{text(id), text(0)}}, segment.Begin{})
	}
	for id := range 4 {
		add(insert, id)
		add(update, id)
		add(remove, 100+id)
	}
	add(rekey, 1)
	add(insert, 1)
	w := newWorker(nil, nil)
	w.arrange(b)
	var shape []segment.Op
	for _, o := range b.ops {
		shape = append(shape, o.stmt.op)
	}
	i, u, x := segment.OpInsert, segment.OpUpdate, segment.OpDelete
	require.Equal(t, []segment.Op{i, i, i, i, x, x, x, x, u, u, u, u, u, i}, shape)
	require.Equal(t, rekey, b.ops[12].stmt, "an operation on two keys is passed over")
}

// TestSupersededUpdates: of a row's updates in a row the last one is made, and only of the same columns.
func TestSupersededUpdates(t *testing.T) {
	table := &table{commutes: true, insertKeys: []int{0}, keys: []int{0}, plain: []int{0, 1}}
	insert := &statement{op: segment.OpInsert, newCols: []int{0, 1}}
	update := &statement{op: segment.OpUpdate, newCols: []int{1, 0}, keyFrom: 1, many: "some"}
	other := &statement{op: segment.OpUpdate, newCols: []int{2, 0}, keyFrom: 1, many: "some"}
	rekey := &statement{op: segment.OpUpdate, newCols: []int{0, 1}, oldCols: []int{0}, keyFrom: 2, many: "some"}
	remove := &statement{op: segment.OpDelete, oldCols: []int{0}, many: "some"}
	image := &statement{op: segment.OpUpdate, newCols: []int{1}, oldCols: []int{0, 1}}
	table.insert = insert
	b := newBuffer(table)
	add := func(s *statement, id int) {
		b.add(s, &segment.Record{New: []segment.Value{text(id), text(0), text(0)}, Old: []segment.Value{text(id), text(0)}}, segment.Begin{})
	}
	for _, s := range []*statement{insert, update, update, update, other, update, update, remove, insert, update, rekey, rekey, update, image, update, update} {
		add(s, 1)
		add(update, 2)
	}
	w := newWorker(nil, nil)
	w.dropSuperseded(b)
	var first, second []*statement
	for i := range b.ops {
		o := &b.ops[i]
		if w.values = b.params(w.values[:0], o); o.stmt == update && string(w.values[1]) == "2" {
			second = append(second, o.stmt)
		} else {
			first = append(first, o.stmt)
		}
	}
	require.Len(t, second, 2, "nothing is dropped across an operation that is not understood")
	require.True(t, slices.Equal([]*statement{insert, update, other, update, remove, insert, update, rekey, rekey, update, image, update}, first))
}
