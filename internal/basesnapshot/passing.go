package basesnapshot

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// passingSQL lists functions that take or return a type of some session's temporary schema: they go with that at the
// latest when the session ends, and no other session could make them.
const passingSQL = `
SELECT DISTINCT p.oid FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_type t ON t.oid = d.refobjid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_catalog.pg_proc p ON p.oid = d.objid
WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.refclassid = 'pg_catalog.pg_type'::regclass AND n.nspname ~ '^pg_temp_'`

// withoutPassing leaves such functions out of the schema, with what belongs to them.
func withoutPassing(ctx context.Context, conn *pgx.Conn, items []SchemaItem) ([]SchemaItem, error) {
	rows, err := conn.Query(ctx, passingSQL)
	if err != nil {
		return nil, sqlFault(err, "looking for functions over temporary types")
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil || len(oids) == 0 {
		return items, sqlFault(err, "looking for functions over temporary types")
	}
	gone := map[int]bool{}
	return slices.DeleteFunc(items, func(it SchemaItem) bool {
		routine := it.Kind == "FUNCTION" || it.Kind == "PROCEDURE" || it.Kind == "AGGREGATE"
		if routine && slices.Contains(oids, it.OID) || slices.ContainsFunc(it.Deps, func(id int) bool { return gone[id] }) {
			gone[it.ID] = true
		}
		return gone[it.ID]
	}), nil
}
