package pgoutput

import (
	"strings"
	"testing"

	"tidemark/segment"
)

// null is a Sink that forgets everything.
type null struct{ rows, bytes int }

func (*null) Begin(segment.Begin) error           { return nil }
func (*null) Commit(segment.Commit) error         { return nil }
func (*null) Relation(*segment.Relation) error    { return nil }
func (*null) Type(segment.TypeDef) error          { return nil }
func (*null) Origin(segment.Origin) error         { return nil }
func (*null) Message(segment.MessageHeader) error { return nil }
func (*null) Truncate(segment.Truncate) error     { return nil }
func (n *null) Row(segment.Op, uint32) error      { n.rows++; return nil }
func (*null) Tuple(segment.TupleRole, int) error  { return nil }
func (*null) Null() error                         { return nil }
func (*null) Unchanged() error                    { return nil }
func (*null) Value(int) error                     { return nil }
func (n *null) Bytes(b []byte) error              { n.bytes += len(b); return nil }
func (*null) EndRow() error                       { return nil }

func benchmarkRow(b *testing.B, row []byte, decode func(*Decoder, []byte) error) {
	d := NewDecoder(&null{})
	for _, m := range [][]byte{begin(), relation("id", "stream", "version", "body")} {
		if err := d.Decode(m); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if err := decode(d, row); err != nil {
			b.Fatal(err)
		}
	}
}

var eventRow = start('I').u32(16384).tuple('N', 4).text("123456").text("order-17").text("4").text(strings.Repeat("{json}", 60)).b

func BenchmarkInsert(b *testing.B) { benchmarkRow(b, eventRow, (*Decoder).Decode) }

func BenchmarkUpdateWithKey(b *testing.B) {
	row := start('U').u32(16384).tuple('K', 4).text("1").u8('n', 'n', 'n').tuple('N', 4).text("2").text("s").text("4").u8('u').b
	benchmarkRow(b, row, (*Decoder).Decode)
}

func BenchmarkInsertInPieces(b *testing.B) {
	benchmarkRow(b, eventRow, func(d *Decoder, m []byte) error {
		at := 64
		return d.DecodePieces(m[:at], len(m), func() ([]byte, error) {
			p := m[at:min(len(m), at+64)]
			at += len(p)
			return p, nil
		})
	})
}

// TestNoAllocationPerRow holds the promise of the package comment.
func TestNoAllocationPerRow(t *testing.T) {
	d := NewDecoder(&null{})
	for _, m := range [][]byte{begin(), relation("id", "stream", "version", "body")} {
		if err := d.Decode(m); err != nil {
			t.Fatal(err)
		}
	}
	n := testing.AllocsPerRun(1000, func() {
		if err := d.Decode(eventRow); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Fatalf("%v allocations for a row", n)
	}
}
