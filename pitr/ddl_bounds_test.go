package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestBoundsOfDefaultPartitionsAreRead: what a default partition takes changes with the partitions beside it. The server tells a
// session that knows it, but not of the partitions below it (heap_drop_with_catalog, src/backend/catalog/heap.c): a session that has filled
// one refuses what it may hold by now.
func TestBoundsOfDefaultPartitionsAreRead(t *testing.T) {
	w := newWorld(t, "bounds", `CREATE SCHEMA "odd; s"; CREATE TABLE top (id int, b text) PARTITION BY LIST (b); CREATE TABLE a PARTITION OF top FOR VALUES IN ('a', NULL);
CREATE TABLE c PARTITION OF top FOR VALUES IN ('c'); CREATE TABLE "odd; s".others PARTITION OF top DEFAULT PARTITION BY RANGE (id);
CREATE TABLE "odd; s".rest PARTITION OF "odd; s".others DEFAULT PARTITION BY LIST (id); CREATE TABLE "odd; s"."last" PARTITION OF "odd; s".rest DEFAULT WITH (fillfactor = 70);
ALTER TABLE "odd; s"."last" REPLICA IDENTITY FULL`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication, AllTables: true}))
	for _, sql := range []string{
		`INSERT INTO top VALUES (1, 'x'), (2, 'a')`,
		`DROP TABLE a`,
		`INSERT INTO top VALUES (3, 'a'), (4, NULL)`,
		`ALTER TABLE top DETACH PARTITION c`,
		`INSERT INTO top VALUES (5, 'c')`,
		`UPDATE top SET b = 'a' WHERE id = 1`,
	} {
		server.MustExec(t, w.db, sql) // on a session of its own: the source's would refuse these rows as well
	}
	w.archive()
	for name, jobs := range map[string]int{"bounds_1": 1, "bounds_4": 4} {
		w.restore(Target{Kind: ToLatest}, name, func(o *Options) { o.Jobs = jobs })
		w.sameRows(name)
		require.Equal(t, "{fillfactor=70}", server.MustQuery(t, name, `select reloptions from pg_class where relname = 'last'`))
	}
}
