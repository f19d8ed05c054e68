package ddl_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// testOdd has the ways to run a statement that are easily forgotten.
func testOdd(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "odd", "", ddl.Options{})
	s.must(`CREATE FUNCTION deep(n int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF n > 0 THEN IF n < 3 THEN PERFORM deep(n - 1); END IF; EXECUTE format('CREATE TABLE deep_%s (a int); SELECT deep(0); COMMENT ON TABLE deep_%s IS ''x''', n, n); END IF; END $$;
		CREATE PROCEDURE committing() LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE pr1 (a int); COMMIT; CREATE TABLE pr2 (a int); ROLLBACK; CREATE TABLE pr3 (a int); END $$;
		CREATE TABLE fires (a int); CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'CREATE TABLE of_' || NEW.a || ' ("quo""ted" int);;COMMENT ON TABLE of_' || NEW.a || ' IS $x$"
PL/pgSQL function f() line 1 at SQL statement$x$'; RETURN NEW; END $$; CREATE TRIGGER tr AFTER INSERT ON fires FOR EACH ROW EXECUTE FUNCTION on_insert();
		CREATE FUNCTION same(int) RETURNS void LANGUAGE sql AS 'SELECT 1; COMMENT ON TABLE fires IS ''a'''; CREATE FUNCTION same(text) RETURNS void LANGUAGE sql AS 'SELECT 1; COMMENT ON TABLE fires IS ''b''';
		CREATE FUNCTION partial(bool) RETURNS void LANGUAGE plpgsql AS $$ BEGIN BEGIN EXECUTE 'CREATE TABLE part1 (a int); CREATE TABLE part2 (a int); SELECT 1/0'; EXCEPTION WHEN OTHERS THEN NULL; END; EXECUTE 'CREATE TABLE part1 (a int); CREATE TABLE part2 (a int)'; END $$`)
	setup := s.messages()
	var all []*ddl.Message
	for _, c := range []formCase{
		{run: "SELECT deep(2); CREATE TABLE after_deep (a int)", want: []string{"CREATE TABLE deep_1 (a int)", "COMMENT ON TABLE deep_1 IS 'x'", "CREATE TABLE deep_2 (a int)", "COMMENT ON TABLE deep_2 IS 'x'", "CREATE TABLE after_deep (a int)"}},
		{run: "CALL committing()", want: []string{"CREATE TABLE pr1 (a int)", "CREATE TABLE pr3 (a int)"}},
		{run: "INSERT INTO fires VALUES (1), (2)", want: []string{
			`CREATE TABLE of_1 ("quo""ted" int)`, "COMMENT ON TABLE of_1 IS $x$\"\nPL/pgSQL function f() line 1 at SQL statement$x$",
			`CREATE TABLE of_2 ("quo""ted" int)`, "COMMENT ON TABLE of_2 IS $x$\"\nPL/pgSQL function f() line 1 at SQL statement$x$",
		}},
		{run: "SELECT partial(true)", want: []string{"CREATE TABLE part1 (a int)", "CREATE TABLE part2 (a int)"}},
		{run: "BEGIN; CREATE TABLE prepared2 (a int); PREPARE TRANSACTION 'p'", want: []string{}},
		{run: "COMMIT PREPARED 'p'", want: []string{"CREATE TABLE prepared2 (a int)"}},
		{run: "BEGIN; CREATE TABLE a1 (a int); SAVEPOINT s; SELECT deep(3); ROLLBACK TO s; CREATE TABLE a2 (a int); SAVEPOINT s; DROP TABLE a1; ROLLBACK TO s; ALTER TABLE a1 RENAME TO a3; COMMIT", want: []string{"CREATE TABLE a1 (a int)", "CREATE TABLE a2 (a int)", "ALTER TABLE a1 RENAME TO a3"}},
		{run: "CREATE TABLE U&\"d\\0061t\" (a int)", want: []string{"CREATE TABLE U&\"d\\0061t\" (a int)"}},
		{run: "CREATE TABLE e (a text DEFAULT E'a''b\\'c;\\\\', b text DEFAULT 'x'\n 'y;', c text DEFAULT U&'\\0041;'); CREATE TABLE e2 (a text DEFAULT $q$a;$$b$q$)", want: []string{"CREATE TABLE e (a text DEFAULT E'a''b\\'c;\\\\', b text DEFAULT 'x'\n 'y;', c text DEFAULT U&'\\0041;')", "CREATE TABLE e2 (a text DEFAULT $q$a;$$b$q$)"}},
		{run: "CREATE ROLE odd_one; CREATE USER odd_two; ALTER USER odd_two SET search_path = x; CREATE TABLE owned (a int); ALTER TABLE owned OWNER TO odd_one; GRANT odd_one TO odd_two; GRANT SELECT ON owned TO odd_two; GRANT CREATE ON DATABASE odd TO odd_two; COMMENT ON ROLE odd_one IS 'x'; DROP OWNED BY odd_two", want: []string{"CREATE TABLE owned (a int)", "ALTER TABLE owned OWNER TO odd_one", "GRANT SELECT ON owned TO odd_two", "DROP OWNED BY odd_two"}},
		{run: "ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE pg_default; COMMENT ON TABLE owned IS 'y'", want: []string{"COMMENT ON TABLE owned IS 'y'"}},
		// What it drops it doesn't name.
		{run: "CREATE TABLE theirs (a serial PRIMARY KEY); ALTER TABLE theirs OWNER TO odd_two; CREATE VIEW of_theirs AS TABLE theirs; DROP OWNED BY odd_two, odd_one CASCADE;; COMMENT ON TABLE a3 IS 'z'",
			want: []string{"CREATE TABLE theirs (a serial PRIMARY KEY)", "ALTER TABLE theirs OWNER TO odd_two", "CREATE VIEW of_theirs AS TABLE theirs", "DROP OWNED BY odd_two, odd_one CASCADE", "COMMENT ON TABLE a3 IS 'z'"}},
		{run: "DO $$ BEGIN EXECUTE 'CREATE TABLE one_s (a int); ALTER TABLE one_s OWNER TO odd_one; CREATE TABLE two_s (a int); ALTER TABLE two_s OWNER TO odd_two; DROP OWNED BY odd_one; DROP OWNED BY odd_two'; END $$",
			want: []string{"CREATE TABLE one_s (a int)", "ALTER TABLE one_s OWNER TO odd_one", "CREATE TABLE two_s (a int)", "ALTER TABLE two_s OWNER TO odd_two", "DROP OWNED BY odd_one", "DROP OWNED BY odd_two"}},
	} {
		s.must(c.run)
		messages := s.messages()
		require.Equal(t, c.want, sqls(messages), c.run)
		all = append(all, messages...)
	}
	s.sameAfterReplay(append(setup, all...), "")

	// Two functions of one name that say different things: never a guess.
	s.must("SELECT same(1)")
	require.Equal(t, []string{"INEXACT the statement could not be told apart from what it ran in public.fires: "}, sqls(s.messages()))
	// Forgotten memory.
	s.must("CREATE TABLE m1 (a int); DISCARD SEQUENCES; CREATE TABLE m2 (a int)")
	for _, m := range s.messages() {
		require.NotEmpty(t, m.Inexact)
	}
}

