package basesnapshot

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A snapshot fixes rows, not the catalogs that server functions, pg_dump among their callers, look into: DDL
// that commits after the point mixes old and new. Each row of a catalog has its (key, xmin); equal sets of
// them under the snapshot and now mean that nothing that was read in between had changed.

// ChangedError says that the schema changed while it was being read. The snapshot is begun again.
type ChangedError struct {
	Object string // what changed, for people
	Reason string
}

// Error names the object and what happened to it.
func (e *ChangedError) Error() string { return e.Object + " " + e.Reason }

// catalogKey is how the rows of one catalog are told apart, and which rows don't count.
type catalogKey struct {
	catalog string
	key     string // SQL expression over the alias c
	where   string
	since   int // server_version_num
}

// Objects of temporary schemas come and go all the time and are in no dump.
const (
	lastingRelation  = "EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.oid = c.%s AND r.relpersistence <> 't')"
	lastingNamespace = "c.%s NOT IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname ~ '^pg_(toast_)?temp_')"
)

func ofRelation(column string) string  { return fmt.Sprintf(lastingRelation, column) }
func ofNamespace(column string) string { return fmt.Sprintf(lastingNamespace, column) }

// schemaCatalogs are the catalogs that pg_dump's output is made of. Of pg_depend only what belongs to extensions: the
// rest follows from the others. Left out: statistics, large objects (never in an archive), and pg_subscription and pg_user_mapping where the role may not read them.
var schemaCatalogs = []catalogKey{
	{"pg_class", "c.oid::text", "c.relpersistence <> 't'", 0},
	{"pg_attribute", "c.attrelid || ' ' || c.attnum", ofRelation("attrelid"), 0},
	{"pg_attrdef", "c.oid::text", ofRelation("adrelid"), 0},
	{"pg_constraint", "c.oid::text", ofNamespace("connamespace"), 0},
	{"pg_index", "c.indexrelid::text", ofRelation("indrelid"), 0},
	{"pg_inherits", "c.inhrelid || ' ' || c.inhparent", ofRelation("inhrelid"), 0},
	{"pg_partitioned_table", "c.partrelid::text", ofRelation("partrelid"), 0},
	{"pg_sequence", "c.seqrelid::text", ofRelation("seqrelid"), 0},
	{"pg_trigger", "c.oid::text", ofRelation("tgrelid"), 0},
	{"pg_rewrite", "c.oid::text", ofRelation("ev_class"), 0},
	{"pg_policy", "c.oid::text", ofRelation("polrelid"), 0},
	{"pg_foreign_table", "c.ftrelid::text", "", 0},
	{"pg_type", "c.oid::text", ofNamespace("typnamespace"), 0},
	{"pg_enum", "c.oid::text", "", 0},
	{"pg_range", "c.rngtypid::text", "", 0},
	{"pg_proc", "c.oid::text", ofNamespace("pronamespace"), 0},
	{"pg_aggregate", "c.aggfnoid::oid::text", "", 0},
	{"pg_operator", "c.oid::text", "", 0},
	{"pg_opclass", "c.oid::text", "", 0},
	{"pg_opfamily", "c.oid::text", "", 0},
	{"pg_amop", "c.oid::text", "", 0},
	{"pg_amproc", "c.oid::text", "", 0},
	{"pg_am", "c.oid::text", "", 0},
	{"pg_cast", "c.oid::text", "", 0},
	{"pg_collation", "c.oid::text", "", 0},
	{"pg_conversion", "c.oid::text", "", 0},
	{"pg_namespace", "c.oid::text", "c.nspname !~ '^pg_(toast_)?temp_'", 0},
	{"pg_language", "c.oid::text", "", 0},
	{"pg_transform", "c.oid::text", "", 0},
	{"pg_extension", "c.oid::text", "", 0},
	{"pg_depend", "c.classid || ' ' || c.objid || ' ' || c.refobjid || ' ' || c.deptype::text", "c.refclassid = 'pg_catalog.pg_extension'::regclass AND c.deptype IN ('e', 'x')", 0},
	{"pg_event_trigger", "c.oid::text", "", 0},
	{"pg_foreign_data_wrapper", "c.oid::text", "", 0},
	{"pg_foreign_server", "c.oid::text", "", 0},
	{"pg_user_mapping", "c.oid::text", "", 0},
	{"pg_subscription", "c.oid::text", "", 0},
	{"pg_statistic_ext", "c.oid::text", "", 0},
	{"pg_publication", "c.oid::text", "", 0},
	{"pg_publication_rel", "c.oid::text", "", 0},
	{"pg_publication_namespace", "c.oid::text", "", 150000},
	{"pg_ts_config", "c.oid::text", "", 0},
	{"pg_ts_config_map", "c.mapcfg || ' ' || c.maptokentype || ' ' || c.mapseqno", "", 0},
	{"pg_ts_dict", "c.oid::text", "", 0},
	{"pg_ts_parser", "c.oid::text", "", 0},
	{"pg_ts_template", "c.oid::text", "", 0},
	{"pg_default_acl", "c.oid::text", "", 0},
	{"pg_init_privs", "c.classoid || ' ' || c.objoid || ' ' || c.objsubid", "", 0},
	{"pg_description", "c.classoid || ' ' || c.objoid || ' ' || c.objsubid", "", 0},
	{"pg_seclabel", "c.classoid || ' ' || c.objoid || ' ' || c.objsubid || ' ' || c.provider", "", 0},
}

