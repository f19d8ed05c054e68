package rows

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesOfRows(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All {
		require.NotEmpty(t, s.Rows, s.Name)
		for _, row := range s.Rows {
			require.False(t, seen[row], row)
			seen[row] = true
		}
	}
	want := Matching([]string{"drain-t*", "follow-1"})
	require.True(t, want("drain-tcp-wall"))
	require.True(t, want("follow-1"))
	require.False(t, want("follow-100"))
	require.True(t, Matching(nil)("anything"))
}
