package apply

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"tidemark/pitr/pgbinary"
	"tidemark/segment"
)

// unescape undoes COPY's text form as the server does.
func unescape(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\b`, "\b", `\f`, "\f", `\n`, "\n", `\r`, "\r", `\t`, "\t", `\v`, "\v").Replace(s)
}

func FuzzEscape(f *testing.F) {
	f.Add([]byte("a\tb\\N\n\r\v\f\b\x00\xff"))
	f.Fuzz(func(t *testing.T, v []byte) {
		got := string(appendEscaped(nil, v))
		require.NotContains(t, got, "\t")
		require.NotContains(t, got, "\n")
		require.Equal(t, string(v), unescape(got))
	})
}

func TestEveryByteIsEscapedAnywhere(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			v := bytes.Repeat([]byte{0xff}, 20)
			v[at] = byte(c)
			want := bytes.Clone(v[:at])
			if e := escapes[c]; e != 0 {
				want = append(want, '\\', e)
			} else {
				want = append(want, byte(c))
			}
			want = append(want, v[at+1:]...)
			require.Equal(t, want, appendEscaped(nil, v), "byte %d at %d", c, at)
			for i := range v { // beside bytes that subtraction borrows from
				if i != at {
					v[i] = 0
				}
			}
			require.Equal(t, escapes[c] != 0, len(appendEscaped(nil, v)) > len(v), "byte %d at %d among zeros", c, at)
		}
	}
}

func TestRowsReaderGivesRowsOnceInAnyPieces(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	tbl := &table{name: "public.t", plain: []int{0, 1, 2}, cols: make([]column, 3)}
	stmt := tbl.newStatement(segment.OpInsert, tbl.plain, nil)
	b := newBuffer(tbl)
	want := ""
	for range 200 {
		r := &segment.Record{Op: segment.OpInsert}
		for c := range 3 {
			v := segment.Value{Kind: segment.Text, Data: []byte(strings.Repeat("x\ty\n", rnd.IntN(30)))}
			if rnd.IntN(4) == 0 {
				v = segment.Value{Kind: segment.Null}
			}
			r.New = append(r.New, v)
			if c > 0 {
				want += "\t"
			}
			if v.Kind == segment.Null {
				want += `\N`
			} else {
				want += string(appendEscaped(nil, v.Data))
			}
		}
		want += "\n"
		b.add(stmt, r, segment.Begin{})
	}
	for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
		got, err := io.ReadAll(wrap(pgbinary.NewTextReader((&rowsOf{buffer: b, ops: b.ops}).text)))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

func TestValuesReaderStreamsLargeValues(t *testing.T) {
	large := bytes.Repeat([]byte("0123\\56\t"), 40_000)
	got, err := io.ReadAll(valuesReader([]segment.Value{
		{Kind: segment.Text, Data: []byte("a\nb")}, {Kind: segment.Null}, {Kind: segment.Text, Large: io.NewSectionReader(bytes.NewReader(large), 0, int64(len(large)))}, {Kind: segment.Text},
	}))
	require.NoError(t, err)
	require.Equal(t, "a\\nb\t\\N\t"+string(appendEscaped(nil, large))+"\t\n", string(got))
}

func TestBudgetWaitsForWhatIsGivenBack(t *testing.T) {
	b := newBudget(10)
	stopped := make(chan struct{})
	require.NoError(t, b.take(25, stopped)) // more than there is: all of it
	took := make(chan error, 1)
	go func() { took <- b.take(4, stopped) }()
	b.give(25)
	require.NoError(t, <-took)
	go func() { took <- b.take(10, stopped) }()
	close(stopped)
	require.ErrorIs(t, <-took, errStopped)
}
