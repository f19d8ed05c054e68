package pitr

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
)

// climbing is what a role of the source does that nobody has given any rights but to a schema of its own. Each of the
// functions makes its role a superuser wherever it runs as one.
var climbing = []string{
	`CREATE FUNCTION climb.up() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN END;
		BEGIN RESET SESSION AUTHORIZATION; EXCEPTION WHEN OTHERS THEN END;
		BEGIN PERFORM pg_catalog.set_config('role', 'postgres', false); EXCEPTION WHEN OTHERS THEN END;
		IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN ALTER ROLE climber SUPERUSER; END IF; END $$`,
	`CREATE FUNCTION climb.value() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM climb.up(); RETURN 7; END $$;
	 CREATE FUNCTION climb.of(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM climb.up(); RETURN $1; END $$;
	 CREATE FUNCTION climb.same(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM climb.up(); RETURN $1 OPERATOR(pg_catalog.=) $2::oid; END $$`,
	`CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = climb.same)`,
	`CREATE TABLE climb.t (id int PRIMARY KEY, v int); INSERT INTO climb.t SELECT i, i FROM generate_series(1, 20) i`,
	`ALTER TABLE climb.t ADD COLUMN d int DEFAULT climb.value()`,
	`CREATE INDEX t_of ON climb.t (climb.of(v))`,
	`ALTER TABLE climb.t ADD CONSTRAINT c CHECK (climb.of(v) > 0); ALTER TABLE climb.t DROP CONSTRAINT c`,
	`ALTER TABLE climb.t ALTER COLUMN d TYPE bigint USING climb.of(d)`,
	`ALTER TABLE climb.t ADD COLUMN g int GENERATED ALWAYS AS (climb.of(id)) STORED; ALTER TABLE climb.t DROP COLUMN g`,
	`CREATE DOMAIN climb.dom AS int; CREATE TABLE climb.of_dom (id climb.dom PRIMARY KEY); INSERT INTO climb.of_dom VALUES (1); ALTER DOMAIN climb.dom ADD CONSTRAINT c CHECK (climb.of(VALUE) > 0); ALTER DOMAIN climb.dom DROP CONSTRAINT c`,
	`CREATE MATERIALIZED VIEW climb.mat AS SELECT climb.of(id) AS id FROM climb.t; REFRESH MATERIALIZED VIEW climb.mat`,
	`CREATE TABLE climb.part (id int) PARTITION BY RANGE (climb.of(id)); CREATE TABLE climb.part_1 (id int); INSERT INTO climb.part_1 VALUES (1); ALTER TABLE climb.part ATTACH PARTITION climb.part_1 FOR VALUES FROM (0) TO (9)`,
	`ALTER TABLE climb.t ADD COLUMN last int; UPDATE climb.t SET last = id`,
}

// TestReplayRaisesNobody: the target is restored by a superuser, whose rights no code of a role of the source gets.
func TestReplayRaisesNobody(t *testing.T) {
	w := newWorld(t, "climbed", `CREATE ROLE climber LOGIN; CREATE SCHEMA climb AUTHORIZATION climber; GRANT CREATE ON SCHEMA public TO climber`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{AllTables: true, Publication: testPublication}))
	conn, err := pgx.Connect(t.Context(), server.DSNFor("climber", "", w.db))
	require.NoError(t, err)
	for _, sql := range climbing {
		_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		require.NoError(t, err, sql)
	}
	require.NoError(t, conn.Close(context.Background()))
	w.archive()
	super := func() string {
		return server.MustQuery(t, "postgres", "select rolsuper::text from pg_roles where rolname = 'climber'")
	}
	require.Equal(t, "false", super())
	want := hashes(t, w.db)
	rep := w.restore(Target{Kind: ToLatest}, "climbed_into", nil)
	require.Equal(t, "false", super())
	for name, hash := range hashes(t, "climbed_into") {
		require.Equal(t, want[name], hash, name)
	}
	require.True(t, rep.Verified)
	require.Equal(t, "climber 8", server.MustQuery(t, "climbed_into", "select min(relowner::regrole::text) || ' ' || count(*) from pg_class where relnamespace = 'climb'::regnamespace and relkind in ('r', 'm', 'p', 'i')"))

	t.Run("what a user made in our name", func(t *testing.T) {
		server.CreateDatabase(t, "climbed_live")
		server.MustExec(t, "climbed_live", `CREATE SCHEMA tidemark_unfinished AUTHORIZATION climber; SET ROLE climber;
			CREATE FUNCTION tidemark_unfinished.up() RETURNS json LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE climber SUPERUSER; RETURN '{}'; END $$;
			CREATE VIEW tidemark_unfinished.restore AS SELECT tidemark_unfinished.up() AS mark`)
		_, err := w.try(w.store, "climbed_live", func(o *Options) { o.AsSchema, o.Tables = "rescue", []string{"climb.t"} })
		require.Error(t, err)
		require.Equal(t, "false", super())
		_, err = w.try(w.store, "climbed_live", func(o *Options) { o.Create = false })
		require.Equal(t, fault.Usage, fault.CodeOf(err))
		require.ErrorContains(t, err, `tidemark_unfinished.restore on the target belongs to role "climber"`)
		require.Equal(t, "false", super())
	})
}

// TestReplayByAPlainRole: the restoring role is no superuser, but may act for the owners.
func TestReplayByAPlainRole(t *testing.T) {
	w := newWorld(t, "modestly", `CREATE ROLE modest_owner LOGIN; CREATE SCHEMA app AUTHORIZATION modest_owner; SET ROLE modest_owner; CREATE TABLE app.t (id int PRIMARY KEY); INSERT INTO app.t VALUES (1), (2);
CREATE FUNCTION app.who() RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN END; RETURN current_user; END $$; RESET ROLE`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{AllTables: true, Publication: testPublication}))
	conn, err := pgx.Connect(t.Context(), server.DSNFor("modest_owner", "", w.db))
	require.NoError(t, err)
	for _, sql := range []string{"ALTER TABLE app.t ADD COLUMN who text DEFAULT app.who()", "CREATE TABLE app.made (id int PRIMARY KEY)", "INSERT INTO app.made VALUES (3); COMMENT ON TABLE app.made IS 'made'", "CREATE INDEX ON app.t (app.who())"} {
		_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		require.NoError(t, err, sql)
	}
	require.NoError(t, conn.Close(context.Background()))
	w.archive()
	server.MustExec(t, "postgres", "CREATE ROLE modest_admin LOGIN CREATEROLE; GRANT SET ON PARAMETER session_replication_role TO modest_admin")
	server.CreateDatabase(t, "modestly_into")
	server.MustExec(t, "postgres", "ALTER DATABASE modestly_into OWNER TO modest_admin")
	w.restore(Target{Kind: ToLatest}, "modestly_into", func(o *Options) {
		o.Create, o.DSN = false, server.DSNFor("modest_admin", "", "modestly_into")
	})
	want := hashes(t, w.db)
	for name, hash := range hashes(t, "modestly_into") {
		require.Equal(t, want[name], hash, name)
	}
	require.Equal(t, "modest_owner 2", server.MustQuery(t, "modestly_into", "select min(who) || ' ' || count(*) from app.t"))
	require.Equal(t, "modest_owner", server.MustQuery(t, "modestly_into", "select relowner::regrole::text from pg_class where oid = 'app.made'::regclass"))
}
