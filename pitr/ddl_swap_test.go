package pitr

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestSchemasThatChangePlaces: a row of a transaction that began before comes under the name that its table had then,
// and another table has now.
func TestSchemasThatChangePlaces(t *testing.T) {
	w := newWorld(t, "swapped", `CREATE SCHEMA live; CREATE SCHEMA staging; CREATE TABLE live.t (id int PRIMARY KEY, v text); CREATE TABLE staging.t (id int PRIMARY KEY, v text);
INSERT INTO live.t VALUES (1, 'old'); INSERT INTO staging.t VALUES (1, 'new')`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	writer := server.Connect(t, w.db)
	exec := func(sql string) {
		_, err := writer.PgConn().Exec(context.Background(), sql).ReadAll()
		require.NoError(t, err)
	}
	w.sql("CREATE TABLE live.made (id int PRIMARY KEY)")
	exec("BEGIN; INSERT INTO live.t VALUES (2, 'late'); UPDATE live.t SET v = 'late too' WHERE id = 1; INSERT INTO live.made VALUES (1)")
	w.sql("BEGIN; ALTER SCHEMA live RENAME TO old; ALTER SCHEMA staging RENAME TO live; CREATE TABLE live.made (id int PRIMARY KEY); COMMIT")
	w.sql("INSERT INTO live.t VALUES (3, 'right'); INSERT INTO live.made VALUES (7)")
	exec("COMMIT")
	w.sql("INSERT INTO live.t VALUES (4, 'after'); INSERT INTO old.t VALUES (5, 'old after')")
	w.archive()
	want := hashes(t, w.db)
	w.restore(Target{Kind: ToLatest}, "swapped_into", nil)
	got := hashes(t, "swapped_into")
	for _, name := range []string{"old.t", "live.t", "old.made", "live.made"} {
		require.Equal(t, want[name], got[name], name)
	}
}
