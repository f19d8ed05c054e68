package pitr

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
)

// wholeNumbersQuery finds a column (of table $1, quoted, named $2) that has the type of a sequence's values, or a numeric one, or domains over these.
const wholeNumbersQuery = `
with recursive below(oid, base) as (
  select t.oid, t.typbasetype from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = pg_catalog.to_regclass($1)::pg_catalog.oid and a.attname = $2 and not a.attisdropped
  union all select t.oid, t.typbasetype from below b join pg_catalog.pg_type t on t.oid = b.base)
select 1 from below where oid in (20, 21, 23, 1700)`

// FurthestValue finds the furthest value that a column holds in the direction of a sequence, among those that the sequence can give. ok is false
// where there is none: the column or its table isn't there, has no rows in that range, or holds no numbers. Table is quoted for SQL, column is not.
// The session's search_path is safe.
func FurthestValue(ctx context.Context, conn *pgconn.PgConn, table, column string, descending bool, least, greatest int64) (v int64, ok bool, err error) {
	found, err := session.Value(ctx, conn, wholeNumbersQuery, table, column)
	if err != nil || found == "" {
		return 0, false, err
	}
	of := "max"
	if descending {
		of = "min"
	}
	found, err = session.Value(ctx, conn, fmt.Sprintf("select trunc(%s(%s)::numeric)::text from %s where %[2]s between %[4]d and %[5]d", of, sqltext.QuoteIdent(column), table, least, greatest))
	if err != nil {
		return 0, false, err
	}
	v, err = strconv.ParseInt(found, 10, 64)
	return v, err == nil, nil
}
