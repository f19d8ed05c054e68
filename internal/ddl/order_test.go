package ddl_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// TestRowsComeAfterTheChangeBeforeThem: decoding must not send a row before the message of the statement that ran
// before it, however close they are in the WAL.
func TestRowsComeAfterTheChangeBeforeThem(t *testing.T) {
	server := postgres.Start(t, postgres.Options{})
	s := newSource(t, server, "ordered", "", ddl.Options{AllTables: true})
	server.MustQuery(t, "ordered", "SELECT pg_create_logical_replication_slot('order', 'test_decoding')")
	var sql, want []string
	for _, name := range []string{"o1", "o2", "o3", "o4", "o5"} {
		sql = append(sql, "CREATE TABLE "+name+" (a int PRIMARY KEY); INSERT INTO "+name+" VALUES (1); ALTER TABLE "+name+" ADD b int; INSERT INTO "+name+" VALUES (2)")
		want = append(want, "CREATE TABLE "+name, "INSERT "+name, "ALTER TABLE "+name, "INSERT "+name)
	}
	s.must(strings.Join(sql, "; "))
	rows, err := s.conn.Query(context.Background(), "SELECT data FROM pg_logical_slot_get_changes('order', NULL, NULL)")
	require.NoError(t, err)
	changes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	var got []string
	for _, change := range changes {
		if table, ok := strings.CutPrefix(change, "table public."); ok {
			got = append(got, "INSERT "+table[:2])
		} else if _, content, ok := strings.Cut(change, "content:"); ok {
			m, err := ddl.Decode([]byte(content))
			require.NoError(t, err)
			got = append(got, strings.Join(strings.Fields(m.SQL)[:3], " "))
		}
	}
	require.Equal(t, want, got)
}
