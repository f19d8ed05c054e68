package apply

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"
	"strings"

	"tidemark/segment"
)

// Operations on rows of different keys commute where nothing but the key is unique. A buffer's are sorted then: what
// one key sees stays in order, and between the keys inserts come together for one COPY, updates and deletes of a
// shape for few statements. As they came they would be cut up by each other, and each cut waits for the server.

// plainKeys are types whose values are equal exactly if their texts are, with operators of pg_catalog and, for
// strings, collations that are deterministic: bool, bytea, int8, int2, int4, text, oid, varchar, date, timestamp, timestamptz, uuid. The stream writes them
// under settings that are always the same.
var plainKeys = map[uint32]bool{16: true, 17: true, 20: true, 21: true, 23: true, 25: true, 26: true, 1043: true, 1082: true, 1114: true, 1184: true, 2950: true}

// uniqueQuery counts the indexes that may refuse a row for another's sake, valid or not, and those of them that may take
// different strings for equal.
const uniqueQuery = `
select count(*)::text, count(*) filter (where exists (
  select from unnest(i.indcollation::oid[]) as x(oid) join pg_catalog.pg_collation c on c.oid = x.oid where not c.collisdeterministic))::text
from pg_catalog.pg_index i where i.indrelid = $1::oid and (i.indisunique or i.indisexclusion)`

// readCommutes finds out whether operations on different keys of a table commute.
func (a *Applier) readCommutes(ctx context.Context, t *table, keyed bool) error {
	if !keyed || t.kind != 'r' || t.lenient || t.ruled || len(t.keys) == 0 {
		return nil
	}
	for _, k := range t.keys {
		n := slices.Index(t.plain, k)
		if n < 0 || !plainKeys[t.cols[k].baseOID] || !strings.HasPrefix(t.cols[k].equality, "OPERATOR(pg_catalog.") {
			return nil
		}
		t.insertKeys = append(t.insertKeys, n)
	}
	rows, err := a.query(ctx, uniqueQuery, itoa(int64(t.oid)))
	if err == nil && len(rows) == 1 {
		t.commutes = string(rows[0][0]) == "1" && string(rows[0][1]) == "0"
	}
	return err
}

// arranger is a worker's scratch space for sorting buffers.
type arranger struct {
	seed   maphash.Seed
	last   map[uint64]uint32 // by the hash of a key: how many of its operations came before
	groups map[*statement]uint32
	order  []place
	ops    []op
	newest map[uint64]uint32 // by the hash of a key: the last operation on it
	key    []byte
}

// place is where an operation goes: after as many rounds as its key had operations before, with those of its shape.
type place struct{ round, group, at uint32 }

func newArranger() arranger {
	return arranger{seed: maphash.MakeSeed(), last: map[uint64]uint32{}, groups: map[*statement]uint32{}, newest: map[uint64]uint32{}}
}

// arrange sorts the operations of a buffer, between those that must stay where they are.
func (w *worker) arrange(b *buffer) {
	if w.single || !b.table.commutes || len(b.ops) < shortestRun {
		return
	}
	if w.unseen {
		w.dropSuperseded(b)
	}
	from := 0
	for i := range b.ops {
		if s := b.ops[i].stmt; s != b.table.insert && s.many == "" {
			w.arrangePart(b, b.ops[from:i])
			from = i + 1
		}
	}
	w.arrangePart(b, b.ops[from:])
}

// dropSuperseded leaves out each update that a later one of the same columns of the same row follows before anything else happens to
// that row. All of a buffer is in one transaction: nobody sees what lies between. Rows that are updated again and
// again, as counters are, would otherwise grow a version for each, and every update has to pass those before it.
func (w *worker) dropSuperseded(b *buffer) {
	r := &w.arranger
	clear(r.newest)
	dropped := false
	for i := range b.ops {
		o := &b.ops[i]
		if o.stmt != b.table.insert && o.stmt.many == "" {
			clear(r.newest)
			continue
		}
		h := w.keyHash(b, o)
		if before, ok := r.newest[h]; ok && b.ops[before].stmt == o.stmt && o.stmt.keepsKey(b.table) {
			r.key = append(r.key[:0], w.key...)
			if w.keyHash(b, &b.ops[before]); bytes.Equal(r.key, w.key) {
				b.ops[before].stmt, dropped = nil, true
			}
		}
		r.newest[h] = uint32(i)
	}
	if dropped {
		b.ops = slices.DeleteFunc(b.ops, func(o op) bool { return o.stmt == nil })
	}
}

// keepsKey reports whether a statement updates rows and leaves their keys as they are.
func (s *statement) keepsKey(t *table) bool {
	set := s.newCols[:min(s.keyFrom, len(s.newCols))]
	return s.op == segment.OpUpdate && !slices.ContainsFunc(set, func(c int) bool { return slices.Contains(t.keys, c) })
}

func (w *worker) arrangePart(b *buffer, ops []op) {
	if len(ops) < shortestRun || !slices.ContainsFunc(ops, func(o op) bool { return o.stmt != ops[0].stmt }) {
		return
	}
	r := &w.arranger
	clear(r.last)
	clear(r.groups)
	r.groups[b.table.insert] = 0
	r.order, r.ops = r.order[:0], append(r.ops[:0], ops...)
	for i := range ops {
		h := w.keyHash(b, &ops[i])
		round := r.last[h]
		r.last[h] = round + 1
		group, ok := r.groups[ops[i].stmt]
		if !ok {
			group = uint32(len(r.groups))
			r.groups[ops[i].stmt] = group
		}
		r.order = append(r.order, place{round, group, uint32(i)})
	}
	slices.SortFunc(r.order, func(x, y place) int {
		switch {
		case x.round != y.round:
			return int(x.round) - int(y.round)
		case x.group != y.group:
			return int(x.group) - int(y.group)
		}
		return int(x.at) - int(y.at)
	})
	for i, p := range r.order {
		ops[i] = r.ops[p.at]
	}
	clear(r.ops)
}

// keyHash hashes the key that an operation is about. Two keys of one hash are taken for one, which only keeps them in order.
func (w *worker) keyHash(b *buffer, o *op) uint64 {
	w.values, w.key = b.params(w.values[:0], o), w.key[:0]
	if o.stmt.op == segment.OpInsert {
		for _, n := range b.table.insertKeys {
			w.key = appendKey(w.key, w.values[n])
		}
	} else {
		for _, v := range w.values[o.stmt.keyFrom:] {
			w.key = appendKey(w.key, v)
		}
	}
	return maphash.Bytes(w.arranger.seed, w.key)
}
