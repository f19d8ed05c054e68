package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// TestFollowBehindWhatIsNotExact: a feed that comes late to a range of which something was withheld stops before it, whether it
// was to come to a target, to the end of all, or to be promoted.
func TestFollowBehindWhatIsNotExact(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	dsn := server.CreateDatabase(t, "source")
	server.MustExec(t, "source", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)")
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	run := archive.StartRun(t)
	archive.WaitProtected(t, run)
	for _, name := range []string{"endless", "targeted", "promoted"} {
		f := harness.Start(t, archive.Restorer("follow", "--into", server.DSN(name), "--create"))
		f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, server.DSN(name)).State == "following" })
		require.Zero(t, f.Stop(t).Code, f.Stderr())
	}
	archived := func(sql string) segment.LSN {
		server.MustExec(t, "source", sql)
		lsn, err := segment.ParseLSN(server.MustQuery(t, "source", "SELECT pg_current_wal_insert_lsn()"))
		require.NoError(t, err)
		archive.WaitArchived(t, run, lsn)
		return lsn
	}
	archived("INSERT INTO t VALUES (1)") // after a look at the source: the range begins past what the feeds have
	server.MustExec(t, "source", "ALTER PUBLICATION tidemark SET (publish = 'insert')")
	server.MustExec(t, "source", "DELETE FROM t WHERE id = 0")
	server.MustExec(t, "source", "ALTER PUBLICATION tidemark SET (publish = 'insert, update, delete, truncate')")
	end := archived("INSERT INTO t VALUES (2)")
	require.Zero(t, run.Stop(t).Code, run.Stderr())

	refused := func(name string, r harness.Result) {
		require.Equal(t, 3, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "publication")
		require.Equal(t, "0 1", server.MustQuery(t, name, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"), "all before it, and nothing past it")
		require.Equal(t, "following", server.MustQuery(t, name, "SELECT state FROM tidemark.follow"))
	}
	refused("endless", harness.Run(t, archive.Restorer("follow", "--into", server.DSN("endless"))))
	refused("targeted", harness.Run(t, archive.Restorer("follow", "--into", server.DSN("targeted"), "--to-lsn", end.String(), "--exclusive")))
	refused("promoted", harness.Run(t, archive.Restorer("promote", "--into", server.DSN("promoted"))))
}
