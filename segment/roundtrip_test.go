package segment

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random streams; 0 picks one")

func testSeed(t testing.TB) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d (repeat with -seed)", seed)
	return seed
}

// TestRoundTrip writes random streams with random sizes of blocks and parts and reads them back: every
// record equals what was written, down to the bytes of its pgoutput message.
func TestRoundTrip(t *testing.T) {
	seed := testSeed(t)
	for i := range uint64(60) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			g := newGenerator(seed+i, []int{10, 300, 5000}[i%3])
			events := g.stream(1+g.IntN(60), 30)
			s := writeSegment(t, testOptions(1+g.IntN(20000), 1+g.IntN(3000)), events)
			o := ReaderOptions{TempDir: t.TempDir(), LargeValue: int64(1 + g.IntN(6000))}
			compareStream(t, s, o, events)
		})
	}
}

func compareStream(t *testing.T, s written, o ReaderOptions, events []*event) {
	n, raw := 0, int64(0)
	o.Expect = Identity{Archive: s.options.Archive, History: s.options.History, Epoch: s.options.Epoch, From: s.options.Start, To: s.summary.To}
	summary, err := readAll(s.files(), o, func(r *Record) {
		require.Less(t, n, len(events))
		want, got := events[n].pgoutput(), eventOf(t, r).pgoutput()
		if !bytes.Equal(want, got) { // require.Equal on every row is slow
			require.Equal(t, want, got, "operation %d", n)
		}
		raw += int64(len(want))
		n++
	})
	require.NoError(t, err)
	require.Equal(t, len(events), n)
	require.Equal(t, s.summary, summary, "the reader's summary is the writer's")
	require.Equal(t, raw, summary.RawBytes)
	require.Equal(t, int64(n), summary.Operations)

	index, err := ReadIndex(memoryFile(len(s.parts)-1, s.parts[len(s.parts)-1].Data))
	require.NoError(t, err)
	index.Summary.StoredBytes = s.summary.StoredBytes
	require.Equal(t, s.summary, index.Summary, "the index's summary is the writer's")
}
