package pgoutput

import (
	"encoding/binary"
	"fmt"
	"strings"

	"tidemark/segment"
)

// msg builds a message of the protocol.
type msg struct{ b []byte }

func start(typ byte) *msg               { return &msg{[]byte{typ}} }
func (m *msg) u8(v ...byte) *msg        { m.b = append(m.b, v...); return m }
func (m *msg) u16(v int) *msg           { m.b = binary.BigEndian.AppendUint16(m.b, uint16(v)); return m }
func (m *msg) u32(v uint32) *msg        { m.b = binary.BigEndian.AppendUint32(m.b, v); return m }
func (m *msg) u64(v uint64) *msg        { m.b = binary.BigEndian.AppendUint64(m.b, v); return m }
func (m *msg) str(v string) *msg        { m.b = append(append(m.b, v...), 0); return m }
func (m *msg) raw(v string) *msg        { m.b = append(m.b, v...); return m }
func (m *msg) text(v string) *msg       { return m.u8('t').u32(uint32(len(v))).raw(v) }
func (m *msg) tuple(r byte, n int) *msg { return m.u8(r).u16(n) }

func begin() []byte { return start('B').u64(100).u64(7).u32(42).b }
func commit() []byte {
	return start('C').u8(0).u64(100).u64(108).u64(7).b
}
func relation(columns ...string) []byte {
	m := start('R').u32(16384).str("public").str("t").u8('d').u16(len(columns))
	for i, c := range columns {
		m.u8(byte(i&1 ^ 1)).str(c).u32(25).u32(0xffffffff)
	}
	return m.b
}

// trace is a Sink that writes down what it is told, a line for each call; the pieces of one value
// make one line.
type trace struct {
	lines []string
	open  bool // the last line is an unfinished value
	fail  string
}

func (t *trace) add(format string, args ...any) error {
	t.open = false
	line := fmt.Sprintf(format, args...)
	t.lines = append(t.lines, line)
	if t.fail != "" && strings.HasPrefix(line, t.fail) {
		return fmt.Errorf("sink: %s", line)
	}
	return nil
}

func (t *trace) Begin(b segment.Begin) error            { return t.add("begin %+v", b) }
func (t *trace) Commit(c segment.Commit) error          { return t.add("commit %+v", c) }
func (t *trace) Relation(r *segment.Relation) error     { return t.add("relation %+v", *r) }
func (t *trace) Type(d segment.TypeDef) error           { return t.add("type %+v", d) }
func (t *trace) Origin(o segment.Origin) error          { return t.add("origin %+v", o) }
func (t *trace) Message(m segment.MessageHeader) error  { return t.add("message %+v", m) }
func (t *trace) Truncate(r segment.Truncate) error      { return t.add("truncate %+v", r) }
func (t *trace) Row(op segment.Op, rel uint32) error    { return t.add("row %c %d", op, rel) }
func (t *trace) Tuple(r segment.TupleRole, n int) error { return t.add("tuple %c %d", r, n) }
func (t *trace) Null() error                            { return t.add("null") }
func (t *trace) Unchanged() error                       { return t.add("unchanged") }
func (t *trace) Value(size int) error                   { return t.add("value %d", size) }
func (t *trace) EndRow() error                          { return t.add("end") }
func (t *trace) Bytes(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("an empty piece")
	}
	if t.open {
		t.lines[len(t.lines)-1] += fmt.Sprintf("%x", b)
		return nil
	}
	err := t.add("bytes %x", b)
	t.open = true
	return err
}

var _ Sink = (*trace)(nil)

// pieces decodes a message in pieces of n bytes.
func pieces(d *Decoder, b []byte, n int) error {
	head := b[:min(n, len(b))]
	rest := b[len(head):]
	return d.DecodePieces(head, len(b), func() ([]byte, error) {
		// A copy that is overwritten by the next call, as a read buffer would be.
		p := make([]byte, min(n, len(rest)))
		copy(p, rest)
		rest = rest[len(p):]
		return p, nil
	})
}
