package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValueIsTheMedianOfRatios(t *testing.T) {
	ours, theirs := Side{Name: "a", Unit: "s", Runs: []float64{1, 9, 2}}, Side{Name: "b", Unit: "s", Runs: []float64{2, 3, 4}}
	r := Compare("x", "", AtMost(0.5), ours, theirs)
	require.InDelta(t, 0.5, r.Value, 1e-9) // of 0.5, 3, 0.5; the ratio of medians is 0.67
	require.True(t, r.Pass)
	require.False(t, Compare("x", "", AtLeast(0.51), ours, theirs).Pass)
	require.InDelta(t, 9, Worst("x", "", AtMost(8), ours).Value, 1e-9)
	require.False(t, Worst("x", "", AtMost(8), ours).Pass)
	require.InDelta(t, 2, Absolute("x", "", AtMost(2), ours).Value, 1e-9)
}

func TestRowsThatAreNotMeasuredNowAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	earlier := &Results{Rows: []Row{{Name: "a", Value: 1}, {Name: "b", Value: 2}, {Name: "gone"}}, Sizes: []Point{{Events: 10}}}
	require.NoError(t, earlier.Save(path))
	loaded, err := Load(path)
	require.NoError(t, err)
	now := &Results{Rows: []Row{{Name: "c", Value: 3}, {Name: "b", Value: 4}}}
	now.Keep(loaded, []string{"a", "b", "c"})
	require.Equal(t, []Row{{Name: "a", Value: 1}, {Name: "b", Value: 4}, {Name: "c", Value: 3}}, now.Rows)
	require.Equal(t, earlier.Sizes, now.Sizes)
}

func TestTableReplacesTheOneBefore(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	require.NoError(t, os.WriteFile(page, []byte("before\n"+tableBegins+"\nold\n"+tableEnds+"\nafter\n"), 0o644))
	r := &Results{Rows: []Row{Compare("drain", "what", AtMost(1), Side{Unit: "s", Runs: []float64{1}}, Side{Name: "other", Unit: "s", Runs: []float64{2}}).In("TCP", "1000", 2)}}
	for range 2 {
		require.NoError(t, r.WriteTable(page))
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		require.NotContains(t, string(text), "old")
		require.Equal(t, 1, strings.Count(string(text), "| drain | what | TCP | 1000 | 1 s | 2 s (other) | **0.5** | <=1 | pass |"), string(text))
		require.True(t, strings.HasPrefix(string(text), "before\n") && strings.HasSuffix(string(text), "\nafter\n"))
	}
	require.NoError(t, os.WriteFile(page, []byte("no place"), 0o644))
	require.ErrorContains(t, r.WriteTable(page), "has no place for the table")
}
