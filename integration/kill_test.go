package integration

import (
	"context"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
)

// TestKilledArchiverLosesAndRepeatsNothing kills the archiver twenty times at random moments of a
// workload, its first base snapshot included.
func TestKilledArchiverLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	source := postgres.Start(t, postgres.Options{})
	dsn := source.CreateDatabase(t, "shop")
	require.NoError(t, workload.Setup(ctx, dsn))
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	clients, err := workload.Start(ctx, dsn, workload.Options{
		Seed: newSeed(t), MaxRows: 20_000, Pause: 20 * time.Millisecond, Log: t.Logf})
	require.NoError(t, err)
	defer clients.Stop()

	flags := []string{"--segment-max-age", "300ms", "--segment-max-size", "256KiB"}
	for i := range 20 {
		run := archive.StartRun(t, flags...)
		if i == 5 { // the first kills fall into the making of slot and snapshot, the others don't
			archive.WaitProtected(t, run)
		}
		select {
		case <-time.After(time.Duration(50+rand.IntN(2000)) * time.Millisecond):
		case <-run.Done():
		}
		r := run.Kill(t)
		require.Equal(t, -1, r.Code, "run %d ended by itself:\n%s", i, r.Stderr)
		require.NoError(t, clients.Err())
	}
	require.NoError(t, clients.Stop())
	archive.CatchUp(t, flags...)

	want, err := workload.HashDatabase(ctx, dsn)
	require.NoError(t, err)
	checkRestore(t, archive, source, want)
	times := map[string]int{}
	for _, tx := range archive.Log(t) {
		times[strconv.FormatUint(uint64(tx.XID), 10)]++
	}
	listed := 0
	for _, c := range clients.Commits() {
		require.LessOrEqual(t, times[c.XID], 1, "xid %s is archived more than once", c.XID)
		listed += times[c.XID]
	}
	require.NotZero(t, listed)
	require.Len(t, archive.List(t).Windows, 1)
	require.Empty(t, archive.List(t).Gaps)
	require.Zero(t, harness.Run(t, archive.Restorer("verify", "--level", "decode")).Code)
}
