package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Settings of the database and of roles in it are the same after a restore, whatever names their lists hold, and rows are
// loaded under an empty path.
func TestSettingsThatAreLists(t *testing.T) {
	w := newWorld(t, "listed", `
CREATE ROLE lists_things; CREATE SCHEMA "Odd, ""one"; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
ALTER DATABASE listed SET search_path = ''; ALTER DATABASE listed SET temp_tablespaces = '';
ALTER ROLE lists_things IN DATABASE listed SET search_path = '', "Odd, ""one", "$user", public;
ALTER ROLE lists_things IN DATABASE listed SET temp_tablespaces = ''`)
	w.sql("INSERT INTO public.t VALUES (2); REFRESH MATERIALIZED VIEW public.m")
	w.archive()
	const settings = `select string_agg(concat(r.rolname, ' ', s.setconfig), ' ' order by r.rolname) from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole
where s.setdatabase = (select oid from pg_database where datname = current_database())`
	w.restore(Target{Kind: ToLatest}, "listed_into", nil)
	require.Equal(t, server.MustQuery(t, "listed", settings), server.MustQuery(t, "listed_into", settings))
	w.sameRows("listed_into")

	w.sql(`SET search_path = 'public'; SELECT set_config('search_path', 'Public,"Odd, ""one"', false); ALTER DATABASE listed SET search_path FROM CURRENT`)
	w.snapshot()
	w.restore(Target{Kind: ToLatest}, "listed_again", nil)
	require.Equal(t, `public, "Odd, ""one"`, server.MustQuery(t, "listed_again", "show search_path"))
}

// Backslashes in the schema stay as they are where the source reads constants otherwise.
func TestSchemaOfADatabaseWithoutStandardStrings(t *testing.T) {
	w := newWorld(t, "nonstandard", `ALTER DATABASE nonstandard SET standard_conforming_strings = off;
CREATE TABLE t (id int PRIMARY KEY, path text DEFAULT E'C:\\temp' CHECK (path <> E'\\'));
CREATE VIEW v AS SELECT E'a\\b\'c' AS c; COMMENT ON TABLE t IS E'one \\ two'; CREATE FUNCTION f() RETURNS text LANGUAGE sql AS E'SELECT E\'\\\\\\\\\'::text';
CREATE FOREIGN DATA WRAPPER w OPTIONS (o E'\\d+')`)
	w.sql("INSERT INTO t VALUES (1)")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "nonstandard_into", nil)
	w.sameSchema("nonstandard_into")
	w.sameRows("nonstandard_into")
}
