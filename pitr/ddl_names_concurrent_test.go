package pitr

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// session is another connection to the world's source.
func (w *world) session() func(sql string) {
	conn := server.Connect(w.t, w.db)
	_, err := conn.Exec(w.t.Context(), "SET lock_timeout = '5s'")
	require.NoError(w.t, err)
	return func(sql string) {
		w.t.Helper()
		_, err := conn.Exec(w.t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(w.t, err, sql)
	}
}

// TestNamesOfTheMoment: a transaction uses names that another one, which commits first, has changed by then.
func TestNamesOfTheMoment(t *testing.T) {
	w := newWorld(t, "moment_names", `CREATE SCHEMA "Some; where"; CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('ok', 'it''s \bad'); CREATE TYPE other.pair AS (a int, b int);
CREATE FUNCTION other.twice(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v * 2'; CREATE SEQUENCE other.numbers; CREATE COLLATION other.plain (locale = 'C');
CREATE FUNCTION other.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; CREATE TABLE other.t (id int PRIMARY KEY);
CREATE TABLE sorted (a int, b int CONSTRAINT "b; once" UNIQUE); CREATE INDEX sorted_a ON sorted (a)`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	first, second := w.session(), w.session()
	first(`BEGIN; CREATE TABLE "Some; where".made (id int PRIMARY KEY, m other.mood DEFAULT E'it''s \\bad', p other.pair, n int DEFAULT nextval('other.numbers'),
	d int DEFAULT other.twice(4), c text COLLATE other.plain); INSERT INTO "Some; where".made (id, m, n) VALUES (1, 'ok', 1)`)
	second(`ALTER TYPE other.mood RENAME VALUE E'it''s \\bad' TO 'fine'; ALTER TYPE other.mood RENAME TO temper; ALTER TYPE other.temper SET SCHEMA public; ALTER TYPE other.pair RENAME TO couple`)
	second(`ALTER FUNCTION other.twice(int) RENAME TO double; ALTER SEQUENCE other.numbers SET SCHEMA public; ALTER COLLATION other.plain RENAME TO bare`)
	second(`ALTER SCHEMA "Some; where" RENAME TO elsewhere`)
	first(`COMMIT`)
	first(`BEGIN; CREATE TRIGGER touch BEFORE INSERT ON other.t FOR EACH ROW EXECUTE FUNCTION other.touch(); ALTER FUNCTION other.double(int) STABLE`)
	second(`BEGIN; ALTER FUNCTION other.touch() RENAME TO touched; ALTER SCHEMA other RENAME TO tmp; ALTER SCHEMA elsewhere RENAME TO other; ALTER SCHEMA tmp RENAME TO elsewhere; COMMIT`)
	first(`ALTER FUNCTION elsewhere.double(int) SET SCHEMA other; COMMIT; INSERT INTO elsewhere.t VALUES (7)`)
	// A statement that waits for the one that gives its index another name.
	second(`BEGIN; ALTER INDEX sorted_a RENAME TO sorted_by_a`)
	waited := make(chan error, 1)
	go func() { waited <- server.Exec(context.Background(), w.db, `ALTER TABLE sorted CLUSTER ON sorted_a`) }()
	require.Eventually(t, func() bool {
		return server.MustQuery(t, w.db, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'sorted_a'::regclass`) == "1"
	}, 20*time.Second, 10*time.Millisecond)
	second(`COMMIT`)
	require.NoError(t, <-waited)
	// One that waits for a table's lock in a schema whose name, its second, changes meanwhile.
	second(`ALTER SCHEMA elsewhere RENAME TO second`)
	second(`BEGIN; LOCK TABLE sorted; ALTER SCHEMA second RENAME TO third`)
	go func() {
		waited <- server.Exec(context.Background(), w.db, `CREATE TABLE second.heir (own int) INHERITS (sorted)`)
	}()
	require.Eventually(t, func() bool {
		return server.MustQuery(t, w.db, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'sorted'::regclass`) == "1"
	}, 20*time.Second, 10*time.Millisecond)
	second(`COMMIT`)
	require.NoError(t, <-waited)
	// One that waits for the publication whose name changes meanwhile, and then goes by its OID.
	second(`CREATE TABLE published (id int PRIMARY KEY); CREATE PUBLICATION told FOR TABLE published`)
	second(`BEGIN; ALTER PUBLICATION told RENAME TO retold`)
	go func() {
		waited <- server.Exec(context.Background(), w.db, `ALTER PUBLICATION told ADD TABLE sorted`)
	}()
	require.Eventually(t, func() bool {
		return server.MustQuery(t, w.db, `SELECT count(*) FROM pg_locks WHERE NOT granted AND classid = 'pg_publication'::regclass`) == "1"
	}, 20*time.Second, 10*time.Millisecond)
	second(`COMMIT`)
	require.NoError(t, <-waited)
	// One that passes over what isn't there, and waits for its second table while the schema of its first gets another name.
	second(`CREATE TABLE third.dropped (id int); CREATE TYPE third.gone AS (a int); CREATE TABLE blocks (id int)`)
	second(`BEGIN; LOCK TABLE blocks; ALTER SCHEMA third RENAME TO fourth`)
	go func() {
		waited <- server.Exec(context.Background(), w.db, `DROP TABLE IF EXISTS third.dropped, blocks, no_such_table CASCADE`)
	}()
	require.Eventually(t, func() bool {
		return server.MustQuery(t, w.db, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'blocks'::regclass`) == "1"
	}, 20*time.Second, 10*time.Millisecond)
	second(`COMMIT`)
	require.NoError(t, <-waited)
	second(`DROP TYPE IF EXISTS third.gone, fourth.gone`)
	// What goes with a type has its name, which means nothing any more.
	second(`CREATE TYPE fourth.arg AS (a int); CREATE FUNCTION takes(v fourth.arg, w int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION takes(v int) RETURNS int LANGUAGE sql AS 'SELECT 1'`)
	second(`DROP TYPE fourth.arg CASCADE`)
	second(`CREATE TYPE pg_temp.short AS (a int); CREATE FUNCTION takes_short(v short) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION takes_both(v pg_temp.short) RETURNS int LANGUAGE sql AS 'SELECT 1'`)
	second(`DROP FUNCTION takes_short(short); DROP FUNCTION takes_both(pg_temp.short)`)
	second(`CREATE SCHEMA fifth; CREATE TYPE fifth.arg AS (a int); CREATE FUNCTION fifth.takes(v fifth.arg[]) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE AGGREGATE fifth.all_of(*) (sfunc = int8inc, stype = int8, initcond = '0')`)
	second(`DROP SCHEMA fifth CASCADE`)
	w.archive()
	w.restore(Target{Kind: ToLatest}, "moment_names_back", nil)
	w.sameSchema("moment_names_back")
	w.sameRows("moment_names_back")
}

// TestAlterIfExistsOfTheMoment: what IF EXISTS found at the source is found in the replay, under the name that its schema has by then.
func TestAlterIfExistsOfTheMoment(t *testing.T) {
	w := newWorld(t, "moment_exists", `CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, what text); CREATE TABLE s.u (id int); CREATE VIEW s.v AS SELECT id FROM s.t; CREATE VIEW s.w AS SELECT 1 AS one;
CREATE MATERIALIZED VIEW s.m AS SELECT 1 AS a; CREATE INDEX i ON s.t (what); CREATE SEQUENCE s.q; CREATE SEQUENCE s.r; CREATE STATISTICS s.st ON id, what FROM s.t`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	first, second := w.session(), w.session()
	first(`BEGIN; ALTER TABLE IF EXISTS s.t ADD COLUMN x int, ADD CHECK (id > 0), SET (fillfactor = 50); ALTER TABLE IF EXISTS s.t RENAME COLUMN what TO how; ALTER TABLE IF EXISTS s.t ALTER how SET STORAGE EXTERNAL;
ALTER TABLE IF EXISTS s.t ENABLE ROW LEVEL SECURITY; ALTER TABLE IF EXISTS s.t OWNER TO pg_monitor; ALTER TABLE IF EXISTS s.u SET SCHEMA public; ALTER VIEW IF EXISTS s.v RENAME TO named; ALTER VIEW IF EXISTS s.named SET (security_barrier);
ALTER VIEW IF EXISTS s.w OWNER TO pg_monitor; ALTER MATERIALIZED VIEW IF EXISTS s.m SET (fillfactor = 60); ALTER INDEX IF EXISTS s.i RENAME TO j; ALTER SEQUENCE IF EXISTS s.q INCREMENT BY 5; ALTER SEQUENCE IF EXISTS s.r RENAME TO called;
ALTER STATISTICS IF EXISTS s.st SET STATISTICS 7; ALTER TABLE IF EXISTS s.no_such_table ADD COLUMN x int`)
	second(`ALTER SCHEMA s RENAME TO later`)
	first(`COMMIT`)
	w.archive()
	w.restore(Target{Kind: ToLatest}, "moment_exists_back", nil)
	w.sameSchema("moment_exists_back")
}

// TestExistsWhileCommitting: a statement with IF EXISTS finds things under names that are changed in the log already, but not yet for
// others: a transaction which waits for a standby stands like that for long.
func TestExistsWhileCommitting(t *testing.T) {
	w := newWorld(t, "committing", `CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE TABLE s.u (id int); CREATE VIEW s.v AS SELECT 1 AS one; CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE s.c AS (a int); CREATE SEQUENCE s.q; CREATE SEQUENCE s.r; CREATE MATERIALIZED VIEW s.m AS SELECT 1 AS a; CREATE TABLE other (id int); CREATE INDEX i ON s.u (id); CREATE SCHEMA z; CREATE TABLE z.u (id int); CREATE TABLE z.w (id int)`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("SET synchronous_commit = local")
	second := w.session()
	second("SET synchronous_commit = local")
	committed := make(chan error, 1)
	standbys := func(how string) {
		w.sql("ALTER SYSTEM " + how)
		w.sql("SELECT pg_reload_conf()")
	}
	committing := func(sql string) {
		standbys("SET synchronous_standby_names = 'nobody'")
		go func() { committed <- server.Exec(context.Background(), w.db, "SET synchronous_commit = on; "+sql) }()
		require.Eventually(t, func() bool {
			return server.MustQuery(t, w.db, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
		}, 20*time.Second, 10*time.Millisecond)
	}
	release := func() {
		standbys("RESET synchronous_standby_names")
		require.NoError(t, <-committed)
	}
	t.Cleanup(func() {
		_ = server.Exec(context.Background(), "postgres", "ALTER SYSTEM RESET synchronous_standby_names")
		_ = server.Exec(context.Background(), "postgres", "SELECT pg_reload_conf()")
	})
	committing("ALTER SCHEMA s RENAME TO later")
	second("DROP TABLE IF EXISTS s.t, other, no_such_table CASCADE")
	second("DROP VIEW IF EXISTS s.v, no_such_view")
	second("DROP TYPE IF EXISTS s.c; DROP FUNCTION IF EXISTS s.f(); DROP SEQUENCE IF EXISTS s.q")
	second("DROP MATERIALIZED VIEW IF EXISTS s.m; DROP INDEX IF EXISTS s.i")
	second("ALTER TABLE IF EXISTS s.u ADD COLUMN x int; ALTER SEQUENCE /* ; */ if Exists s.r INCREMENT BY 5; INSERT INTO s.u VALUES (1, 2)")
	release()
	// The name is another thing's by then.
	committing("BEGIN; ALTER SCHEMA later RENAME TO past; ALTER SCHEMA z RENAME TO later; COMMIT")
	second("DROP TABLE IF EXISTS later.u")
	second("DROP TABLE IF EXISTS z.w")
	release()
	w.archive()
	w.restore(Target{Kind: ToLatest}, "committing_back", nil)
	w.sameSchema("committing_back")
	w.sameRows("committing_back")
}

// TestTypesOfTheMoment: rows come with the names that the types of their columns had when they were written.
func TestTypesOfTheMoment(t *testing.T) {
	w := newWorld(t, "moment_types", `CREATE SCHEMA other; CREATE TYPE span AS RANGE (subtype = int); CREATE DOMAIN few AS int; CREATE TABLE pair (a int, b int); CREATE TABLE single (a int)`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("CREATE TABLE t (id int PRIMARY KEY, r span, rs span[], p pair, ps pair[], f few, s single)")
	first, second := w.session(), w.session()
	first(`BEGIN; INSERT INTO t VALUES (1, '[1,2)', '{"[1,2)"}', '(1,2)', '{"(1,2)"}', 3, '(1)')`)
	second(`ALTER TYPE span SET SCHEMA other; ALTER TYPE other.span RENAME TO "Wide, r"; ALTER TABLE pair RENAME TO couple; ALTER TABLE couple SET SCHEMA other; ALTER DOMAIN few SET SCHEMA other; ALTER DOMAIN other.few RENAME TO several`)
	second(`ALTER SCHEMA other RENAME TO another; ALTER TABLE single RENAME TO one`)
	first(`UPDATE t SET id = 2; COMMIT`)
	w.archive()
	w.restore(Target{Kind: ToLatest}, "moment_types_back", nil)
	w.sameSchema("moment_types_back")
	w.sameRows("moment_types_back")
}

// TestPrivilegesOfTheMoment: who may do what depends on what was there, and which default privileges held, when the statement ran, not
// when its transaction ended.
func TestPrivilegesOfTheMoment(t *testing.T) {
	w := newWorld(t, "moment_rights", `CREATE ROLE moment_a; CREATE ROLE "moment B"; CREATE SCHEMA s; CREATE SCHEMA "q""s"; CREATE TABLE s.old (id int PRIMARY KEY);
CREATE TABLE "q""s".old (id int PRIMARY KEY); CREATE VIEW s.v AS SELECT 1 AS one; CREATE FUNCTION s.f(a int, OUT b text) LANGUAGE sql AS $$ SELECT 'x' $$;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO moment_a`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	first, second := w.session(), w.session()
	// Made before the default privileges that are committed first.
	first(`BEGIN; CREATE TABLE s.made (id serial PRIMARY KEY); CREATE FUNCTION s.g() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE s.mood AS ENUM ('a'); CREATE SCHEMA inner_one`)
	second(`ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM moment_a; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO "moment B" WITH GRANT OPTION; ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO moment_a;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC; ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO moment_a`)
	first(`COMMIT`)
	second(`CREATE TABLE s.after (id serial PRIMARY KEY)`)
	// Granted on all that was there, before what is committed first.
	first(`BEGIN; GRANT /* ON ALL TABLES */ INSERT, UPDATE ON ALL TABLES IN SCHEMA s, "q""s" TO moment_a WITH GRANT OPTION; REVOKE ALL ON ALL ROUTINES IN SCHEMA s FROM PUBLIC; GRANT USAGE ON ALL SEQUENCES IN SCHEMA inner_one TO moment_a`)
	second(`CREATE TABLE s.later (id int PRIMARY KEY); CREATE PROCEDURE s.p() LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON PROCEDURE s.p() TO PUBLIC; CREATE SEQUENCE inner_one.q`)
	// There was nothing to revoke yet.
	first(`COMMIT; BEGIN; CREATE TABLE s.first (); ALTER DEFAULT PRIVILEGES IN SCHEMA s REVOKE USAGE ON SEQUENCES FROM moment_a; CREATE EXTENSION hstore; CREATE TABLE s.last ()`)
	second(`ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT USAGE ON SEQUENCES TO moment_a`)
	first(`COMMIT; INSERT INTO s.made DEFAULT VALUES`)
	w.archive()
	rep := w.restore(Target{Kind: ToLatest}, "moment_rights_back", nil)
	require.Contains(t, strings.Join(rep.Notes, "\n"), "(CREATE EXTENSION hstore), transaction ")
	require.Contains(t, strings.Join(rep.Notes, "\n"), "look at the privileges on its members")
	want, _, _ := strings.Cut(schemaOf(t, w.db), "CREATE EVENT TRIGGER")
	got, _, _ := strings.Cut(schemaOf(t, "moment_rights_back"), "CREATE EVENT TRIGGER")
	require.Equal(t, grantsOf(want), grantsOf(got))
	// A part of them.
	w.restore(Target{Kind: ToLatest}, "moment_rights_part", func(o *Options) { o.Tables = []string{"s.old", "s.made"} })
	const rights = "select string_agg(oid::regclass || ' ' || relacl::text, E'\\n' order by oid::regclass::text) from pg_class where relname in ('old', 'made') and relnamespace = 's'::regnamespace"
	require.Equal(t, server.MustQuery(t, w.db, rights), server.MustQuery(t, "moment_rights_part", rights))
}

// grantsOf are the lines of a dump that give privileges, and those that make things.
func grantsOf(dump string) (lines []string) {
	for line := range strings.Lines(dump) {
		if strings.Contains(line, "GRANT") || strings.Contains(line, "REVOKE") || strings.HasPrefix(line, "CREATE") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestLabelsOfTheMoment: rows come with the label that an enum had when they were written, also when their transaction is
// committed after another one has renamed it.
func TestLabelsOfTheMoment(t *testing.T) {
	w := newWorld(t, "moment_labels", `CREATE TYPE mood AS ENUM ('ok', 'bad'); CREATE DOMAIN feeling AS mood; CREATE TABLE t (id int PRIMARY KEY, m mood, f feeling);
CREATE TABLE by_mood (m mood PRIMARY KEY, n int); INSERT INTO by_mood VALUES ('ok', 1), ('bad', 2); INSERT INTO t VALUES (0, 'bad', 'ok')`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	first, second := w.session(), w.session()
	first(`BEGIN; INSERT INTO t VALUES (1, 'bad', 'bad'), (2, 'ok', NULL); UPDATE t SET f = 'bad' WHERE id = 0; UPDATE by_mood SET n = 3 WHERE m = 'bad'; DELETE FROM by_mood WHERE m = 'ok'`)
	second(`ALTER TYPE mood RENAME VALUE 'bad' TO 'poor'`)
	second(`ALTER TYPE mood RENAME VALUE 'poor' TO 'worse'; ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'; ALTER TYPE mood RENAME VALUE 'fine' TO 'ok'`)
	first(`COMMIT`)
	second(`INSERT INTO t VALUES (3, 'worse', 'ok')`)
	w.archive()
	w.restore(Target{Kind: ToLatest}, "moment_labels_back", nil)
	w.sameRows("moment_labels_back")
	// A name that another label has by now may mean either: that must not be guessed.
	first(`BEGIN; INSERT INTO t VALUES (4, 'worse', NULL)`)
	second(`BEGIN; ALTER TYPE mood RENAME VALUE 'worse' TO 'tmp'; ALTER TYPE mood RENAME VALUE 'ok' TO 'worse'; COMMIT`)
	first(`COMMIT`)
	w.archive()
	_, err := Restore(t.Context(), Options{Archive: w.view(), Plan: w.plan(Target{Kind: ToLatest}), DSN: server.DSN("moment_labels_lost"), Create: true})
	require.ErrorContains(t, err, `holds "worse"`)
}
