package integration

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
)

// testListsEachCommitOnce: the log holds every transaction that a client saw committed, once, in
// commit order, and none that was rolled back.
func testListsEachCommitOnce(t *testing.T, w *world) {
	seen := map[string]int{}
	before := ""
	for _, tx := range w.archive.Log(t) {
		seen[strconv.FormatUint(uint64(tx.XID), 10)]++
		lsn := tx.LSN.Hex()
		require.Less(t, before, lsn, "commit order")
		before = lsn
	}
	listed := 0
	for _, c := range w.commits {
		require.LessOrEqual(t, seen[c.XID], 1, "xid %s", c.XID)
		listed += seen[c.XID]
	}
	// What was committed before the slot's consistent point is in the base snapshot, not in the log.
	require.Greater(t, listed, len(w.commits)/2)
	committed := map[string]bool{}
	for _, c := range w.commits {
		committed[c.XID] = true
	}
	for _, q := range w.quiet {
		committed[q.xid] = true
	}
	for _, tx := range w.archive.Log(t, "--table", "shop.ledger") {
		require.True(t, committed[strconv.FormatUint(uint64(tx.XID), 10)], "xid %d is in the log but no client committed it", tx.XID)
	}
}

// testLatest: the newest state, its schema, and sequences that go on where they have to.
func testLatest(t *testing.T, w *world, target *postgres.Server) {
	w.archive.Restore(t, target.DSN("latest"))
	restored, err := workload.HashDatabase(context.Background(), target.DSN("latest"))
	require.NoError(t, err)
	require.Empty(t, w.last.Diff(restored))
	want, err := workload.DumpSchema(w.source.Path("pg_dump"), w.source.DSN("shop"))
	require.NoError(t, err)
	got, err := workload.DumpSchema(target.Path("pg_dump"), target.DSN("latest"))
	require.NoError(t, err)
	require.Equal(t, want, got)
	for _, insert := range []string{
		"INSERT INTO shop.blob DEFAULT VALUES",
		"INSERT INTO shop.customer (name) VALUES ('next')",
		"INSERT INTO shop.orders (customer_id, total) SELECT id, 1 FROM shop.customer LIMIT 1",
		"INSERT INTO events.event (stream_id, version, type, data) VALUES (gen_random_uuid(), 1, 'x', '{}')",
		"INSERT INTO shop.scratch DEFAULT VALUES",
		"INSERT INTO shop.scratch_child DEFAULT VALUES",
		"INSERT INTO shop.animal DEFAULT VALUES",
		"INSERT INTO shop.kinds DEFAULT VALUES",
	} {
		for range 3 {
			target.MustExec(t, "latest", insert)
		}
	}
	audited := "SELECT count(*) FROM shop.audit WHERE what = 'INSERT'"
	require.NotEqual(t, "0", target.MustQuery(t, "latest", audited), "triggers are enabled again")
	target.MustExec(t, "postgres", "DROP DATABASE latest")
}

// testMoments: a restore to S, exclusive, is what a snapshot at S saw; and at moments when nothing was
// under way, LSN, time, xid and mark all lead to the same state.
func testMoments(t *testing.T, w *world, target *postgres.Server) {
	for i, m := range w.live {
		t.Run("live"+strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			report := checkRestore(t, w.archive, target, m.Hashes, "--to-lsn", m.LSN.String(), "--exclusive")
			if report.LastKept != nil {
				require.Less(t, report.LastKept.LSN, m.LSN)
			}
			require.NotNil(t, report.FirstLeftOut)
			require.GreaterOrEqual(t, report.FirstLeftOut.LSN, m.LSN)
		})
	}
	for i, q := range w.quiet {
		targets := []struct {
			name string
			want workload.Hashes
			args []string
		}{
			{"xid", q.after, []string{"--to-xid", q.xid}},
			{"xidExclusive", q.before, []string{"--to-xid", q.xid, "--exclusive"}},
			{"time", q.after, []string{"--to-time", q.time.UTC().Format(time.RFC3339Nano)}},
			{"lsn", q.after, []string{"--to-lsn", q.lsn.String()}},
			{"mark", q.after, []string{"--to-mark", q.mark}},
		}
		for _, c := range targets {
			t.Run(c.name+strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				checkRestore(t, w.archive, target, c.want, c.args...)
			})
		}
	}
}
