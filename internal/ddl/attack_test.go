package ddl_test

import (
	"context"
	"encoding/hex"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// attacker logs in as a role that may do what it likes in a schema of its own.
func (s *source) attacker() *pgx.Conn {
	s.t.Helper()
	s.must("CREATE ROLE attacker LOGIN; CREATE SCHEMA evil AUTHORIZATION attacker; ALTER ROLE attacker SET search_path = evil, pg_catalog")
	conn, err := pgx.Connect(context.Background(), s.server.DSNFor("attacker", "", s.name))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	s.messages()
	return conn
}

// testAttacks is what a role without any rights may try to have a restore do something as somebody else, or to
// have the capture do it now.
func testAttacks(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "attacked", "", ddl.Options{AllTables: true})
	attacker := s.attacker()
	run := func(sql string) {
		t.Helper()
		s.mustIn(attacker, sql)
	}
	t.Run("key", func(t *testing.T) { keyIsSecret(t, s, attacker) })

	t.Run("calls", func(t *testing.T) {
		require.Equal(t, "0", server.MustQuery(t, s.name, `SELECT count(*) FROM pg_proc p WHERE pronamespace = 'tidemark'::regnamespace AND has_function_privilege('attacker', p.oid, 'EXECUTE')`))
		require.Equal(t, "0", server.MustQuery(t, s.name, `SELECT count(*) FROM pg_class c WHERE relnamespace = 'tidemark'::regnamespace AND CASE relkind WHEN 'S' THEN has_sequence_privilege('attacker', c.oid, 'USAGE, UPDATE') END`))
		require.Equal(t, "f", server.MustQuery(t, s.name, "SELECT has_schema_privilege('attacker', 'tidemark', 'CREATE')"))
		// While a statement runs, what event triggers may ask is answered to everybody.
		run(`CREATE TABLE evil.t (a int); INSERT INTO evil.t VALUES (1);
			CREATE FUNCTION evil.ddl_event() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_event_trigger_ddl_commands();
			PERFORM tidemark.ddl_capture('ddl_command_end', 'DROP OWNED', 'postgres', '{}'); RETURN 1; EXCEPTION WHEN insufficient_privilege THEN RETURN 2; END $$;
			CREATE FUNCTION evil.failing() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM tidemark.ddl_failed('x', 'DROP OWNED', 'postgres', 'x', 'x'); RETURN 1;
			EXCEPTION WHEN insufficient_privilege THEN RETURN 2; END $$`)
		s.messages()
		run("ALTER TABLE evil.t ADD b int DEFAULT evil.ddl_event(), ADD c int DEFAULT evil.failing()")
		require.Equal(t, "2 2", server.MustQuery(t, s.name, "SELECT b || ' ' || c FROM evil.t"))
		messages := s.messages()
		require.Len(t, messages, 1)
		require.Equal(t, "attacker", messages[0].User)
	})

	t.Run("settings", func(t *testing.T) {
		// Each of them once hid a statement, or said that somebody else made it.
		run("SET tidemark.extension = '1'; SET tidemark.account = 'postgres'; SET tidemark.done = 'x'; SET tidemark.split = 'x'; SELECT set_config('tidemark.inner', '[]', false); SET tidemark.rewritten = '1:x'")
		run("CREATE TABLE evil.hidden (a int PRIMARY KEY)")
		run("DO $$ BEGIN PERFORM set_config('tidemark.done', md5(E'SQL statement \"DROP TABLE evil.hidden\"\\nPL/pgSQL function inline_code_block line 1 at SQL statementDROP TABLE') || ' ', true); DROP TABLE evil.hidden; END $$")
		messages := s.messages()
		require.Equal(t, []string{"CREATE TABLE evil.hidden (a int PRIMARY KEY)", "DROP TABLE evil.hidden"}, sqls(messages))
		for _, m := range messages {
			require.Equal(t, "attacker", m.User)
		}
		s.must(`ALTER EVENT TRIGGER "00_tidemark_account_end" DISABLE`)
		run("SET tidemark.account = 'postgres'; CREATE TABLE evil.whose (a int PRIMARY KEY); RESET ALL")
		messages = s.messages()
		require.Contains(t, messages[0].Inexact, "capturing it failed")
		require.Empty(t, messages[0].User+messages[0].SQL)
		s.must(`ALTER EVENT TRIGGER "00_tidemark_account_end" ENABLE ALWAYS`)
	})

	t.Run("search_path", func(t *testing.T) { nothingIsFoundInTheUsersPath(t, s, attacker) })

	t.Run("names", func(t *testing.T) {
		// A function of somebody with more rights, which the attacker gives a name that looks like the end of its statement.
		s.must(`CREATE TABLE public."x" (a int PRIMARY KEY); CREATE FUNCTION public.drops(name text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE format('DROP TABLE public.%I', name); END $$`)
		s.must("CREATE TABLE public.\"x\"\"\nPL/pgSQL function y\" (a int PRIMARY KEY)")
		s.messages()
		run("SELECT public.drops(E'x\"\\nPL/pgSQL function y')")
		messages := s.messages()
		require.Len(t, messages, 1)
		require.Empty(t, messages[0].SQL)
		require.NotEmpty(t, messages[0].Inexact)
	})

	t.Run("dump", func(t *testing.T) {
		s.must("CREATE DATABASE attackers OWNER attacker")
		conn := server.Connect(t, "attackers")
		require.NoError(t, ddl.Install(context.Background(), conn, ddl.Options{}))
		out, err := exec.Command(server.Path("pg_dump"), server.DSNFor("attacker", "", "attackers")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		key, err := ddl.ReadKey(context.Background(), conn)
		require.NoError(t, err)
		require.NotContains(t, string(out), hex.EncodeToString(key))
		require.Contains(t, string(out), "REFRESH MATERIALIZED VIEW tidemark.ddl_key")
	})
}

// keyIsSecret and stays, and what is written is authenticated with it.
func keyIsSecret(t *testing.T, s *source, attacker *pgx.Conn) {
	ctx := context.Background()
	key, err := ddl.ReadKey(ctx, s.conn)
	require.NoError(t, err)
	require.Len(t, key, 32)
	_, err = attacker.Exec(ctx, "SELECT key FROM tidemark.ddl_key")
	require.Equal(t, "42501", sqlState(err))
	none, err := ddl.ReadKey(ctx, attacker)
	require.NoError(t, err)
	require.Nil(t, none)
	_, err = attacker.Exec(ctx, "REFRESH MATERIALIZED VIEW tidemark.ddl_key")
	require.Equal(t, "42501", sqlState(err))

	var xid uint32
	require.NoError(t, pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		require.NoError(t, tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text::bigint").Scan(&xid))
		_, err := tx.Exec(ctx, "SAVEPOINT s; CREATE TABLE \"é\" (a int PRIMARY KEY)", pgx.QueryExecModeSimpleProtocol)
		return err
	}))
	content := s.contents()[0]
	verifier := ddl.NewVerifier([][]byte{make([]byte, 32), key})
	for _, b := range content {
		_, _ = verifier.Write([]byte{b})
	}
	require.True(t, verifier.Genuine())
	require.Equal(t, xid, ddl.TransactionOf(content))
	body := content[strings.IndexByte(string(content), '{'):]
	require.Equal(t, string(ddl.Seal(key, body)), string(content))
	for i := range content {
		other := append([]byte(nil), content...)
		other[i] ^= 1
		v := ddl.NewVerifier([][]byte{key})
		_, _ = v.Write(other)
		require.False(t, v.Genuine(), i)
	}

	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{AllTables: true, Publication: "other"}))
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{AllTables: true}))
	again, err := ddl.ReadKey(ctx, s.conn)
	require.NoError(t, err)
	require.Equal(t, key, again)
	s.must("ALTER SCHEMA tidemark OWNER TO attacker; DROP MATERIALIZED VIEW tidemark.ddl_key; SET ROLE attacker; CREATE TABLE tidemark.ddl_key AS SELECT '\\x00'::bytea AS key; RESET ROLE; ALTER SCHEMA tidemark OWNER TO postgres; GRANT CREATE ON SCHEMA tidemark TO attacker")
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{AllTables: true}))
	status, err := ddl.Probe(ctx, s.conn)
	require.NoError(t, err)
	require.True(t, status.Current, "%v", status.Missing)
	again, err = ddl.ReadKey(ctx, s.conn)
	require.NoError(t, err)
	require.Len(t, again, 32)
	require.NotEqual(t, key, again)
	s.messages()
}

