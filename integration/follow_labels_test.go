package integration

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// TestFollowRemembersFormerLabels: a transaction that was open while an enum's labels were renamed comes with the former names, also
// to a follower that was started anew in between.
func TestFollowRemembersFormerLabels(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	dsn, into := server.CreateDatabase(t, "source"), server.DSN("standby")
	server.MustExec(t, "source", "CREATE TYPE mood AS ENUM ('ok', 'bad', 'sad'); CREATE TABLE t (id int PRIMARY KEY, m mood)")
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	run := archive.StartRun(t, "--segment-max-age", "200ms")
	archive.WaitProtected(t, run)
	f := harness.Start(t, archive.Restorer("follow", "--into", into, "--create"))
	f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, into).State == "following" })
	require.Zero(t, f.Stop(t).Code, f.Stderr())

	open := func(sql string) (commit func()) {
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "BEGIN; "+sql)
		require.NoError(t, err)
		return func() {
			_, err := conn.Exec(t.Context(), "COMMIT")
			require.NoError(t, err)
			require.NoError(t, conn.Close(t.Context()))
		}
	}
	// Each run of a follower is a process of its own.
	followed := func() harness.Result {
		end, err := segment.ParseLSN(server.MustQuery(t, "source", "SELECT pg_current_wal_flush_lsn()"))
		require.NoError(t, err)
		archive.WaitArchived(t, run, end)
		return harness.Run(t, archive.Restorer("follow", "--into", into, "--to-lsn", end.String(), "--exclusive"))
	}
	early, late := open("INSERT INTO t VALUES (1, 'bad'), (2, 'ok')"), open("INSERT INTO t VALUES (3, 'ok')")
	server.MustExec(t, "source", "ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'")
	r := followed()
	require.Zero(t, r.Code, r.Stderr)
	early()
	r = followed()
	require.Zero(t, r.Code, r.Stderr)
	const rows = "SELECT string_agg(t::text, ' ' ORDER BY id) FROM t"
	require.Equal(t, server.MustQuery(t, "source", rows), server.MustQuery(t, "standby", rows))

	// A name that another label has by now may mean either: that must not be guessed.
	server.MustExec(t, "source", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'; ALTER TYPE mood RENAME VALUE 'sad' TO 'ok'")
	r = followed()
	require.Zero(t, r.Code, r.Stderr)
	late()
	r = followed()
	require.Equal(t, 1, r.Code, r.Stdout+r.Stderr+server.MustQuery(t, "standby", rows)+" at the source "+server.MustQuery(t, "source", rows))
	require.Contains(t, r.Stderr, `holds "ok"`)
}
