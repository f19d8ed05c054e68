package resident

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ofFiles is how much of files the process has in memory, in KiB.
func ofFiles(t *testing.T) (n int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, after, found := strings.Cut(string(status), "RssFile:")
	require.True(t, found)
	_, err = fmt.Sscan(after, &n)
	require.NoError(t, err)
	return n
}

func TestReleaseGivesMemoryBack(t *testing.T) {
	before := ofFiles(t)
	require.NoError(t, Release())
	require.Less(t, ofFiles(t), before*3/4)
}
