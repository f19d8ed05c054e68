package basesnapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
)

// source is a table to be copied, with what the copying needs besides the manifest's Table.
type source struct {
	Table
	index     int    // in the manifest
	filenode  uint32 // under the snapshot
	signature string // of its columns, under the snapshot
	pages     int64  // of the main fork
	bytes     int64  // with TOAST
	estimate  int64  // rows
	heap      bool   // ctid ranges mean something
}

// tablesSQL lists the tables whose rows belong to the snapshot, seen through the snapshot: permanent tables
// of the publication, a partitioned one by its leaves. $1 is the publication, "" for all tables. A
// partition is named by its topmost table in a publication with publish_via_partition_root.
const tablesSQL = `
WITH RECURSIVE published AS (
  SELECT c.oid, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname <> 'tidemark' AND CASE WHEN $1 = ''
    THEN n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    ELSE EXISTS (SELECT FROM pg_catalog.pg_publication_tables t WHERE t.pubname = $1 AND t.schemaname = n.nspname AND t.tablename = c.relname) END
), tree AS (
  SELECT oid, relkind FROM published
  UNION
  SELECT c.oid, c.relkind FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid AND tree.relkind = 'p'
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
)
SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text, c.relispartition, c.relfilenode, c.reltuples::float8,
  coalesce(am.amname = 'heap', false),
  coalesce((SELECT e.extname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'), '')
FROM (SELECT DISTINCT oid FROM tree) t JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind = 'r'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
ORDER BY n.nspname, c.relname`

// readTables lists the tables as they were at the point.
func readTables(ctx context.Context, conn *pgx.Conn, publication string) ([]*source, error) {
	if publication != "" {
		var exists bool
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1)", publication).Scan(&exists)
		if err != nil {
			return nil, sqlFault(err, "looking for the publication")
		}
		if !exists {
			return nil, fault.New(fault.Usage, "archiver run makes it", "publication %q doesn't exist", publication)
		}
	}
	rows, err := conn.Query(ctx, tablesSQL, publication)
	if err != nil {
		return nil, sqlFault(err, "listing tables")
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*source, error) {
		s := &source{}
		var estimate float64
		err := row.Scan(&s.OID, &s.Namespace, &s.Name, &s.Identity, &s.Partition, &s.filenode, &estimate, &s.heap, &s.Extension)
		s.estimate = int64(max(estimate, 0))
		return s, err
	})
	if err != nil {
		return nil, sqlFault(err, "listing tables")
	}
	byOID := map[uint32]*source{}
	for i, t := range tables {
		t.index = i
		byOID[t.OID] = t
	}
	for _, read := range []func(context.Context, *pgx.Conn, map[uint32]*source) error{readColumns, readKeys, readParents} {
		if err := read(ctx, conn, byOID); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// oids gives the keys as a query's argument.
func oids(tables map[uint32]*source) []uint32 {
	list := make([]uint32, 0, len(tables))
	for oid := range tables {
		list = append(list, oid)
	}
	slices.Sort(list)
	return list
}

func readColumns(ctx context.Context, conn *pgx.Conn, tables map[uint32]*source) error {
	rows, err := conn.Query(ctx, `
SELECT a.attrelid, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid, a.attnotnull, a.attgenerated::text, a.attidentity::text
FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`, oids(tables))
	if err != nil {
		return sqlFault(err, "reading columns")
	}
	var oid uint32
	var c Column
	_, err = pgx.ForEachRow(rows, []any{&oid, &c.Name, &c.Type, &c.TypeOID, &c.NotNull, &c.Generated, &c.Identity}, func() error {
		tables[oid].Columns = append(tables[oid].Columns, c)
		return nil
	})
	if err != nil {
		return sqlFault(err, "reading columns")
	}
	signatures, err := readSignatures(ctx, conn, oids(tables))
	if err != nil {
		return err
	}
	for oid, s := range signatures {
		tables[oid].signature = s
	}
	return nil
}

// signatureSQL sums up the columns of tables as the session sees them.
const signatureSQL = `
SELECT a.attrelid, md5(string_agg(a.attnum || ' ' || a.xmin::text, ',' ORDER BY a.attnum))
FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 GROUP BY 1`

func readSignatures(ctx context.Context, conn *pgx.Conn, oids []uint32) (map[uint32]string, error) {
	rows, err := conn.Query(ctx, signatureSQL, oids)
	if err != nil {
		return nil, sqlFault(err, "reading columns")
	}
	m := map[uint32]string{}
	var oid uint32
	var signature string
	_, err = pgx.ForEachRow(rows, []any{&oid, &signature}, func() error { m[oid] = signature; return nil })
	return m, sqlFault(err, "reading columns")
}

// readKeys reads the columns of the replica identity: RelationGetIdentityKeyBitmap in src/backend/utils/cache/relcache.c.
func readKeys(ctx context.Context, conn *pgx.Conn, tables map[uint32]*source) error {
	rows, err := conn.Query(ctx, `
SELECT i.indrelid, a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY($1::oid[]) AND k.n <= i.indnkeyatts AND i.indisvalid
  AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
ORDER BY i.indrelid, k.n`, oids(tables))
	if err != nil {
		return sqlFault(err, "reading keys")
	}
	var oid uint32
	var name string
	_, err = pgx.ForEachRow(rows, []any{&oid, &name}, func() error {
		tables[oid].Key = append(tables[oid].Key, name)
		return nil
	})
	for _, t := range tables {
		if t.Identity == "f" {
			t.Key = t.CopyColumns()
		}
	}
	return sqlFault(err, "reading keys")
}

func readParents(ctx context.Context, conn *pgx.Conn, tables map[uint32]*source) error {
	rows, err := conn.Query(ctx, `
SELECT i.inhrelid, n.nspname::text, p.relname::text FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
WHERE i.inhrelid = ANY($1::oid[]) ORDER BY i.inhrelid, i.inhseqno`, oids(tables))
	if err != nil {
		return sqlFault(err, "reading inheritance")
	}
	var oid uint32
	var parent Name
	_, err = pgx.ForEachRow(rows, []any{&oid, &parent.Namespace, &parent.Name}, func() error {
		tables[oid].Parents = append(tables[oid].Parents, parent)
		return nil
	})
	if err != nil {
		return sqlFault(err, "reading inheritance")
	}
	rows, err = conn.Query(ctx, `
WITH RECURSIVE up AS (
  SELECT c.oid AS leaf, c.oid, 0 AS depth FROM pg_catalog.pg_class c WHERE c.oid = ANY($1::oid[]) AND c.relispartition
  UNION ALL SELECT up.leaf, i.inhparent, up.depth + 1 FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid
)
SELECT DISTINCT ON (up.leaf) up.leaf, n.nspname::text, c.relname::text FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'p' ORDER BY up.leaf, up.depth DESC`, oids(tables))
	if err != nil {
		return sqlFault(err, "reading partitions")
	}
	var root Name
	_, err = pgx.ForEachRow(rows, []any{&oid, &root.Namespace, &root.Name}, func() error {
		r := root
		tables[oid].Root = &r
		return nil
	})
	return sqlFault(err, "reading partitions")
}

// readSizes asks for the tables' present sizes, for ranges and progress. A table that is gone has none; its
// copying will notice.
func readSizes(ctx context.Context, conn *pgx.Conn, tables []*source) error {
	byOID := map[uint32]*source{}
	for _, t := range tables {
		byOID[t.OID] = t
	}
	rows, err := conn.Query(ctx, `
SELECT c.oid, coalesce(pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::int8, 0), coalesce(pg_catalog.pg_table_size(c.oid), 0)
FROM pg_catalog.pg_class c WHERE c.oid = ANY($1::oid[])`, oids(byOID))
	if err != nil {
		return sqlFault(err, "reading table sizes")
	}
	var oid uint32
	var pages, bytes int64
	_, err = pgx.ForEachRow(rows, []any{&oid, &pages, &bytes}, func() error {
		byOID[oid].pages, byOID[oid].bytes = pages, bytes
		return nil
	})
	return sqlFault(err, "reading table sizes")
}

func readMatviews(ctx context.Context, conn *pgx.Conn) ([]Matview, error) {
	rows, err := conn.Query(ctx, `
SELECT n.nspname::text, c.relname::text, c.relispopulated FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND n.nspname <> 'tidemark' ORDER BY 1, 2`)
	if err != nil {
		return nil, sqlFault(err, "listing materialized views")
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Matview, err error) {
		err = row.Scan(&m.Namespace, &m.Name, &m.Populated)
		return m, err
	})
	return list, sqlFault(err, "listing materialized views")
}

