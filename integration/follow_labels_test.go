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
	s := newFedStandby(t, "CREATE TYPE mood AS ENUM ('ok', 'bad', 'sad'); CREATE TABLE t (id int PRIMARY KEY, m mood)")
	server := s.server
	early, late := s.open(t, "INSERT INTO t VALUES (1, 'bad'), (2, 'ok')"), s.open(t, "INSERT INTO t VALUES (3, 'ok')")
	server.MustExec(t, "source", "ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'")
	s.mustFollow(t)
	early()
	s.mustFollow(t)
	const rows = "SELECT string_agg(t::text, ' ' ORDER BY id) FROM t"
	require.Equal(t, server.MustQuery(t, "source", rows), server.MustQuery(t, "standby", rows))

	// A name that another label has by now may mean either: that must not be guessed.
	server.MustExec(t, "source", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'; ALTER TYPE mood RENAME VALUE 'sad' TO 'ok'")
	s.mustFollow(t)
	late()
	r := s.follow(t)
	require.Equal(t, 1, r.Code, r.Stdout+r.Stderr+server.MustQuery(t, "standby", rows)+" at the source "+server.MustQuery(t, "source", rows))
	require.Contains(t, r.Stderr, `holds "ok"`)
}

// newFedStandby archives a database that was made by SQL, and restores a standby from it that is to be followed into.
func newFedStandby(t *testing.T, sql string) *fedStandby {
	t.Helper()
	s := &fedStandby{server: postgres.Start(t, postgres.Options{})}
	s.source, s.into = s.server.CreateDatabase(t, "source"), s.server.DSN("standby")
	s.server.MustExec(t, "source", sql)
	s.archive = harness.Archive{URL: t.TempDir(), Source: s.source}
	s.run = s.archive.StartRun(t, "--segment-max-age", "200ms")
	s.archive.WaitProtected(t, s.run)
	f := harness.Start(t, s.archive.Restorer("follow", "--into", s.into, "--create"))
	f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, s.archive, s.into).State == "following" })
	require.Zero(t, f.Stop(t).Code, f.Stderr())
	return s
}

// fedStandby is a source, and a database that follows it by processes that each end where the source is.
type fedStandby struct {
	server       *postgres.Server
	source, into string // DSN
	archive      harness.Archive
	run          *harness.Process
}

// open begins a transaction at the source, and returns what commits it.
func (s *fedStandby) open(t *testing.T, sql string) (commit func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.source)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "BEGIN; "+sql)
	require.NoError(t, err)
	return func() {
		_, err := conn.Exec(t.Context(), "COMMIT")
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
	}
}

// follow brings the standby to where the source is, by a process of its own.
func (s *fedStandby) follow(t *testing.T) harness.Result {
	t.Helper()
	end, err := segment.ParseLSN(s.server.MustQuery(t, "source", "SELECT pg_current_wal_flush_lsn()"))
	require.NoError(t, err)
	s.archive.WaitArchived(t, s.run, end)
	return harness.Run(t, s.archive.Restorer("follow", "--into", s.into, "--to-lsn", end.String(), "--exclusive"))
}

// mustFollow is follow where that must succeed.
func (s *fedStandby) mustFollow(t *testing.T) {
	t.Helper()
	r := s.follow(t)
	require.Zero(t, r.Code, r.Stderr)
}
