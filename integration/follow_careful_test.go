package integration

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/segment"
)

// TestFollowByBatchesAgain: transactions that fail together are applied one by one, and those after them by batches, as before.
func TestFollowByBatchesAgain(t *testing.T) {
	t.Parallel()
	s := newFedStandby(t, "CREATE TABLE t (id int PRIMARY KEY)")
	s.server.MustExec(t, "standby", "CREATE SEQUENCE tries; ALTER TABLE t ADD CONSTRAINT fails_once CHECK (id <> 3 OR nextval('tries') > 1)")
	f := harness.Start(t, s.archive.Restorer("follow", "--into", s.into))
	// commits has the source commit each row by itself, and waits until the standby has them.
	commits := func(from, to int) {
		s.server.MustExec(t, "source", fmt.Sprintf("DO $$ BEGIN FOR i IN %d..%d LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$", from, to))
		end, err := segment.ParseLSN(s.server.MustQuery(t, "source", "SELECT pg_current_wal_flush_lsn()"))
		require.NoError(t, err)
		s.archive.WaitArchived(t, s.run, end)
		waitFollowed(t, s.archive, f, s.into, end)
	}
	commits(1, 100)
	require.Contains(t, f.Stderr(), "trying once more, transaction by transaction")
	commits(101, 200)
	require.Contains(t, f.Stderr(), "go by batches again")
	commits(201, 300)
	require.Equal(t, "300", s.server.MustQuery(t, "standby", "SELECT count(*)::text FROM t"))
	batches, err := strconv.Atoi(s.server.MustQuery(t, "standby", "SELECT count(DISTINCT xmin::text)::text FROM t WHERE id > 200"))
	require.NoError(t, err)
	require.Less(t, batches, 50, "transactions still come one by one")
	require.Zero(t, f.Stop(t).Code, f.Stderr())
}