// readOmissions names what the database holds and the archive won't. copied are the tables of the snapshot.
func readOmissions(ctx context.Context, conn *pgx.Conn, copied []*source) ([]Omission, error) {
	var have []uint32
	for _, t := range copied {
		have = append(have, t.OID)
	}
	rows, err := conn.Query(ctx, `
SELECT CASE WHEN c.relkind = 'f' THEN 'foreign table' WHEN c.relpersistence = 'u' THEN 'unlogged table' ELSE 'unpublished table' END, n.nspname::text, c.relname::text, 0::int8
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'tidemark') AND c.relpersistence <> 't' AND c.relkind IN ('r', 'f') AND c.oid <> ALL($1::oid[])
UNION ALL
SELECT 'large objects', '', '', count(*) FROM pg_catalog.pg_largeobject_metadata HAVING count(*) > 0
ORDER BY 1, 2, 3`, have)
	if err != nil {
		return nil, sqlFault(err, "listing what is not archived")
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o Omission, err error) {
		err = row.Scan(&o.Kind, &o.Namespace, &o.Name, &o.Count)
		return o, err
	})
	return list, sqlFault(err, "listing what is not archived")
}

// copySQL selects a range of a table's rows. Range 0 of 1 is the whole table; the first begins where the
// table does, and the last ends where it does, however far it has grown.
func copySQL(t *source, first, end int64, last bool) string {
	columns := t.CopyColumns()
	for i, c := range columns {
		columns[i] = sqltext.QuoteIdent(c)
	}
	where := ""
	switch {
	case first > 0 && !last:
		where = fmt.Sprintf(" WHERE ctid >= '(%d,0)' AND ctid < '(%d,0)'", first, end)
	case first > 0:
		where = fmt.Sprintf(" WHERE ctid >= '(%d,0)'", first)
	case !last:
		where = fmt.Sprintf(" WHERE ctid < '(%d,0)'", end)
	}
	return "COPY (SELECT " + strings.Join(columns, ", ") + " FROM ONLY " + sqltext.QuoteName(t.Namespace, t.Name) + where + ") TO STDOUT"
}
