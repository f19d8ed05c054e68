package ddl_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// testMade looks at statements that are not replayed as they were written.
func testMade(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "made", "", ddl.Options{})
	var all []*ddl.Message
	for _, c := range []formCase{
		{run: "CREATE TABLE src (a int PRIMARY KEY, b varchar(5) COLLATE \"C\", c numeric(5,2)[]); INSERT INTO src VALUES (1, 'x', '{1}'), (2, 'y', NULL)", want: []string{"CREATE TABLE src (a int PRIMARY KEY, b varchar(5) COLLATE \"C\", c numeric(5,2)[])"}},
		{
			run: "CREATE TABLE ctas WITH (fillfactor = 50, toast.autovacuum_enabled = off) AS SELECT *, 'pass' AS \"P w\" FROM src; SELECT b AS c1, now() AS at INTO public.into1 FROM src; CREATE TABLE after (a int)",
			want: []string{
				`CREATE TABLE public.ctas (a integer, b character varying(5) COLLATE pg_catalog."C", c numeric(5,2)[], "P w" text) USING heap WITH (fillfactor='50', toast.autovacuum_enabled='off')`,
				`CREATE TABLE public.into1 (c1 character varying(5) COLLATE pg_catalog."C", at timestamp with time zone) USING heap`,
				"CREATE TABLE after (a int)",
			},
		},
		{run: "WITH w AS (INSERT INTO src VALUES (3) RETURNING a) SELECT a INTO into2 FROM w; CREATE VIEW v AS SELECT a FROM into2", want: []string{"CREATE TABLE public.into2 (a integer) USING heap", "CREATE VIEW v AS SELECT a FROM into2"}},
		{run: "DO $$ DECLARE r record; BEGIN CREATE UNLOGGED TABLE u AS TABLE src WITH NO DATA; EXECUTE 'CREATE TABLE x AS SELECT 1 AS one; DROP TABLE x'; END $$", want: []string{
			`CREATE UNLOGGED TABLE public.u (a integer, b character varying(5) COLLATE pg_catalog."C", c numeric(5,2)[]) USING heap`, "CREATE TABLE public.x (one integer) USING heap", "DROP TABLE x",
		}},
		{run: "PREPARE p AS SELECT 2 AS two; CREATE TABLE prepared AS EXECUTE p; CREATE TABLE IF NOT EXISTS prepared AS SELECT 3", want: []string{"CREATE TABLE public.prepared (two integer) USING heap"}},
		{run: "CREATE INDEX CONCURRENTLY IF NOT EXISTS ci ON src (b)", want: []string{"CREATE INDEX ci ON public.src USING btree (b)"}},
		{run: "DROP INDEX CONCURRENTLY ci", want: []string{"DROP INDEX ci"}},
		{run: "CREATE MATERIALIZED VIEW mv AS SELECT a FROM src; CREATE UNIQUE INDEX mvi ON mv (a)", want: []string{"CREATE MATERIALIZED VIEW mv AS SELECT a FROM src", "CREATE UNIQUE INDEX mvi ON mv (a)"}},
		{run: "REFRESH MATERIALIZED VIEW CONCURRENTLY mv", want: []string{"REFRESH MATERIALIZED VIEW mv"}},
		{run: "CREATE TABLE p (d date) PARTITION BY RANGE (d); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01'); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')", want: []string{
			"CREATE TABLE p (d date) PARTITION BY RANGE (d)", "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')", "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')",
		}},
		{run: "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY", want: []string{
			`DO 'BEGIN ALTER TABLE public.p DETACH PARTITION public.p1; IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = ''public.p1''::pg_catalog.regclass AND conname = ''p1_d_check'') THEN ALTER TABLE public.p1 ADD CONSTRAINT p1_d_check CHECK (((d IS NOT NULL) AND (d >= ''2020-01-01''::date) AND (d < ''2021-01-01''::date))); END IF; END'`,
		}},
		{run: "DROP TABLE IF EXISTS missing, into1, nowhere; DROP VIEW IF EXISTS missing; ALTER TABLE IF EXISTS missing ADD x int; CREATE TABLE IF NOT EXISTS src (z int); DROP TABLE into2 CASCADE", want: []string{"DROP TABLE IF EXISTS missing, into1, nowhere", "DROP TABLE into2 CASCADE"}},
		{run: "CREATE EXTENSION earthdistance CASCADE", want: []string{"CREATE EXTENSION earthdistance CASCADE"}},
		{run: "CREATE EXTENSION hstore VERSION '1.4'; ALTER EXTENSION hstore UPDATE TO '1.8'", want: []string{"CREATE EXTENSION hstore VERSION '1.4'", "ALTER EXTENSION hstore UPDATE TO '1.8'"}},
		{run: "CREATE TABLE member (a int); ALTER EXTENSION hstore ADD TABLE member; ALTER EXTENSION hstore DROP TABLE member; DROP EXTENSION hstore", want: []string{"CREATE TABLE member (a int)", "ALTER EXTENSION hstore ADD TABLE member", "ALTER EXTENSION hstore DROP TABLE member", "DROP EXTENSION hstore"}},
	} {
		s.must(c.run)
		messages := s.messages()
		require.Equal(t, c.want, sqls(messages), c.run)
		for _, m := range messages {
			require.Equal(t, m.Tag == "CREATE TABLE AS" || m.Tag == "SELECT INTO", m.RowsFirst, asJSON(m))
		}
		all = append(all, messages...)
	}
	s.must("CREATE TABLE twice (a int); INSERT INTO twice VALUES (1), (1)")
	all = append(all, s.messages()...)
	_, err := s.conn.PgConn().Exec(context.Background(), "CREATE UNIQUE INDEX CONCURRENTLY invalid ON twice (a)").ReadAll()
	require.Equal(t, "23505", sqlState(err))
	s.must("ALTER INDEX invalid RENAME TO useless; ALTER INDEX useless SET (fillfactor = 50); COMMENT ON INDEX useless IS 'x'; ALTER TABLE useless RENAME TO left_behind")
	require.Empty(t, s.messages(), "no replay has the index")
	// What others do to it before it is ready comes with it.
	others := s.server.Connect(t, s.name)
	s.mustIn(others, "BEGIN; INSERT INTO src VALUES (9)")
	done := make(chan error, 1)
	go func() {
		_, err := s.conn.PgConn().Exec(context.Background(), `CREATE INDEX CONCURRENTLY "before 1" ON src ((a + 1), b) WHERE b > 'it''s'`).ReadAll()
		done <- err
	}()
	require.Eventually(t, func() bool { return server.MustQuery(t, s.name, `SELECT to_regclass('"before 1"') IS NOT NULL`) == "t" }, time.Minute, 10*time.Millisecond)
	server.MustExec(t, s.name, `ALTER INDEX "before 1" RENAME TO "after 2"; ALTER INDEX "after 2" ALTER COLUMN 1 SET STATISTICS 77; ALTER INDEX "after 2" SET (fillfactor = 60); COMMENT ON INDEX "after 2" IS 'it''s'`)
	s.mustIn(others, "COMMIT")
	require.NoError(t, <-done)
	made := s.messages()
	require.Equal(t, []string{`DO 'BEGIN CREATE INDEX "after 2" ON public.src USING btree (((a + 1)), b) WITH (fillfactor=''60'') WHERE ((b)::text > ''it''''s''::text); COMMENT ON INDEX public."after 2" IS ''it''''s''; ALTER INDEX public."after 2" ALTER COLUMN 1 SET STATISTICS 77; END'`}, sqls(made))
	all = append(all, made...)

	s.must("DROP INDEX left_behind")
	require.Equal(t, []string{"DROP INDEX left_behind"}, sqls(s.messages()))
	s.sameAfterReplay(all, "")
}

