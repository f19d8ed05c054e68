package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDemoEndsWell: what a newcomer runs first ends with all tables equal, and leaves nothing behind.
func TestDemoEndsWell(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "demo")
	out, err := exec.Command("go", "build", "-o", program, "./demo").CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command(program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "Every table is exactly as it was")
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "tidemark-demo-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}