// valueCatalogs are those that the text form of values depends on: labels of enumerations, and the columns of
// row types (a column's type is an attribute's; that of a table may get columns while it is used). Rows that
// were added since don't matter, rows that changed or went do.
var valueCatalogs = []catalogKey{
	{"pg_enum", "c.oid::text", "", 0},
	{"pg_type", "c.oid::text", "c.typtype IN ('e', 'd', 'r', 'm') OR c.typtype = 'b' AND c.typelem = 0", 0},
	{rowTypes, "c.oid::text", "", 0},
}

// rowTypes stands for the relations whose row types are used, by columns or inside composite types, with an xmin
// that sums up their columns'.
const rowTypes = `(SELECT r.oid, md5(string_agg(b.attnum || ' ' || b.xmin::text, ',' ORDER BY b.attnum)) AS xmin
	FROM pg_catalog.pg_class r JOIN pg_catalog.pg_attribute b ON b.attrelid = r.oid AND b.attnum > 0
	WHERE r.reltype IN (SELECT coalesce(nullif(t.typelem, 0), t.oid) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid >= 16384 AND a.attnum > 0)
	GROUP BY r.oid)`

func (k catalogKey) from() string {
	from := "FROM pg_catalog." + k.catalog + " c"
	if k.catalog == rowTypes {
		from = "FROM " + rowTypes + " c"
	}
	if k.where != "" {
		from += " WHERE " + k.where
	}
	return from
}

// fingerprint is a catalog's count and sum of row hashes, by catalog.
type fingerprint map[string]string

// takeFingerprint reads the catalogs as the session sees them: in a repeatable read transaction as of its
// snapshot, otherwise as they are now.
func takeFingerprint(ctx context.Context, conn *pgx.Conn, version int) (fingerprint, error) {
	readable, err := readableCatalogs(ctx, conn)
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, k := range schemaCatalogs {
		if k.since <= version && readable[k.catalog] {
			parts = append(parts, fmt.Sprintf("SELECT '%s', format('%%s %%s', count(*), sum(hashtextextended(%s || ' ' || c.xmin::text, 0)::numeric)) %s",
				k.catalog, k.key, k.from()))
		}
	}
	rows, err := conn.Query(ctx, strings.Join(parts, "\nUNION ALL "))
	if err != nil {
		return nil, sqlFault(err, "reading the catalogs")
	}
	f := fingerprint{}
	var catalog, sum string
	if _, err := pgx.ForEachRow(rows, []any{&catalog, &sum}, func() error { f[catalog] = sum; return nil }); err != nil {
		return nil, sqlFault(err, "reading the catalogs")
	}
	return f, nil
}

func readableCatalogs(ctx context.Context, conn *pgx.Conn) (map[string]bool, error) {
	rows, err := conn.Query(ctx, `SELECT c.relname::text FROM pg_catalog.pg_class c
		WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r' AND has_table_privilege(c.oid, 'SELECT')`)
	if err != nil {
		return nil, sqlFault(err, "reading the catalogs")
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, sqlFault(err, "reading the catalogs")
	}
	readable := map[string]bool{}
	for _, n := range names {
		readable[n] = true
	}
	return readable, nil
}

// schemaUnchanged compares the catalogs under the snapshot (then, read through main) with now, through monitor.
// A difference is a *ChangedError that names one object.
func schemaUnchanged(ctx context.Context, main, monitor *pgx.Conn, version int, then fingerprint) error {
	now, err := takeFingerprint(ctx, monitor, version)
	if err != nil {
		return err
	}
	var differing []catalogKey
	for _, k := range schemaCatalogs {
		if then[k.catalog] != now[k.catalog] {
			differing = append(differing, k)
		}
	}
	// pg_class and pg_attribute know names that people know; others may only have numbers.
	for _, k := range differing {
		var before map[string]string
		err := briefly(ctx, main, func() (err error) {
			before, err = catalogRows(ctx, main, k)
			return err
		})
		if err != nil {
			return err
		}
		after, err := catalogRows(ctx, monitor, k)
		if err != nil {
			return err
		}
		if changed := describeDifference(ctx, main, monitor, k, before, after, true); changed != nil {
			return changed
		}
	}
	if len(differing) > 0 {
		return &ChangedError{Object: "the schema (" + differing[0].catalog + ")", Reason: "changed while it was dumped"}
	}
	return nil
}

