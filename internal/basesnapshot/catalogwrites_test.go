package basesnapshot

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCatalogWrites: what a rewrite writes to the catalogs is no change of the schema.
func TestCatalogWrites(t *testing.T) {
	db, _ := newDatabase(t)
	server := testServer()
	server.MustExec(t, db, `CREATE TABLE a (id int PRIMARY KEY, b int); INSERT INTO a VALUES (1, 1), (2, 1); ALTER TABLE a ADD since int DEFAULT 7`)
	require.Error(t, server.Exec(t.Context(), db, "CREATE UNIQUE INDEX CONCURRENTLY left_b ON a (b)"))
	conn := server.Connect(t, db)
	var w CatalogWrites
	look := func() Writes {
		found, err := w.Next(t.Context(), conn)
		require.NoError(t, err)
		return found
	}
	require.Empty(t, look())
	server.MustExec(t, db, "DELETE FROM a WHERE id = 2; CREATE TEMP TABLE passing (id serial PRIMARY KEY, v text NOT NULL DEFAULT 'x')")
	require.Empty(t, look())
	server.MustExec(t, db, "VACUUM FULL a") // writes the row of the new column
	require.Empty(t, look())
	server.MustExec(t, db, "REINDEX TABLE CONCURRENTLY a") // writes the row of the primary key's constraint
	require.Empty(t, look())
	server.MustExec(t, db, "ALTER TABLE a ADD CONSTRAINT more UNIQUE (since, id)")
	require.Len(t, look().XIDs, 1)
	server.MustExec(t, db, "REINDEX INDEX CONCURRENTLY a_pkey")
	server.MustExec(t, db, "ALTER TABLE a DROP CONSTRAINT more")
	require.Empty(t, look()) // what is gone has no xmin
	server.MustExec(t, db, "REINDEX INDEX CONCURRENTLY a_pkey")
	server.MustExec(t, db, "ALTER TABLE a ADD CONSTRAINT more UNIQUE (since, id)")
	require.Len(t, look().XIDs, 1, "the constraint's, not the index'")
	server.MustExec(t, db, "ALTER TABLE a DROP CONSTRAINT more")
	server.MustExec(t, db, "ALTER TABLE a ADD CONSTRAINT more UNIQUE (since, id)")
	server.MustExec(t, db, "REINDEX INDEX CONCURRENTLY more")
	server.MustExec(t, db, "CREATE TABLE passed (id int PRIMARY KEY); ALTER TABLE passed ADD since int DEFAULT 7")
	var before uint32
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").Scan(&before))
	server.MustExec(t, db, "VACUUM FULL passed")
	server.MustExec(t, db, "REINDEX TABLE CONCURRENTLY passed")
	for _, xid := range look().XIDs {
		require.Less(t, xid, before, "neither is a change")
	}
	server.MustExec(t, db, "REINDEX TABLE a")
	var oid uint32
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT 'left_b'::regclass::oid").Scan(&oid))
	require.Equal(t, Writes{Revived: []Index{{oid, "public.left_b"}}}, look())
	require.Empty(t, look())
	for _, sql := range []string{
		"ALTER TABLE a ALTER b SET NOT NULL", "ALTER TABLE a ADD UNIQUE (b)", "ALTER TABLE a ADD c int", "ALTER TABLE a DROP c", "GRANT SELECT (b) ON a TO PUBLIC",
		"CREATE TABLE other (id int)", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "UPDATE pg_attribute SET attname = 'bb' WHERE attrelid = 'a'::regclass AND attname = 'b'",
	} {
		var xid uint32
		server.MustExec(t, db, sql)
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)").Scan(&xid))
		require.Equal(t, Writes{XIDs: []uint32{xid}}, look(), sql)
		require.Empty(t, look(), sql)
	}
}
