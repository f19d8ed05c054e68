package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/bench/report"
)

func TestPlotIsWellFormed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plot.svg")
	points := []report.Point{{Events: 1_000_000, ArchiveSeconds: 5, ArchiveMemory: 30 << 20, RestoreSeconds: 8, RestoreMemory: 90 << 20, ReferenceSeconds: 6},
		{Events: 10_000, ArchiveSeconds: 0.3, ArchiveMemory: 28 << 20, RestoreSeconds: 0.6, RestoreMemory: 40 << 20, ReferenceSeconds: 0.1}}
	for _, n := range []int{1, 2} {
		require.NoError(t, Write(path, points[:n]))
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(text), "NaN")
		d := xml.NewDecoder(strings.NewReader(string(text)))
		for err == nil {
			_, err = d.Token()
		}
		require.True(t, errors.Is(err, io.EOF), err)
	}
}

func TestSteps(t *testing.T) {
	for most, want := range map[float64]float64{0: 1, 7: 1, 8: 2, 95: 20, 210: 50, 0.9: 0.2} {
		require.InDelta(t, want, niceStep(most), 1e-9, most)
	}
}
