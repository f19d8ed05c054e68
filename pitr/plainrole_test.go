package pitr

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/pitr/session"
)

const managedSchema = `
CREATE ROLE app_owner NOLOGIN; CREATE ROLE app_other NOLOGIN; CREATE ROLE app_reader NOLOGIN;
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE SCHEMA app AUTHORIZATION app_owner; GRANT USAGE ON SCHEMA app TO app_reader; GRANT USAGE ON SCHEMA app TO app_other;
GRANT CREATE ON SCHEMA public TO app_other;
CREATE TYPE app.mood AS ENUM ('ok'); ALTER TYPE app.mood OWNER TO app_owner;
CREATE TABLE app.one (id serial PRIMARY KEY, m app.mood DEFAULT 'ok', name citext); ALTER TABLE app.one OWNER TO app_owner;
CREATE TABLE app.two (id int PRIMARY KEY REFERENCES app.one, n int GENERATED ALWAYS AS IDENTITY, h hstore); ALTER TABLE app.two OWNER TO app_other;
CREATE TABLE public.plain (id int PRIMARY KEY); ALTER TABLE public.plain OWNER TO app_other; REVOKE CREATE ON SCHEMA public FROM app_other;
CREATE TABLE app.secret (id int PRIMARY KEY, who text); ALTER TABLE app.secret OWNER TO app_owner;
ALTER TABLE app.secret ENABLE ROW LEVEL SECURITY; ALTER TABLE app.secret FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.secret USING (who = current_user);
CREATE FUNCTION app.shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trigger fired'; END $$; ALTER FUNCTION app.shout() OWNER TO app_owner;
CREATE TRIGGER shout BEFORE INSERT OR UPDATE OR DELETE ON app.one FOR EACH ROW EXECUTE FUNCTION app.shout();
ALTER TABLE app.one DISABLE TRIGGER shout;
CREATE VIEW app.v AS SELECT id FROM app.one; ALTER VIEW app.v OWNER TO app_owner;
CREATE MATERIALIZED VIEW app.mat AS SELECT count(*) FROM app.one; ALTER MATERIALIZED VIEW app.mat OWNER TO app_owner;
GRANT SELECT ON app.one TO app_other WITH GRANT OPTION; SET ROLE app_other; GRANT SELECT ON app.one TO app_reader; RESET ROLE;
ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA app GRANT SELECT ON TABLES TO app_reader;
COMMENT ON TABLE app.one IS 'one';
CREATE PUBLICATION several FOR TABLE app.one; ALTER PUBLICATION several OWNER TO app_owner;
INSERT INTO app.one (name) SELECT i FROM generate_series(1, 30) i; INSERT INTO app.two (id, h) SELECT i, 'a=>1' FROM generate_series(1, 20) i;
INSERT INTO app.secret SELECT i, 'x' FROM generate_series(1, 5) i; INSERT INTO public.plain VALUES (1);
REFRESH MATERIALIZED VIEW app.mat;
ALTER TABLE app.one ENABLE TRIGGER shout
`

const managedWatch = `
CREATE FUNCTION app.watched() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end'; ALTER FUNCTION app.watched() OWNER TO app_owner;
CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION app.watched();
CREATE PUBLICATION everything FOR ALL TABLES; GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO app_reader`

