package pitr

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// An index that CREATE INDEX CONCURRENTLY left invalid is in no dump and no message. A rewrite of its table builds it
// anew, and then it is there for good, at the source and in a restore.
func TestIndexesThatARewriteMakesValid(t *testing.T) {
	w := newWorld(t, "revalidated", `CREATE UNLOGGED TABLE passing (id int PRIMARY KEY, b text);
CREATE TABLE p (id int, b text, c int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); ALTER TABLE p1 REPLICA IDENTITY FULL;
CREATE TABLE kept (a int, b text); ALTER TABLE kept REPLICA IDENTITY FULL; INSERT INTO kept VALUES (1, 'x'), (1, 'y');
CREATE ROLE revalidating; REVOKE CREATE ON SCHEMA public FROM PUBLIC; ALTER TABLE passing OWNER TO revalidating; ALTER TABLE p OWNER TO revalidating; ALTER TABLE p1 OWNER TO revalidating;
CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO PUBLIC; CREATE FUNCTION other.lower(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'`)
	t.Cleanup(func() { // with what it owns
		for _, db := range []string{"revalidated", "revalidated_1", "revalidated_2", "revalidated_3"} {
			_ = server.Exec(context.Background(), db, "DROP OWNED BY revalidating CASCADE")
		}
		_ = server.Exec(context.Background(), "postgres", "DROP ROLE revalidating")
	})
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("INSERT INTO passing VALUES (1, 'x'), (2, 'x'); INSERT INTO p VALUES (1, 'x'), (1, 'x')")
	for _, sql := range []string{
		`CREATE UNIQUE INDEX CONCURRENTLY passing_b ON passing (b)`, `CREATE INDEX CONCURRENTLY "passing 1/(id - 1)" ON passing USING hash ((1 / (id - 1)))`,
		"CREATE UNIQUE INDEX CONCURRENTLY p1_b ON p1 (lower(b)) WHERE id > 0", "CREATE UNIQUE INDEX CONCURRENTLY kept_a ON kept (a)",
	} {
		_, err := w.conn.PgConn().Exec(context.Background(), sql).ReadAll()
		require.Error(t, err, sql)
	}
	w.sql("DELETE FROM passing; DELETE FROM p; COMMENT ON INDEX passing_b IS 'it''s; left'")
	w.sql(`ALTER INDEX "passing 1/(id - 1)" ALTER COLUMN 1 SET STATISTICS 77`)
	w.sql("BEGIN; SAVEPOINT s; ALTER TABLE passing SET LOGGED; ROLLBACK TO s; COMMIT")
	w.sql("INSERT INTO kept VALUES (2, 'x'); ALTER TABLE kept DROP b; ALTER TABLE kept ADD c int DEFAULT 7")
	before := w.here()
	w.sql("SET ROLE revalidating; SET search_path = other, public, pg_catalog; DO $$ BEGIN EXECUTE 'ALTER TABLE passing SET LOGGED; ALTER TABLE p ADD CHECK (id < 5), ALTER c TYPE bigint'; END $$; RESET ROLE; RESET search_path")
	w.sql("INSERT INTO passing VALUES (2, 'y'), (3, 'z'); INSERT INTO p VALUES (1, 'z')")
	made := w.here()
	w.sql("ALTER INDEX passing_b RENAME TO now_known; DROP INDEX p1_b; ALTER TABLE passing DROP CONSTRAINT passing_pkey; ALTER TABLE passing REPLICA IDENTITY FULL")
	w.archive()

	const indexes = `select coalesce(string_agg(pg_get_indexdef(indexrelid) || coalesce(obj_description(indexrelid), '')
  || coalesce((select ' statistics ' || a.attstattarget from pg_attribute a where a.attrelid = indexrelid and a.attstattarget >= 0), ''), E'\n' order by indexrelid::regclass::text), '')
from pg_index join pg_class c on c.oid = indrelid where relnamespace = 'public'::regnamespace and indisvalid`
	w.restore(Target{Kind: ToLSN, LSN: before, Exclusive: true}, "revalidated_1", nil)
	require.Equal(t, "CREATE UNIQUE INDEX passing_pkey ON public.passing USING btree (id)", server.MustQuery(t, "revalidated_1", indexes))
	w.restore(Target{Kind: ToLSN, LSN: made, Exclusive: true}, "revalidated_2", nil)
	require.Equal(t, `CREATE INDEX "passing 1/(id - 1)" ON public.passing USING hash (((1 / (id - 1)))) statistics 77
CREATE UNIQUE INDEX p1_b ON public.p1 USING btree (lower(b)) WHERE (id > 0)
CREATE UNIQUE INDEX passing_b ON public.passing USING btree (b)it's; left
CREATE UNIQUE INDEX passing_pkey ON public.passing USING btree (id)`, server.MustQuery(t, "revalidated_2", indexes))
	w.restore(Target{Kind: ToLatest}, "revalidated_3", nil)
	require.Equal(t, server.MustQuery(t, "revalidated", indexes), server.MustQuery(t, "revalidated_3", indexes))
}