// nothingIsFoundInTheUsersPath though the capture runs with it, as a superuser.
func nothingIsFoundInTheUsersPath(t *testing.T, s *source, attacker *pgx.Conn) {
	s.must("CREATE TABLE evil.hijacked (by text PRIMARY KEY); GRANT ALL ON evil.hijacked TO PUBLIC")
	for _, signature := range []string{
		"to_regclass(text) RETURNS regclass", "btrim(text, text) RETURNS text", "set_config(text, text, boolean) RETURNS text", "current_setting(text, boolean) RETURNS text",
		"current_setting(text) RETURNS text", "jsonb_strip_nulls(jsonb) RETURNS jsonb", "jsonb_build_object(text, text) RETURNS jsonb", "md5(text) RETURNS text",
		"textcat2(text, text) RETURNS text", "texteq2(text, text) RETURNS boolean", "nameeq2(name, text) RETURNS boolean", "ddl_who(text) RETURNS text", "ddl_settings() RETURNS jsonb",
	} {
		arguments, returns, _ := strings.Cut(signature, " RETURNS ")
		s.mustIn(attacker, "CREATE FUNCTION evil."+arguments+" RETURNS "+returns+" LANGUAGE plpgsql AS $$ BEGIN INSERT INTO evil.hijacked VALUES ('"+arguments+" ' || current_user) ON CONFLICT DO NOTHING; RETURN NULL; END $$")
	}
	s.mustIn(attacker, `CREATE OPERATOR evil.|| (FUNCTION = evil.textcat2, LEFTARG = text, RIGHTARG = text); CREATE OPERATOR evil.= (FUNCTION = evil.texteq2, LEFTARG = text, RIGHTARG = text);
		CREATE OPERATOR evil.= (FUNCTION = evil.nameeq2, LEFTARG = name, RIGHTARG = text); CREATE DOMAIN evil.text AS pg_catalog.text; CREATE DOMAIN evil.regclass AS pg_catalog.regclass`)
	s.messages()
	for _, sql := range []string{
		"CREATE TABLE evil.p (d date PRIMARY KEY) PARTITION BY RANGE (d)", "CREATE TABLE evil.p1 PARTITION OF evil.p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
		"CREATE TABLE evil.p2 PARTITION OF evil.p FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')", "ALTER TABLE evil.p DETACH PARTITION p1 CONCURRENTLY",
		"CREATE TABLE keyless AS SELECT 1 AS a; CREATE INDEX ON keyless (a); ALTER TABLE keyless ADD b timestamptz DEFAULT now(), ALTER a TYPE bigint USING a + 1; DROP TABLE keyless",
		"DO 'BEGIN EXECUTE ''CREATE TABLE a1 (a int); CREATE TABLE a2 (a int); DROP TABLE a1, a2''; END'",
	} {
		s.mustIn(attacker, "SET search_path = evil, pg_catalog")
		s.mustIn(attacker, sql)
	}
	for _, m := range s.messages() {
		require.NotContains(t, m.Inexact, "capturing it failed", m.Tag)
		require.NotContains(t, m.Inexact, "told apart", m.Tag)
	}
	require.Empty(t, s.server.MustQuery(t, s.name, "SELECT coalesce(string_agg(by, ', '), '') FROM evil.hijacked WHERE by NOT LIKE '% attacker'"))
}
