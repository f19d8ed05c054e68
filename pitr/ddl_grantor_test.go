package pitr

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestGrantorThatIsNoOwnerAnyMore: a privilege on a column, granted while another session that commits later gives the table
// a new owner, stays the old one's. No statement can make that; the privilege comes all the same, as the new owner's.
func TestGrantorThatIsNoOwnerAnyMore(t *testing.T) {
	w := newWorld(t, "grantor", `CREATE ROLE grantor_a; CREATE ROLE grantor_b; CREATE ROLE grantor_c; CREATE ROLE grantor_d; CREATE TABLE t (id int PRIMARY KEY, a int, b int); ALTER TABLE t OWNER TO grantor_a`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	first, second := w.session(), w.session()
	first(`BEGIN; ALTER TABLE t OWNER TO grantor_b`)
	second(`GRANT SELECT (a), UPDATE (b) ON t TO grantor_c, PUBLIC; GRANT SELECT (id) ON t TO grantor_c WITH GRANT OPTION; SET ROLE grantor_c; GRANT SELECT (id) ON t TO grantor_d`)
	first(`COMMIT`)
	w.archive()
	const who = "select string_agg(a.attname || ' ' || x.grantee || ' ' || x.privilege_type || ' ' || x.is_grantable, ', ' order by 1) from pg_attribute a, aclexplode(a.attacl) x where a.attrelid = 't'::regclass"
	const by = "select string_agg(distinct pg_get_userbyid(x.grantor), ' ') from pg_attribute a, aclexplode(a.attacl) x where a.attrelid = 't'::regclass"
	require.Equal(t, "grantor_a grantor_c", server.MustQuery(t, w.db, by), "as PostgreSQL has it")
	w.restore(Target{Kind: ToLatest}, "grantor_back", nil)
	require.Equal(t, server.MustQuery(t, w.db, who), server.MustQuery(t, "grantor_back", who))
	require.Equal(t, "grantor_b grantor_c", server.MustQuery(t, "grantor_back", by))
	w.snapshot()
	rep := w.restore(Target{Kind: ToLatest}, "grantor_snapshot", nil)
	require.Equal(t, server.MustQuery(t, w.db, who), server.MustQuery(t, "grantor_snapshot", who))
	require.Equal(t, "grantor_b grantor_c", server.MustQuery(t, "grantor_snapshot", by))
	require.Contains(t, strings.Join(rep.Notes, "\n"), "privileges on COLUMN t.a that grantor_a granted are the owner's here")
}
