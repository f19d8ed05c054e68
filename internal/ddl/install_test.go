package ddl_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
)

func testInstall(t *testing.T, server *postgres.Server) {
	ctx := context.Background()
	s := newSource(t, server, "installed", "", ddl.Options{})
	status, err := ddl.Probe(ctx, s.conn)
	require.NoError(t, err)
	require.True(t, status.Installed && status.Current && status.CanInstall, "%+v", status)
	require.Empty(t, status.Missing)

	// Again: nothing is written. With other options: it is made anew, and none of that is captured.
	before := server.MustQuery(t, "installed", "SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_event_trigger")
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{}))
	require.Equal(t, before, server.MustQuery(t, "installed", "SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_event_trigger"))
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{AllTables: true, Publication: "it's"}))
	require.NotEqual(t, before, server.MustQuery(t, "installed", "SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_event_trigger"))
	require.Empty(t, s.messages())
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{AllTables: true, Publication: "it's"}))

	// A disabled or missing trigger, another version.
	for _, c := range [][2]string{
		{`ALTER EVENT TRIGGER "00_tidemark_end" ENABLE`, `ALTER EVENT TRIGGER "00_tidemark_end" ENABLE ALWAYS;`},
		{`DROP EVENT TRIGGER "00_tidemark_drop"`, "The event trigger 00_tidemark_drop is missing."},
		{`CREATE OR REPLACE FUNCTION tidemark.ddl_version() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0 /* */'`, "The event triggers that write schema changes into the stream are of another version."},
		{`DROP FUNCTION tidemark.ddl_emit`, "The function tidemark.ddl_emit is missing."},
		{`DROP SEQUENCE tidemark.ddl_space`, "The sequence tidemark.ddl_space is missing."},
	} {
		s.must(c[0])
		status, err = ddl.Probe(ctx, s.conn)
		require.NoError(t, err)
		require.Equal(t, []string{c[1]}, status.Missing)
		require.False(t, status.Current)
		require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{}))
		status, err = ddl.Probe(ctx, s.conn)
		require.NoError(t, err)
		require.True(t, status.Current, "%+v", status)
	}
	s.messages()

	// A statement doesn't fail with the capture, whatever of it is gone: Probe and the archiver see that it is.
	s.must("DROP FUNCTION tidemark.ddl_failed; DROP FUNCTION tidemark.ddl_capture")
	s.must("CREATE TABLE unseen (id int); DROP TABLE unseen")
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{}))
	s.must("DROP FUNCTION tidemark.ddl_who, tidemark.ddl_settings")
	s.must("CREATE TABLE unseen (id int); DROP TABLE unseen")
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{}))
	s.must("DROP SCHEMA tidemark CASCADE")
	s.must("CREATE TABLE unseen (id int); DROP TABLE unseen")
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{}))
	s.contents()
	uninstalls(t, s)
}

// uninstalls shows that nothing is left, and that others' things in the schema stay.
func uninstalls(t *testing.T, s *source) {
	ctx := context.Background()
	s.must("CREATE TABLE tidemark.follow (a int)")
	plan, err := ddl.UninstallPlan(ctx, s.conn)
	require.NoError(t, err)
	ran, err := ddl.Uninstall(ctx, s.conn)
	require.NoError(t, err)
	require.Equal(t, plan, ran)
	require.NotContains(t, strings.Join(ran, "\n"), "DROP SCHEMA")
	s.must("DROP TABLE tidemark.follow")
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{}))
	ran, err = ddl.Uninstall(ctx, s.conn)
	require.NoError(t, err)
	require.Equal(t, "DROP SCHEMA IF EXISTS tidemark", ran[len(ran)-1])
	require.Equal(t, "0", s.server.MustQuery(t, s.name, "SELECT (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'tidemark')"))
	plan, err = ddl.UninstallPlan(ctx, s.conn)
	require.NoError(t, err)
	require.Empty(t, plan)
	require.NoError(t, ddl.Install(ctx, s.conn, ddl.Options{}))
	for _, sql := range ddl.UninstallSQL() {
		s.must(sql)
	}
	require.Empty(t, s.messages())
}

