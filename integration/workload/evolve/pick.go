package evolve

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// picked is an object that a template was filled with. Names are quoted.
type picked struct {
	relation uint32 // of the relation that the object is or belongs to; 0 for none
	schema   string // "" for what has no schema, or is never qualified
	name     string
	on       string // the qualified name of the relation it belongs to, or another name that goes with it
}

// fixed are the objects that changes leave alone, since the forms need them.
const fixed = `('wish', 'grant_wish', 'wish_pkey', 'wish_id_seq', 'base', 'loose', 'mood', 'pair', 'positive', 'counter', 'touch', 'twice', 'noted', 'noted_pkey', 'noted_n_seq', 'note', 'comment')`

// own restricts objects to those of the user: not the system's, not Tidemark's, not an extension's.
func own(class, oid, namespace, name string) string {
	return fmt.Sprintf(`%[3]s.nspname !~ '^pg_' AND %[3]s.nspname NOT IN ('information_schema', 'tidemark', 'public', 'shop', 'events')
		AND NOT (%[3]s.nspname = 'play' AND %[4]s IN %[5]s)
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.%[1]s'::regclass AND e.objid = %[2]s AND e.deptype = 'e')`,
		class, oid, namespace, name, fixed)
}

// relations selects relations by a condition on c.
func relations(condition string) string {
	return `SELECT c.oid, quote_ident(n.nspname), quote_ident(c.relname),
			coalesce((SELECT quote_ident(pn.nspname) || '.' || quote_ident(p.relname)
				FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
				JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid LIMIT 1), '')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE ` + own("pg_class", "c.oid", "n", "c.relname") + ` AND ` + condition
}

// parts selects what belongs to a relation: a name, and a condition on c (the relation) and x.
func parts(catalog, relid, name, condition string) string {
	return fmt.Sprintf(`SELECT c.oid, '', quote_ident(x.%[3]s), quote_ident(n.nspname) || '.' || quote_ident(c.relname)
		FROM pg_catalog.%[1]s x JOIN pg_catalog.pg_class c ON c.oid = x.%[2]s JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE %[4]s AND c.relpersistence = 'p' AND %[5]s`, catalog, relid, name, own("pg_class", "c.oid", "n", "c.relname"), condition)
}

// columns selects the columns of the relation that was picked last.
func columns(condition string) string {
	return `SELECT attrelid, '', quote_ident(attname), '' FROM pg_catalog.pg_attribute
		WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped AND ` + condition
}

func types(condition string) string {
	return `SELECT 0, quote_ident(n.nspname), quote_ident(t.typname),
			coalesce((SELECT quote_literal(enumlabel) FROM pg_catalog.pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder DESC LIMIT 1),
			         (SELECT quote_ident(attname) FROM pg_catalog.pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped LIMIT 1),
			         (SELECT quote_ident(conname) FROM pg_catalog.pg_constraint WHERE contypid = t.oid LIMIT 1), '')
		FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
		WHERE ` + own("pg_type", "t.oid", "n", "t.typname") + ` AND ` + condition
}

// routines leaves out what belongs to a range type: if its cast were VOLATILE, any change of a column's type would count as not exact.
func routines(condition string) string {
	return `SELECT 0, quote_ident(n.nspname), quote_ident(p.proname) || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')', ''
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE ` + own("pg_proc", "p.oid", "n", "p.proname") + ` AND p.proname NOT LIKE 'form%'
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i') AND ` + condition
}

// uniqueIndexes are indexes that identify the rows of a table, and no constraint's.
func uniqueIndexes(condition string) string {
	return `SELECT c.oid, '', quote_ident(i.relname), quote_ident(n.nspname) || '.' || quote_ident(c.relname)
		FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indrelid JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE x.indisunique AND x.indimmediate AND x.indpred IS NULL AND x.indexprs IS NULL AND x.indisvalid AND c.relkind = 'r' AND c.relpersistence = 'p'
		  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = x.indexrelid)
		  AND ` + own("pg_class", "c.oid", "n", "c.relname") + " AND " + condition
}

// topLevel is a table that is neither partition nor partitioned.
const topLevel = `c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relispartition`

