package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/workload"
)

// TestFollowRemembersFormerNames: a statement of a transaction that was open while what it names was given another name comes with
// the former one, also to a follower that was started anew in between.
func TestFollowRemembersFormerNames(t *testing.T) {
	t.Parallel()
	s := newFedStandby(t, "CREATE TYPE pair AS (a int, b int); CREATE SEQUENCE q; CREATE TABLE t (id int PRIMARY KEY, v text)")
	server := s.server
	commit := s.open(t, "CREATE TABLE made (p pair, n int DEFAULT nextval('q')); CREATE TABLE copied (LIKE t INCLUDING ALL); INSERT INTO copied VALUES (1, 'x')")
	server.MustExec(t, "source", "ALTER TYPE pair RENAME TO couple; ALTER SEQUENCE q RENAME TO numbers; CREATE INDEX ON t (v)")
	s.mustFollow(t)
	server.MustExec(t, "source", "COMMENT ON COLUMN t.v IS 'late'")
	s.mustFollow(t)
	commit()
	s.mustFollow(t)
	want, err := workload.DumpSchema(server.Path("pg_dump"), s.source)
	require.NoError(t, err)
	got, err := workload.DumpSchema(server.Path("pg_dump"), s.into, "--exclude-schema=tidemark_replay")
	require.NoError(t, err)
	require.Equal(t, want, got)
	const rows = "SELECT string_agg(c::text, ' ') FROM copied c"
	require.Equal(t, server.MustQuery(t, "source", rows), server.MustQuery(t, "standby", rows))
}
