package integration

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// TestFollowAcrossFailover: the archive holds commits that the promoted standby never received. Who feeds from it goes on
// in the new history if nothing of those is applied, and ends with exit 6 otherwise.
func TestFollowAcrossFailover(t *testing.T) {
	t.Parallel()
	source, target := postgres.Start(t, postgres.Options{}), postgres.Start(t, postgres.Options{})
	dsn := source.CreateDatabase(t, "shop")
	source.MustExec(t, "shop", "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (0, 'before')")
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	archive.CatchUp(t)
	begin := func(name string) {
		f := harness.Start(t, archive.Restorer("follow", "--into", target.DSN(name), "--create"))
		f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, target.DSN(name)).State == "following" })
		f.Stop(t)
	}
	for _, name := range []string{"behind", "ahead", "lost", "taken"} {
		begin(name)
	}
	source.MustExec(t, "shop", "INSERT INTO t VALUES (1, 'both')")
	follow := func(name string, until segment.LSN) {
		f := harness.Start(t, archive.Restorer("follow", "--into", target.DSN(name)))
		waitFollowed(t, archive, f, target.DSN(name), until)
		require.Zero(t, f.Stop(t).Code, f.Stderr())
	}
	archive.CatchUp(t)
	follow("behind", archiveEnd(t, archive))
	// A copy of the stopped server is a standby with a synchronised slot.
	require.NoError(t, source.Stop(postgres.Fast))
	standby, err := source.CopyDataDir("standby")
	require.NoError(t, err)
	require.NoError(t, source.Run())
	archive.CatchUp(t) // past the standby's end, and no commits there
	follow("ahead", archiveEnd(t, archive))
	source.MustExec(t, "shop", "INSERT INTO t VALUES (2, 'lost')")
	source.MustExec(t, "shop", "INSERT INTO t VALUES (3, 'lost')")
	archive.CatchUp(t)
	follow("lost", archiveEnd(t, archive))
	delayed := harness.Start(t, archive.Restorer("follow", "--into", target.DSN("behind"), "--delay", "1h"))
	delayed.WaitFor(t, "begin", time.Minute, func() bool { return followStatus(t, archive, target.DSN("behind")).State == "following" })

	promoteCopy(t, source, standby)
	source.MustExec(t, "shop", "INSERT INTO t VALUES (2, 'new')")
	source.MustExec(t, "shop", "ALTER TABLE t ADD COLUMN more int; UPDATE t SET more = id")
	archive.CatchUp(t)
	histories := map[string]string{}
	rows := func(name string) string {
		histories[name] = target.MustQuery(t, name, "SELECT history FROM tidemark.follow")
		return target.MustQuery(t, name, "SELECT string_agg(t::text, ' ' ORDER BY id) FROM t")
	}
	const want = "(0,before,0) (1,both,1) (2,new,2)"
	end := source.MustQuery(t, "shop", "SELECT pg_current_wal_flush_lsn()")
	lsn, err := segment.ParseLSN(end)
	require.NoError(t, err)
	source.MustExec(t, "shop", "INSERT INTO t VALUES (9, 'late')")
	archive.CatchUp(t)

	t.Run("nothing of the lost commits is applied", func(t *testing.T) {
		r := harness.Run(t, archive.Restorer("follow", "--into", target.DSN("ahead"), "--history", "2", "--to-lsn", end, "--exclusive"))
		require.Zero(t, r.Code, r.Stderr)
		require.Equal(t, want, rows("ahead"))
		require.Contains(t, r.Stderr, "goes on in the next")
		require.Equal(t, "2", histories["ahead"])
	})
	t.Run("they are", func(t *testing.T) {
		r := harness.Run(t, archive.Restorer("follow", "--into", target.DSN("lost")))
		require.Equal(t, 6, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "that history 2 lacks")
		require.Equal(t, "(0,before) (1,both) (2,lost) (3,lost)", rows("lost"))
	})
	t.Run("they wait for their time", func(t *testing.T) {
		delayed.WaitFor(t, "go on", time.Minute, func() bool { rows("behind"); return histories["behind"] == "2" })
		require.Zero(t, delayed.Stop(t).Code, delayed.Stderr())
		follow("behind", lsn)
		require.Equal(t, want+" (9,late,)", rows("behind"))
	})
	t.Run("a promotion", func(t *testing.T) {
		r := harness.Run(t, archive.Restorer("promote", "--into", target.DSN("taken")))
		require.Zero(t, r.Code, r.Stderr)
		require.Equal(t, want+" (9,late,)", rows("taken"))
	})
}

// promoteCopy makes a copy of a server's folder, as a standby has it, the server, and promotes it.
func promoteCopy(t *testing.T, s *postgres.Server, dir string) {
	t.Helper()
	require.NoError(t, s.Stop(postgres.Fast))
	require.NoError(t, s.ReplaceDataDir(dir))
	require.NoError(t, os.WriteFile(filepath.Join(s.DataDir, "standby.signal"), nil, 0o666))
	require.NoError(t, s.Run())
	query := func(sql string) string {
		v, err := s.Query(context.Background(), "postgres", sql)
		if err != nil {
			return err.Error()
		}
		return v
	}
	require.Eventually(t, func() bool { return query("SELECT pg_is_in_recovery()") == "t" }, time.Minute, 20*time.Millisecond)
	query("SELECT pg_promote()")
	require.Eventually(t, func() bool { return query("SELECT pg_is_in_recovery()") == "f" }, time.Minute, 20*time.Millisecond)
}
