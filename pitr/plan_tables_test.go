package pitr

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/fault"
)

func TestPlanForTables(t *testing.T) {
	w := newWorld(t, "planned", `
CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE audit (id int PRIMARY KEY);
CREATE TABLE events (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
INSERT INTO orders SELECT generate_series(1, 10); INSERT INTO audit SELECT generate_series(1, 30); INSERT INTO events VALUES (1, '2020-05-05')`)
	w.sql("INSERT INTO orders SELECT generate_series(11, 13); DELETE FROM audit WHERE id < 8; INSERT INTO events VALUES (2, '2020-06-06')")
	w.changes(".CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')", "INSERT INTO events VALUES (3, '2021-06-06')")
	renamed := ddl.Object{Type: "table", Schema: "public", Name: "purchases", Identity: "public.purchases"} // as the server names it afterwards
	require.NoError(t, w.conn.QueryRow(t.Context(), "SELECT 'orders'::regclass::oid").Scan(&renamed.OID))
	require.NoError(t, pgx.BeginFunc(t.Context(), w.conn, func(tx pgx.Tx) error {
		w.change(tx, ddl.Message{SQL: "ALTER TABLE orders RENAME TO purchases", Objects: []ddl.Object{renamed}})
		_, err := tx.Exec(t.Context(), "DELETE FROM purchases WHERE id = 1")
		return err
	}))
	w.changes(".CREATE TABLE newer (id int PRIMARY KEY)", "INSERT INTO newer VALUES (1)")
	w.archive()
	whole := w.plan(Target{Kind: ToLatest})
	plan := func(patterns ...string) *Plan {
		p, err := whole.ForTables(t.Context(), w.view(), patterns)
		require.NoError(t, err)
		require.Equal(t, whole.Transactions, p.Transactions)
		return p
	}

	require.Equal(t, whole, plan())
	p := plan("orders", "nobody")
	require.Equal(t, []PlanTable{{Table: "public.orders", Inserts: 3}, {Table: "public.purchases", Deletes: 1}}, p.Tables)
	require.Equal(t, []int64{3, 0, 1}, []int64{p.Inserts, p.Updates, p.Deletes})
	require.Equal(t, []int64{1, 10}, []int64{p.Snapshot.Tables, p.Snapshot.Rows})
	require.Less(t, p.Bytes, whole.Bytes)
	require.Equal(t, whole.Bytes-p.Bytes, whole.Snapshot.Bytes-p.Snapshot.Bytes)
	require.Equal(t, []string{`no table of the base snapshot, and none that was written to since, matches "nobody"`}, p.Warnings)
	require.Equal(t, []PlanTable{{Table: "public.events_1", Inserts: 1}, {Table: "public.events_2", Inserts: 1}}, plan("events").Tables)
	p = plan("newer")
	require.Equal(t, []PlanTable{{Table: "public.newer", Inserts: 1}}, p.Tables)
	require.Zero(t, p.Snapshot.Rows)

	t.Run("a long range is read", func(t *testing.T) {
		long := *whole
		long.walked, long.entries, long.Tables, long.TablesUnlisted = false, nil, nil, true
		got, err := long.ForTables(t.Context(), w.view(), []string{"audit"})
		require.NoError(t, err)
		require.Equal(t, plan("audit"), got)
	})
	t.Run("nothing matches", func(t *testing.T) {
		_, err := whole.ForTables(t.Context(), w.view(), []string{"nobody"})
		require.ErrorContains(t, err, "no table of the base snapshot matches [nobody]")
		require.Equal(t, fault.Usage, fault.CodeOf(err))
	})
}