// testTemporary shows that temporary things are not written, and that their statements still count.
func testTemporary(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "temporary", "", ddl.Options{})
	for _, c := range []formCase{
		{run: "CREATE TEMP TABLE t (a serial PRIMARY KEY); CREATE INDEX ON t (a); ALTER TABLE t ADD b int; COMMENT ON TABLE t IS 'x'; GRANT SELECT ON t TO PUBLIC; CREATE TABLE perm (a int); CREATE TEMP VIEW tv AS SELECT * FROM perm; GRANT SELECT ON perm TO PUBLIC", want: []string{"CREATE TABLE perm (a int)", "GRANT SELECT ON perm TO PUBLIC"}},
		{run: "CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger(); CREATE RULE r AS ON INSERT TO t DO ALSO SELECT 1; DROP TRIGGER tr ON t; DROP RULE r ON t", want: []string{}},
		{run: "CREATE TEMP TABLE c AS SELECT 1; SELECT 1 AS x INTO TEMP d; CREATE TYPE pg_temp.tt AS (a int); CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", want: []string{}},
		{run: "CREATE TABLE perm2 (a int); DROP TABLE c, perm2, d", want: []string{"CREATE TABLE perm2 (a int)", "DROP TABLE public.perm2"}},
		{run: "CREATE TABLE liked (LIKE t)", want: []string{"INEXACT it is like a temporary table public.liked: CREATE TABLE liked (LIKE t)"}},
		{run: "DROP TABLE t CASCADE; DROP FUNCTION pg_temp.f()", want: []string{}},
		{run: "BEGIN; CREATE TEMP TABLE gone (a int) ON COMMIT DROP; COMMIT; CREATE TABLE last (a int)", want: []string{"CREATE TABLE last (a int)"}},
	} {
		s.must(c.run)
		require.Equal(t, c.want, sqls(s.messages()), c.run)
	}
}

