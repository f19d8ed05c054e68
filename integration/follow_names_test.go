package integration

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// TestFollowRemembersFormerNames: a statement of a transaction that was open while what it names was given another name comes with
// the former one, also to a follower that was started anew in between.
func TestFollowRemembersFormerNames(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	dsn, into := server.CreateDatabase(t, "source"), server.DSN("standby")
	server.MustExec(t, "source", "CREATE TYPE pair AS (a int, b int); CREATE SEQUENCE q; CREATE TABLE t (id int PRIMARY KEY, v text)")
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	run := archive.StartRun(t, "--segment-max-age", "200ms")
	archive.WaitProtected(t, run)
	f := harness.Start(t, archive.Restorer("follow", "--into", into, "--create"))
	f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, into).State == "following" })
	require.Zero(t, f.Stop(t).Code, f.Stderr())

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	// Each run of a follower is a process of its own.
	followed := func() {
		end, err := segment.ParseLSN(server.MustQuery(t, "source", "SELECT pg_current_wal_flush_lsn()"))
		require.NoError(t, err)
		archive.WaitArchived(t, run, end)
		r := harness.Run(t, archive.Restorer("follow", "--into", into, "--to-lsn", end.String(), "--exclusive"))
		require.Zero(t, r.Code, r.Stderr)
	}
	_, err = conn.Exec(t.Context(), "BEGIN; CREATE TABLE made (p pair, n int DEFAULT nextval('q')); CREATE TABLE copied (LIKE t INCLUDING ALL); INSERT INTO copied VALUES (1, 'x')")
	require.NoError(t, err)
	server.MustExec(t, "source", "ALTER TYPE pair RENAME TO couple; ALTER SEQUENCE q RENAME TO numbers; CREATE INDEX ON t (v)")
	followed()
	server.MustExec(t, "source", "COMMENT ON COLUMN t.v IS 'late'")
	followed()
	_, err = conn.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	followed()
	want, err := workload.DumpSchema(server.Path("pg_dump"), dsn)
	require.NoError(t, err)
	got, err := workload.DumpSchema(server.Path("pg_dump"), into, "--exclude-schema=tidemark_replay")
	require.NoError(t, err)
	require.Equal(t, want, got)
	const rows = "SELECT string_agg(c::text, ' ') FROM copied c"
	require.Equal(t, server.MustQuery(t, "source", rows), server.MustQuery(t, "standby", rows))
}
