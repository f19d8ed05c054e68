package pitr

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// session is another connection to the world's source.
func (w *world) session() func(sql string) {
	conn := server.Connect(w.t, w.db)
	_, err := conn.Exec(w.t.Context(), "SET lock_timeout = '5s'")
	require.NoError(w.t, err)
	return func(sql string) {
		w.t.Helper()
		_, err := conn.Exec(w.t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(w.t, err, sql)
	}
}

// TestNamesOfTheMoment: a transaction uses names that another one, which commits first, has changed by then.
func TestNamesOfTheMoment(t *testing.T) {
	w := newWorld(t, "moment_names", `CREATE SCHEMA "Some; where"; CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('ok', 'it''s \bad'); CREATE TYPE other.pair AS (a int, b int);
CREATE FUNCTION other.twice(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v * 2'; CREATE SEQUENCE other.numbers; CREATE COLLATION other.plain (locale = 'C');
CREATE FUNCTION other.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; CREATE TABLE other.t (id int PRIMARY KEY)`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	first, second := w.session(), w.session()
	first(`BEGIN; CREATE TABLE "Some; where".made (id int PRIMARY KEY, m other.mood DEFAULT E'it''s \\bad', p other.pair, n int DEFAULT nextval('other.numbers'),
	d int DEFAULT other.twice(4), c text COLLATE other.plain); INSERT INTO "Some; where".made (id, m, n) VALUES (1, 'ok', 1)`)
	second(`ALTER TYPE other.mood RENAME VALUE E'it''s \\bad' TO 'fine'; ALTER TYPE other.mood RENAME TO temper; ALTER TYPE other.temper SET SCHEMA public; ALTER TYPE other.pair RENAME TO couple`)
	second(`ALTER FUNCTION other.twice(int) RENAME TO double; ALTER SEQUENCE other.numbers SET SCHEMA public; ALTER COLLATION other.plain RENAME TO bare`)
	second(`ALTER SCHEMA "Some; where" RENAME TO elsewhere`)
	first(`COMMIT`)
	first(`BEGIN; CREATE TRIGGER touch BEFORE INSERT ON other.t FOR EACH ROW EXECUTE FUNCTION other.touch(); ALTER FUNCTION other.double(int) STABLE`)
	second(`BEGIN; ALTER FUNCTION other.touch() RENAME TO touched; ALTER SCHEMA other RENAME TO tmp; ALTER SCHEMA elsewhere RENAME TO other; ALTER SCHEMA tmp RENAME TO elsewhere; COMMIT`)
	first(`ALTER FUNCTION elsewhere.double(int) SET SCHEMA other; COMMIT; INSERT INTO elsewhere.t VALUES (7)`)
	w.archive()
	w.restore(Target{Kind: ToLatest}, "moment_names_back", nil)
	want, _, _ := strings.Cut(schemaOf(t, w.db), "CREATE EVENT TRIGGER")
	require.Equal(t, want, schemaOf(t, "moment_names_back"))
	rows := hashes(t, w.db)
	delete(rows, "tidemark.ddl_key")
	require.Equal(t, rows, hashes(t, "moment_names_back"))
}
