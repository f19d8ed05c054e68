package basesnapshot

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// lasting are the parts of a schema that nothing but statements about it change: not what TRUNCATE, VACUUM FULL, REINDEX,
// CLUSTER, ANALYZE and what is temporary do. So they hold a row's content where its xmin changes for other reasons, indexes by name, as
// REINDEX CONCURRENTLY makes new ones, and only valid ones. Left out is also what event triggers are not told of and the archiver watches by
// itself (publications, event triggers), and the schema tidemark. r are the relations, n the schemas of the rest.
var lasting = map[string]string{
	"relations": `SELECT concat_ws('/', r.oid, r.relname, r.relnamespace, r.reloftype, r.relowner, r.relam, r.relpersistence, r.relkind, r.relnatts, r.relrowsecurity,
		r.relforcerowsecurity, r.relreplident, r.relispartition, r.relacl, r.reloptions, r.relpartbound) FROM r`,
	"columns":  `SELECT ` + lastingColumn + ` FROM pg_attribute a JOIN r ON r.oid = a.attrelid WHERE a.attnum > 0`,
	"defaults": `SELECT concat_ws('/', d.oid, d.xmin) FROM pg_attrdef d JOIN r ON r.oid = d.adrelid`,
	"constraints": `SELECT ` + lastingConstraint + ` FROM pg_constraint o JOIN n ON n.oid = o.connamespace
		WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = o.conrelid AND i.inhdetachpending)`,
	"indexes": `SELECT concat_ws('/', i.indrelid, x.relname, x.relowner, x.reloptions, i.indkey, i.indclass, i.indisunique, i.indisprimary, i.indisexclusion, i.indimmediate, i.indisreplident, i.indexprs IS NULL, i.indpred IS NULL)
		FROM pg_index i JOIN r ON r.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indisvalid OR x.relkind = 'I'`,
	"inheritance":        `SELECT concat_ws('/', i.inhrelid, i.inhparent, i.inhseqno) FROM pg_inherits i JOIN r ON r.oid = i.inhrelid`,
	"sequences":          `SELECT concat_ws('/', s.seqrelid, s.xmin) FROM pg_sequence s JOIN r ON r.oid = s.seqrelid`,
	"triggers":           `SELECT concat_ws('/', g.oid, g.tgrelid, g.tgname, g.tgfoid, g.tgenabled, g.tgtype) FROM pg_trigger g JOIN r ON r.oid = g.tgrelid`,
	"rules":              `SELECT concat_ws('/', w.oid, w.xmin) FROM pg_rewrite w JOIN r ON r.oid = w.ev_class`,
	"policies":           `SELECT concat_ws('/', p.oid, p.xmin) FROM pg_policy p JOIN r ON r.oid = p.polrelid`,
	"statistics":         `SELECT concat_ws('/', s.oid, s.xmin) FROM pg_statistic_ext s JOIN r ON r.oid = s.stxrelid`,
	"schemas":            `SELECT concat_ws('/', c.oid, c.xmin) FROM pg_namespace c JOIN n ON n.oid = c.oid`,
	"types":              `SELECT concat_ws('/', t.oid, t.xmin) FROM pg_type t JOIN n ON n.oid = t.typnamespace`,
	"labels":             `SELECT concat_ws('/', e.oid, e.xmin) FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN n ON n.oid = t.typnamespace`,
	"functions":          `SELECT concat_ws('/', p.oid, p.xmin) FROM ` + lastingRoutines,
	"operators":          `SELECT concat_ws('/', o.oid, o.xmin) FROM pg_operator o JOIN n ON n.oid = o.oprnamespace`,
	"collations":         `SELECT concat_ws('/', o.oid, o.xmin) FROM pg_collation o JOIN n ON n.oid = o.collnamespace`,
	"extensions":         `SELECT concat_ws('/', e.oid, e.xmin) FROM pg_extension e`,
	"servers":            `SELECT concat_ws('/', s.oid, s.xmin) FROM pg_foreign_server s`,
	"default privileges": `SELECT concat_ws('/', d.oid, d.xmin) FROM pg_default_acl d`,
	"comments":           `SELECT concat_ws('/', d.objoid, d.objsubid, d.description) FROM pg_description d JOIN r ON r.oid = d.objoid WHERE d.classoid = 'pg_class'::regclass`,
}

const lastingColumn = `concat_ws('/', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attidentity, a.attgenerated, a.attisdropped, a.attstattarget,
		a.attstorage, a.attcompression, a.attcollation, a.attacl, a.attoptions)`

const lastingConstraint = `concat_ws('/', o.oid, o.conname, o.contype, o.condeferrable, o.condeferred, o.convalidated, o.conrelid, o.contypid, o.connoinherit, o.conkey, o.confrelid)`

// lastingRoutines are those that take and return no type of a temporary schema: others go with that.
const lastingRoutines = `pg_proc p JOIN n ON n.oid = p.pronamespace
		WHERE NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = ANY (p.proallargtypes || p.proargtypes::oid[] || p.prorettype) AND t.typnamespace NOT IN (SELECT n.oid FROM n))`

const lastingFrom = `WITH n AS MATERIALIZED (SELECT n.oid FROM pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp_|toast_temp_)' AND n.nspname <> 'tidemark'),
r AS MATERIALIZED (SELECT r.*, r.xmin FROM pg_class r JOIN n ON n.oid = r.relnamespace WHERE r.relpersistence <> 't' AND r.oid >= 16384 AND r.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c'))
`

// LastingFingerprint sums up each part of the schema, as committed now, by what is not changed by anything but statements about it.
func LastingFingerprint(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(lasting)) {
		parts = append(parts, fmt.Sprintf("SELECT '%s', (SELECT concat(count(*), ' ', sum(hashtextextended(x.t, 0)::numeric)) FROM (%s) x(t))", name, lasting[name]))
	}
	rows, err := conn.Query(ctx, lastingFrom+strings.Join(parts, "\nUNION ALL "))
	if err != nil {
		return nil, sqlFault(err, "reading the catalogs")
	}
	sums := make(map[string]string, len(parts))
	var name, sum string
	if _, err := pgx.ForEachRow(rows, []any{&name, &sum}, func() error { sums[name] = sum; return nil }); err != nil {
		return nil, sqlFault(err, "reading the catalogs")
	}
	return sums, nil
}
