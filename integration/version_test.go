package integration

import (
	"testing"

	"tidemark/internal/testserver/postgres"
)

// testOtherVersion: an archive of one major version restores on a newer one.
func testOtherVersion(t *testing.T, w *world) {
	newer := postgres.Start(t, postgres.Options{Version: "18"})
	moment := w.live[len(w.live)/2]
	checkRestore(t, w.archive, newer, moment.Hashes, "--to-lsn", moment.LSN.String(), "--exclusive")
	checkRestore(t, w.archive, newer, w.last)
}