// testUnseen pins what fires no event trigger: the archiver has to look for it by other means.
func testUnseen(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "unseen", "", ddl.Options{})
	s.must("CREATE ROLE unseen_one; CREATE ROLE unseen_two; CREATE TABLE u (a int); ALTER TABLE u OWNER TO unseen_one; CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
	s.messages()
	s.must("REASSIGN OWNED BY unseen_one TO unseen_two; EXPLAIN ANALYZE CREATE TABLE explained AS SELECT 1; CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION ev(); ALTER EVENT TRIGGER e DISABLE; DROP EVENT TRIGGER e; ALTER ROLE unseen_one SET search_path = x; SELECT lo_create(0)")
	s.must("ALTER DATABASE unseen SET search_path = y")
	s.must("REINDEX TABLE u")
	require.Empty(t, s.messages())
}

// testSwitchedOff has statements that no event trigger was told of: the next is not taken for the first of them.
func testSwitchedOff(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "switched_off", "", ddl.Options{})
	s.must("CREATE ROLE off_one; CREATE ROLE off_two")
	for _, off := range []string{"SET LOCAL event_triggers = off", "SELECT set_config('Event_Triggers', 'off', true)"} {
		s.must("CREATE TABLE nobody_s (a int); ALTER TABLE nobody_s OWNER TO off_two")
		s.messages()
		s.must(off + "; DROP OWNED BY off_one; RESET event_triggers; DROP OWNED BY off_two")
		messages := s.messages()
		require.Len(t, messages, 1)
		require.Empty(t, messages[0].SQL)
		require.NotEmpty(t, messages[0].Inexact)
	}
}

