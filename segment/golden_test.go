package segment

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden segments of the version that is written anew")

// TestGolden holds the format still. The stored segments must always decode to the same operations: when that
// fails, archives that exist can't be read. When only the comparison of bytes fails, and the format was not
// meant to change, a zstd library that compresses differently is the one innocent reason for -update.
func TestGolden(t *testing.T) {
	for _, g := range []struct {
		name    string
		events  []*event
		written written // what is written now; none: a version that is only read
	}{
		{name: "golden", events: smallEvents()}, // version 1
		{name: "v2", events: smallEvents(), written: smallSegment(t)},
		{name: "v2-delta", events: similarEvents(), written: writeSegment(t, testOptions(1500, 2000), similarEvents())},
	} {
		t.Run(g.name, func(t *testing.T) {
			name := func(i int) string { return filepath.Join("testdata", fmt.Sprintf("%s.%d.seg", g.name, i)) }
			if *update {
				for i, p := range g.written.parts {
					require.NoError(t, os.WriteFile(name(i), p.Data, 0o644))
				}
			}
			requireStored(t, name, g.events, g.written.parts)
		})
	}
}

// requireStored requires that stored parts hold events and, if there are any, are the same as those written now.
func requireStored(t *testing.T, name func(int) string, events []*event, parts []Part) {
	var stored written
	for i := 0; ; i++ {
		b, err := os.ReadFile(name(i))
		if os.IsNotExist(err) {
			break
		}
		require.NoError(t, err)
		stored.parts = append(stored.parts, Part{Number: i, Data: b})
	}
	n := 0
	_, err := readAll(stored.files(), ReaderOptions{}, func(r *Record) {
		require.Equal(t, events[n].pgoutput(), eventOf(t, r).pgoutput(), "operation %d", n)
		n++
	})
	require.NoError(t, err)
	require.Equal(t, len(events), n)
	if parts == nil {
		return
	}
	require.Len(t, stored.parts, len(parts))
	for i := range parts {
		require.Equal(t, stored.parts[i].Data, parts[i].Data, "part %d: the Writer writes other bytes than it did", i)
	}
}
