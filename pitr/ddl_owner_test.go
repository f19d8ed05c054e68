package pitr

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestChangesAreMadeWithoutTheirOwners: an owner may be one of several things that a statement gives, or only seem to be
// one. Whoever restores, what the statement does besides is made.
func TestChangesAreMadeWithoutTheirOwners(t *testing.T) {
	w := newWorld(t, "given", `CREATE ROLE given_owner; CREATE ROLE given_reader; CREATE TABLE t (id int PRIMARY KEY, owner int, note text); INSERT INTO t VALUES (1, 2, 'a');
CREATE VIEW v AS SELECT id, owner FROM t; CREATE TYPE pair AS (owner int, b int); CREATE FUNCTION f(int, text DEFAULT 'x') RETURNS int LANGUAGE sql AS 'SELECT $1';
GRANT ALL ON SCHEMA public TO given_owner; GRANT given_owner TO postgres`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication, AllTables: true}))
	for _, sql := range []string{
		"ALTER TABLE t ADD COLUMN c int, OWNER TO given_owner",
		`ALTER TABLE ONLY public.t OWNER TO "given_owner", ADD COLUMN d text DEFAULT 'a, OWNER TO b', ADD COLUMN e numeric(10, 2)`,
		`ALTER TABLE IF EXISTS t ADD COLUMN "g, OWNER TO given_owner" int /* , OWNER TO x */, OWNER TO CURRENT_USER, ADD COLUMN h text DEFAULT $o$, OWNER TO given_owner$o$`,
		"ALTER TABLE t ADD COLUMN i int -- OWNER TO given_owner",
		"SET standard_conforming_strings = off; SET escape_string_warning = off",
		`ALTER TABLE t ADD COLUMN j text DEFAULT 'it\'s, OWNER TO x, ', OWNER TO given_owner`,
		"RESET standard_conforming_strings",
		"ALTER TABLE t RENAME owner TO whose",
		"ALTER VIEW v RENAME owner TO whose",
		"ALTER TYPE pair RENAME ATTRIBUTE owner TO a",
		"ALTER VIEW v ALTER whose SET DEFAULT 3, OWNER TO given_owner",
		"ALTER TABLE t OWNER TO given_owner",
		"ALTER FUNCTION f(int, text) OWNER TO given_owner",
		"CREATE SCHEMA made AUTHORIZATION given_owner CREATE TABLE one (id int PRIMARY KEY) GRANT SELECT, UPDATE ON one TO given_reader WITH GRANT OPTION CREATE VIEW two AS SELECT 1 AS grant",
		"CREATE SCHEMA AUTHORIZATION given_reader",
		"INSERT INTO t VALUES (2, 3, 'b'); INSERT INTO made.one VALUES (4)",
	} {
		w.sql(sql)
	}
	w.archive()
	want := hashes(t, "given")
	delete(want, "tidemark.ddl_key")
	const shape = `select string_agg(c.oid::regclass || '.' || a.attname, ' ' order by c.oid::regclass::text, a.attnum) from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relnamespace in ('public'::regnamespace, 'made'::regnamespace, 'given_reader'::regnamespace) and a.attnum > 0 and not a.attisdropped`
	const owners = `select count(distinct owner) || ' ' || min(owner) from (select relowner::regrole::text from pg_class where relnamespace in ('public'::regnamespace, 'made'::regnamespace)
union all select proowner::regrole::text from pg_proc where proname = 'f' union all select nspowner::regrole::text from pg_namespace where nspname in ('made', 'given_reader')) o(owner)`
	columns := server.MustQuery(t, "given", shape)
	require.Equal(t, "3 given_owner", server.MustQuery(t, "given", owners))
	same := func(t *testing.T, into, owner, granted string) {
		t.Helper()
		require.Equal(t, want, hashes(t, into))
		require.Equal(t, columns, server.MustQuery(t, into, shape))
		require.Equal(t, "1 "+owner, server.MustQuery(t, into, owners))
		require.Equal(t, granted, server.MustQuery(t, into, "select count(*) from information_schema.role_table_grants where table_name = 'one' and grantee = 'given_reader'"))
	}
	t.Run("roles are there", func(t *testing.T) {
		w.restore(Target{Kind: ToLatest}, "given_there", func(o *Options) { o.NoOwner = true })
		same(t, "given_there", "postgres", "2")
	})
	t.Run("no privileges", func(t *testing.T) {
		w.restore(Target{Kind: ToLatest}, "given_bare", func(o *Options) { o.NoOwner, o.NoPrivileges = true, true })
		same(t, "given_bare", "postgres", "0")
	})
	server.MustExec(t, "postgres", "ALTER ROLE given_owner RENAME TO given_away; ALTER ROLE given_reader RENAME TO given_away_too")
	t.Run("roles are not there", func(t *testing.T) {
		w.restore(Target{Kind: ToLatest}, "given_alone", func(o *Options) { o.NoOwner, o.NoPrivileges = true, true })
		same(t, "given_alone", "postgres", "0")
	})
	t.Run("by a plain role", func(t *testing.T) {
		server.MustExec(t, "postgres", "CREATE ROLE given_plain LOGIN PASSWORD 'x' CREATEDB; GRANT SET ON PARAMETER session_replication_role TO given_plain")
		w.restore(Target{Kind: ToLatest}, "given_plainly", func(o *Options) {
			o.DSN, o.NoOwner, o.NoPrivileges = server.DSNFor("given_plain", "x", "given_plainly"), true, true
		})
		same(t, "given_plainly", "given_plain", "0")
	})
	require.Equal(t, "0", server.MustQuery(t, "postgres", "select count(*) from pg_roles where rolname in ('given_owner', 'given_reader')"), "no role was made")
}

