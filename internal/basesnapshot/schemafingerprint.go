package basesnapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// lastingTables are what pg_class says of a relation that only a statement about its schema changes: TRUNCATE,
// VACUUM FULL and the like give it another file and thereby another row.
const lastingTables = `(SELECT r.oid, md5(concat_ws('/', r.relname, r.relnamespace, r.reltype, r.reloftype, r.relowner, r.relam, r.reltablespace,
	r.relpersistence, r.relkind, r.relnatts, r.relchecks, r.relrowsecurity, r.relforcerowsecurity, r.relreplident, r.relispartition,
	r.relacl, r.reloptions, r.relpartbound)) AS xmin FROM pg_catalog.pg_class r
	WHERE r.relpersistence <> 't' AND r.oid >= 16384 AND r.relnamespace NOT IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('tidemark', 'pg_toast'))) c`

// ownedBy names the columns that tell whose a row is: a relation's or a schema's.
var ownedBy = map[string]string{
	"pg_attribute": "attrelid", "pg_attrdef": "adrelid", "pg_index": "indrelid", "pg_sequence": "seqrelid",
	"pg_constraint": "connamespace", "pg_type": "typnamespace", "pg_proc": "pronamespace", "pg_namespace": "oid",
	"pg_rewrite": "ev_class",
}

// notOurs keeps what is neither of TOAST tables, whose indexes are made anew with them, nor Tidemark's own.
func notOurs(column string) string {
	own := "SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('tidemark', 'pg_toast')"
	if strings.HasSuffix(column, "relid") || column == "ev_class" {
		own = "SELECT r.oid FROM pg_catalog.pg_class r WHERE r.relnamespace IN (" + own + ")"
	}
	return "c." + column + " NOT IN (" + own + ")"
}

// SchemaFingerprint sums up the schema as it is now, for comparing with later: it differs after every
// statement that changes what a base snapshot's schema holds, the capture of schema changes itself and
// temporary objects left out, and is the same after TRUNCATE, ANALYZE and what else leaves the schema alone. It
// reads the catalogs once.
func SchemaFingerprint(ctx context.Context, conn *pgx.Conn, version int) (string, error) {
	readable, err := readableCatalogs(ctx, conn)
	if err != nil {
		return "", err
	}
	var parts []string
	for _, k := range schemaCatalogs {
		if k.since > version || !readable[k.catalog] {
			continue
		}
		from := k.from()
		switch k.catalog {
		case "pg_class":
			from = "FROM " + lastingTables
		case "pg_event_trigger", "pg_publication", "pg_publication_rel", "pg_publication_namespace", "pg_init_privs":
			continue // watched by themselves; the last changes with extensions
		}
		if column, ok := ownedBy[k.catalog]; ok {
			from += " AND " + notOurs(column)
		}
		parts = append(parts, fmt.Sprintf("SELECT '%s', format('%%s %%s', count(*), sum(hashtextextended(%s || ' ' || c.xmin::text, 0)::numeric)) %s", k.catalog, k.key, from))
	}
	rows, err := conn.Query(ctx, strings.Join(parts, "\nUNION ALL "))
	if err != nil {
		return "", sqlFault(err, "reading the catalogs")
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (line string, err error) {
		var catalog, sum string
		err = row.Scan(&catalog, &sum)
		return catalog + " " + sum, err
	})
	if err != nil {
		return "", sqlFault(err, "reading the catalogs")
	}
	slices.Sort(lines)
	hash := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(hash[:16]), nil
}
