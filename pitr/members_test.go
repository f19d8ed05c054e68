package pitr

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// membersSchema has objects that were added to extensions, each statement a transaction of its own.
var membersSchema = []string{
	`CREATE EXTENSION unaccent; CREATE EXTENSION citext; CREATE EXTENSION adminpack`,
	`CREATE SCHEMA play; CREATE TABLE play.base (id int PRIMARY KEY, b text); INSERT INTO play.base VALUES (1, 'x')`,
	`CREATE FUNCTION play.f() RETURNS SETOF play.base LANGUAGE sql STABLE AS 'SELECT * FROM play.base'; REVOKE EXECUTE ON FUNCTION play.f() FROM PUBLIC`,
	`CREATE VIEW play.v AS SELECT f.id FROM play.f() f`,
	`CREATE TYPE play.mood AS ENUM ('sad', 'ok')`, `CREATE DOMAIN play.short AS citext CHECK (length(value) < 9)`,
	`CREATE TABLE play.q (id bigserial PRIMARY KEY, x int, m play.mood DEFAULT 'ok', msg play.short CHECK (msg <> '; -- '), k int GENERATED ALWAYS AS IDENTITY)`,
	`ALTER TABLE play.q DROP x; CREATE INDEX ON play.q (lower(msg)); COMMENT ON TABLE play.q IS 'it''s q'; GRANT SELECT ON play.q TO pg_monitor`,
	`INSERT INTO play.q (msg) SELECT 'm' || i FROM generate_series(1, 40) i; DELETE FROM play.q WHERE id = 3`,
	`CREATE TABLE play.p (a int, b int) PARTITION BY RANGE (a); CREATE TABLE play.p1 PARTITION OF play.p FOR VALUES FROM (0) TO (9); INSERT INTO play.p VALUES (1, 1)`,
	`CREATE TABLE play.kid (more int) INHERITS (play.base)`, `CREATE MATERIALIZED VIEW play.mat AS SELECT count(*) FROM play.q`,
	`CREATE FUNCTION play.atomic(v int) RETURNS text LANGUAGE sql BEGIN ATOMIC; SELECT CASE WHEN v > 1 THEN 'end;' ELSE 'x' END; END`,
	`CREATE OPERATOR play.!@ (FUNCTION = play.atomic, RIGHTARG = int)`, `CREATE SCHEMA inside; CREATE TABLE inside.t (a int DEFAULT length(play.atomic(2)))`,
	`CREATE FUNCTION play.later() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
	`ALTER EXTENSION unaccent ADD FUNCTION play.f()`, `ALTER EXTENSION unaccent ADD TABLE play.q`, `ALTER EXTENSION unaccent ADD TYPE play.mood`,
	`ALTER EXTENSION unaccent ADD DOMAIN play.short`, `ALTER EXTENSION unaccent ADD TABLE play.p`, `ALTER EXTENSION unaccent ADD TABLE play.p1`,
	`ALTER EXTENSION citext ADD TABLE play.kid`, `ALTER EXTENSION unaccent ADD MATERIALIZED VIEW play.mat`, `ALTER EXTENSION unaccent ADD FUNCTION play.atomic(int)`,
	`ALTER EXTENSION unaccent ADD OPERATOR play.!@ (NONE, int)`, `ALTER EXTENSION unaccent ADD SCHEMA inside`, `ALTER EXTENSION unaccent ADD FUNCTION play.later()`,
	`CREATE OR REPLACE FUNCTION play.later() RETURNS int LANGUAGE sql AS 'SELECT 2'`, `GRANT SELECT ON play.q TO pg_read_all_stats`,
	`CREATE EXTENSION pg_buffercache; CREATE VIEW play.buffers AS SELECT bufferid FROM pg_buffercache`,
	`CREATE FUNCTION play.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE RULE noted AS ON UPDATE TO pg_buffercache DO INSTEAD NOTHING`,
	`CREATE TRIGGER kept INSTEAD OF DELETE ON pg_buffercache FOR EACH ROW EXECUTE FUNCTION play.nothing()`,
	`BEGIN; CREATE EXTENSION hstore; CREATE TABLE play.together (id int PRIMARY KEY, h hstore); ALTER EXTENSION hstore ADD TABLE play.together; INSERT INTO play.together VALUES (1, 'a=>1'); COMMIT`,
}

// onlyNumbers are what the dump for pg_upgrade tells of OIDs, transactions and files.
var onlyNumbers = regexp.MustCompile(`(?m)^(SELECT pg_catalog\.binary_upgrade_.*|UPDATE pg_catalog\.pg_class\nSET rel(frozenxid|ispopulated).*\nWHERE oid = .*|-- .*|\\(un)?restrict .*|)\n`)

func membersOf(t *testing.T, database string) []string {
	out, err := server.ProgramOutput("pg_dump", "--schema-only", "--binary-upgrade", server.SocketDSN(database))
	require.NoError(t, err)
	text := onlyNumbers.ReplaceAllString(out, "")
	text = regexp.MustCompile("(?m)^(CREATE|ALTER) PUBLICATION tidemark .*\n|^--\n").ReplaceAllString(text, "")
	require.NotContains(t, text, "binary_upgrade")
	return strings.Split(text, "\n")
}

// TestObjectsAddedToExtensionsComeBack: pg_dump leaves them to the extension's script, which doesn't make them.
func TestObjectsAddedToExtensionsComeBack(t *testing.T) {
	w := newWorld(t, "members", "SELECT 1")
	for _, sql := range membersSchema {
		w.sql(sql)
	}
	made := w.snapshot()
	for _, it := range made.Manifest.Schema {
		require.False(t, it.MemberSQL != "" && !strings.Contains(it.SQL, "play.") && it.Name != "inside", "%s is the script's", it.Name)
	}
	want, whole := hashes(t, w.db), membersOf(t, w.db)
	w.restore(Target{Kind: ToLatest}, "members_1", nil)
	require.Equal(t, want, hashes(t, "members_1"))
	require.Equal(t, whole, membersOf(t, "members_1"))
	const initial = "select string_agg(format('%s %s %s', pg_describe_object(classoid, objoid, objsubid), privtype, initprivs), '; ' order by 1) from (select * from pg_init_privs where objoid >= 16384 order by pg_describe_object(classoid, objoid, objsubid)) i"
	require.Contains(t, server.MustQuery(t, w.db, initial), "function play.f() e {postgres=X/postgres}")
	require.Equal(t, server.MustQuery(t, w.db, initial), server.MustQuery(t, "members_1", initial), "the privileges that they were added with")
	server.MustExec(t, "members_1", "INSERT INTO play.q (msg) VALUES ('new'); ALTER EXTENSION unaccent DROP FUNCTION play.f()")

	t.Run("alone, with what it needs", func(t *testing.T) {
		w.restore(Target{Kind: ToLatest}, "members_2", func(o *Options) { o.Tables = []string{"play.v", "play.q"} })
		require.Equal(t, "1", server.MustQuery(t, "members_2", "select string_agg(id::text, ' ') from play.v"))
		require.Equal(t, want["play.q"], hashes(t, "members_2")["play.q"])
	})
	t.Run("where the script makes them after all", func(t *testing.T) {
		w.sql(`CREATE EXTENSION pgcrypto; CREATE TABLE play.crypt (id int)`)
		w.sql(`ALTER EXTENSION pgcrypto DROP FUNCTION digest(text, text); ALTER EXTENSION citext DROP FUNCTION max(citext)`)
		w.sql(`ALTER EXTENSION unaccent DROP TEXT SEARCH DICTIONARY unaccent`)
		w.sql(`ALTER EXTENSION unaccent ADD TEXT SEARCH DICTIONARY unaccent`)
		w.sql(`ALTER EXTENSION citext ADD FUNCTION max(citext); ALTER EXTENSION pgcrypto ADD FUNCTION digest(text, text); ALTER EXTENSION pgcrypto ADD TABLE play.crypt`)
		w.snapshot()
		w.restore(Target{Kind: ToLatest}, "members_3", nil)
		require.Equal(t, membersOf(t, w.db), membersOf(t, "members_3"))
	})
	t.Run("beside live tables", func(t *testing.T) {
		server.CreateDatabase(t, "members_4")
		server.MustExec(t, "members_4", "CREATE EXTENSION unaccent; CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION pgcrypto; CREATE EXTENSION pg_buffercache; CREATE SCHEMA play; CREATE TABLE play.kid (id int, b text)")
		w.restore(Target{Kind: ToLatest}, "members_4", func(o *Options) { o.Create, o.AsSchema, o.Tables = false, "rescue", []string{"play.*"} })
		require.Equal(t, want["play.q"], hashes(t, "members_4")["rescue.q"])
		require.Equal(t, "id b", server.MustQuery(t, "members_4", "select string_agg(attname, ' ' order by attnum) from pg_attribute where attrelid = 'rescue.kid'::regclass and attnum > 0 and not attislocal"))
		require.Equal(t, "true", server.MustQuery(t, "members_4", "select bool_and(attislocal)::text from pg_attribute where attrelid = 'play.kid'::regclass and attnum > 0"), "the live one")
	})
	t.Run("by a role that is no superuser", func(t *testing.T) {
		server.MustExec(t, "postgres", "CREATE ROLE member_maker LOGIN PASSWORD 'x' CREATEROLE CREATEDB")
		w.sql(`ALTER EXTENSION citext DROP TABLE play.kid; DROP EXTENSION adminpack; DROP EXTENSION pg_buffercache CASCADE`)
		w.snapshot()
		w.restore(Target{Kind: ToLatest}, "members_5", func(o *Options) {
			o.DSN, o.NoOwner, o.NoPrivileges = server.DSNFor("member_maker", "x", "members_5"), true, true
		})
		require.Equal(t, want["play.q"], hashes(t, "members_5")["play.q"])
	})
}

// TestMembersOfMovedExtensions: SET SCHEMA writes over what pg_depend tells of the order of writes, even where it is rolled back.
func TestMembersOfMovedExtensions(t *testing.T) {
	w := newWorld(t, "members_moved", `CREATE SCHEMA ext; CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION btree_gist; CREATE EXTENSION unaccent`)
	w.sql("ALTER EXTENSION hstore SET SCHEMA ext")
	w.sql("BEGIN; CREATE TABLE made (id int PRIMARY KEY, h ext.hstore); ALTER EXTENSION hstore ADD TABLE made; INSERT INTO made VALUES (1, 'a=>1'); COMMIT")
	w.sql("BEGIN; ALTER EXTENSION citext SET SCHEMA ext; ALTER EXTENSION btree_gist SET SCHEMA ext; ROLLBACK")
	w.sql("BEGIN; CREATE TABLE kept (id int PRIMARY KEY); ALTER EXTENSION unaccent ADD TABLE kept; INSERT INTO kept VALUES (1); COMMIT")
	w.sql("BEGIN; DROP EXTENSION unaccent; ROLLBACK")
	check := func() {
		for _, it := range w.snapshot().Manifest.Schema {
			require.True(t, it.Extension == "" || it.Extension == "hstore" || it.Extension == "unaccent", "%s %s is the script's", it.Kind, it.Name)
		}
	}
	check()
	w.restore(Target{Kind: ToLatest}, "members_moved_1", nil)
	require.Equal(t, hashes(t, w.db), hashes(t, "members_moved_1"))
	require.Equal(t, membersOf(t, w.db), membersOf(t, "members_moved_1"))

	w.sql("CREATE EXTENSION pg_stat_statements VERSION '1.7'")
	w.sql("ALTER EXTENSION pg_stat_statements UPDATE TO '1.8'")
	w.sql("ALTER EXTENSION pg_stat_statements UPDATE TO '1.9'")
	w.sql("ALTER EXTENSION pg_stat_statements UPDATE TO '1.10'")
	w.sql("BEGIN; DROP EXTENSION pg_stat_statements; ROLLBACK")
	check()
	w.sql("ALTER EXTENSION pg_stat_statements SET SCHEMA ext")
	check()
}