// testInexact has what replaying a statement can't give.
func testInexact(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "inexact", "", ddl.Options{})
	s.must("SET TimeZone = 'UTC'; CREATE TABLE full_one (id int PRIMARY KEY, t text); INSERT INTO full_one VALUES (1, '2020-01-01'), (2, '2021-01-01')")
	s.must("CREATE TABLE empty_one (id int); CREATE UNLOGGED TABLE unlogged (a int); INSERT INTO unlogged VALUES (1); CREATE UNLOGGED TABLE unlogged_empty (a int)")
	s.must("CREATE TABLE parted (a int, b text) PARTITION BY LIST (a); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1); CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2); INSERT INTO parted VALUES (1)")
	s.must("CREATE FUNCTION now_ish() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; CREATE FUNCTION fixed(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE DOMAIN stamped AS timestamptz DEFAULT clock_timestamp(); CREATE DOMAIN constant AS int DEFAULT 7 CHECK (VALUE > 0)")
	s.must(`CREATE FUNCTION alike(text, text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true'; CREATE OPERATOR % (leftarg = text, rightarg = text, function = alike);
		CREATE TYPE pt AS (x int); CREATE FUNCTION same_pt(pt, pt) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR = (leftarg = pt, rightarg = pt, function = same_pt);
		CREATE TABLE "50%" (a int, b text); INSERT INTO "50%" VALUES (1, 'x'); CREATE FUNCTION guessed("50%") RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE FUNCTION "quo""ted"() RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE OPERATOR ~ (leftarg = text, rightarg = text, function = alike)`)
	s.messages()
	const (
		others  = "a new column's values are made by a default that gives others each time"
		later   = "a new column's values are made by a default that gives others at another time"
		changed = "a column's values are changed by an expression that may give others each time"
		moment  = "it holds a time that was fixed when it ran"
	)
	// A column that another transaction wrote, which began later and ended before, is none that this one added.
	s.must("CREATE TABLE beside (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, t text); INSERT INTO beside (t) VALUES ('x')")
	s.must("BEGIN; CREATE TABLE other_one (a int)")
	server.MustExec(t, s.name, "ALTER TABLE beside ALTER id SET STATISTICS 5")
	s.must("ALTER TABLE beside ADD g text GENERATED ALWAYS AS (id::text || 'x') STORED; COMMIT")
	for _, m := range s.messages() {
		require.Empty(t, m.Inexact, m.SQL)
	}
	for _, c := range []struct{ run, reason, tables string }{
		{"ALTER TABLE full_one ADD c1 int", "", ""},
		{"ALTER TABLE full_one ADD c2 int DEFAULT 5 + 6", "", ""},
		{"ALTER TABLE full_one ADD c3 timestamptz DEFAULT '2020-01-01 00:00'", "", ""},
		{"ALTER TABLE full_one ADD c4 text DEFAULT upper('x') || to_char(timestamptz '2020-01-01', 'YYYY')", "", ""},
		{"ALTER TABLE full_one ADD c5 int DEFAULT fixed('x')", "", ""},
		{"ALTER TABLE full_one ADD c6 constant", "", ""},
		{"ALTER TABLE full_one ADD g1 int GENERATED ALWAYS AS (id + 1) STORED", "", ""},
		{"ALTER TABLE full_one ADD d1 double precision DEFAULT random()", others, "public.full_one"},
		{"ALTER TABLE full_one ADD d2 int DEFAULT now_ish()", others, "public.full_one"},
		{"ALTER TABLE full_one ADD d3 serial", others, "public.full_one"},
		{"ALTER TABLE full_one ADD d4 int GENERATED BY DEFAULT AS IDENTITY", others, "public.full_one"},
		{"ALTER TABLE full_one ADD d5 stamped", others, "public.full_one"},
		{"ALTER TABLE full_one ADD d6 timestamptz DEFAULT now()", later, "public.full_one"},
		{"ALTER TABLE full_one ADD d7 date DEFAULT CURRENT_DATE NOT NULL", later, "public.full_one"},
		{"ALTER TABLE full_one ADD d8 text DEFAULT current_user", later, "public.full_one"},
		{"ALTER TABLE full_one ADD d9 timestamptz DEFAULT now(), ALTER d9 SET DEFAULT '2020-01-01'", later, "public.full_one"},
		{"ALTER TABLE full_one ADD d10 int DEFAULT random() * 9, ALTER d10 SET DEFAULT 4", others, "public.full_one"},
		{"ALTER TABLE full_one ADD d11 timestamp DEFAULT 'now'", moment, "public.full_one"},
		{"ALTER TABLE full_one ALTER c1 SET DEFAULT random()", "", ""},
		{"ALTER TABLE empty_one ADD e1 double precision DEFAULT random(), ADD e2 serial, ADD e3 timestamptz DEFAULT now()", "", ""},
		{"ALTER TABLE parted ADD c timestamptz DEFAULT now()", later, "public.parted_1"},
		{"ALTER TABLE parted ADD d uuid DEFAULT gen_random_uuid()", others, "public.parted_1"},
		{"ALTER TABLE full_one ALTER c1 TYPE bigint", "", ""},
		{"ALTER TABLE full_one ALTER t TYPE timestamptz USING t::timestamptz", "", ""},
		{"ALTER TABLE full_one ALTER t TYPE text USING to_char(t, 'YYYY')", "", ""},
		{"ALTER TABLE full_one ALTER t TYPE text USING t || random()", changed, "public.full_one"},
		{"ALTER TABLE full_one ALTER t TYPE varchar(40) USING current_date::text", changed, "public.full_one"},
		{"ALTER TABLE full_one ALTER c1 TYPE int USING (now_ish() + length('x()'))", changed, "public.full_one"},
		{`ALTER TABLE "50%" ALTER a TYPE bigint`, "", ""},
		{`ALTER TABLE "50%" ALTER b TYPE varchar(60) USING $$100 %$$ || b /* % */ || '%'`, "", ""},
		{`ALTER TABLE "50%" ALTER b TYPE text USING (b%'x')::text`, changed, "public.50%"},
		{`ALTER TABLE "50%" ALTER b TYPE text USING (b OPERATOR(public.%) 'x')::text`, changed, "public.50%"},
		{`ALTER TABLE "50%" ALTER b TYPE text USING (ROW(a)::pt IN (ROW(1)::pt))::text`, changed, "public.50%"},
		{`ALTER TABLE "50%" ALTER b TYPE text USING CASE ROW(a)::pt WHEN ROW(1)::pt THEN b END`, changed, "public.50%"},
		{`ALTER TABLE "50%" ALTER b TYPE text USING ("50%").guessed::text`, changed, "public.50%"},
		{`ALTER TABLE "50%" ALTER b TYPE text USING "50%" . "guessed"::text`, changed, "public.50%"},
		{`ALTER TABLE "50%" ALTER b TYPE text USING "quo""ted"()::text`, changed, "public.50%"},
		{`ALTER TABLE "50%" ALTER b TYPE varchar(50) USING (b SIMILAR TO 'x')::text`, changed, "public.50%"},
		{`ALTER TABLE "50%" ALTER b TYPE text USING U&"now\005fish"()::text`, changed, "public.50%"},
		{"ALTER TABLE full_one SET UNLOGGED", "", ""},
		{"ALTER TABLE full_one SET LOGGED", "its rows were never in the stream before SET LOGGED", "public.full_one"},
		{"ALTER TABLE unlogged SET LOGGED", "its rows were never in the stream before SET LOGGED", "public.unlogged"},
		{"ALTER TABLE unlogged_empty SET LOGGED", "", ""},
		{"CREATE TABLE special (a timestamptz DEFAULT 'today', b text DEFAULT 'x')", moment, "public.special"},
		{"CREATE TABLE plain (a text DEFAULT 'today', b date DEFAULT ('now'::text)::date, c date DEFAULT CURRENT_DATE)", "", ""},
		{"CREATE DOMAIN dom AS date DEFAULT 'tomorrow'", moment, ""},
		{"CREATE VIEW vw AS SELECT date 'yesterday' AS d", moment, ""},
	} {
		for _, form := range []string{"%s", "DO $outer$ BEGIN EXECUTE $inner$%s$inner$; END $outer$"} {
			s.must("BEGIN; SAVEPOINT a; SELECT 1")
			s.must(fmt.Sprintf(form, c.run))
			if form == "%s" {
				s.must("ROLLBACK")
				continue
			}
			s.must("COMMIT")
			messages := s.messages()
			require.Len(t, messages, 1, c.run)
			require.Equal(t, c.reason, messages[0].Inexact, c.run)
			require.Equal(t, c.tables, strings.Join(messages[0].Tables, ","), c.run)
			require.Equal(t, c.run, messages[0].SQL)
		}
	}
}