// TestRestoreWithoutSuperuser restores as roles that a managed server gives to its users.
func TestRestoreWithoutSuperuser(t *testing.T) {
	w := newWorld(t, "managed", managedSchema)
	w.sql(`SET session_replication_role = replica; INSERT INTO app.one (name) VALUES ('late'); UPDATE app.one SET name = 'B' WHERE id = 2; RESET session_replication_role;
UPDATE app.two SET h = 'b=>2' WHERE id < 5; DELETE FROM app.two WHERE id = 9; UPDATE app.secret SET who = 'app_owner' WHERE id = 1; REFRESH MATERIALIZED VIEW app.mat`)
	w.archive()
	want, dump := hashes(t, "managed"), schemaOf(t, "managed")
	server.MustExec(t, "postgres", "CREATE ROLE manager LOGIN PASSWORD 'x' CREATEROLE CREATEDB; CREATE ROLE modest LOGIN PASSWORD 'x'; CREATE ROLE other_super SUPERUSER")
	as := func(role string, change func(*Options)) func(*Options) {
		return func(o *Options) {
			o.Create = false
			c, err := session.NewConnector(o.DSN)
			require.NoError(t, err)
			o.DSN = server.DSNFor(role, "x", c.Database())
			if change != nil {
				change(o)
			}
		}
	}
	given := func(name, owner string) {
		server.CreateDatabase(t, name)
		server.MustExec(t, "postgres", "ALTER DATABASE "+name+" OWNER TO "+owner)
	}

	t.Run("owners and rights, by a role that may grant", func(t *testing.T) {
		given("managed_1", "manager")
		rep := w.restore(Target{Kind: ToLatest}, "managed_1", as("manager", nil))
		require.Equal(t, want, hashes(t, "managed_1"))
		require.Equal(t, dump, schemaOf(t, "managed_1"))
		require.Len(t, rep.Notes, 1)
		require.Contains(t, rep.Notes[0], "no sample of the sequences")
		require.Equal(t, "0", server.MustQuery(t, "postgres", "select count(*)::text from pg_auth_members where member = 'manager'::regrole"), "it left the roles again")
		server.MustExec(t, "managed_1", "SET ROLE app_owner; SELECT * FROM app.secret; INSERT INTO app.secret VALUES (99, 'app_owner')")
	})
	t.Run("and into a database that it makes, roles included", func(t *testing.T) {
		server.MustExec(t, "postgres", "ALTER ROLE app_owner RENAME TO moved_1; ALTER ROLE app_reader RENAME TO moved_2")
		_, err := w.try(w.store, "managed_2", as("manager", func(o *Options) { o.Create = true }))
		require.ErrorContains(t, err, `role "manager" is no superuser and can't make objects belong to "postgres"`)
		server.MustExec(t, "postgres", "GRANT postgres TO manager")
		rep := w.restore(Target{Kind: ToLatest}, "managed_2", as("manager", func(o *Options) { o.Create = true }))
		require.Equal(t, want, hashes(t, "managed_2"))
		require.Equal(t, dump, schemaOf(t, "managed_2"))
		require.Contains(t, strings.Join(rep.Notes, "\n"), `role "app_owner" was missing`)
		server.MustExec(t, "postgres", "DROP DATABASE managed_2 WITH (FORCE)")
		server.MustExec(t, "postgres", "REVOKE postgres FROM manager; DROP ROLE app_owner, app_reader; ALTER ROLE moved_1 RENAME TO app_owner; ALTER ROLE moved_2 RENAME TO app_reader")
	})
	t.Run("a role that may nothing", func(t *testing.T) {
		given("managed_3", "postgres")
		server.MustExec(t, "managed_3", "GRANT CREATE ON DATABASE managed_3 TO modest")
		_, err := w.try(w.store, "managed_3", as("modest", func(o *Options) { o.NoOwner, o.NoPrivileges = true, true }))
		require.ErrorContains(t, err, `role "modest" may not make tables in schema public`)
		server.MustExec(t, "managed_3", "GRANT CREATE ON SCHEMA public TO modest")
		_, err = w.try(w.store, "managed_3", as("modest", nil))
		require.ErrorContains(t, err, `can't make objects belong to "app_owner", "app_other"`)
		require.Contains(t, fault.HintOf(err), "--no-owner")
		require.Equal(t, "0", server.MustQuery(t, "managed_3", "select count(*)::text from pg_class where relnamespace = 'public'::regnamespace"), "nothing was written")
		rep := w.restore(Target{Kind: ToLatest}, "managed_3", as("modest", func(o *Options) { o.NoOwner, o.NoPrivileges = true, true }))
		require.Equal(t, want, hashes(t, "managed_3"))
		require.Len(t, rep.Notes, 1)
		require.Contains(t, rep.Notes[0], "no sample of the sequences")
		_, err = w.try(w.store, "managed_3", as("modest", func(o *Options) { o.DataOnly, o.NoOwner, o.NoPrivileges = true, true, true }))
		require.ErrorContains(t, err, "may not switch triggers off")
	})
	t.Run("beside live tables", func(t *testing.T) {
		given("managed_4", "manager")
		server.MustExec(t, "managed_4", "CREATE EXTENSION citext; CREATE EXTENSION hstore")
		w.restore(Target{Kind: ToLatest}, "managed_4", as("manager", func(o *Options) { o.AsSchema, o.Tables = "rescue", []string{"app.*"} }))
		for name, hash := range hashes(t, "managed_4") {
			require.Equal(t, want["app."+strings.TrimPrefix(name, "rescue.")], hash, name)
		}
		require.Equal(t, "app_owner app_owner app_other", server.MustQuery(t, "managed_4", "select string_agg(relowner::regrole::text, ' ' order by relname) from pg_class where relkind = 'r' and relnamespace = 'rescue'::regnamespace and relname <> 'plain'"), "one, secret, two")
	})
	w.sql(managedWatch)
	w.snapshot()
	w.archive()
	t.Run("what only a superuser can make is left out, and said before", func(t *testing.T) {
		given("managed_5", "manager")
		var said []string
		rep := w.restore(Target{Kind: ToLatest}, "managed_5", as("manager", func(o *Options) {
			o.Confirm = func(p *Plan) error { said = p.Warnings; return nil }
		}))
		require.Len(t, said, 1)
		require.Equal(t, said[0], rep.Notes[0])
		for _, part := range []string{"event trigger watcher", "publication everything", "privileges of function pg_reload_conf"} {
			require.Contains(t, said[0], part)
		}
		require.Equal(t, want, hashes(t, "managed_5"))
	})
	t.Run("what the rest needs is refused", func(t *testing.T) {
		w.sql(`CREATE FUNCTION app.c(int) RETURNS int LANGUAGE internal AS 'int4abs' IMMUTABLE STRICT; ALTER FUNCTION app.c(int) OWNER TO app_owner; CREATE EXTENSION file_fdw`)
		w.snapshot()
		w.archive()
		given("managed_6", "manager")
		_, err := w.try(w.store, "managed_6", as("manager", nil))
		require.ErrorContains(t, err, "can't make extension file_fdw")
		server.MustExec(t, "managed_6", "CREATE EXTENSION file_fdw")
		_, err = w.try(w.store, "managed_6", as("manager", nil))
		require.ErrorContains(t, err, `role "manager" is no superuser and can't make function app.c(integer)`)
		require.Equal(t, fault.Usage, fault.CodeOf(err))
	})
}

