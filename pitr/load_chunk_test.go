package pitr

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
)

// dealtOut reads a chunk as several connections would, and gives what each got, and its error.
func dealtOut(l *chunkLoad, users int) (texts []string, errs []error) {
	texts, errs = make([]string, users), make([]error, users)
	var under sync.WaitGroup
	for i := range users {
		under.Go(func() {
			if !l.join() {
				return
			}
			var got bytes.Buffer
			_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{&chunkReader{load: l}}, make([]byte, 1000*(i+1)))
			texts[i] = got.String()
			_, errs[i] = l.leave(int64(strings.Count(texts[i], "\n")), err)
		})
	}
	under.Wait()
	return texts, errs
}

func loadOf(rows int, body io.Reader) *chunkLoad {
	return newChunkLoad(&basesnapshot.Table{}, basesnapshot.Chunk{Rows: int64(rows), Objects: []catalog.Object{{Key: "chunk"}}}, nil, nil, io.NopCloser(body))
}

// TestChunkIsDealtOutByRows: whoever loads a chunk gets whole rows, also such as are longer than a piece, and together all of
// them.
func TestChunkIsDealtOutByRows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		var rows []string
		for i := range rnd.IntN(3000) {
			n := rnd.IntN(300)
			if rnd.IntN(200) == 0 {
				n = rnd.IntN(3 * pieceSize)
			}
			rows = append(rows, strconv.Itoa(i)+strings.Repeat("x", n)+"\n")
		}
		texts, errs := dealtOut(loadOf(len(rows), strings.NewReader(strings.Join(rows, ""))), 1+rnd.IntN(4))
		var got []string
		for i, text := range texts {
			require.NoError(t, errs[i])
			got = append(got, slices.Collect(strings.Lines(text))...)
		}
		slices.Sort(got)
		slices.Sort(rows)
		require.Equal(t, len(rows), len(got))
		require.True(t, slices.Equal(rows, got))
	}
}

// TestChunkThatEndsBadly: damage reaches whoever still reads, and rows that are missing are missed by the last one.
func TestChunkThatEndsBadly(t *testing.T) {
	text := strings.Repeat("row\n", 200_000)
	damage := fault.New(fault.Damage, "", "torn")
	for _, long := range []string{"", strings.Repeat("y", 5*pieceSize)} {
		_, errs := dealtOut(loadOf(200_000, io.MultiReader(strings.NewReader(text+long), errorReader{damage})), 3)
		require.ErrorIs(t, errors.Join(errs...), damage)
	}
	_, errs := dealtOut(loadOf(200_001, strings.NewReader(text)), 3)
	require.ErrorContains(t, errors.Join(errs...), "took 200000 rows from chunk, which holds 200001")

	// One that gives up inside a long row does not leave the others waiting.
	l := loadOf(1, strings.NewReader(strings.Repeat("z", 5*pieceSize)+"\n"))
	require.True(t, l.join())
	first := &chunkReader{load: l}
	_, err := first.Read(make([]byte, 10))
	require.NoError(t, err)
	require.True(t, l.join())
	waits := make(chan error)
	go func() {
		_, err := (&chunkReader{load: l}).Read(make([]byte, 10))
		waits <- err
	}()
	gone := errors.New("the connection broke")
	_, err = l.leave(0, gone)
	require.ErrorIs(t, err, gone)
	require.ErrorIs(t, <-waits, gone)
	require.False(t, l.join())
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