func testNoPrivilege(t *testing.T, server *postgres.Server) {
	ctx := context.Background()
	server.CreateDatabase(t, "unprivileged")
	server.MustExec(t, "unprivileged", "CREATE ROLE archiver_role LOGIN REPLICATION; GRANT CREATE ON DATABASE unprivileged TO archiver_role")
	conn, err := pgx.Connect(ctx, server.DSNFor("archiver_role", "", "unprivileged"))
	require.NoError(t, err)
	defer conn.Close(ctx)
	status, err := ddl.Probe(ctx, conn)
	require.NoError(t, err)
	require.False(t, status.Installed || status.Current || status.CanInstall)
	require.Contains(t, status.Missing, `ALTER ROLE "archiver_role" SUPERUSER;`)
	err = ddl.Install(ctx, conn, ddl.Options{})
	require.Equal(t, fault.Usage, fault.CodeOf(err))
	require.ErrorContains(t, err, `role "archiver_role" may not make event triggers`)
	// Someone else's schema of our name is not trusted with functions that run as a superuser.
	server.MustExec(t, "unprivileged", "CREATE SCHEMA tidemark AUTHORIZATION archiver_role")
	super := server.Connect(t, "unprivileged")
	require.ErrorContains(t, ddl.Install(ctx, super, ddl.Options{}), "may not make event triggers")
}

