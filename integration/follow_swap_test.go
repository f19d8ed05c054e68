package integration

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// TestFollowSchemasThatChangePlaces: of two schemas that swap names while somebody writes, the stream goes on
// calling the tables of one by its old name, which is now the other's.
func TestFollowSchemasThatChangePlaces(t *testing.T) {
	t.Parallel()
	source, target := postgres.Start(t, postgres.Options{}), postgres.Start(t, postgres.Options{})
	dsn, into := source.CreateDatabase(t, "swap"), target.DSN("standby")
	source.MustExec(t, "swap", "CREATE SCHEMA live; CREATE SCHEMA staging; CREATE TABLE live.t (id int PRIMARY KEY, v text); CREATE TABLE staging.t (id int PRIMARY KEY, v text); INSERT INTO live.t VALUES (1, 'old')")
	archive := harness.Archive{URL: filepath.Join(t.TempDir(), "archive"), Source: dsn}
	run := archive.StartRun(t, "--segment-max-age", "200ms")
	archive.WaitProtected(t, run)
	f := harness.Start(t, archive.Restorer("follow", "--into", into, "--create"))
	f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, into).State == "following" })

	caughtUp := func() {
		lsn, err := segment.ParseLSN(source.MustQuery(t, "swap", "SELECT pg_current_wal_flush_lsn()"))
		require.NoError(t, err)
		waitFollowed(t, archive, f, into, lsn)
	}
	writer := source.Connect(t, "swap")
	exec := func(sql string) {
		_, err := writer.PgConn().Exec(context.Background(), sql).ReadAll()
		require.NoError(t, err)
	}
	source.MustExec(t, "swap", "CREATE TABLE live.made (id int PRIMARY KEY)")
	exec("BEGIN; INSERT INTO live.t VALUES (2, 'late'); INSERT INTO live.made VALUES (1)")
	source.MustExec(t, "swap", "BEGIN; ALTER SCHEMA live RENAME TO old; ALTER SCHEMA staging RENAME TO live; CREATE TABLE live.made (id int PRIMARY KEY); COMMIT")
	exec("COMMIT")
	caughtUp()
	f.Kill(t)
	f = harness.Start(t, archive.Restorer("follow", "--into", into))
	source.MustExec(t, "swap", "INSERT INTO old.t VALUES (3, 'old'); INSERT INTO live.t VALUES (3, 'new'); INSERT INTO live.made VALUES (5); UPDATE old.made SET id = 2")
	caughtUp()
	want, err := workload.HashDatabase(context.Background(), dsn)
	require.NoError(t, err)
	got, err := workload.HashDatabase(context.Background(), into)
	require.NoError(t, err)
	require.Empty(t, want.Diff(got))
	require.Zero(t, f.Stop(t).Code)
	require.Zero(t, run.Stop(t).Code)
}
