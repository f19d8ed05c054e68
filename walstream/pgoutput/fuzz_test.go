package pgoutput

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDecoder decodes any bytes, as one message after a begun transaction and a relation: whole and in
// pieces must tell the Sink the same and fail alike, and nothing may panic.
func FuzzDecoder(f *testing.F) {
	for _, m := range [][]byte{
		start('I').u32(16384).tuple('N', 2).text("1").u8('n').b,
		start('U').u32(16384).tuple('K', 2).text("1").u8('n').tuple('N', 2).text("22").u8('u').b,
		start('D').u32(16384).tuple('O', 2).text("3").text("x").b,
		start('T').u32(1).u8(3).u32(16384).b,
		start('M').u8(1).u64(98).str("app").u32(3).raw("abc").b,
		start('Y').u32(99).str("public").str("mood").b,
		start('O').u64(77).str("node").b,
		relation("id", "body", ""),
		begin(), commit(),
	} {
		f.Add(m, uint8(1))
		f.Add(m, uint8(5))
	}
	f.Fuzz(func(t *testing.T, m []byte, n uint8) {
		size := int(n%32) + 1
		whole, small := &trace{}, &trace{}
		a, b := NewDecoder(whole), NewDecoder(small)
		for _, first := range [][]byte{begin(), relation("id", "body")} {
			require.NoError(t, a.Decode(first))
			require.NoError(t, pieces(b, first, size))
		}
		errA, errB := a.Decode(m), pieces(b, m, size)
		require.Equal(t, errA, errB)
		require.Equal(t, whole.lines, small.lines)
		require.Equal(t, a.InTransaction(), b.InTransaction())
	})
}