// testIdentities shows rule 7: under a publication FOR ALL TABLES every table takes UPDATE.
func testIdentities(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "identities", "", ddl.Options{AllTables: true, Publication: "tidemark"})
	s.must("CREATE ROLE modest; CREATE SCHEMA modest AUTHORIZATION modest; SET ROLE modest; CREATE TABLE a (x int); CREATE TABLE b (x int PRIMARY KEY); INSERT INTO a VALUES (1); UPDATE a SET x = 2; RESET ROLE")
	s.must("CREATE TABLE c AS SELECT 1 AS x; SELECT 1 AS x INTO d; CREATE TEMP TABLE e (x int); CREATE TABLE f (x int PRIMARY KEY); ALTER TABLE f DROP CONSTRAINT f_pkey; CREATE SCHEMA g CREATE TABLE h (x int)")
	s.must("UPDATE c SET x = 2; UPDATE d SET x = 2; INSERT INTO f VALUES (1); UPDATE f SET x = 2; CREATE UNLOGGED TABLE u (x int); ALTER TABLE u SET LOGGED; INSERT INTO u VALUES (1); UPDATE u SET x = 2")
	s.must("ALTER PUBLICATION tidemark SET (publish_via_partition_root = true); COMMENT ON PUBLICATION tidemark IS 'ours'; CREATE PUBLICATION theirs FOR TABLE modest.a; ALTER PUBLICATION theirs DROP TABLE modest.a")
	messages := s.messages()
	require.Equal(t, []string{
		"CREATE SCHEMA modest AUTHORIZATION modest", "CREATE TABLE a (x int)", "ALTER TABLE modest.a REPLICA IDENTITY FULL", "CREATE TABLE b (x int PRIMARY KEY)",
		"CREATE TABLE public.c (x integer) USING heap", "ALTER TABLE public.c REPLICA IDENTITY FULL", "CREATE TABLE public.d (x integer) USING heap", "ALTER TABLE public.d REPLICA IDENTITY FULL",
		"CREATE TABLE f (x int PRIMARY KEY)", "ALTER TABLE f DROP CONSTRAINT f_pkey", "ALTER TABLE public.f REPLICA IDENTITY FULL", "CREATE SCHEMA g CREATE TABLE h (x int)", "ALTER TABLE g.h REPLICA IDENTITY FULL",
		"CREATE UNLOGGED TABLE u (x int)", "ALTER TABLE u SET LOGGED", "ALTER TABLE public.u REPLICA IDENTITY FULL", "CREATE PUBLICATION theirs FOR TABLE modest.a", "ALTER PUBLICATION theirs DROP TABLE modest.a",
	}, sqls(messages))
	require.Equal(t, "modest", messages[1].User)
	require.Equal(t, postgres.Superuser, messages[2].User)
	s.must("COMMENT ON PUBLICATION tidemark IS NULL")
	s.sameAfterReplay(messages, "")
	s.messages()

	// A key that goes in any way is seen, and a table that another session has to do with is not touched: as DROP INDEX
	// CONCURRENTLY in its middle leaves it here.
	s.must("CREATE TABLE others (x int NOT NULL); CREATE UNIQUE INDEX others_x ON others (x); ALTER TABLE others REPLICA IDENTITY USING INDEX others_x; UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'others_x'::regclass")
	s.must("CREATE TABLE k (x int NOT NULL); CREATE UNIQUE INDEX k_x ON k (x); ALTER TABLE k REPLICA IDENTITY USING INDEX k_x; CREATE TABLE n (LIKE k); CREATE UNIQUE INDEX n_x ON n (x); ALTER TABLE n REPLICA IDENTITY USING INDEX n_x")
	s.must("CREATE DOMAIN key AS int; CREATE TABLE m (x key PRIMARY KEY); CREATE TABLE l (x int, y int, PRIMARY KEY (x, y))")
	s.messages()
	other := s.server.Connect(t, s.name)
	s.mustIn(other, "BEGIN; LOCK TABLE others IN ACCESS SHARE MODE")
	s.must("SET lock_timeout = '2s'")
	for _, c := range []struct{ drop, table string }{
		{"DROP INDEX k_x", "k"}, {"DROP INDEX CONCURRENTLY n_x", "n"}, {"DROP DOMAIN key CASCADE", "m"}, {"ALTER TABLE l DROP COLUMN y", "l"},
	} {
		s.must(c.drop)
		require.Equal(t, []string{strings.Replace(c.drop, " CONCURRENTLY", "", 1), "ALTER TABLE public." + c.table + " REPLICA IDENTITY FULL"}, sqls(s.messages()))
	}
	s.mustIn(other, "ROLLBACK")
	s.must("RESET lock_timeout")

	// Another session's GRANT takes no lock on the table, and writes the same row of pg_class.
	s.must("CREATE TABLE granted (x int PRIMARY KEY)")
	s.messages()
	s.mustIn(other, "BEGIN; GRANT SELECT ON granted TO PUBLIC")
	done := make(chan error, 1)
	waits := func(sql string) {
		go func() {
			_, err := s.conn.PgConn().Exec(context.Background(), sql).ReadAll()
			done <- err
		}()
		require.Eventually(t, func() bool {
			return server.MustQuery(t, s.name, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted") == "t"
		}, time.Minute, 10*time.Millisecond)
	}
	waits("ALTER TABLE granted DROP CONSTRAINT granted_pkey")
	s.mustIn(other, "COMMIT")
	require.NoError(t, <-done)
	require.Equal(t, []string{"GRANT SELECT ON granted TO PUBLIC", "ALTER TABLE granted DROP CONSTRAINT granted_pkey", "ALTER TABLE public.granted REPLICA IDENTITY FULL"}, sqls(s.messages()))

	// And who granted may then wait for the lock of ours. It is not the one that the server ends.
	s.must("CREATE TABLE cycle (x int PRIMARY KEY); SET deadlock_timeout = '500ms'; SET lock_timeout = '700ms'")
	s.messages()
	s.mustIn(other, "SET deadlock_timeout = '1min'; SET lock_timeout = '2s'; BEGIN; GRANT SELECT ON cycle TO PUBLIC")
	waits("ALTER TABLE cycle DROP CONSTRAINT cycle_pkey")
	_, err := other.Exec(t.Context(), "SELECT x FROM cycle")
	if server.MustQuery(t, s.name, "SELECT current_setting('server_version_num')::int < 180000") == "t" { // from 18 on GRANT locks the table: there is no such circle
		require.Equal(t, "55P03", sqlState(err))
	}
	s.mustIn(other, "ROLLBACK")
	require.NoError(t, <-done)
	require.Equal(t, []string{"ALTER TABLE cycle DROP CONSTRAINT cycle_pkey", "ALTER TABLE public.cycle REPLICA IDENTITY FULL"}, sqls(s.messages()))

	// What fails otherwise must not keep it from them either.
	s.must("DROP FUNCTION tidemark.ddl_names(text, boolean, text[])")
	s.must("CREATE TABLE unheard (x int); INSERT INTO unheard VALUES (1); UPDATE unheard SET x = 2; CREATE TABLE unkeyed (x int PRIMARY KEY); ALTER TABLE unkeyed DROP CONSTRAINT unkeyed_pkey; INSERT INTO unkeyed VALUES (1); UPDATE unkeyed SET x = 2")
	for _, m := range s.messages() {
		require.Contains(t, m.Inexact, "capturing it failed")
	}
}

