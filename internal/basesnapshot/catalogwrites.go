package basesnapshot

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// CatalogWrites finds what wrote to the catalogs between two looks: transactions that wrote what nothing but statements about the schema writes,
// and indexes that became valid. The zero value is ready.
type CatalogWrites struct {
	since   string // the oldest transaction under way at the last look; "": none yet
	seen    map[uint32]bool
	sums    map[int64]int64 // of relationWrites
	invalid map[string]bool // indexes that were, each as its table's OID, a slash and its name
}

// Writes is what was found at a look.
type Writes struct {
	XIDs    []uint32 // transactions, and subtransactions
	Revived []Index  // that were invalid at the look before
}

// Index is an index as it is now.
type Index struct {
	OID  uint32
	Name string // schema.name, unquoted
}

const catalogWrites = `SELECT DISTINCT x.xmin::text::bigint FROM (
	SELECT c.xmin FROM pg_type c JOIN n ON n.oid = c.typnamespace
	UNION ALL SELECT c.xmin FROM pg_namespace c JOIN n ON n.oid = c.oid
	UNION ALL SELECT p.xmin FROM ` + lastingRoutines + `
	UNION ALL SELECT c.xmin FROM pg_enum c JOIN pg_type t ON t.oid = c.enumtypid JOIN n ON n.oid = t.typnamespace
	UNION ALL SELECT c.xmin FROM pg_attrdef c JOIN r ON r.oid = c.adrelid
	UNION ALL SELECT c.xmin FROM pg_rewrite c JOIN r ON r.oid = c.ev_class
	UNION ALL SELECT c.xmin FROM pg_policy c JOIN r ON r.oid = c.polrelid
	UNION ALL SELECT c.xmin FROM pg_sequence c JOIN r ON r.oid = c.seqrelid
	UNION ALL SELECT c.xmin FROM pg_default_acl c
) x WHERE age(x.xmin) <= age($1::text::xid)`

// relationWrites has a row for the columns of each relation, each constraint with an index, and the other constraints of each relation, if one was written, or for
// all ($2). VACUUM FULL and REINDEX CONCURRENTLY write columns and the constraints of indexes too, and change none: what the latter wrote
// has an index that is younger than the constraint. A CHECK constraint may be of a transaction that DETACH PARTITION CONCURRENTLY ended
// before it ended itself. Columns are the many: only those of relations that had one written are summed up.
const relationWrites = `SELECT x.key, hashtextextended(sum(hashtextextended(x.t, 0)::numeric)::text, 0),
	coalesce(array_agg(DISTINCT x.xmin::text::bigint) FILTER (WHERE age(x.xmin) <= age($1::text::xid) AND NOT x.again), '{}')
FROM (
	SELECT a.attrelid::bigint AS key, a.xmin, false AS again, ` + lastingColumn + ` AS t FROM pg_attribute a JOIN r ON r.oid = a.attrelid
	WHERE a.attnum > 0 AND ($2 OR a.attrelid IN (SELECT b.attrelid FROM pg_attribute b WHERE age(b.xmin) <= age($1::text::xid)))
	UNION ALL SELECT CASE WHEN o.conindid <> 0 THEN 1::bigint << 32 | o.oid::bigint ELSE 2::bigint << 32 | o.conrelid::bigint END, o.xmin, o.conindid > o.oid, ` + lastingConstraint + `
	FROM pg_constraint o JOIN n ON n.oid = o.connamespace WHERE o.contype <> 'c'
) x GROUP BY 1 HAVING $2 OR bool_or(age(x.xmin) <= age($1::text::xid))`

// invalidIndexes has those that are, and what became of others.
const invalidIndexes = `SELECT x.key, x.oid, x.schema || '.' || x.name, x.valid FROM (
	SELECT c.oid, i.indrelid || '/' || c.relname AS key, s.nspname AS schema, c.relname AS name, i.indisvalid AS valid
	FROM pg_index i JOIN r ON r.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace s ON s.oid = c.relnamespace WHERE c.relkind = 'i'
) x WHERE NOT x.valid OR x.key = ANY ($1)`

// Next returns what was not seen yet; nothing at the first call.
func (w *CatalogWrites) Next(ctx context.Context, conn *pgx.Conn) (found Writes, err error) {
	var now string
	if err := conn.QueryRow(ctx, "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::numeric % 4294967296)::text").Scan(&now); err != nil {
		return Writes{}, sqlFault(err, "reading the catalogs")
	}
	first := w.since == ""
	if first {
		w.since, w.sums = now, map[int64]int64{}
	}
	seen := map[uint32]bool{}
	note := func(xid uint32) {
		seen[xid] = true
		if !first && !w.seen[xid] && !slices.Contains(found.XIDs, xid) {
			found.XIDs = append(found.XIDs, xid)
		}
	}
	if err := w.written(ctx, conn, note); err != nil {
		return Writes{}, sqlFault(err, "reading the catalogs")
	}
	if err := w.relationsWritten(ctx, conn, first, note); err != nil {
		return Writes{}, sqlFault(err, "reading the catalogs")
	}
	if found.Revived, err = w.revived(ctx, conn); err != nil {
		return Writes{}, sqlFault(err, "reading the catalogs")
	}
	w.since, w.seen = now, seen
	return found, nil
}

func (w *CatalogWrites) written(ctx context.Context, conn *pgx.Conn, note func(xid uint32)) error {
	rows, err := conn.Query(ctx, lastingFrom+catalogWrites, w.since)
	if err != nil {
		return err
	}
	var xid int64
	_, err = pgx.ForEachRow(rows, []any{&xid}, func() error {
		note(uint32(xid))
		return nil
	})
	return err
}

// relationsWritten notes those that wrote to relations whose columns or constraints are others than they were.
func (w *CatalogWrites) relationsWritten(ctx context.Context, conn *pgx.Conn, all bool, note func(xid uint32)) error {
	rows, err := conn.Query(ctx, lastingFrom+relationWrites, w.since, all)
	if err != nil {
		return err
	}
	var key, sum int64
	var xids []int64
	_, err = pgx.ForEachRow(rows, []any{&key, &sum, &xids}, func() error {
		then, known := w.sums[key]
		fresh := !known && key < 1<<32 // a relation: the xid that made it is that of its type, too
		if then != sum && !fresh {
			for _, xid := range xids {
				note(uint32(xid))
			}
		}
		w.sums[key] = sum
		return nil
	})
	return err
}

// revived returns the indexes that were invalid at the last look, and are not.
func (w *CatalogWrites) revived(ctx context.Context, conn *pgx.Conn) (found []Index, err error) {
	rows, err := conn.Query(ctx, lastingFrom+invalidIndexes, slices.AppendSeq([]string{}, maps.Keys(w.invalid)))
	if err != nil {
		return nil, err
	}
	w.invalid = map[string]bool{}
	var key string
	var index Index
	var valid bool
	_, err = pgx.ForEachRow(rows, []any{&key, &index.OID, &index.Name, &valid}, func() error {
		if valid {
			found = append(found, index)
		} else {
			w.invalid[key] = true
		}
		return nil
	})
	return found, err
}