// testExtensionRows has an extension whose script fills a table: its rows come before the message.
func testExtensionRows(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "extrows", "", ddl.Options{AllTables: true})
	s.must("CREATE EXTENSION pg_trgm; CREATE TABLE conf (a int PRIMARY KEY)")
	messages := s.messages()
	require.False(t, messages[0].RowsFirst)
	require.Empty(t, messages[0].Relations())
	s.must("CREATE EXTENSION hstore VERSION '1.4'; ALTER EXTENSION hstore ADD TABLE conf; ALTER EXTENSION hstore UPDATE; ALTER EXTENSION hstore UPDATE")
	messages = s.messages()
	require.Equal(t, []string{"CREATE EXTENSION hstore VERSION '1.4'", "ALTER EXTENSION hstore ADD TABLE conf", "ALTER EXTENSION hstore UPDATE"}, sqls(messages))
	require.True(t, messages[2].RowsFirst)
	require.True(t, messages[2].Relations()[0].Extension)
	require.Equal(t, "conf", messages[2].Relations()[0].Name)
	// Rows may be the script's, which a replay would write again.
	s.must("DROP EXTENSION hstore; CREATE EXTENSION hstore VERSION '1.4'; CREATE TABLE conf (a int PRIMARY KEY); ALTER EXTENSION hstore ADD TABLE conf; BEGIN; INSERT INTO conf VALUES (1); ALTER EXTENSION hstore UPDATE; COMMIT")
	messages = s.messages()
	last := messages[len(messages)-1]
	require.Equal(t, "its script may have written rows", last.Inexact)
	require.Equal(t, []string{"public.conf"}, last.Tables)
	require.Contains(t, last.XIDs, last.XID)
}

// testSessions runs statements of several sessions at once: each has its own memory.
func testSessions(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "sessions", "", ddl.Options{})
	conns := make([]*pgx.Conn, 4)
	want := map[string]int{}
	failed := make(chan error, len(conns))
	for i := range conns {
		conns[i] = server.Connect(t, "sessions")
		name := string(rune('a' + i))
		sql := "CREATE TABLE " + name + "_1 (x int); CREATE TABLE " + name + "_2 (x int); DROP TABLE " + name + "_1; ALTER TABLE " + name + "_2 ADD y int; DROP TABLE " + name + "_2"
		for _, text := range []string{"CREATE TABLE " + name + "_1 (x int)", "CREATE TABLE " + name + "_2 (x int)", "DROP TABLE " + name + "_1", "ALTER TABLE " + name + "_2 ADD y int", "DROP TABLE " + name + "_2"} {
			want[text] = 5
		}
		go func() {
			var err error
			for range 5 {
				if _, e := conns[i].PgConn().Exec(context.Background(), sql).ReadAll(); e != nil {
					err = e
				}
			}
			failed <- err
		}()
	}
	for range conns {
		require.NoError(t, <-failed)
	}
	got := map[string]int{}
	for _, text := range sqls(s.messages()) {
		got[text]++
	}
	require.Equal(t, want, got)
}
