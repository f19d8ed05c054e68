package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
)

// testVerifies: an archive that nobody damaged passes at every level.
func testVerifies(t *testing.T, w *world) {
	for _, level := range []string{"catalog", "checksum", "decode"} {
		r := harness.Run(t, w.archive.Restorer("verify", "--level", level))
		require.Zero(t, r.Code, "%s: %s", level, r.Stderr)
	}
}