// testNothingToRevoke: what has no effect is not written. It locks nothing, and another session may drop what it names.
func testNothingToRevoke(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "nothing", "", ddl.Options{})
	s.must(`CREATE SCHEMA "a, ( b"; CREATE TABLE "a, ( b"."t FROM" (x int, "y)" int); CREATE TABLE t (x int); CREATE TABLE u (x int, "y)" int); CREATE SCHEMA nobody; CREATE ROLE nothing_r; CREATE SCHEMA nothing_r AUTHORIZATION nothing_r; CREATE TABLE nothing_r.t (x int); ALTER TABLE nothing_r.t OWNER TO nothing_r`)
	s.messages()
	for _, c := range []struct {
		run     string
		written bool
	}{
		{`REVOKE SELECT (x) ON t FROM PUBLIC`, false},
		{`/* x */ REVOKE SELECT (x, "y)"), UPDATE (x) /* TO */ ON TABLE "a, ( b"."t FROM", u FROM PUBLIC`, false},
		{`SET search_path = "a, ( b"; REVOKE SELECT ("y)") ON "t FROM" FROM PUBLIC; RESET search_path`, false},
		{`GRANT SELECT (x) ON t TO PUBLIC`, true},
		{`DO $$ BEGIN BEGIN REVOKE SELECT (x) ON t FROM PUBLIC; EXCEPTION WHEN division_by_zero THEN NULL; END; END $$`, true},
		{`REVOKE SELECT (x) ON t FROM PUBLIC`, false},
		{`GRANT SELECT (x) ON u, t TO PUBLIC`, true},
		{`REVOKE SELECT (x) ON u, "a, ( b"."t FROM" FROM PUBLIC`, true},
		{`REVOKE SELECT ON t FROM PUBLIC`, true}, // writes the row
		{`SET ROLE nothing_r; SET search_path = "$user", public; GRANT SELECT (x) ON t TO PUBLIC; RESET ROLE; RESET search_path`, true},
	} {
		s.must(c.run)
		if messages := s.messages(); c.written {
			require.Len(t, messages, 1, c.run)
		} else {
			require.Empty(t, messages, c.run)
		}
	}
	// A name is the user's, not the role's that the capture runs as.
	s.must(`SET ROLE nothing_r; CREATE TABLE nothing_r.p (x int) PARTITION BY LIST (x); CREATE TABLE nothing_r.p1 PARTITION OF nothing_r.p FOR VALUES IN (1); SET search_path = "$user", public`)
	s.messages()
	s.must("ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY")
	require.Contains(t, s.messages()[0].SQL, "DETACH PARTITION nothing_r.p1;")
	s.must("RESET ROLE; RESET search_path")
	s.must("DROP OWNED BY nothing_r; DROP ROLE nothing_r")
}

// testGrantsOfTheMoment: what is made while GRANT ON ALL is at work is none of what it was about.
func testGrantsOfTheMoment(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "grants", "", ddl.Options{})
	s.must(`CREATE TABLE early (x int); CREATE FUNCTION early_f() RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(7); END'; CREATE EVENT TRIGGER "00_hold" ON ddl_command_end WHEN TAG IN ('GRANT', 'ALTER DEFAULT PRIVILEGES') EXECUTE FUNCTION hold()`)
	s.messages()
	const others = "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC"
	for _, c := range []struct{ run, want string }{
		{"ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC", others},
		{"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"},
		{"BEGIN; ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC; COMMIT", "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC"},
		{"GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC", "GRANT SELECT ON TABLE public.early TO PUBLIC"},
		{"BEGIN; SAVEPOINT a; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC; RELEASE a; COMMIT", "GRANT EXECUTE ON FUNCTION public.early_f(), public.hold() TO PUBLIC"},
	} {
		other := s.server.Connect(t, s.name)
		s.mustIn(other, "BEGIN; SELECT pg_advisory_xact_lock(7)")
		done := make(chan error, 1)
		go func() {
			_, err := s.conn.PgConn().Exec(context.Background(), c.run).ReadAll()
			done <- err
		}()
		require.Eventually(t, func() bool {
			return server.MustQuery(t, s.name, "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'") == "1"
		}, time.Minute, 10*time.Millisecond)
		s.mustIn(other, "CREATE TABLE late (x int); CREATE FUNCTION late_f() RETURNS int LANGUAGE sql AS 'SELECT 1'; "+others+"; COMMIT")
		require.NoError(t, <-done)
		messages := s.messages()
		require.Equal(t, c.want, messages[len(messages)-1].SQL)
		s.must("DROP TABLE late; DROP FUNCTION late_f; ALTER DEFAULT PRIVILEGES REVOKE USAGE ON SCHEMAS FROM PUBLIC")
		s.messages()
	}
}

