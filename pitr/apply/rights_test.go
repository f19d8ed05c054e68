package apply

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/segment"
)

// climbs are what a user's function may try in a statement that a superuser's session executes. What is left when the
// statement is over, and runs later, counts as well.
const climbs = `
CREATE ROLE rights_user; CREATE ROLE rights_group; CREATE SCHEMA evil AUTHORIZATION rights_user; CREATE TABLE evil.t (id int PRIMARY KEY); ALTER TABLE evil.t OWNER TO rights_user;
INSERT INTO evil.t VALUES (1), (2); CREATE TABLE evil.once (id int PRIMARY KEY); ALTER TABLE evil.once OWNER TO rights_user; INSERT INTO evil.once VALUES (1); GRANT CREATE ON SCHEMA public TO rights_user;
SET ROLE rights_user;
CREATE TABLE evil.tried (how text, state text);
CREATE FUNCTION evil.rise() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
    EXECUTE 'ALTER ROLE rights_user SUPERUSER';
  END IF;
END $$;
CREATE FUNCTION evil.try(how text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  BEGIN
    EXECUTE how;
    PERFORM evil.rise();
    INSERT INTO evil.tried VALUES (how, 'ran as ' || current_user);
  EXCEPTION WHEN OTHERS THEN
    INSERT INTO evil.tried VALUES (how, SQLSTATE);
  END;
  RETURN 1;
END $$;
CREATE FUNCTION evil.check(how text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.try(how) = 1';
CREATE FUNCTION evil.index(n int, how text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN EXECUTE how; PERFORM evil.rise(); RETURN n; EXCEPTION WHEN OTHERS THEN RETURN n; END $$;
CREATE FUNCTION evil.lacking() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.rise(); RAISE insufficient_privilege; END $$;
CREATE FUNCTION evil.later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.rise(); RETURN NULL; END $$;
CREATE FUNCTION evil.equal(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.rise(); RETURN $1 = $2::oid; END $$;
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.rise(); RETURN pg_catalog.set_config($1, $2, $3); END $$;
CREATE FUNCTION evil.count(text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.rise(); RETURN 1; END $$;
CREATE FUNCTION evil.same(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.rise(); RETURN $1 OPERATOR(pg_catalog.=) $2::name; END $$;
CREATE FUNCTION evil.same(name, name) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.rise(); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = evil.equal);
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.same);
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.same);
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = evil.equal);
CREATE DOMAIN evil.lack AS int DEFAULT evil.lacking();
RESET ROLE`

// plainly applies one schema change of the plain role and then a row, in atomic mode, and returns what went wrong. After it, the
// session must be what it was.
func plainly(t *testing.T, d *target, n int, m ddl.Message) error {
	t.Helper()
	m.User = "rights_user"
	if m.Settings == nil {
		m.Settings = map[string]string{"search_path": "evil, public, pg_catalog"}
	}
	if m.Tag == "" {
		m.Tag = strings.Join(strings.Fields(m.SQL)[:2], " ")
	}
	var settings []string
	progress := func(ctx context.Context, conn *pgconn.PgConn, at Position) error {
		rows, err := queryOn(ctx, conn, "select json_object_agg(name, setting order by name)::text from pg_catalog.pg_settings where context = 'user' and name !~ '^(transaction_|plpgsql)'")
		require.NoError(t, err)
		settings = append(settings, string(rows[0][0]))
		return note(ctx, conn, at)
	}
	connect := func(ctx context.Context) (*pgconn.PgConn, error) {
		conn, err := d.connect(ctx)
		if err == nil {
			_, err = conn.Exec(ctx, "SET search_path = evil, public, pg_catalog").ReadAll()
		}
		return conn, err
	}
	a, err := New(t.Context(), Options{Connect: connect, Atomic: &Atomic{Progress: progress}, Schema: &Schema{}})
	require.NoError(t, err)
	// Word that nothing more came is a batch without a change, and shows what the session is like.
	a.Advance(Position{EndLSN: segment.LSN(n*100 - 40)})
	require.NoError(t, a.Flush(t.Context()))
	a.Announce([]Announced{{CommitLSN: segment.LSN(n * 100), LSN: segment.LSN(n * 100), Message: &m}})
	record, _ := schemaChange(t, segment.LSN(n*100), ddl.Message{Tag: "x"})
	records := transaction(n)
	for _, r := range append(append(append([]segment.Record{}, records[:2]...), record), records[2:]...) {
		if err := a.Apply(t.Context(), &r); err != nil {
			a.Abort()
			return err
		}
	}
	require.NoError(t, a.Flush(t.Context()))
	a.Advance(Position{EndLSN: segment.LSN(n*100 + 60)})
	_, err = a.Finish(t.Context())
	require.NoError(t, err)
	require.Equal(t, settings[0], settings[len(settings)-1])
	return nil
}

