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
	known map[uint32]uint32 // OIDs of tables that were there when the session began, or that were announced since, with the xid that made them
	rows  map[uint32]string // of the open transaction: tables not known yet, by name
}

// announcedXID stands for the maker of a table whose making nothing is left to say about. No transaction has this xid.
const announcedXID = 0

// newUnannounced starts from the tables that are there now. One that another transaction than its rows' made unseen, since the
// position from which the session streams, is taken for known: a restore stops at its first row all the same. System columns are
// written when a table is made and never again, so that they bear the xid that made it.
func newUnannounced(ctx context.Context, conn *pgx.Conn) (*unannounced, error) {
	rows, err := conn.Query(ctx, `SELECT c.oid, a.xmin FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tableoid'
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'`)
	if err != nil {
		return nil, err
	}
	u := &unannounced{known: map[uint32]uint32{}, rows: map[uint32]string{}}
	var oid, xid uint32
	_, err = pgx.ForEachRow(rows, []any{&oid, &xid}, func() error {
		u.known[oid] = xid
		return nil
	})
	return u, err
}

// shown is told of a relation that rows of a transaction come for, and whether the capture would have seen it made.
func (u *unannounced) shown(r *segment.Relation, xid uint32, captured bool) {
	maker, known := u.known[r.ID]
	switch {
	case !captured:
		u.settle(r.ID)
	case !known, maker == xid:
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
	u.known[oid] = announcedXID
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
