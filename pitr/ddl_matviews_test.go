package pitr

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// The rows of a materialized view are those of its last refresh, and no archive has them. What the source did
// with its rows must not end a restore that would give it others.
func TestMaterializedViewsWithOtherRows(t *testing.T) {
	w := newWorld(t, "stale", `CREATE TABLE t (k int, d int); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 1), (2, 1);
CREATE MATERIALIZED VIEW old AS SELECT k FROM t; CREATE MATERIALIZED VIEW older AS SELECT max(k) AS top FROM old;
CREATE MATERIALIZED VIEW bare AS SELECT k FROM t WITH NO DATA; INSERT INTO t VALUES (1, 1)`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("CREATE UNIQUE INDEX old_k ON old (k)")
	w.sql("BEGIN; CREATE MATERIALIZED VIEW quotients AS SELECT k, 10 / d AS q, '; -- with' AS w FROM t WITH DATA /* ; */ -- so")
	server.MustExec(t, "stale", "INSERT INTO t VALUES (3, 0)") // committed before it, and unseen by it
	w.sql("COMMIT; CREATE MATERIALIZED VIEW nothing AS SELECT 1 / d AS x FROM t WITH NO DATA")
	failing := w.here()
	w.sql("DELETE FROM t WHERE d = 0; DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t WHERE k = 1)")
	w.sql("REFRESH MATERIALIZED VIEW CONCURRENTLY old; REFRESH MATERIALIZED VIEW older WITH NO DATA; CREATE MATERIALIZED VIEW newest AS TABLE old")
	w.archive()

	const populated = "select coalesce(string_agg(relname, ' ' order by relname), '') from pg_class where relkind = 'm' and relispopulated and relnamespace = 'public'::regnamespace"
	rep := w.restore(Target{Kind: ToLSN, LSN: failing, Exclusive: true}, "stale_1", nil)
	for _, name := range []string{"old", "older", "quotients"} {
		require.Contains(t, strings.Join(rep.Notes, "\n"), "materialized view public."+name+" could not be filled")
	}
	require.Equal(t, "", server.MustQuery(t, "stale_1", populated))
	rep = w.restore(Target{Kind: ToLatest}, "stale_2", nil)
	require.NotContains(t, strings.Join(rep.Notes, "\n"), "could not be filled")
	require.Equal(t, server.MustQuery(t, "stale", populated), server.MustQuery(t, "stale_2", populated))
	require.Equal(t, "1 2", server.MustQuery(t, "stale_2", "select string_agg(k::text, ' ' order by k) from newest"))
	require.Equal(t, "10 10", server.MustQuery(t, "stale_2", "select string_agg(q::text, ' ') from quotients"))
}