// TestDropOwnedDropsWhatItDidAtTheSource: on the target everything belongs to the role that restores, perhaps the very one
// whose things are dropped.
func TestDropOwnedDropsWhatItDidAtTheSource(t *testing.T) {
	w := newWorld(t, "dropping", `CREATE ROLE owned_role LOGIN PASSWORD 'x'; CREATE SCHEMA s AUTHORIZATION owned_role; CREATE TABLE s.one (id serial PRIMARY KEY); CREATE TABLE s.two (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE stays (id int PRIMARY KEY, m int); INSERT INTO stays VALUES (1); GRANT SELECT ON stays TO owned_role; CREATE TYPE pair AS (a int, b int); CREATE FUNCTION f(pair) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE child PARTITION OF parent DEFAULT; CREATE VIEW seen AS SELECT id FROM s.one;
ALTER TABLE s.one OWNER TO owned_role; ALTER TABLE s.two OWNER TO owned_role; ALTER TABLE parent OWNER TO owned_role; ALTER TABLE child OWNER TO owned_role; ALTER FUNCTION f(pair) OWNER TO owned_role; ALTER TYPE pair OWNER TO owned_role`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication, AllTables: true}))
	w.sql("DROP OWNED BY owned_role CASCADE")
	w.sql("CREATE SCHEMA s CREATE TABLE one (id int PRIMARY KEY, again int); INSERT INTO stays VALUES (2); INSERT INTO s.one VALUES (3, 4)")
	w.archive()
	want := hashes(t, "dropping")
	delete(want, "tidemark.ddl_key")
	const objects = `select (select count(*) from pg_class where relnamespace in ('public'::regnamespace, 's'::regnamespace)) || ' ' || (select count(*) from pg_proc where proname = 'f') || ' ' || has_table_privilege('owned_role', 'stays', 'SELECT')`
	there := server.MustQuery(t, "dropping", objects)
	w.restore(Target{Kind: ToLatest}, "owned_bare", func(o *Options) { o.NoOwner, o.NoPrivileges = true, true })
	require.Equal(t, want, hashes(t, "owned_bare"))
	require.Equal(t, there, server.MustQuery(t, "owned_bare", objects))
	w.restore(Target{Kind: ToLatest}, "owned_granted", func(o *Options) { o.NoOwner = true })
	require.Equal(t, want, hashes(t, "owned_granted"))
	require.Equal(t, there, server.MustQuery(t, "owned_granted", objects), "the privilege is gone too")

	server.MustExec(t, "postgres", "ALTER ROLE owned_role CREATEDB; GRANT SET ON PARAMETER session_replication_role TO owned_role")
	w.restore(Target{Kind: ToLatest}, "owned_own", func(o *Options) { o.DSN, o.NoOwner = server.DSNFor("owned_role", "x", "owned_own"), true })
	require.Equal(t, want, hashes(t, "owned_own"))
}

// TestDropOwnedBesideNewThings: what the role got from another transaction meanwhile was not dropped at the source.
func TestDropOwnedBesideNewThings(t *testing.T) {
	w := newWorld(t, "dropping_late", `CREATE ROLE late_role; CREATE SCHEMA s AUTHORIZATION late_role; CREATE TABLE s.early (id int PRIMARY KEY); ALTER TABLE s.early OWNER TO late_role; GRANT CREATE ON SCHEMA public TO late_role`)
	t.Cleanup(func() {
		for _, db := range []string{"dropping_late", "dropping_before"} {
			_ = server.Exec(context.Background(), db, "DROP OWNED BY late_role CASCADE")
		}
		_ = server.Exec(context.Background(), "postgres", "DROP ROLE late_role")
	})
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication, AllTables: true}))
	first, second := w.session(), w.session()
	first("BEGIN; DROP OWNED BY late_role CASCADE")
	second("SET ROLE late_role; CREATE TABLE public.late (id int PRIMARY KEY)")
	before := w.here()
	first("COMMIT")
	w.archive()
	w.restore(Target{Kind: ToLSN, LSN: before, Exclusive: true}, "dropping_before", nil)
	_, err := w.try(w.store, "dropping_after", func(o *Options) { o.Create = true })
	require.ErrorContains(t, err, "also drop public.late")
}