// testBounds shows that what partition bounds were evaluated to is written.
func testBounds(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "bounds", "", ddl.Options{})
	s.must("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; CREATE TABLE p (d date, t timestamptz) PARTITION BY RANGE (d)")
	s.must("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (current_date) TO (current_date + 1) WITH (fillfactor = 50)")
	s.must("CREATE TABLE p2 PARTITION OF p (CONSTRAINT k CHECK (d > '01.01.2000')) FOR VALUES FROM ('tomorrow') TO (MAXVALUE) PARTITION BY RANGE (t)")
	s.must("CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (MINVALUE) TO ('01.02.2003')")
	messages := s.messages()
	require.Len(t, messages, 4)
	for _, m := range messages[1:3] {
		require.Empty(t, m.Inexact, asJSON(m))
		require.NotContains(t, m.SQL, "current_date")
		require.NotContains(t, m.SQL, "tomorrow")
	}
	require.Equal(t, "CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (MINVALUE) TO ('01.02.2003')", messages[3].SQL)
	s.sameAfterReplay(messages, "")
}

// testSecrets looks for passwords in everything that is written.
func testSecrets(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "secrets", "", ddl.Options{})
	s.must("CREATE ROLE keeper LOGIN PASSWORD 'hush0'; CREATE TABLE a (x int); ALTER ROLE keeper PASSWORD 'hush1'; CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink")
	s.must(fmt.Sprintf("CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%d', dbname 'secrets')", server.SocketDir, server.Port))
	s.must("CREATE USER MAPPING FOR keeper SERVER loop OPTIONS (user 'keeper', password 'hush2''; x'); ALTER USER MAPPING FOR keeper SERVER loop OPTIONS (SET password E'hush3\\'')")
	s.must("CREATE USER MAPPING FOR postgres SERVER loop OPTIONS (user 'postgres', password_required 'false')")
	s.must("ALTER ROLE keeper PASSWORD 'hush4'; CREATE SERVER other FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host 'h;ush'); COMMENT ON SERVER other IS 'password: none'")
	s.must("CREATE FOREIGN DATA WRAPPER free; CREATE SERVER odd FOREIGN DATA WRAPPER free OPTIONS (ApiKey 'hush8', plain 'x'); CREATE USER MAPPING FOR keeper SERVER odd OPTIONS (pin $x$hush9$x$)")
	s.must("DO $$ BEGIN EXECUTE 'ALTER ROLE keeper PASSWORD ''hush5''; CREATE TABLE b (x int)'; END $$")
	s.must("CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere password=hush6' PUBLICATION p WITH (connect = false); ALTER SUBSCRIPTION sub CONNECTION 'host=x password=hush7'; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub")
	s.must("CREATE TABLE remote (a int NOT NULL, b varchar(3) COLLATE \"C\"); CREATE SCHEMA far; IMPORT FOREIGN SCHEMA public LIMIT TO (remote, a) FROM SERVER loop INTO far; CREATE TABLE z (a int)")
	var all string
	messages := s.messages()
	for _, m := range messages {
		all += asJSON(m)
		require.Empty(t, m.Inexact, asJSON(m))
	}
	require.False(t, regexp.MustCompile("hush[0-9]|SUBSCRIPTION").MatchString(all), "%s", regexp.MustCompile(".*(hush[0-9]|SUBSCRIPTION).*").FindString(all))
	require.Contains(t, sqls(messages), "CREATE USER MAPPING FOR keeper SERVER loop OPTIONS (user 'keeper', password 'redacted''redacted')")
	require.Contains(t, sqls(messages), "CREATE TABLE b (x int)")
	require.Contains(t, sqls(messages), "CREATE SERVER odd FOREIGN DATA WRAPPER free OPTIONS (ApiKey 'redacted', plain 'x')")
	s.must("DROP SERVER odd CASCADE; DROP USER MAPPING FOR keeper SERVER loop; DROP USER MAPPING FOR postgres SERVER loop")
	s.sameAfterReplay(append(messages, s.messages()...), "")
}

