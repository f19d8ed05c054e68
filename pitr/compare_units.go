package pitr

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/sqltext"
	"tidemark/pitr/session"
	"tidemark/segment"
)

// unit is a table that is compared: an ordinary one, or a partitioned one with all its partitions.
type unit struct {
	namespace, name string
	sql             string       // quoted
	from            string       // what rows are read from
	columns         []unitColumn // that both sides have, in the archive's order; generated ones too
	key             []int        // indexes into columns; none: rows are matched by all of them
	whole           bool         // the key is one whole number: both sides sort by it as it is
	diff            TableDifference
}

// unitColumn is a column that both sides have.
type unitColumn struct {
	name      string
	generated bool // on the live side: it can't be written
}

// relationsQuery lists tables that hold rows of their own, and partitioned ones, each with the names of the
// partitioned tables above it.
const relationsQuery = `
select n.nspname, c.relname, c.relkind::text, coalesce((select pg_catalog.json_agg(pg_catalog.json_build_array(an.nspname, ac.relname))
  from pg_catalog.pg_partition_ancestors(c.oid) a join pg_catalog.pg_class ac on ac.oid = a.relid join pg_catalog.pg_namespace an on an.oid = ac.relnamespace
  where c.relispartition and a.relid <> c.oid)::text, '[]')
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'tidemark', '` + unfinishedSchema + `')
  and not exists (select from pg_catalog.pg_depend e where e.classid = 'pg_catalog.pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
order by n.nspname collate "C", c.relname collate "C"`

// relation is a row of relationsQuery.
type relation struct{ namespace, name, kind string }

// relations lists the tables of a side to compare. A partition goes with its partitioned table where that one
// is chosen, too.
func (c *comparison) relations(ctx context.Context, conn *pgconn.PgConn) ([]relation, error) {
	rows, err := session.Rows(ctx, conn, relationsQuery)
	if err != nil {
		return nil, err
	}
	var out []relation
	for _, r := range rows {
		var roots [][2]string
		if err := json.Unmarshal([]byte(r[3]), &roots); err != nil {
			return nil, err
		}
		above := slices.ContainsFunc(roots, func(n [2]string) bool { return c.filter.match(n[0], n[1]) })
		if c.filter.match(r[0], r[1]) && !above {
			out = append(out, relation{r[0], r[1], r[2]})
		}
	}
	return out, nil
}

