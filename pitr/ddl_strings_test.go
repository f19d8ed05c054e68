package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestTextsOfTheCatalogWhereBackslashesEscape: what a message takes from the catalog is written by other rules than the statements of a
// session with standard_conforming_strings = off.
func TestTextsOfTheCatalogWhereBackslashesEscape(t *testing.T) {
	w := newWorld(t, "backslashes", `CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t VALUES (1, 1, 'x'), (2, 1, 'x'); CREATE TABLE p (id int, b text) PARTITION BY LIST (b);
CREATE UNLOGGED TABLE revived (id int PRIMARY KEY, b text); INSERT INTO revived VALUES (1, 'x'), (2, 'x')`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication, AllTables: true}))
	w.sql(`SET standard_conforming_strings = off; SET backslash_quote = on; SET search_path = "$user", public, pg_catalog`)
	_, err := w.conn.PgConn().Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY "again;" ON revived (b) WHERE b <> 'c\\\\d'`).ReadAll()
	require.Error(t, err)
	w.sql(`COMMENT ON INDEX "again;" IS 'it\'s \\'; DELETE FROM revived`)
	w.sql(`ALTER TABLE revived SET LOGGED`)
	w.sql(`CREATE TABLE p1 PARTITION OF p (id DEFAULT 3) FOR VALUES IN (E'back\'slash; \\', 'a\\b\'', NULL); CREATE TABLE made AS SELECT 'x\\y'::text AS "c;", b FROM t`)
	w.sql(`INSERT INTO p (b) VALUES ('a\\b\'')`)
	w.sql(`CREATE INDEX CONCURRENTLY ON t (a) WHERE b <> 'c\\\'d'`)
	w.sql(`CREATE INDEX CONCURRENTLY named ON t (b)`)
	w.sql(`ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY`)
	w.sql(`COMMENT ON TABLE p1 IS 'it\'s \\'; INSERT INTO p1 VALUES (7, 'a\\b\'')`)
	w.archive()
	w.restore(Target{Kind: ToLatest}, "backslashes_back", nil)
	w.sameSchema("backslashes_back")
	w.sameRows("backslashes_back")
}
