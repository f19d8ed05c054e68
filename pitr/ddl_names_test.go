package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestNamesMeanWhatTheyMeantAtTheSource: tables of one name in several schemas, of which the search path of the
// statement chose one.
func TestNamesMeanWhatTheyMeantAtTheSource(t *testing.T) {
	w := newWorld(t, "named", `CREATE ROLE named_alice; CREATE SCHEMA one; CREATE SCHEMA two; CREATE SCHEMA named_alice AUTHORIZATION named_alice;
CREATE TABLE one.t (id int PRIMARY KEY, v text); CREATE TABLE two.t (id int PRIMARY KEY, v text); CREATE TABLE one.u (id int PRIMARY KEY, v text); CREATE TABLE two.u (id int PRIMARY KEY, v text);
CREATE TABLE public.mine (id int PRIMARY KEY); CREATE TABLE named_alice.mine (id int PRIMARY KEY); CREATE SEQUENCE one.s; CREATE SEQUENCE two.s; CREATE TABLE two.uses (id int PRIMARY KEY DEFAULT nextval('two.s'));
INSERT INTO one.t VALUES (1, 'one'); INSERT INTO two.t VALUES (2, 'two'); INSERT INTO two.u VALUES (1, 'u'); INSERT INTO public.mine VALUES (1); GRANT ALL ON SCHEMA public TO named_alice`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("SET search_path = one, two; CREATE INDEX t_v ON t (v); ALTER TABLE t ALTER COLUMN v SET DEFAULT 'd'; DROP TABLE t; ALTER TABLE u DROP COLUMN v; ALTER SEQUENCE s RESTART 1000; RESET search_path")
	w.sql("SET ROLE named_alice; DROP TABLE mine; CREATE TABLE hers (id int PRIMARY KEY); INSERT INTO hers VALUES (5); RESET ROLE")
	w.sql("INSERT INTO two.t VALUES (3, 'more')")
	w.archive()
	t.Run("one schema", func(t *testing.T) {
		w.restore(Target{Kind: ToLatest}, "named_two", func(o *Options) { o.Tables = []string{"two.*"} })
		require.Equal(t, "two,more", server.MustQuery(t, "named_two", "select string_agg(v, ',' order by id) from two.t"))
		require.Equal(t, "u", server.MustQuery(t, "named_two", "select v from two.u"))
		require.Equal(t, "0", server.MustQuery(t, "named_two", "select count(*) from pg_indexes where indexname = 't_v'"))
		require.Equal(t, "1", server.MustQuery(t, "named_two", "select last_value from two.s"))
	})
	t.Run("no owners", func(t *testing.T) {
		w.restore(Target{Kind: ToLatest}, "named_bare", func(o *Options) { o.NoOwner, o.NoPrivileges = true, true })
		require.Equal(t, "1", server.MustQuery(t, "named_bare", "select count(*) from public.mine"))
		require.Equal(t, "5", server.MustQuery(t, "named_bare", "select id from named_alice.hers"))
		require.Equal(t, "t", server.MustQuery(t, "named_bare", "select to_regclass('named_alice.mine') is null"))
	})
}
