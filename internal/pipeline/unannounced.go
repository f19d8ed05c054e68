package pipeline

import (
	"context"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/ddl"
	"tidemark/segment"
)

// unannounced finds tables whose rows come though no captured schema change made them: EXPLAIN ANALYZE CREATE TABLE AS
// fires no event trigger, and a superuser can switch them off.
type unannounced struct {
	known map[uint32]bool   // OIDs of tables that were there when the session began, or that were announced since
	rows  map[uint32]string // of the open transaction: tables not known yet, by name
}

// newUnannounced starts from the tables that are there now. One that was made unseen since the position from which
// the session streams is taken for known: a restore stops at its first row all the same.
func newUnannounced(ctx context.Context, conn *pgx.Conn) (*unannounced, error) {
	rows, err := conn.Query(ctx, "SELECT oid FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p') AND relpersistence = 'p'")
	if err != nil {
		return nil, err
	}
	u := &unannounced{known: map[uint32]bool{}, rows: map[uint32]string{}}
	var oid uint32
	_, err = pgx.ForEachRow(rows, []any{&oid}, func() error {
		u.known[oid] = true
		return nil
	})
	return u, err
}

// shown is told of a relation that rows come for, and whether the capture would have seen it made.
func (u *unannounced) shown(r *segment.Relation, captured bool) {
	if !captured {
		u.known[r.ID] = true
	} else if !u.known[r.ID] {
		u.rows[r.ID] = r.String()
	}
}

// announced is told of a captured change. CREATE TABLE AS is announced after its rows.
func (u *unannounced) announced(m *ddl.Message) {
	for _, o := range m.Objects {
		u.settle(o.OID)
	}
	for _, s := range m.State {
		u.settle(s.OID)
	}
}

func (u *unannounced) settle(oid uint32) {
	u.known[oid] = true
	delete(u.rows, oid)
}

// commit ends the transaction and returns the tables that nothing announced.
func (u *unannounced) commit() (tables []string) {
	for oid, name := range u.rows {
		tables = append(tables, name)
		u.settle(oid)
	}
	return tables
}
