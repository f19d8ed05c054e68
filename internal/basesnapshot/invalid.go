package basesnapshot

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// A partitioned table's index is valid once each partition has a valid one that is attached to it, and nothing makes it so afterwards: not
// that the partition goes which has none. The statement that makes it again looks at the partitions of then only.

const invalidIndexesSQL = `
SELECT i.indexrelid, coalesce(o.oid, 0), x.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint o ON o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x')
WHERE x.relkind = 'I' AND NOT i.indisvalid`

// noteInvalidIndexes says of items that make indexes of partitioned tables which of those are not valid.
func noteInvalidIndexes(ctx context.Context, conn *pgx.Conn, items []SchemaItem) error {
	rows, err := conn.Query(ctx, invalidIndexesSQL)
	if err != nil {
		return sqlFault(err, "reading invalid indexes")
	}
	invalid := map[string]map[uint32]string{"INDEX": {}, "CONSTRAINT": {}}
	var index, constraint uint32
	var name string
	_, err = pgx.ForEachRow(rows, []any{&index, &constraint, &name}, func() error {
		invalid["INDEX"][index] = name
		if constraint != 0 {
			invalid["CONSTRAINT"][constraint] = name
		}
		return nil
	})
	if err != nil {
		return sqlFault(err, "reading invalid indexes")
	}
	for i := range items {
		items[i].InvalidIndex = invalid[items[i].Kind][items[i].OID]
	}
	return nil
}