// testEncodings has names and texts outside of ASCII, in databases of several encodings.
func testEncodings(t *testing.T, server *postgres.Server) {
	const create = "CREATE TABLE \"Größe\" (\"é;\" text DEFAULT 'ÿ;ü'); COMMENT ON TABLE \"Größe\" IS 'naïve'; ALTER TABLE \"Größe\" RENAME TO \"Ö\""
	want := []string{"CREATE TABLE \"Größe\" (\"é;\" text DEFAULT 'ÿ;ü')", "COMMENT ON TABLE \"Größe\" IS 'naïve'", "ALTER TABLE \"Größe\" RENAME TO \"Ö\""}
	for _, encoding := range []string{"UTF8", "LATIN1", "EUC_JP", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			options := "ENCODING '" + encoding + "' LC_COLLATE 'C' LC_CTYPE 'C'"
			s := newSource(t, server, "enc_"+strings.ToLower(encoding), options, ddl.Options{})
			sql, expect := create, want
			if encoding == "EUC_JP" {
				japanese := strings.NewReplacer("ö", "表", "ß", "示", "é", "能", "ÿ", "十", "ü", "ソ", "ï", "予", "Ö", "申")
				sql, expect = japanese.Replace(create), nil
				for _, w := range want {
					expect = append(expect, japanese.Replace(w))
				}
			}
			s.must(sql)
			messages := s.messages()
			require.Equal(t, expect, sqls(messages))
			require.False(t, messages[0].Bytes)
			if encoding != "SQL_ASCII" {
				s.sameAfterReplay(messages, options)
				s.sameInUTF8(messages)
				return
			}
			s.must("SET client_encoding = SQL_ASCII")
			s.must("CREATE TABLE \"Gr\xf6\xdfe\" (a text DEFAULT '\xff;\\')")
			raw := s.messages()
			require.Equal(t, []string{"CREATE TABLE \"Gr\xf6\xdfe\" (a text DEFAULT '\xff;\\')"}, sqls(raw))
			require.True(t, raw[0].Bytes)
			require.Equal(t, "Gr\xf6\xdfe", raw[0].State[0].Name)
			s.sameAfterReplay(append(messages, raw...), options)
		})
	}
}

// sameInUTF8 replays into a database of another encoding: the fingerprints are the same.
func (s *source) sameInUTF8(messages []*ddl.Message) {
	s.server.MustExec(s.t, "postgres", "CREATE DATABASE "+s.name+"_in_utf8 TEMPLATE template0")
	conn := s.server.Connect(s.t, s.name+"_in_utf8")
	replay(s.t, conn, messages)
}

// testLong has strings of many statements: the time must not grow with their square, and what is too long says so.
func testLong(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "long", "", ddl.Options{})
	var text strings.Builder
	want := []string{}
	for i := range 100 {
		for _, sql := range []string{fmt.Sprintf("CREATE TABLE t%d (a int PRIMARY KEY, b text DEFAULT 'x;%d')", i, i), fmt.Sprintf("CREATE INDEX i%d ON t%d (b)", i, i), fmt.Sprintf("COMMENT ON TABLE t%d IS $$x;y$$", i)} {
			want = append(want, sql)
			text.WriteString(sql + ";\n-- a comment; don't mind\n")
		}
	}
	began := time.Now()
	s.must(text.String())
	t.Logf("%d statements in %v", len(want), time.Since(began))
	require.Less(t, time.Since(began), 60*time.Second)
	require.Equal(t, want, sqls(s.messages()))

	s.must("CREATE TABLE huge (a int); COMMENT ON TABLE huge IS '" + strings.Repeat("é", 600_000) + "'")
	messages := s.messages()
	require.Len(t, messages, 2)
	require.Equal(t, "the statement could not be told apart from what it ran in", messages[0].Inexact)
	require.Equal(t, []string{"public.huge"}, messages[0].Tables)
	s.must("COMMENT ON TABLE huge IS '" + strings.Repeat("é;", 20_000) + "'")
	require.Empty(t, s.messages()[0].Inexact)
}