// units pairs the tables of both sides.
func (c *comparison) units(ctx context.Context, archived, live *pgconn.PgConn) ([]*unit, error) {
	left, err := c.relations(ctx, archived)
	if err != nil {
		return nil, err
	}
	right, err := c.relations(ctx, live)
	if err != nil {
		return nil, err
	}
	var out []*unit
	for _, rel := range left {
		u := newUnit(rel)
		if err := u.describe(ctx, archived, live); err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	for _, rel := range right {
		if !slices.ContainsFunc(left, func(l relation) bool { return l.namespace == rel.namespace && l.name == rel.name }) {
			u := newUnit(rel)
			u.diff.OnlyLive = true
			out = append(out, u)
		}
	}
	return out, nil
}

func newUnit(rel relation) *unit {
	u := &unit{namespace: rel.namespace, name: rel.name, sql: sqltext.QuoteName(rel.namespace, rel.name)}
	u.from = "ONLY " + u.sql
	if rel.kind == "p" {
		u.from = u.sql
	}
	u.diff = TableDifference{Table: segment.QualifiedName(rel.namespace, rel.name), Key: []string{}}
	return u
}

// sideColumn is a column as one side has it.
type sideColumn struct {
	name             string
	whole, generated bool
}

const unitColumnsQuery = `
select a.attname, (a.attnotnull and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype))::int::text, (a.attgenerated <> '')::int::text
from pg_catalog.pg_attribute a where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum`

func sideColumns(ctx context.Context, conn *pgconn.PgConn, table string) ([]sideColumn, error) {
	rows, err := session.Rows(ctx, conn, unitColumnsQuery, table)
	if err != nil {
		return nil, err
	}
	var out []sideColumn
	for _, r := range rows {
		out = append(out, sideColumn{r[0], r[1] == "1", r[2] == "1"})
	}
	return out, nil
}

// describe finds the columns to compare and the key to match rows by.
func (u *unit) describe(ctx context.Context, archived, live *pgconn.PgConn) error {
	left, err := sideColumns(ctx, archived, u.sql)
	if err != nil {
		return err
	}
	found, err := session.Value(ctx, live, "select relkind::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')", u.namespace, u.name)
	if err != nil {
		return err
	}
	if found == "" {
		u.diff.OnlyArchive = true
		return nil
	}
	right, err := sideColumns(ctx, live, u.sql)
	if err != nil {
		return err
	}
	key, err := keyOf(ctx, archived, u.sql)
	if err != nil {
		return err
	}
	u.pair(left, right, key)
	return nil
}

// pair takes the columns that both sides have.
func (u *unit) pair(left, right []sideColumn, key []string) {
	wholes := map[string]bool{}
	for _, l := range left {
		i := slices.IndexFunc(right, func(r sideColumn) bool { return r.name == l.name })
		if i < 0 {
			u.diff.ArchiveColumns = append(u.diff.ArchiveColumns, l.name)
			continue
		}
		u.columns = append(u.columns, unitColumn{l.name, right[i].generated})
		wholes[l.name] = l.whole && right[i].whole
	}
	for _, r := range right {
		if !slices.ContainsFunc(left, func(l sideColumn) bool { return l.name == r.name }) {
			u.diff.LiveColumns = append(u.diff.LiveColumns, r.name)
		}
	}
	for _, name := range key {
		i := slices.IndexFunc(u.columns, func(c unitColumn) bool { return c.name == name })
		if i < 0 {
			u.key = nil
			return // the live table lost its key: by all values
		}
		u.key = append(u.key, i)
	}
	u.whole = len(key) == 1 && wholes[key[0]]
	u.diff.Key = append(u.diff.Key, key...)
}

// keyOf gives the columns of the primary key or another unique index on columns that are never null; none if
// there is none.
func keyOf(ctx context.Context, conn *pgconn.PgConn, table string) ([]string, error) {
	rows, err := session.Rows(ctx, conn, `
with best as (
  select i.indrelid, i.indkey::int2[] as keys, i.indnkeyatts from pg_catalog.pg_index i
  where i.indrelid = $1::regclass and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
    and not exists (select from unnest(i.indkey::int2[]) with ordinality k(n, ord) join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n
      where k.ord <= i.indnkeyatts and not a.attnotnull)
  order by i.indisprimary desc, i.indisreplident desc, i.indnkeyatts, i.indexrelid limit 1)
select a.attname from best b, unnest(b.keys) with ordinality k(n, ord) join pg_catalog.pg_attribute a on a.attnum = k.n
where a.attrelid = b.indrelid and k.ord <= b.indnkeyatts order by k.ord`, table)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range rows {
		out = append(out, r[0])
	}
	return out, nil
}

// query reads a side's rows in the order that both sides share. Its first column is what rows are matched by:
// a whole number, or the text of the key's values, or of all of them, in the order of their bytes.
func (u *unit) query() string {
	var matched, all []string
	for i, c := range u.columns {
		all = append(all, sqltext.QuoteIdent(c.name))
		if len(u.key) == 0 {
			matched = append(matched, sqltext.QuoteIdent(u.columns[i].name))
		}
	}
	for _, i := range u.key {
		matched = append(matched, sqltext.QuoteIdent(u.columns[i].name))
	}
	by := `ROW(` + strings.Join(matched, ", ") + `)::text COLLATE "C"`
	if u.whole {
		by = matched[0]
	}
	return "SELECT " + strings.Join(append([]string{by}, all...), ", ") + " FROM " + u.from + " ORDER BY 1"
}
