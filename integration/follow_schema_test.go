package integration

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/integration/workload/evolve"
	"tidemark/internal/testserver/postgres"
)

// TestFollowedSchemaChanges kills and restarts a follower at random while the schema changes in every way,
// stops it at random moments, and compares rows and schema with what the source had there and in the end.
func TestFollowedSchemaChanges(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	source := postgres.Start(t, postgres.Options{Settings: map[string]string{"max_connections": "100"}})
	target := postgres.Start(t, postgres.Options{})
	dsn, into := source.CreateDatabase(t, "evolving"), target.DSN("standby")
	require.NoError(t, evolve.Setup(ctx, dsn))
	seed := newSeed(t)
	t.Logf("seed %d", seed)
	dir := keepDir(t, seed)
	archive := harness.Archive{URL: filepath.Join(dir, "archive"), Source: dsn}
	run := archive.StartRun(t, "--segment-max-age", "300ms")
	archive.WaitProtected(t, run)
	// The first restore is over before the first change: everything that changes is fed.
	f := harness.Start(t, archive.Restorer("follow", "--into", into, "--create"))
	f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, into).State == "following" })

	w, err := evolve.Start(ctx, dsn, evolve.Options{Seed: seed})
	require.NoError(t, err)
	defer w.Stop()
	defer writeJournal(t, w, filepath.Join(dir, "journal"))
	var moments []schemaMoment
	for range 4 {
		for range 3 {
			require.NoError(t, w.Change(ctx, 4))
			require.Equal(t, -1, f.Kill(t).Code, "the follower ended by itself:\n%s", f.Stderr())
			f = harness.Start(t, archive.Restorer("follow", "--into", into))
			time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond) // to be killed anywhere
		}
		moments = append(moments, takeSchemaMoment(t, source, "evolving", w))
	}
	require.NoError(t, w.Stop())
	f.Kill(t)
	require.Zero(t, run.Stop(t).Code, run.Stderr())
	archive.CatchUp(t)

	last := moments[len(moments)-1]
	r := harness.Run(t, archive.Restorer("follow", "--into", into, "--to-lsn", last.LSN.String(), "--exclusive"))
	if r.Code == exitNotCovered { // killed late, it had gone past the moment already
		require.Contains(t, r.Stderr, "lies before what the database has")
	} else {
		require.Zero(t, r.Code, r.Stderr)
		hashes, err := workload.HashDatabase(ctx, into)
		require.NoError(t, err)
		require.Empty(t, last.Hashes.Diff(hashes), "the rows differ at %s", last.LSN)
	}
	compareStandby(t, archive, source, target, into)
}

// compareStandby lets the standby come to the archive's end, promotes it, and compares it with the source.
func compareStandby(t *testing.T, archive harness.Archive, source, target *postgres.Server, into string) {
	t.Helper()
	end := archiveEnd(t, archive)
	f := harness.Start(t, archive.Restorer("follow", "--into", into))
	waitFollowed(t, archive, f, into, end)
	r := harness.Run(t, archive.Restorer("promote", "--into", into))
	require.Zero(t, r.Code, r.Stderr)
	require.Zero(t, f.Wait(t, time.Minute).Code, f.Stderr())
	hashes, err := workload.HashDatabase(context.Background(), source.DSN("evolving"))
	require.NoError(t, err)
	schema, err := workload.DumpSchema(source.Path("pg_dump"), source.DSN("evolving"))
	require.NoError(t, err)
	m := schemaMoment{schema: schema}
	m.Hashes = hashes
	compareMoment(t, target, "standby", m)
}

func compareMoment(t *testing.T, server *postgres.Server, database string, m schemaMoment) {
	t.Helper()
	hashes, err := workload.HashDatabase(context.Background(), server.DSN(database))
	require.NoError(t, err)
	schema, err := workload.DumpSchema(server.Path("pg_dump"), server.DSN(database))
	require.NoError(t, err)
	require.Empty(t, m.Hashes.Diff(hashes), "the rows differ")
	if m.schema != schema {
		t.Errorf("the schema is another one (- source, + standby):\n%s", difference(m.schema, schema))
	}
}
