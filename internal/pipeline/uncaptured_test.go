package pipeline

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/ddl"
)

// TestChangesThatNoEventTriggerSeesAreInexact, and nothing else is.
func TestChangesThatNoEventTriggerSeesAreInexact(t *testing.T) {
	w := newWorld(t, nil)
	role := w.db + "_r"
	w.exec(fmt.Sprintf(`CREATE ROLE %[1]s; CREATE ROLE %[1]s2; CREATE TABLE owned (id int PRIMARY KEY); ALTER TABLE owned OWNER TO %[1]s;
CREATE TABLE twice (id serial PRIMARY KEY, a int); INSERT INTO twice (a) VALUES (1), (1); CREATE TABLE child (id int PRIMARY KEY); CREATE SEQUENCE q`, role))
	t.Cleanup(func() { w.exec(fmt.Sprintf("DROP OWNED BY %[1]s, %[1]s2; DROP ROLE %[1]s; DROP ROLE %[1]s2", role)) })
	w.catchUp()
	r := w.start()
	r.protected()
	// Nothing that a replay has to know.
	w.exec("TRUNCATE t RESTART IDENTITY; ANALYZE t; CREATE TEMP TABLE x (id int); COMMENT ON TABLE x IS 'x'; CREATE TYPE pg_temp.m AS ENUM ('a'); CREATE FUNCTION f(pg_temp.m) RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT nextval('q')")
	w.exec(`DO $$ BEGIN BEGIN CREATE TABLE sub (id serial PRIMARY KEY, c text DEFAULT 'x'); EXCEPTION WHEN division_by_zero THEN NULL; END; ALTER TABLE sub ADD d int DEFAULT 1; END $$;
BEGIN; SAVEPOINT a; ALTER TABLE sub RENAME TO other; SAVEPOINT b; CREATE VIEW v AS SELECT * FROM other; RELEASE b; RELEASE a; COMMIT; CREATE EXTENSION hstore`)
	w.exec("CREATE INDEX CONCURRENTLY ON t (v)")
	w.exec("ALTER TABLE owned ADD since int DEFAULT 7; CREATE TABLE parts (id int) PARTITION BY LIST (id); CREATE TABLE part PARTITION OF parts FOR VALUES IN (1)")
	w.exec("INSERT INTO owned VALUES (1, 1)")
	w.exec("ALTER TABLE twice ADD CHECK (a < 10)")
	w.exec("VACUUM FULL owned") // which writes the new column's row
	w.exec("ALTER TABLE parts DETACH PARTITION part CONCURRENTLY")
	for _, sql := range []string{"VACUUM FULL t", "REINDEX TABLE CONCURRENTLY t", "CLUSTER t USING t_pkey", "ALTER TABLE t SET WITHOUT CLUSTER"} {
		w.exec(sql)
	}
	for _, sql := range []string{"CREATE UNIQUE INDEX CONCURRENTLY twice_a ON twice (a)", "CREATE UNIQUE INDEX CONCURRENTLY other_a ON twice (a)"} {
		require.Error(t, w.server.Exec(t.Context(), w.db, sql))
	}
	w.exec("DELETE FROM twice")
	for i, sql := range []string{
		fmt.Sprintf("REASSIGN OWNED BY %[1]s TO %[1]s2", role),
		"EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1 AS one WITH NO DATA",
		"REINDEX INDEX twice_a",
		"UPDATE pg_catalog.pg_class SET relreplident = 'n' WHERE oid = 'child'::regclass",
		// A captured change at the same moment explains none of these.
		"REINDEX INDEX other_a; CREATE TABLE near_1 (id int)",
		"BEGIN; UPDATE pg_catalog.pg_attribute SET attnotnull = true WHERE attrelid = 'twice'::regclass AND attname = 'a'; COMMIT; CREATE TABLE near_2 (id int)",
	} {
		w.exec(sql)
		p := r.inexactAt(w.flush() - 1)
		require.Contains(t, p.Reason, "not captured", sql)
		r.snapshotAfter(p.To - 1)
		require.Len(t, w.view().Inexact(), i+1, sql)
	}
	require.NoError(t, r.end())
}

// TestAnIndexIsExplainedWhereverItIsByNow: between its message and a look it may go to another schema with its table, or be built anew.
func TestAnIndexIsExplainedWhereverItIsByNow(t *testing.T) {
	var p passage
	p.explain(&ddl.Message{Tag: "CREATE INDEX", Objects: []ddl.Object{{Type: "index", Schema: "made", Name: "i", OID: 7}}})
	strange := func(oid uint32, name string) []string {
		return p.strange(basesnapshot.Writes{Revived: []basesnapshot.Index{{OID: oid, Name: name}}})
	}
	require.Empty(t, strange(7, "made.i"))
	require.Empty(t, strange(7, "moved.i"))
	require.Empty(t, strange(8, "made.i"))
	require.Equal(t, []string{"index moved.i"}, strange(8, "moved.i"))
}
