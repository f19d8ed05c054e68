package basesnapshot

import (
	"context"

	"tidemark/internal/sqltext"

	"github.com/jackc/pgx/v5"
)

// inheritedStorage finds columns that are stored in their type's way while a parent's are not: CREATE TABLE ... INHERITS
// takes over the parent's storage and compression, and pg_dump says nothing of what is as by default.
const inheritedStorage = `
SELECT n.nspname::text, c.relname::text, a.attname::text,
  CASE WHEN a.attstorage = t.typstorage AND bool_or(p.attstorage <> a.attstorage) THEN
    CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END ELSE '' END,
  a.attcompression = '' AND bool_or(p.attcompression <> '')
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relkind = 'r' AND NOT c.relispartition
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.inhrelid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_attribute p ON p.attrelid = i.inhparent AND p.attname = a.attname AND NOT p.attisdropped
GROUP BY n.nspname, c.relname, a.attname, a.attnum, a.attstorage, a.attcompression, t.typstorage
HAVING bool_or(p.attstorage <> a.attstorage) AND a.attstorage = t.typstorage OR a.attcompression = '' AND bool_or(p.attcompression <> '')
ORDER BY 1, 2, a.attnum`

// settleInheritedStorage has the items of such tables say how their columns are stored.
func settleInheritedStorage(ctx context.Context, conn *pgx.Conn, items []SchemaItem) error {
	byName := map[Name]*SchemaItem{}
	for i := range items {
		if items[i].Kind == "TABLE" {
			byName[Name{items[i].Namespace, items[i].Name}] = &items[i]
		}
	}
	rows, err := conn.Query(ctx, inheritedStorage)
	if err != nil {
		return sqlFault(err, "reading how inherited columns are stored")
	}
	var table Name
	var column, storage string
	var uncompressed bool
	_, err = pgx.ForEachRow(rows, []any{&table.Namespace, &table.Name, &column, &storage, &uncompressed}, func() error {
		it := byName[table]
		if it == nil {
			return nil
		}
		alter := "\nALTER TABLE ONLY " + sqltext.QuoteName(table.Namespace, table.Name) + " ALTER COLUMN " + sqltext.QuoteIdent(column) + " SET "
		if storage != "" {
			it.SQL += alter + "STORAGE " + storage + ";\n"
		}
		if uncompressed {
			it.SQL += alter + "COMPRESSION default;\n"
		}
		return nil
	})
	return sqlFault(err, "reading how inherited columns are stored")
}
