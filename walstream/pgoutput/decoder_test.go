package pgoutput

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/segment"
)

// decodeAll decodes messages whole and again in small pieces, and wants the same both times.
func decodeAll(t *testing.T, messages ...[]byte) ([]string, error) {
	t.Helper()
	whole := &trace{}
	d := NewDecoder(whole)
	var err error
	for _, m := range messages {
		if err = d.Decode(m); err != nil {
			break
		}
	}
	for _, n := range []int{1, 2, 3, 7, 64} {
		small := &trace{}
		d := NewDecoder(small)
		var err2 error
		for _, m := range messages {
			if err2 = pieces(d, m, n); err2 != nil {
				break
			}
		}
		require.Equal(t, err, err2, "in pieces of %d", n)
		require.Equal(t, whole.lines, small.lines, "in pieces of %d", n)
	}
	return whole.lines, err
}

func TestEveryMessage(t *testing.T) {
	lines, err := decodeAll(t,
		begin(),
		start('O').u64(77).str("node").b,
		start('Y').u32(99).str("public").str("mood").b,
		relation("id", "body"),
		start('I').u32(16384).tuple('N', 2).text("1").u8('n').b,
		start('U').u32(16384).tuple('N', 2).text("1").u8('u').b,
		start('U').u32(16384).tuple('K', 2).text("1").u8('n').tuple('N', 2).text("2").text("").b,
		start('U').u32(16384).tuple('O', 2).text("2").text("x").tuple('N', 2).text("3").u8('u').b,
		start('D').u32(16384).tuple('K', 2).text("3").u8('n').b,
		start('D').u32(16384).tuple('O', 2).text("3").text("x").b,
		start('T').u32(1).u8(3).u32(16384).b,
		start('M').u8(1).u64(98).str("app").u32(3).raw("abc").b,
		commit(),
		start('M').u8(0).u64(120).str("app").u32(0).b,
	)
	require.NoError(t, err)
	require.Equal(t, []string{
		"begin {CommitLSN:0/64 CommitTime:2000-01-01T00:00:00.000007Z XID:42}",
		"origin {CommitLSN:0/4D Name:node}",
		"type {ID:99 Namespace:public Name:mood}",
		"relation {ID:16384 Namespace:public Name:t Identity:100 Columns:[{Flags:1 Name:id TypeOID:25 Modifier:-1} {Flags:0 Name:body TypeOID:25 Modifier:-1}]}",
		"row I 16384", "tuple N 2", "value 1", "bytes 31", "null", "end",
		"row U 16384", "tuple N 2", "value 1", "bytes 31", "unchanged", "end",
		"row U 16384", "tuple K 2", "value 1", "bytes 31", "null", "tuple N 2", "value 1", "bytes 32", "value 0", "end",
		"row U 16384", "tuple O 2", "value 1", "bytes 32", "value 1", "bytes 78", "tuple N 2", "value 1", "bytes 33", "unchanged", "end",
		"row D 16384", "tuple K 2", "value 1", "bytes 33", "null", "end",
		"row D 16384", "tuple O 2", "value 1", "bytes 33", "value 1", "bytes 78", "end",
		"truncate {Options:3 Relations:[16384]}",
		"message {Transactional:true LSN:0/62 Prefix:app Size:3}", "bytes 616263",
		"commit {Flags:0 CommitLSN:0/64 EndLSN:0/6C CommitTime:2000-01-01T00:00:00.000007Z}",
		"message {Transactional:false LSN:0/78 Prefix:app Size:0}",
	}, lines)
}

func TestZeroColumns(t *testing.T) {
	lines, err := decodeAll(t, begin(), relation(), start('I').u32(16384).tuple('N', 0).b, commit())
	require.NoError(t, err)
	require.Equal(t, []string{"row I 16384", "tuple N 0", "end"}, lines[2:5])
}

func TestRelationMayComeAgainChanged(t *testing.T) {
	_, err := decodeAll(t, begin(), relation("a"), start('I').u32(16384).tuple('N', 1).u8('n').b,
		relation("a", "b"), start('I').u32(16384).tuple('N', 2).u8('n', 'n').b, commit())
	require.NoError(t, err)
}

func TestCommitEndAndTransactionState(t *testing.T) {
	d := NewDecoder(&trace{})
	require.Zero(t, d.CommitEnd())
	require.NoError(t, d.Decode(begin()))
	require.True(t, d.InTransaction())
	require.NoError(t, d.Decode(commit()))
	require.False(t, d.InTransaction())
	require.Equal(t, segment.LSN(108), d.CommitEnd())
}

