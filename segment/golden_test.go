package segment

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden segment anew")

// TestGolden holds the format still. The stored segment must always decode to the same operations: when that
// fails, archives that exist can't be read. When only the comparison of bytes fails, and the format was not
// meant to change, a zstd library that compresses differently is the one innocent reason for -update.
func TestGolden(t *testing.T) {
	s := smallSegment(t)
	name := func(i int) string { return filepath.Join("testdata", fmt.Sprintf("golden.%d.seg", i)) }
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		for i, p := range s.parts {
			require.NoError(t, os.WriteFile(name(i), p.Data, 0o644))
		}
	}
	stored := s
	stored.parts = nil
	for i := 0; ; i++ {
		b, err := os.ReadFile(name(i))
		if os.IsNotExist(err) {
			break
		}
		require.NoError(t, err)
		stored.parts = append(stored.parts, Part{Number: i, Data: b})
	}
	require.Len(t, stored.parts, len(s.parts))
	n := 0
	events := smallEvents()
	_, err := readAll(stored.files(), ReaderOptions{}, func(r *Record) {
		require.Equal(t, events[n].pgoutput(), eventOf(t, r).pgoutput(), "operation %d", n)
		n++
	})
	require.NoError(t, err)
	require.Equal(t, len(events), n)
	for i := range s.parts {
		require.Equal(t, stored.parts[i].Data, s.parts[i].Data, "part %d: the Writer writes other bytes than it did", i)
	}
}