// testUsers runs statements as roles that may do little, with their own settings.
func testUsers(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "users", "", ddl.Options{})
	s.must("CREATE ROLE plain LOGIN; CREATE ROLE \"Odd \"\"one\" LOGIN; CREATE SCHEMA \"$user\" AUTHORIZATION plain; CREATE SCHEMA plain AUTHORIZATION plain; GRANT CREATE ON SCHEMA public TO \"Odd \"\"one\"; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	setup := s.messages()
	s.must("SET ROLE plain; SET standard_conforming_strings = off")
	s.must("CREATE TABLE mine (a text DEFAULT 'it\\'s; x')")
	s.must("SET standard_conforming_strings = on; RESET ROLE")
	s.must("CREATE FUNCTION maker() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = plain AS $$ BEGIN CREATE TABLE made_by (a int); END $$; ALTER FUNCTION maker() OWNER TO plain; GRANT EXECUTE ON FUNCTION maker() TO PUBLIC; SET SESSION AUTHORIZATION \"Odd \"\"one\"; SELECT maker(); CREATE TABLE odd (a int); RESET SESSION AUTHORIZATION")
	messages := s.messages()
	require.Equal(t, []string{"CREATE TABLE mine (a text DEFAULT 'it\\'s; x')", "CREATE FUNCTION maker() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = plain AS $$ BEGIN CREATE TABLE made_by (a int); END $$",
		"ALTER FUNCTION maker() OWNER TO plain", "GRANT EXECUTE ON FUNCTION maker() TO PUBLIC", "CREATE TABLE made_by (a int)", "CREATE TABLE odd (a int)"}, sqls(messages))
	require.Equal(t, "plain", messages[0].User)
	require.Equal(t, "off", messages[0].Settings["standard_conforming_strings"])
	require.Equal(t, "plain", messages[4].User)
	require.Equal(t, "plain", messages[4].Settings["search_path"])
	require.Equal(t, "Odd \"one", messages[5].User)
	super := make([]bool, len(messages))
	for i, m := range messages {
		super[i] = m.Super
	}
	require.Equal(t, []bool{false, true, true, true, false, false}, super)
	s.sameAfterReplay(append(setup, messages...), "")

	// A replica session is heard, and a statement that only a function of ours could fail is not failed by it.
	s.must("SET session_replication_role = replica; CREATE TABLE replica (a int); RESET session_replication_role")
	require.Equal(t, []string{"CREATE TABLE replica (a int)"}, sqls(s.messages()))
	s.must("DROP FUNCTION tidemark.ddl_names(text, boolean, text[])")
	s.messages()
	s.must("CREATE TABLE one (a int); CREATE TABLE two (a int)")
	messages = s.messages()
	require.Len(t, messages, 2)
	require.Contains(t, messages[0].Inexact, "capturing it failed at ddl_command_end with SQLSTATE 42883")
}