// writable are tables whose rows may be written. Where triggers don't fire a foreign key keeps nothing out: rows that
// break it would come into the source, and no restore would take them.
const writable = `c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
	AND (pg_catalog.current_setting('session_replication_role') <> 'replica' OR NOT c.relhassubclass)
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND c.oid IN (k.conrelid, k.confrelid)
		AND (pg_catalog.current_setting('session_replication_role') = 'replica'
			OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgconstraint = k.oid AND g.tgenabled = 'D')))`

// pickers are the queries behind the placeholders of templates: relation's OID, schema, name, and a name
// that goes with it. $1 is the relation that was picked last; queries that don't need it leave it unused.
var pickers = map[string]string{
	"table":       relations(topLevel),
	"anytable":    relations(`c.relkind IN ('r', 'p') AND c.relpersistence = 'p'`),
	"writable":    relations(writable),
	"keyed":       relations(`c.relkind = 'r' AND c.relpersistence = 'p' AND EXISTS (SELECT FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1] WHERE k.conrelid = c.oid AND k.contype = 'p' AND cardinality(k.conkey) = 1 AND a.atttypid IN (20, 21, 23))`),
	"plain":       relations(topLevel + ` AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))`),
	"child":       relations(topLevel + ` AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid = i.inhrelid)`),
	"ranged":      relations(`c.relkind = 'p' AND pg_catalog.pg_get_partkeydef(c.oid) = 'RANGE (id)'`),
	"partitioned": relations(`c.relkind = 'p'`),
	"partition":   relations(`c.relispartition AND c.relkind IN ('r', 'p')`),
	"unlogged":    relations(`c.relkind = 'r' AND c.relpersistence = 'u'`),
	"view":        relations(`c.relkind = 'v'`),
	"matview":     relations(`c.relkind = 'm'`),
	"sequence":    relations(`c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('i', 'a'))`),
	"anysequence": relations(`c.relkind = 'S'`),
	"index":       relations(`c.relkind = 'i' AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = c.oid) AND NOT EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indexrelid = c.oid AND x.indisreplident)`),
	"anyindex":    relations(`c.relkind IN ('i', 'I') AND NOT c.relispartition`),

	"column":    columns(`attinhcount = 0`),
	"loosecol":  columns(`attinhcount = 0 AND attnum NOT IN (SELECT unnest(conkey) FROM pg_catalog.pg_constraint WHERE conrelid = $1::oid AND contype IN ('p', 'f'))`),
	"intcolumn": parts("pg_attribute", "attrelid", "attname", `x.atttypid IN (21, 23) AND x.attinhcount = 0 AND x.attgenerated = '' AND x.attnum > 0 AND c.relkind = 'r'`),
	"anyint":    columns(`atttypid IN (20, 21, 23)`),
	"textcol":   columns(`atttypid IN (25, 1043)`),
	"fixedlen":  parts("pg_attribute", "attrelid", "attname", `x.atttypid = 1043 AND x.attinhcount = 0 AND c.relkind = 'r'`),
	"identity":  parts("pg_attribute", "attrelid", "attname", `x.attidentity <> '' AND c.relkind = 'r'`),
	"bareint":   parts("pg_attribute", "attrelid", "attname", `x.atttypid IN (20, 21, 23) AND x.attnum > 0 AND x.attnotnull AND NOT x.atthasdef AND x.attidentity = '' AND x.attinhcount = 0 AND c.relkind = 'r'`),
	"generated": parts("pg_attribute", "attrelid", "attname", `x.attgenerated = 's' AND x.attinhcount = 0 AND c.relkind = 'r'`),
	"notnull":   parts("pg_attribute", "attrelid", "attname", `x.attnotnull AND x.attnum > 0 AND x.attinhcount = 0 AND x.attidentity = '' AND c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p' AND x.attnum = ANY (k.conkey))`),

	"constraint":  parts("pg_constraint", "conrelid", "conname", `x.contype IN ('c', 'f', 'u', 'x') AND x.coninhcount = 0`),
	"primary":     parts("pg_constraint", "conrelid", "conname", `x.contype = 'p' AND x.coninhcount = 0 AND NOT c.relispartition`),
	"foreign":     parts("pg_constraint", "conrelid", "conname", `x.contype = 'f' AND x.coninhcount = 0 AND x.conparentid = 0`),
	"notvalid":    parts("pg_constraint", "conrelid", "conname", `NOT x.convalidated`),
	"trigger":     parts("pg_trigger", "tgrelid", "tgname", `NOT x.tgisinternal AND x.tgparentid = 0`),
	"rule":        parts("pg_rewrite", "ev_class", "rulename", `x.rulename <> '_RETURN'`),
	"policy":      parts("pg_policy", "polrelid", "polname", `true`),
	"uniqueindex": uniqueIndexes("true"),
	// CLUSTER, which no event trigger sees, takes away the TOAST table that no column needs any more, with its storage parameters.
	"clusterable": uniqueIndexes(`EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid = 25 AND a.attstorage <> 'p' AND NOT a.attisdropped)`),
	"detached": `SELECT c.oid, quote_ident(n.nspname), quote_ident(c.relname), '' FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname LIKE 'detached%' AND c.relkind = 'r' AND NOT c.relispartition`,
	"statistics": `SELECT x.stxrelid, quote_ident(n.nspname), quote_ident(x.stxname), '' FROM pg_catalog.pg_statistic_ext x
		JOIN pg_catalog.pg_namespace n ON n.oid = x.stxnamespace WHERE n.nspname !~ '^pg_'`,

	"enum":        types(`t.typtype = 'e'`),
	"composite":   types(`t.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.oid = t.typrelid AND r.relkind = 'c')`),
	"domain":      types(`t.typtype = 'd'`),
	"constrained": types(`t.typtype = 'd' AND EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contypid = t.oid)`),
	"range":       types(`t.typtype = 'r'`),
	"anytype":     types(`(t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.oid = t.typrelid AND r.relkind = 'c'))`),
	"function":    routines(`p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype AND p.prorettype <> 'event_trigger'::regtype`),
	"procedure":   routines(`p.prokind = 'p'`),
	"aggregate":   routines(`p.prokind = 'a'`),
	"trigfunc":    routines(`p.prorettype = 'trigger'::regtype`),
	"extension":   `SELECT 0, '', quote_ident(extname), '' FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'`,
	"schema": `SELECT 0, '', quote_ident(nspname), '' FROM pg_catalog.pg_namespace
		WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'tidemark', 'public', 'shop', 'events')`,
	"extraschema":  `SELECT 0, '', quote_ident(nspname), '' FROM pg_catalog.pg_namespace WHERE nspname LIKE 'extra%'`,
	"server":       `SELECT 0, '', quote_ident(srvname), '' FROM pg_catalog.pg_foreign_server`,
	"publication":  `SELECT 0, '', quote_ident(pubname), '' FROM pg_catalog.pg_publication WHERE NOT puballtables AND pubname !~ '^tidemark'`,
	"foreigntable": relations(`c.relkind = 'f'`),
}

// pick chooses one of a placeholder's objects, or says with ok that there is none. Which one depends on
// what exists and on the seed alone.
func (s *session) pick(ctx context.Context, placeholder string, relation uint32) (p picked, ok bool, err error) {
	sql := "SELECT * FROM (" + pickers[placeholder] + `) x (relation, schema, name, "on") ORDER BY schema COLLATE "C", name COLLATE "C", "on" COLLATE "C"`
	var all [][][]byte
	if strings.Contains(sql, "$1") {
		all, err = s.prepared(ctx, "pick "+placeholder, sql, fmt.Sprint(relation))
	} else {
		all, err = s.prepared(ctx, "pick "+placeholder, sql)
	}
	if err != nil {
		return p, false, fmt.Errorf("picking a %s: %w", placeholder, err)
	}
	if len(all) == 0 {
		return p, false, nil
	}
	row := all[s.rng.IntN(len(all))]
	oid, err := strconv.ParseUint(string(row[0]), 10, 32)
	return picked{relation: uint32(oid), schema: string(row[1]), name: string(row[2]), on: string(row[3])}, true, err
}