func TestUsersCodeGetsNoMoreRights(t *testing.T) {
	d := newTarget(t, "rights")
	server.MustExec(t, d.name, climbs)
	value := func(sql string) string { return server.MustQuery(t, d.name, sql) }
	n := 0
	still := func(t *testing.T) {
		t.Helper()
		require.Equal(t, "false", value("select rolsuper::text from pg_roles where rolname = 'rights_user'"))
		server.MustExec(t, d.name, "TRUNCATE evil.tried")
	}
	change := func(t *testing.T, m ddl.Message) error {
		t.Helper()
		err := plainly(t, d, n+1, m)
		if err == nil {
			n++
		}
		return err
	}
	run := func(t *testing.T, sql string) error { t.Helper(); return change(t, ddl.Message{SQL: sql}) }
	for i, how := range []string{"RESET ROLE", "SET ROLE postgres", "SET ROLE NONE", "SET SESSION AUTHORIZATION postgres", "RESET SESSION AUTHORIZATION", "SET LOCAL SESSION AUTHORIZATION DEFAULT",
		"SELECT pg_catalog.set_config('role', 'postgres', false)", "SELECT pg_catalog.set_config('role', 'none', true)", "RESET ALL", "DISCARD ALL", "COMMIT", "DO 'BEGIN RESET ROLE; END'"} {
		t.Run(how, func(t *testing.T) {
			quoted := "'" + strings.ReplaceAll(how, "'", "''") + "'"
			name := "c" + itoa(int64(i))
			require.NoError(t, run(t, "ALTER TABLE evil.t ADD COLUMN "+name+" int DEFAULT evil.try("+quoted+")"))
			require.Equal(t, "2", value("select count(*)::text from evil.tried"), "it was tried for each row")
			require.Equal(t, "0", value("select count(*)::text from evil.tried where state like 'ran as %' and state <> 'ran as rights_user'"))
			still(t)
			if i > 0 {
				return
			}
			require.NoError(t, run(t, "ALTER TABLE evil.t ADD CONSTRAINT "+name+" CHECK (evil.check("+quoted+"))"))
			require.NoError(t, run(t, "ALTER TABLE evil.t DROP CONSTRAINT "+name))
			still(t)
			require.NoError(t, run(t, "CREATE INDEX "+name+" ON evil.t (evil.index(id, "+quoted+"))"))
			require.NoError(t, run(t, "DROP INDEX evil."+name))
			require.NoError(t, run(t, "ALTER TABLE evil.t ALTER COLUMN "+name+" TYPE bigint USING evil.index(id, "+quoted+")"))
			still(t)
		})
	}
	for name, how := range map[string]string{
		"deferred trigger": `CREATE TABLE evil.late (a int); CREATE CONSTRAINT TRIGGER late AFTER INSERT ON evil.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evil.later();
			ALTER TABLE evil.late ENABLE ALWAYS TRIGGER late; INSERT INTO evil.late VALUES (1)`,
		"cursor":          `DECLARE late CURSOR WITH HOLD FOR SELECT evil.rise()`,
		"statement":       `DEALLOCATE ALL; DO $x$ BEGIN FOR i IN 1..3000 LOOP EXECUTE format('PREPARE tm%s AS SELECT evil.rise()', i); END LOOP; END $x$`,
		"path":            `SET search_path = evil, pg_catalog; SET LOCAL search_path = pg_catalog`,
		"temporary type":  `CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (evil.check('SELECT 1')); CREATE DOMAIN pg_temp.oid AS pg_catalog.oid CHECK (evil.check('SELECT 1')); CREATE DOMAIN pg_temp.json AS pg_catalog.json CHECK (evil.check('SELECT 1'))`,
		"temporary table": `CREATE TEMP TABLE pg_class AS SELECT 1 AS oid; CREATE TEMP TABLE pg_settings AS SELECT 1 AS name`,
		"settings":        `SET DateStyle = German; SET client_encoding = LATIN1; SET standard_conforming_strings = off; SET lock_timeout = 1; SET default_transaction_read_only = on; SET LOCAL DateStyle = 'ISO, MDY'`,
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t, "ALTER TABLE evil.once ADD COLUMN late int DEFAULT evil.try('"+strings.ReplaceAll(how, "'", "''")+"')")
			if err == nil {
				require.NoError(t, run(t, "ALTER TABLE evil.once DROP COLUMN late"))
				require.Equal(t, "ran as rights_user", value("select string_agg(state, ' ') from evil.tried"))
			} else {
				require.Equal(t, "deferred trigger", name, "%v", err)
				require.ErrorContains(t, err, "pending trigger events")
			}
			still(t)
		})
	}
	t.Run("a refusal that the statement makes itself", func(t *testing.T) {
		require.ErrorContains(t, run(t, "ALTER TABLE evil.t ADD COLUMN lacking int DEFAULT evil.lacking()"), `role "rights_user" lacks a right`)
		require.ErrorContains(t, run(t, "ALTER TABLE evil.t ADD COLUMN lacking int DEFAULT evil.lacking(), OWNER TO rights_user"), `role "rights_user" lacks a right`)
		require.ErrorContains(t, run(t, "ALTER TABLE evil.t ADD COLUMN lacking evil.lack -- OWNER TO rights_user"), `role "rights_user" lacks a right`)
		still(t)
	})
	t.Run("owner", func(t *testing.T) {
		require.NoError(t, run(t, "CREATE TABLE evil.made (a int)"))
		require.NoError(t, run(t, "CREATE SCHEMA his"))
		require.Equal(t, "rights_user rights_user", value("select (select relowner::regrole from pg_class where oid = 'evil.made'::regclass::oid) || ' ' || (select nspowner::regrole from pg_namespace where nspname = 'his')"))
		require.Equal(t, "0", value("select count(*)::text from pg_proc where proname like 'tidemark%'"))
		still(t)
	})
	t.Run("lent", func(t *testing.T) {
		server.MustExec(t, d.name, "CREATE TABLE evil.of_group (id int PRIMARY KEY); INSERT INTO evil.of_group VALUES (1); ALTER TABLE evil.of_group OWNER TO rights_group; GRANT USAGE ON SCHEMA evil TO rights_group; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evil TO rights_group; GRANT ALL ON evil.tried TO rights_group")
		require.NoError(t, change(t, ddl.Message{SQL: "ALTER TABLE evil.of_group ADD COLUMN c int DEFAULT evil.try('RESET ROLE')", Objects: []ddl.Object{{Type: "table", Identity: "evil.of_group"}}}))
		require.Equal(t, "0", value("select count(*)::text from pg_auth_members where member = 'rights_user'::regrole"))
		server.MustExec(t, d.name, "ALTER TABLE evil.of_group OWNER TO postgres")
		require.ErrorContains(t, change(t, ddl.Message{SQL: "ALTER TABLE evil.of_group ADD COLUMN d int DEFAULT evil.try('RESET ROLE')", Objects: []ddl.Object{{Type: "table", Identity: "evil.of_group"}}}), "must be owner")
		still(t)
	})
	t.Run("a superuser of the source", func(t *testing.T) {
		require.NoError(t, change(t, ddl.Message{SQL: "CREATE FOREIGN DATA WRAPPER of_super", Tag: "CREATE FOREIGN DATA WRAPPER", Super: true}))
		require.Error(t, change(t, ddl.Message{SQL: "CREATE FOREIGN DATA WRAPPER of_plain", Tag: "CREATE FOREIGN DATA WRAPPER"}))
		still(t)
	})
}

func TestStatementsThatRunNoCode(t *testing.T) {
	for sql, want := range map[string]bool{
		"ALTER TABLE t OWNER TO a": true, `alter materialized view "x,(--".b owner to "A b";`: true, "ALTER FUNCTION f(int, text) OWNER TO a": true, "DROP TABLE t": true, "GRANT SELECT ON t TO a": true,
		"ALTER TABLE t ADD c int DEFAULT f(), OWNER TO a": false, "ALTER TABLE t ADD c d -- OWNER TO a": false, "ALTER TABLE t ADD c d /* \n OWNER TO a": false, "ALTER TABLE t OWNER TO a, ADD c d": false,
		"ALTER TABLE t ALTER c TYPE int USING c +++ d OWNER TO a": false, "CREATE TABLE t (a int)": false, "CREATE TABLE OWNER TO a": false, "REFRESH MATERIALIZED VIEW m": false, "ALTER DOMAIN d ADD CHECK (f(VALUE))": false,
	} {
		words := strings.Fields(strings.ToUpper(sql))
		m := &ddl.Message{Tag: words[0] + " " + words[1], SQL: sql}
		if words[0] == "GRANT" {
			m.Tag = words[0]
		}
		require.Equal(t, want, runsNoCode(m), sql)
	}
}