// testOrder has event triggers of the user that run statements themselves.
func testOrder(t *testing.T, server *postgres.Server) {
	s := newSource(t, server, "ordered", "", ddl.Options{})
	s.must(`CREATE FUNCTION hardened() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN
		FOR r IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE' LOOP EXECUTE 'ALTER TABLE ' || r.object_identity || ' ENABLE ROW LEVEL SECURITY'; END LOOP; END $$;
		CREATE FUNCTION mourn() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN
		FOR r IN SELECT * FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table' LOOP EXECUTE 'CREATE TABLE grave_of_' || r.object_name || ' (a int); COMMENT ON TABLE grave_of_' || r.object_name || ' IS ''rest'''; END LOOP; END $$;
		CREATE EVENT TRIGGER a_hardened ON ddl_command_end EXECUTE FUNCTION hardened(); CREATE EVENT TRIGGER a_mourn ON sql_drop EXECUTE FUNCTION mourn();`)
	s.messages()
	s.must("CREATE TABLE x (a int); DROP TABLE x; CREATE TABLE y (a int, b int); ALTER TABLE y DROP b")
	require.Equal(t, []string{"CREATE TABLE x (a int)", "ALTER TABLE public.x ENABLE ROW LEVEL SECURITY", "DROP TABLE x", "CREATE TABLE grave_of_x (a int)",
		"ALTER TABLE public.grave_of_x ENABLE ROW LEVEL SECURITY", "COMMENT ON TABLE grave_of_x IS 'rest'", "CREATE TABLE y (a int, b int)",
		"ALTER TABLE public.y ENABLE ROW LEVEL SECURITY", "ALTER TABLE y DROP b"}, sqls(s.messages()))
}