// A new type of a column makes its indexes anew, with other OIDs and whether the table is rewritten or not; REFRESH builds
// those of a materialized view. What was invalid among them comes to be valid by a statement that says nothing of it.
func TestIndexesThatATypeOrARefreshMakesValid(t *testing.T) {
	w := newWorld(t, "widened", `CREATE TABLE wide (id int PRIMARY KEY, v varchar(200), n int); INSERT INTO wide VALUES (1, 'x', 1), (2, 'x', 1);
CREATE TABLE also (v varchar(200)); ALTER TABLE also REPLICA IDENTITY FULL; INSERT INTO also VALUES ('x'), ('x');
CREATE TABLE fed (v int); ALTER TABLE fed REPLICA IDENTITY FULL; INSERT INTO fed VALUES (1), (1); CREATE MATERIALIZED VIEW m AS TABLE fed`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	for _, sql := range []string{
		"CREATE UNIQUE INDEX CONCURRENTLY wide_v ON wide (v)", `CREATE UNIQUE INDEX CONCURRENTLY "wide n" ON wide (n)`,
		"CREATE UNIQUE INDEX CONCURRENTLY m_v ON m (v)", "CREATE UNIQUE INDEX CONCURRENTLY also_v ON also (v)",
	} {
		_, err := w.conn.PgConn().Exec(context.Background(), sql).ReadAll()
		require.Error(t, err, sql)
	}
	w.sql("UPDATE wide SET v = id, n = id; DELETE FROM also; DELETE FROM fed; COMMENT ON INDEX wide_v IS 'left'")
	w.sql("ALTER TABLE wide ALTER id SET STATISTICS 7; CREATE INDEX wide_id ON wide (id)") // none of it about them
	w.sql("BEGIN; SAVEPOINT s; ALTER TABLE wide ALTER v TYPE varchar(300); ROLLBACK TO s; REFRESH MATERIALIZED VIEW m; ROLLBACK")
	before := w.here()
	w.sql("ALTER TABLE wide ALTER v TYPE varchar(500); ALTER TABLE wide ADD gone int; ALTER TABLE wide DROP gone, ALTER n TYPE bigint; REFRESH MATERIALIZED VIEW m")
	w.sql("ALTER TABLE wide ALTER v TYPE varchar(600); REFRESH MATERIALIZED VIEW m") // valid by now
	made := w.here()
	w.sql("BEGIN; DROP INDEX also_v; CREATE INDEX also_v ON also (v); ALTER TABLE also ALTER v TYPE text; COMMIT; ALTER INDEX wide_v RENAME TO wide_w; DROP INDEX m_v")
	w.archive()

	const indexes = `select string_agg(pg_get_indexdef(indexrelid) || coalesce(' ' || obj_description(indexrelid), ''), E'\n' order by indexrelid::regclass::text)
from pg_index join pg_class c on c.oid = indrelid where relnamespace = 'public'::regnamespace and indisvalid`
	w.restore(Target{Kind: ToLSN, LSN: before, Exclusive: true}, "widened_1", nil)
	require.Equal(t, "CREATE INDEX wide_id ON public.wide USING btree (id)\nCREATE UNIQUE INDEX wide_pkey ON public.wide USING btree (id)", server.MustQuery(t, "widened_1", indexes))
	w.restore(Target{Kind: ToLSN, LSN: made, Exclusive: true}, "widened_2", nil)
	require.Equal(t, `CREATE UNIQUE INDEX "wide n" ON public.wide USING btree (n)
CREATE UNIQUE INDEX m_v ON public.m USING btree (v)
CREATE INDEX wide_id ON public.wide USING btree (id)
CREATE UNIQUE INDEX wide_pkey ON public.wide USING btree (id)
CREATE UNIQUE INDEX wide_v ON public.wide USING btree (v) left`, server.MustQuery(t, "widened_2", indexes))
	w.restore(Target{Kind: ToLatest}, "widened_3", nil)
	require.Equal(t, server.MustQuery(t, "widened", indexes), server.MustQuery(t, "widened_3", indexes))
}

// What other sessions do to an index before it is valid has no message: the one of CREATE INDEX CONCURRENTLY has the index as the
// catalog has it. Whoever of them ends first is waited for.
func TestIndexesRenamedWhileTheyAreMade(t *testing.T) {
	w := newWorld(t, "renamed_early", "CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql(`CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(77); END $$;
CREATE EVENT TRIGGER zz_hold ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION hold()`)
	holds, renames, begins := w.session(), w.session(), make(chan error, 1)
	create := func(sql string) { // until all that is left is to call it valid
		go func() { begins <- server.Exec(context.Background(), w.db, sql) }()
		require.Eventually(t, func() bool {
			return server.MustQuery(t, w.db, "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase = 'waiting for old snapshots'") == "1"
		}, 20*time.Second, 10*time.Millisecond)
	}
	waits := func(what string) {
		require.Eventually(t, func() bool {
			return server.MustQuery(t, w.db, "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE NOT l.granted AND l.locktype = 'advisory' AND a.query ~ '^"+what+"'") == "1"
		}, 20*time.Second, 10*time.Millisecond)
	}

	// The index gets another name before it is valid, and is valid before that is committed.
	holds("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
	create("CREATE INDEX CONCURRENTLY early ON t (a)")
	renames("BEGIN; ALTER INDEX early RENAME TO earlier; COMMENT ON INDEX earlier IS 'soon'")
	holds("COMMIT")
	waits("CREATE INDEX")
	renames("COMMIT")
	require.NoError(t, <-begins)

	// The index is as good as made, and its message written, when it gets another name.
	holds("SELECT pg_advisory_lock(77)")
	go func() { begins <- server.Exec(context.Background(), w.db, "CREATE INDEX CONCURRENTLY late ON t (b)") }()
	waits("CREATE INDEX")
	renamed := make(chan error, 1)
	go func() { renamed <- server.Exec(context.Background(), w.db, "ALTER INDEX late RENAME TO later") }()
	waits("ALTER INDEX")
	holds("SELECT pg_advisory_unlock(77)")
	require.NoError(t, <-begins)
	require.NoError(t, <-renamed)

	// Whoever doesn't end soon isn't waited for, and the archive says that it doesn't know.
	made := w.here()
	holds("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
	create("CREATE INDEX CONCURRENTLY unknown ON t (a, b)")
	renames("BEGIN; ALTER INDEX unknown RENAME TO known")
	holds("COMMIT")
	require.NoError(t, <-begins)
	renames("COMMIT")
	w.archive()

	w.restore(Target{Kind: ToLSN, LSN: made, Exclusive: true}, "renamed_early_1", nil)
	require.Equal(t, "earlier soon, later -, t_pkey -", server.MustQuery(t, "renamed_early_1",
		"SELECT string_agg(indexrelid::regclass::text || ' ' || coalesce(obj_description(indexrelid), '-'), ', ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = 't'::regclass"))
	_, err := w.try(w.store, "renamed_early_2", func(o *Options) { o.Create = true })
	require.ErrorContains(t, err, "another session changed the index that CREATE INDEX CONCURRENTLY made")
}

// CREATE INDEX CONCURRENTLY has given its table back when its message is written, which takes the table again. Who drops the table
// may have it by then, and wait for the row of the index that has just become valid. That DROP can only fail; the message must not.
func TestATableDroppedWhenItsIndexIsMade(t *testing.T) {
	w := newWorld(t, "dropped_early", "CREATE TABLE t (id int PRIMARY KEY, a int)")
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql(`CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(77); END $$;
CREATE EVENT TRIGGER "00_hold" ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION hold()`)
	holds, begins, drops := w.session(), make(chan error, 1), make(chan error, 1)
	waits := func(kind, what string) {
		require.Eventually(t, func() bool {
			return server.MustQuery(t, w.db, "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE NOT l.granted AND l.locktype = '"+kind+"' AND a.query ~ '"+what+"'") == "1"
		}, 20*time.Second, 10*time.Millisecond)
	}

	holds("SELECT pg_advisory_lock(77)")
	go func() {
		begins <- server.Exec(context.Background(), w.db, "CREATE INDEX CONCURRENTLY made ON t (abs(a))")
	}()
	waits("advisory", "^CREATE INDEX")
	go func() { // its look for deadlocks comes after the other's would
		drops <- server.Exec(context.Background(), w.db, "SET deadlock_timeout = '2s'; DROP TABLE t")
	}()
	waits("transactionid", "DROP TABLE")
	holds("SELECT pg_advisory_unlock(77)")
	require.NoError(t, <-begins)
	require.Error(t, <-drops)
	w.sql("INSERT INTO t VALUES (1, 1)")
	w.archive()

	w.restore(Target{Kind: ToLatest}, "dropped_early_1", nil)
	const indexes = "SELECT string_agg(pg_get_indexdef(indexrelid), '; ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = 't'::regclass"
	require.Equal(t, server.MustQuery(t, "dropped_early", indexes), server.MustQuery(t, "dropped_early_1", indexes))
}

// The server gives an index another name than the one that an invalid index has, which no restore knows. It has that name there, too, and
// what happens to either of them later happens to the right one.
func TestNamesChosenBesideInvalidIndexes(t *testing.T) {
	w := newWorld(t, "chosen", `CREATE TABLE t (id int PRIMARY KEY, email text); INSERT INTO t VALUES (1, 'x'), (2, 'x');
CREATE TABLE "Odd ""on" (id int PRIMARY KEY, "on" text); CREATE TABLE p (id int, at text) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); ALTER TABLE p1 REPLICA IDENTITY FULL`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	for _, name := range []string{"t_email_idx", "t_email_key", `"Odd ""on_pkey1"`} {
		_, err := w.conn.PgConn().Exec(context.Background(), "CREATE UNIQUE INDEX CONCURRENTLY "+name+" ON t (email)").ReadAll()
		require.Error(t, err)
	}
	w.sql(`CREATE INDEX ON t (email); CREATE /* on */ INDEX ON ONLY "Odd ""on" (("on" || 'INDEX ON')); CREATE INDEX "index" ON t ("email") WHERE email <> 'index on'; CREATE INDEX ON p (at)`)
	w.sql(`DELETE FROM t WHERE id = 2; ALTER TABLE t ADD n int, ADD /* x */ UNIQUE (email); ALTER TABLE "Odd ""on" DROP CONSTRAINT "Odd ""on_pkey", ADD primary key (id);
ALTER TABLE t ADD EXCLUDE (n WITH =); BEGIN; ALTER TABLE t ADD UNIQUE (n); ALTER TABLE t ADD UNIQUE (n, id), ADD UNIQUE (id, n); COMMIT`)
	w.sql(`DROP INDEX t_email_key, "Odd ""on_pkey1"`)
	w.sql("DROP INDEX t_email_idx; COMMENT ON INDEX t_email_idx1 IS 'the good one'")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "chosen_into", nil)
	require.Equal(t, "the good one", server.MustQuery(t, "chosen_into", "SELECT obj_description('t_email_idx1'::regclass)"))
	w.sameSchema("chosen_into")
}

// The same for what has no name of its own in any statement: the parts of a partitioned index, the constraints of a new table, the sequences of
// its columns. Another session's name, not committed yet, stands in the way just so.
func TestNamesChosenForParts(t *testing.T) {
	w := newWorld(t, "chosen_parts", `CREATE SCHEMA "S s"; CREATE TABLE t (id int PRIMARY KEY, email text); INSERT INTO t VALUES (1, 'x'), (2, 'x');
CREATE TABLE p (id int NOT NULL, at text) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (at); CREATE TABLE p11 PARTITION OF p1 FOR VALUES IN ('a');
CREATE TABLE "S s"."P ""2" PARTITION OF p FOR VALUES IN (2); CREATE TABLE p3 (at text NOT NULL, id int NOT NULL); ALTER TABLE p REPLICA IDENTITY FULL;
ALTER TABLE p11 REPLICA IDENTITY FULL; ALTER TABLE "S s"."P ""2" REPLICA IDENTITY FULL; ALTER TABLE p3 REPLICA IDENTITY FULL`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	occupy := func(names ...string) {
		for _, name := range names {
			_, err := w.conn.PgConn().Exec(context.Background(), "CREATE UNIQUE INDEX CONCURRENTLY "+name+" ON t (email)").ReadAll()
			require.Error(t, err)
		}
	}
	w.sql(`ALTER TABLE t SET SCHEMA "S s"; SET search_path = "S s"`)
	occupy(`"P ""2_at_idx"`)
	w.sql(`RESET search_path; ALTER TABLE "S s".t SET SCHEMA public`)
	occupy("p1_at_idx", "p11_at_idx", "p11_at_idx2", "p3_at_idx", "p11_pkey", "n_pkey", "n_a_key", "n_id_seq", "n_more_seq", "p4_at_idx")
	w.sql(`CREATE INDEX ON p (at); CREATE INDEX twice ON p (at); ALTER TABLE p ADD PRIMARY KEY (id, at); ALTER TABLE p ATTACH PARTITION p3 FOR VALUES IN (3); CREATE TABLE p4 PARTITION OF p FOR VALUES IN (4)`)
	w.sql(`CREATE TABLE n (id serial PRIMARY KEY, a int UNIQUE, b int, UNIQUE (b), EXCLUDE (b WITH =)); ALTER TABLE n ADD more serial; ALTER TABLE n ADD other int GENERATED ALWAYS AS IDENTITY`)
	first, made := w.session(), make(chan error, 1)
	first(`BEGIN; CREATE INDEX backward ON p (id DESC)`)
	go func() { // servers before 15.18 and its contemporaries wait, and choose what the other gives back
		made <- server.Exec(context.Background(), w.db, "CREATE INDEX forward ON p (id)")
	}()
	require.Eventually(t, func() bool {
		return server.MustQuery(t, w.db, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock') OR to_regclass('forward') IS NOT NULL") == "t"
	}, time.Minute, 10*time.Millisecond)
	first(`ROLLBACK`)
	require.NoError(t, <-made)
	w.sql("INSERT INTO n DEFAULT VALUES; INSERT INTO p VALUES (4, 'x')")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "chosen_parts_1", nil)
	w.sameSchema("chosen_parts_1")
	w.sameRows("chosen_parts_1")
}
