package apply

import (
	"sync"

	"tidemark/segment"
)

// op is one row operation in a buffer. Its values are the statement's parameters.
type op struct {
	stmt  *statement
	value int // index of its first value in buffer.lens
	start int // offset of its first byte in buffer.arena
	lsn   segment.LSN
	xid   uint32
}

// buffer holds row operations of one table, in order, with copies of their values.
type buffer struct {
	table *table
	ops   []op
	lens  []int32 // of each value; -1 is NULL
	arena []byte
	size  int // bytes it counts as
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func newBuffer(t *table) *buffer {
	b := buffers.Get().(*buffer)
	b.table = t
	return b
}

// release gives the buffer back. One that grew far beyond its bound is left to the collector.
func (b *buffer) release() {
	if cap(b.arena) > 2*maxBuffer {
		return
	}
	clear(b.ops)
	*b = buffer{ops: b.ops[:0], lens: b.lens[:0], arena: b.arena[:0]}
	buffers.Put(b)
}

func (b *buffer) full() bool { return b.size >= maxBuffer || len(b.ops) >= maxOps }

// add copies an operation and returns how many bytes it counts as.
func (b *buffer) add(stmt *statement, r *segment.Record, begin segment.Begin) int {
	before := len(b.arena)
	b.ops = append(b.ops, op{stmt: stmt, value: len(b.lens), start: before, lsn: begin.CommitLSN, xid: begin.XID})
	for _, i := range stmt.newCols {
		b.value(r.New[i])
	}
	for _, i := range stmt.oldCols {
		b.value(r.Old[i])
	}
	n := len(b.arena) - before + 4*(len(stmt.newCols)+len(stmt.oldCols)) + 48
	b.size += n
	return n
}

func (b *buffer) value(v segment.Value) {
	if v.Kind == segment.Null {
		b.lens = append(b.lens, -1)
		return
	}
	b.lens = append(b.lens, int32(len(v.Data)))
	b.arena = append(b.arena, v.Data...)
}

// empty is a value without bytes.
var empty = []byte{}

// params returns the values of an operation as statement parameters, appended to dst; nil is NULL.
func (b *buffer) params(dst [][]byte, o *op) [][]byte {
	at := o.start
	for _, n := range b.lens[o.value : o.value+o.stmt.params()] {
		if n < 0 {
			dst = append(dst, nil)
			continue
		}
		if n == 0 {
			dst = append(dst, empty) // a slice of an arena that has nothing in it would be nil: NULL
			continue
		}
		end := at + int(n)
		dst = append(dst, b.arena[at:end:end])
		at = end
	}
	return dst
}

// wide reports whether a tuple has a value that is too large to be held.
func wide(tuple []segment.Value) bool {
	for i := range tuple {
		if tuple[i].Large != nil {
			return true
		}
	}
	return false
}