// catalogRows reads a catalog as key -> xmin.
func catalogRows(ctx context.Context, conn *pgx.Conn, k catalogKey) (map[string]string, error) {
	rows, err := conn.Query(ctx, "SELECT "+k.key+", c.xmin::text "+k.from())
	if err != nil {
		return nil, sqlFault(err, "reading the catalogs")
	}
	m := map[string]string{}
	var key, xmin string
	if _, err := pgx.ForEachRow(rows, []any{&key, &xmin}, func() error { m[key] = xmin; return nil }); err != nil {
		return nil, sqlFault(err, "reading the catalogs")
	}
	return m, nil
}

// describeDifference names a row that differs; additions count only if added is set. nil: none.
func describeDifference(ctx context.Context, main, monitor *pgx.Conn, k catalogKey, before, after map[string]string, added bool) *ChangedError {
	var changed, gone, fresh []string
	for key, xmin := range before {
		if now, ok := after[key]; !ok {
			gone = append(gone, key)
		} else if now != xmin {
			changed = append(changed, key)
		}
	}
	if added {
		for key := range after {
			if _, ok := before[key]; !ok {
				fresh = append(fresh, key)
			}
		}
	}
	for _, d := range []struct {
		keys   []string
		conn   *pgx.Conn
		reason string
	}{{changed, monitor, "changed"}, {gone, main, "was dropped"}, {fresh, monitor, "was created"}} {
		if len(d.keys) > 0 {
			sort.Strings(d.keys)
			return &ChangedError{Object: describeRow(ctx, d.conn, k, d.keys[0]), Reason: d.reason}
		}
	}
	return nil
}

// describeRow names a catalog row for people; where the server can't, by catalog and key.
func describeRow(ctx context.Context, conn *pgx.Conn, k catalogKey, key string) string {
	fallback := k.catalog + " " + key
	if k.catalog == rowTypes {
		fallback = "row type " + key
	}
	fields := strings.Fields(key)
	class, object, sub := "pg_catalog."+k.catalog, fields[0], "0"
	switch k.catalog {
	case "pg_attribute":
		class, sub = "pg_catalog.pg_class", fields[1]
	case rowTypes:
		class = "pg_catalog.pg_class"
	case "pg_index", "pg_inherits", "pg_partitioned_table", "pg_sequence", "pg_foreign_table":
		class = "pg_catalog.pg_class"
	case "pg_enum":
		var name string
		err := conn.QueryRow(ctx, "SELECT format('type %s.%s', n.nspname, t.typname) FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE e.oid = "+object).Scan(&name)
		if err == nil {
			return name
		}
		return fallback
	case "pg_range":
		class = "pg_catalog.pg_type"
	case "pg_aggregate":
		class = "pg_catalog.pg_proc"
	case "pg_description", "pg_init_privs", "pg_seclabel":
		return fallback
	}
	var name *string
	err := conn.QueryRow(ctx, fmt.Sprintf("SELECT pg_catalog.pg_describe_object('%s'::regclass, %s, %s)", class, object, sub)).Scan(&name)
	if err != nil || name == nil || *name == "" {
		return fallback
	}
	return *name
}

// valueForms is what the text form of values depends on, under the snapshot.
type valueForms map[string]map[string]string

func readValueForms(ctx context.Context, conn *pgx.Conn) (valueForms, error) {
	forms := valueForms{}
	for _, k := range valueCatalogs {
		rows, err := catalogRows(ctx, conn, k)
		if err != nil {
			return nil, err
		}
		forms[k.catalog] = rows
	}
	return forms, nil
}

// valueFormsUnchanged checks after the last row that types still print as they did.
func valueFormsUnchanged(ctx context.Context, main, monitor *pgx.Conn, then valueForms) error {
	now, err := readValueForms(ctx, monitor)
	if err != nil {
		return err
	}
	for _, k := range valueCatalogs {
		if changed := describeDifference(ctx, main, monitor, k, then[k.catalog], now[k.catalog], false); changed != nil {
			return changed
		}
	}
	return nil
}

// isChanged reports whether the snapshot has to be begun again.
func isChanged(err error) bool {
	_, ok := errors.AsType[*ChangedError](err)
	return ok
}
