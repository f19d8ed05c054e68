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
	// A folder of its own, which the server's user may pass through when the tests run as root.
	temp, err := os.MkdirTemp("", "tidemark-demotest-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	require.NoError(t, os.Chmod(temp, 0o711))
	demo := exec.Command(program)
	demo.Env = append(os.Environ(), "TMPDIR="+temp)
	out, err = demo.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "Every table is exactly as it was")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}