func TestRefused(t *testing.T) {
	row := func(tail func(m *msg) *msg) []byte { return tail(start('I').u32(16384)).b }
	for name, c := range map[string]struct {
		last []byte
		want string
	}{
		"empty":                 {[]byte{}, `pgoutput message '\x00': byte 0: the message ends where 1 bytes are due, 0 are left`},
		"unknown type":          {start('z').b, `byte 0: unknown message type`},
		"streamed":              {start('S').u32(1).b, `byte 0: a message of streamed transactions`},
		"two-phase":             {start('P').u32(1).b, `byte 0: a message of two-phase commit`},
		"begin within":          {begin(), `inside the transaction that commits at 0/64`},
		"begin cut":             {begin()[:12], `byte 9: the message ends where 8 bytes are due, 3 are left`},
		"trailing junk":         {append(commit(), 1, 2), `byte 26: 2 bytes left over`},
		"another commit":        {start('C').u8(0).u64(101).u64(108).u64(7).b, `byte 2: commit at 0/65`},
		"another time":          {start('C').u8(0).u64(100).u64(108).u64(8).b, `byte 2: commit at 0/64`},
		"end before commit":     {start('C').u8(0).u64(100).u64(100).u64(7).b, `ends at 0/64`},
		"unknown relation":      {start('I').u32(1).tuple('N', 0).b, `byte 1: relation 1 was not described`},
		"column count":          {row(func(m *msg) *msg { return m.tuple('N', 1).u8('n') }), `byte 8: a tuple of 1 columns for a relation of 2`},
		"negative count":        {row(func(m *msg) *msg { return m.tuple('N', -1) }), `byte 6: -1 columns`},
		"binary value":          {row(func(m *msg) *msg { return m.tuple('N', 2).u8('b').u32(0) }), `byte 9: a value in binary form`},
		"unknown kind":          {row(func(m *msg) *msg { return m.tuple('N', 2).u8('x') }), `unknown kind of value 'x'`},
		"old tuple of insert":   {row(func(m *msg) *msg { return m.tuple('K', 2).u8('n', 'n') }), `tuple 'K' in a row operation 'I'`},
		"new tuple of delete":   {start('D').u32(16384).tuple('N', 2).u8('n', 'n').b, `tuple 'N' in a row operation 'D'`},
		"update without new":    {start('U').u32(16384).tuple('K', 2).u8('n', 'n').b, `byte 10: the message ends where 1 bytes are due`},
		"value too long":        {row(func(m *msg) *msg { return m.tuple('N', 2).u8('t').u32(9).raw("abc") }), `byte 9: a value of 9 bytes where 3 are left`},
		"value negative":        {row(func(m *msg) *msg { return m.tuple('N', 2).u8('t').u32(1 << 31).raw("abc") }), `byte 9: a value of -2147483648 bytes`},
		"row with junk":         {row(func(m *msg) *msg { return m.tuple('N', 2).u8('n', 'n', 'n') }), `byte 10: 1 bytes left over`},
		"unterminated name":     {start('Y').u32(1).raw("abc").b, `byte 5: a string without an end`},
		"relation cut":          {relation("a", "b")[:20], `byte 20: the message ends where 4 bytes are due, 0 are left`},
		"truncate count":        {start('T').u32(2).u8(0).u32(16384).b, `byte 1: 2 relations where 4 bytes are left`},
		"truncate unknown":      {start('T').u32(1).u8(0).u32(3).b, `relation 3 was not described`},
		"message content short": {start('M').u8(1).u64(1).str("p").u32(2).raw("abc").b, `content of 2 bytes where 3 are left`},
		"message content long":  {start('M').u8(1).u64(1).str("p").u32(4).raw("abc").b, `content of 4 bytes where 3 are left`},
		"message flags":         {start('M').u8(2).u64(1).str("p").u32(0).b, `byte 1: unknown flags 0x2`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeAll(t, begin(), relation("a", "b"), c.last)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestOutsideTransaction(t *testing.T) {
	for _, m := range [][]byte{commit(), relation("a"), start('T').u32(0).u8(0).b, start('I').u32(1).b, start('O').u64(1).str("x").b} {
		_, err := decodeAll(t, m)
		require.ErrorContains(t, err, "outside a transaction")
	}
	_, err := decodeAll(t, start('M').u8(1).u64(1).str("p").u32(0).b)
	require.ErrorContains(t, err, "a transactional message outside a transaction")
}

// Every truncation of every message is an error, never a panic.
func TestEveryPrefix(t *testing.T) {
	full := [][]byte{
		start('U').u32(16384).tuple('K', 2).text("1").u8('n').tuple('N', 2).text("2").text("").b,
		relation("a", "b"), commit(), begin(),
		start('T').u32(1).u8(3).u32(16384).b, start('M').u8(1).u64(98).str("app").u32(3).raw("abc").b,
	}
	for _, m := range full {
		for n := range m {
			_, err := decodeAll(t, begin(), relation("a", "b"), m[:n])
			require.Error(t, err, "%q cut to %d", m[0], n)
		}
	}
}

func TestSinkErrorsEndTheDecoding(t *testing.T) {
	row := start('U').u32(16384).tuple('K', 2).text("1").u8('n').tuple('N', 2).text("2").u8('u').b
	for _, at := range []string{"begin", "relation", "row", "tuple K", "tuple N", "value", "bytes", "null", "unchanged", "end", "commit"} {
		sink := &trace{fail: at}
		d := NewDecoder(sink)
		var err error
		for _, m := range [][]byte{begin(), relation("a", "b"), row, commit()} {
			if err = d.Decode(m); err != nil {
				break
			}
		}
		require.ErrorContains(t, err, "sink: "+at)
		require.True(t, strings.HasPrefix(sink.lines[len(sink.lines)-1], at))
	}
}

func TestSourceErrors(t *testing.T) {
	m := start('M').u8(0).u64(1).str("p").u32(100).raw(strings.Repeat("x", 100)).b
	gone := errors.New("gone")
	d := NewDecoder(&trace{})
	require.ErrorIs(t, d.DecodePieces(m[:30], len(m), func() ([]byte, error) { return nil, gone }), gone)
	d = NewDecoder(&trace{})
	require.ErrorIs(t, d.DecodePieces(m[:3], len(m), func() ([]byte, error) { return nil, io.ErrUnexpectedEOF }), io.ErrUnexpectedEOF)
	d = NewDecoder(&trace{})
	require.ErrorContains(t, d.DecodePieces(m[:30], len(m), func() ([]byte, error) { return nil, nil }), "a piece of 0 bytes")
	d = NewDecoder(&trace{})
	require.ErrorContains(t, d.DecodePieces(m[:30], len(m), func() ([]byte, error) { return make([]byte, 1000), nil }), "a piece of 1000 bytes")
}

// A name that never ends must not be collected for ever.
func TestEndlessString(t *testing.T) {
	piece := []byte(strings.Repeat("x", 1<<20))
	calls := 0
	d := NewDecoder(&trace{})
	require.NoError(t, d.Decode(begin()))
	err := d.DecodePieces(start('Y').u32(1).b, 1<<30, func() ([]byte, error) { calls++; return piece, nil })
	require.ErrorContains(t, err, "byte 5: a string of more than")
	require.LessOrEqual(t, calls, maxString>>20+1)
}

// TestLongPrefixIsCut whichever way the message comes: anybody chooses it.
func TestLongPrefixIsCut(t *testing.T) {
	long := start('M').u8(0).u64(1).str(strings.Repeat("x", 5<<20)).u32(3).raw("abc").b
	want := fmt.Sprintf("message {Transactional:false LSN:0/1 Prefix:%s Size:3}", strings.Repeat("x", maxPrefix))
	for _, size := range []int{len(long), 1 << 20, 4099} {
		s := &trace{}
		require.NoError(t, pieces(NewDecoder(s), long, size))
		require.Equal(t, want, s.lines[0])
	}
}

// A message may declare any size; only bytes that really come cost memory.
func TestDeclaredSizesCostNothing(t *testing.T) {
	gone := errors.New("gone")
	more := func() ([]byte, error) { return nil, gone }
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d := NewDecoder(&trace{})
			_ = d.Decode(begin())
			_ = d.DecodePieces(start('T').u32(1<<28).u8(0).b, 6+1<<30, more)
			_ = d.DecodePieces(start('R').u32(1).str("").str("").u8('d').u16(32767).b, 1<<30, more)
		}
	}).AllocedBytesPerOp()
	require.Less(t, allocated, int64(4<<20))
}
