package basesnapshot

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/sqltext"
	"tidemark/objectstore"
)

// restoreAll builds a database from a manifest and its chunks, the plainest way there is, and returns its name.
func restoreAll(t *testing.T, store objectstore.Store, m *Manifest) string {
	ctx := context.Background()
	name, _ := newDatabase(t)
	conn := testServer().Connect(t, name)
	exec := func(sql string) {
		_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, sql)
	}
	exec("SET search_path = ''; SET check_function_bodies = off; SET xmloption = content; SET row_security = off")
	run := func(pass Pass, sections ...string) {
		for i := range m.Schema {
			it := &m.Schema[i]
			if it.OfDatabase || it.RestorePass() != pass || !strings.Contains(strings.Join(sections, " "), it.Section) {
				continue
			}
			if strings.TrimSpace(it.SQL) != "" {
				exec(it.SQL)
			}
			if it.OwnerSQL != "" && it.Kind != "SUBSCRIPTION" {
				exec(it.OwnerSQL)
			}
		}
	}
	run(PassMain, "pre-data", "none")
	for i := range m.Tables {
		load(t, conn, store, &m.Tables[i])
	}
	for _, s := range m.Sequences {
		exec(fmt.Sprintf("SELECT setval(%s, %d, %t)", sqltext.QuoteLiteral(sqltext.QuoteName(s.Namespace, s.Name)), s.LastValue, s.IsCalled))
	}
	run(PassMain, "post-data")
	run(PassACL, "pre-data", "none", "post-data")
	run(PassPostACL, "pre-data", "none", "post-data")
	return name
}

func load(t *testing.T, conn *pgx.Conn, store objectstore.Store, table *Table) {
	ctx := context.Background()
	columns := table.CopyColumns()
	for i, c := range columns {
		columns[i] = sqltext.QuoteIdent(c)
	}
	list := ""
	if len(columns) > 0 {
		list = " (" + strings.Join(columns, ", ") + ")"
	}
	for _, c := range table.Chunks {
		r, err := OpenChunk(ctx, store, c)
		require.NoError(t, err)
		tag, err := conn.PgConn().CopyFrom(ctx, r, "COPY "+sqltext.QuoteName(table.Namespace, table.Name)+list+" FROM STDIN")
		require.NoError(t, err, table.String())
		require.Equal(t, c.Rows, tag.RowsAffected(), table.String())
		require.NoError(t, r.Close())
	}
}

// tableHashes gives a hash of each permanent table's own rows, whatever their order, as the session sees them.
func tableHashes(t *testing.T, conn *pgx.Conn) map[string]string {
	ctx := context.Background()
	_, err := conn.Exec(ctx, "SET row_security = off; SET search_path = ''; SET lc_monetary = 'C'; SET timezone = 'UTC'; SET extra_float_digits = 3")
	require.NoError(t, err)
	rows, err := conn.Query(ctx, `SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
	require.NoError(t, err)
	hashes := map[string]string{}
	for _, n := range names {
		var hash string
		err := conn.QueryRow(ctx, "SELECT count(*) || ' ' || coalesce(md5(string_agg(r, ',' ORDER BY r)), '') FROM (SELECT md5(\"no column\"::text) AS r FROM ONLY "+
			sqltext.QuoteName(n.Namespace, n.Name)+" \"no column\") x").Scan(&hash)
		require.NoError(t, err)
		hashes[n.String()] = hash
	}
	return hashes
}

// chunkText gives the rows of chunks.
func chunkText(t *testing.T, store objectstore.Store, chunks []Chunk) string {
	var b strings.Builder
	for _, c := range chunks {
		r, err := OpenChunk(context.Background(), store, c)
		require.NoError(t, err)
		_, err = io.Copy(&b, r)
		require.NoError(t, err)
	}
	return b.String()
}
