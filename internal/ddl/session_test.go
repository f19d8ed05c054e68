package ddl_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// testSettings runs statements in sessions whose settings change what the capture reads, or what the statements mean.
func testSettings(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "settings", "", ddl.Options{})
	// Functions of a session are described as they are called for the first time.
	quoting := server.Connect(t, "settings")
	s.mustIn(quoting, "SET quote_all_identifiers = on")
	s.mustIn(quoting, "CREATE TABLE a (b int); DO $$ BEGIN EXECUTE 'CREATE TABLE c (d int); ALTER TABLE c ADD e int'; END $$; DROP TABLE a")
	messages := s.messages()
	require.Equal(t, []string{"CREATE TABLE a (b int)", "CREATE TABLE c (d int)", "ALTER TABLE c ADD e int", "DROP TABLE a"}, sqls(messages))
	s.sameAfterReplay(messages, "")
}

// testAbbreviations has names of time zones that stand for other ones.
func testAbbreviations(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "abbreviations", "", ddl.Options{})
	s.must("SET TimeZone = 'UTC'; SET timezone_abbreviations = 'India'; CREATE TABLE t (a timestamptz DEFAULT '2020-01-01 00:00 IST')")
	require.Contains(t, dump(t, server, s.name), "2019-12-31 18:30:00")
	s.sameAfterReplay(s.messages(), "")
}

// testFixedSnapshot has a table that looks empty to a transaction, because others have filled it since it took its snapshot.
func testFixedSnapshot(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "fixed_snapshot", "", ddl.Options{})
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		s.must("DROP TABLE IF EXISTS filled, empty_one, unlogged; CREATE TABLE filled (id int PRIMARY KEY); CREATE TABLE empty_one (id int PRIMARY KEY); CREATE UNLOGGED TABLE unlogged (id int)")
		s.messages()
		s.must("BEGIN ISOLATION LEVEL " + level + "; SELECT 1")
		server.MustExec(t, s.name, "INSERT INTO filled VALUES (1); INSERT INTO unlogged VALUES (1)")
		s.must("ALTER TABLE filled ADD a timestamptz DEFAULT now(), ADD b int; ALTER TABLE filled ADD c double precision DEFAULT random(); ALTER TABLE unlogged SET LOGGED; ALTER TABLE empty_one ADD a timestamptz DEFAULT now(); COMMIT")
		var inexact []string
		for _, m := range s.messages() {
			if m.Inexact != "" {
				inexact = append(inexact, m.SQL)
			}
		}
		require.Equal(t, []string{"ALTER TABLE filled ADD a timestamptz DEFAULT now(), ADD b int", "ALTER TABLE filled ADD c double precision DEFAULT random()", "ALTER TABLE unlogged SET LOGGED"}, inexact)
	}
}

// testFromCurrent has routines that take settings from the session that makes them.
func testFromCurrent(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "from_current", "", ddl.Options{})
	s.must(`SET app.colour = 'blue \ ''sky'''; SET work_mem = '7MB'; SET search_path = "$user", 'public', "Odd, ""one"; SET temp_tablespaces = ''; SET TimeZone = 'Asia/Tokyo'`)
	s.must(`CREATE FUNCTION f() RETURNS text LANGUAGE sql SET search_path FROM CURRENT SET App.colour /* from */ FROM
CURRENT AS $$ SELECT 'SET work_mem FROM CURRENT' $$ SET timezone FROM CURRENT; CREATE PROCEDURE p() LANGUAGE sql SET datestyle = 'German' AS 'SELECT 1'`)
	s.must("ALTER FUNCTION f() SET work_mem FROM CURRENT SET \"temp_tablespaces\" FROM CURRENT; DO 'BEGIN ALTER PROCEDURE p() SET search_path FROM CURRENT; END'")
	s.must("SET search_path = ''; CREATE FUNCTION public.g() RETURNS int LANGUAGE sql SET search_path FROM CURRENT RETURN (SELECT 1 FROM (SELECT 1 AS set) current)")
	messages := s.messages()
	require.Equal(t, []string{
		`CREATE FUNCTION f() RETURNS text LANGUAGE sql SET search_path TO '$user', 'public', 'Odd, "one' SET App.colour /* from */ TO E'blue \\ ''sky''' AS $$ SELECT 'SET work_mem FROM CURRENT' $$ SET timezone TO 'Asia/Tokyo'`,
		"CREATE PROCEDURE p() LANGUAGE sql SET datestyle = 'German' AS 'SELECT 1'",
		`ALTER FUNCTION f() SET work_mem TO '7MB' SET "temp_tablespaces" TO ''`, `ALTER PROCEDURE p() SET search_path TO '$user', 'public', 'Odd, "one'`,
		"CREATE FUNCTION public.g() RETURNS int LANGUAGE sql SET search_path TO '' RETURN (SELECT 1 FROM (SELECT 1 AS set) current)",
	}, sqls(messages))
	const config = "SELECT string_agg(proname || ' ' || proconfig::text, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
	s.sameAfterReplay(messages, "")
	require.Equal(t, server.MustQuery(t, s.name, config), server.MustQuery(t, s.name+"_replayed", config))
}

// testLocks changes the table behind a view while a transaction is open that changed the view only.
func testLocks(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "locks", "", ddl.Options{})
	s.must("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t; CREATE RULE r AS ON INSERT TO v DO INSTEAD INSERT INTO u VALUES (1)")
	s.must("BEGIN; COMMENT ON VIEW v IS 'x'; ALTER VIEW v SET (security_barrier)")
	server.MustExec(t, s.name, "SET lock_timeout = '1s'; ALTER TABLE t ADD a int; ALTER TABLE u ADD a int; LOCK TABLE t, u")
	s.must("COMMIT")
	messages := s.messages()
	for _, m := range messages {
		require.NotEmpty(t, m.State, m.SQL)
	}
	slices.SortStableFunc(messages, func(a, b *ddl.Message) int { return cmp.Compare(a.XID, b.XID) })
	s.sameAfterReplay(messages, "")
}