func TestMaterializedViewsUnderRowSecurity(t *testing.T) {
	w := newWorld(t, "secured", `CREATE ROLE secured_a; CREATE ROLE secured_b; CREATE TABLE t (id int PRIMARY KEY, who text); ALTER TABLE t OWNER TO secured_a;
GRANT SELECT ON t TO secured_b; GRANT CREATE ON SCHEMA public TO secured_b; INSERT INTO t VALUES (1, 'secured_a'), (2, 'secured_b');
ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (who = current_user);
SET ROLE secured_b; CREATE MATERIALIZED VIEW m AS SELECT * FROM t; RESET ROLE`)
	w.sql("INSERT INTO t VALUES (3, 'secured_b'); REFRESH MATERIALIZED VIEW m")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "secured_1", nil)
	require.Equal(t, "2 3", server.MustQuery(t, "secured_1", "select string_agg(id::text, ' ' order by id) from m"), "what its owner may see")
	w.changes(".ALTER TABLE t ADD COLUMN x int", "INSERT INTO t VALUES (4, 'secured_b', 1), (5, 'secured_a', 1)", ".REFRESH MATERIALIZED VIEW m")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "secured_2", nil)
	require.Equal(t, "2 3 4", server.MustQuery(t, "secured_2", "select string_agg(id::text, ' ' order by id) from m"))
}
