package pitr

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestWhatLikeCopied: LIKE copies indexes, statistics and comments as they are, and locks nothing that would keep another
// session from committing others first.
func TestWhatLikeCopied(t *testing.T) {
	w := newWorld(t, "copied", `CREATE ROLE copying; CREATE SCHEMA "S ;" AUTHORIZATION copying; GRANT CREATE ON DATABASE copied TO copying; SET ROLE copying;
CREATE TABLE "S ;".src (id int PRIMARY KEY, a int, b text, c text DEFAULT 'x\y'); CREATE INDEX before ON "S ;".src (a); COMMENT ON INDEX "S ;".before IS 'it''s \old';
CREATE STATISTICS "S ;".st ON a, b FROM "S ;".src; COMMENT ON STATISTICS "S ;".st IS 'old'; COMMENT ON COLUMN "S ;".src.a IS 'to go'; ALTER TABLE "S ;".src ADD CONSTRAINT pos CHECK (a > 0);
CREATE FUNCTION "S ;".low(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT pg_catalog.lower($1)'; INSERT INTO "S ;".src VALUES (1, 1, 'x'), (2, 1, 'x'); RESET ROLE`)
	t.Cleanup(func() {
		for _, db := range []string{"copied", "copied_back", "copied_plain"} {
			_ = server.Exec(context.Background(), db, "DROP OWNED BY copying CASCADE")
		}
		_ = server.Exec(context.Background(), "postgres", "DROP ROLE copying")
	})
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	_, err := w.conn.PgConn().Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY left_behind ON "S ;".src (a)`).ReadAll()
	require.Error(t, err)
	first, second := w.session(), w.session()
	first(`SET ROLE copying; SET standard_conforming_strings = off; SET backslash_quote = on; BEGIN; CREATE TABLE "S ;"."C 1" (LIKE "S ;".src INCLUDING ALL, own int UNIQUE, EXCLUDE USING btree (own WITH =)); INSERT INTO "S ;"."C 1" VALUES (1, 5, 'y')`)
	first(`CREATE TABLE "S ;".c2 (LIKE "S ;".src INCLUDING COMMENTS INCLUDING STATISTICS) PARTITION BY RANGE (id); CREATE TABLE "S ;".c3 (LIKE "S ;".src INCLUDING DEFAULTS)`)
	second(`SET ROLE copying; CREATE INDEX after ON "S ;".src (a); CREATE INDEX lowered ON "S ;".src ("S ;".low(b), (a + 1)) WITH (fillfactor = 50) WHERE b <> 'it''s'; CREATE STATISTICS "S ;".st2 ON id, b FROM "S ;".src`)
	second(`COMMENT ON INDEX "S ;".before IS NULL; COMMENT ON STATISTICS "S ;".st IS 'new'; COMMENT ON COLUMN "S ;".src.a IS NULL; COMMENT ON COLUMN "S ;".src.b IS 'new'; COMMENT ON CONSTRAINT pos ON "S ;".src IS 'new'; COMMENT ON INDEX "S ;".src_pkey IS 'new'`)
	first(`COMMIT`)
	second(`CREATE TABLE "S ;".c4 (LIKE "S ;".src INCLUDING ALL)`) // nobody in between, but the invalid index
	w.archive()
	for into, o := range map[string][]string{"copied_back": nil, "copied_plain": {"--no-owner", "--no-privileges"}} {
		w.restore(Target{Kind: ToLatest}, into, func(r *Options) { r.NoOwner, r.NoPrivileges = o != nil, o != nil })
		want, _, _ := strings.Cut(schemaOf(t, w.db, o...), "CREATE EVENT TRIGGER")
		require.Equal(t, want, schemaOf(t, into, o...))
		require.Equal(t, hashes(t, w.db)[`"S ;"."C 1"`], hashes(t, into)[`"S ;"."C 1"`])
	}
}
