package basesnapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tidemark/internal/sqltext"

	"github.com/jackc/pgx/v5"
)

// CREATE TABLE ... INHERITS, which is how pg_dump makes a child, puts the parents' columns first. A child whose parent
// got a column later, or that was attached with INHERIT, has them in another order, and an INSERT that names no
// columns depends on it. Such a child is made with all its columns and attached afterwards, as pg_upgrade
// does; only a superuser can then say which of them it merely inherits (Inherited). So is one whose parents store a column of
// theirs in different ways, or give one that it merely inherits different defaults: CREATE TABLE ... INHERITS refuses that.

// Inherited names what a table has from its parents only, where its SQL defines it all.
type Inherited struct {
	Columns     []string `json:"columns,omitempty"`
	Constraints []string `json:"constraints,omitempty"`
}

// family is a table in an inheritance tree, as the catalogs have it.
type family struct {
	Name
	parents []uint32 // in order; none for a table that is only a parent
	columns []familyColumn
	checks  []familyCheck // that it merely inherits
}

type familyColumn struct {
	name       string
	local      bool
	definition string // name, type, collation, expression
	notNull    bool
	generated  bool
	stored     string // attstorage and attcompression
	value      string // the default's or generated column's expression; "" for none
}

type familyCheck struct{ name, definition string }

// settleInheritance rewrites the items of children whose columns pg_dump's statement would put in another order, or which it
// could not make.
func settleInheritance(ctx context.Context, conn *pgx.Conn, items []SchemaItem) error {
	families, err := readFamilies(ctx, conn)
	if err != nil || len(families) == 0 {
		return err
	}
	byName := map[Name]*family{}
	for _, f := range families {
		if len(f.parents) > 0 && (!slices.Equal(f.names(), f.inheritedOrder(families)) || f.disagreeing(families)) {
			byName[f.Name] = f
		}
	}
	for i := range items {
		it := &items[i]
		if f := byName[Name{it.Namespace, it.Name}]; f != nil && (it.Kind == "TABLE" || it.Kind == "FOREIGN TABLE") {
			f.rewrite(it, families)
		}
	}
	return nil
}

func (f *family) names() []string {
	names := make([]string, len(f.columns))
	for i, c := range f.columns {
		names[i] = c.name
	}
	return names
}

// inheritedOrder is the order of columns that CREATE TABLE ... INHERITS gives (MergeAttributes in tablecmds.c).
func (f *family) inheritedOrder(families map[uint32]*family) []string {
	var order []string
	add := func(columns []familyColumn, want func(familyColumn) bool) {
		for _, c := range columns {
			if want(c) && !slices.Contains(order, c.name) {
				order = append(order, c.name)
			}
		}
	}
	for _, p := range f.parents {
		if parent := families[p]; parent != nil {
			add(parent.columns, func(familyColumn) bool { return true })
		}
	}
	add(f.columns, func(c familyColumn) bool { return c.local })
	return order
}

// disagreeing reports whether two parents store a column of the same name in different ways, or have different values for one that
// the child's statement doesn't define.
func (f *family) disagreeing(families map[uint32]*family) bool {
	stored, values := map[string]string{}, map[string]string{}
	for _, c := range f.columns {
		values[c.name] = ""
		if c.local {
			delete(values, c.name)
		}
	}
	for _, p := range f.parents {
		parent := families[p]
		if parent == nil {
			continue
		}
		for _, c := range parent.columns {
			if before, ok := stored[c.name]; ok && before != c.stored {
				return true
			}
			stored[c.name] = c.stored
			before, open := values[c.name]
			if open && before != "" && c.value != "" && before != c.value {
				return true
			}
			if open && c.value != "" {
				values[c.name] = c.value
			}
		}
	}
	return false
}

// rewrite makes the item's statement define every column, and attach the table to its parents at the end. A
// statement that doesn't look as expected stays as it is.
func (f *family) rewrite(it *SchemaItem, families map[uint32]*family) {
	head, elements, tail, ok := splitCreateTable(it.SQL)
	if !ok {
		return
	}
	inherits := "\nINHERITS ("
	if !strings.HasPrefix(tail, inherits) {
		return
	}
	end := closing(tail, len(inherits)-1)
	if end < 0 {
		return
	}
	defined := map[string]string{}
	var others []string
	for _, e := range elements {
		if name, ok := elementColumn(e); ok {
			defined[name] = e
		} else {
			others = append(others, e)
		}
	}
	var list []string
	var only Inherited
	for _, c := range f.columns {
		definition, there := defined[c.name]
		if !there || c.generated { // pg_dump leaves out an expression that a parent has too
			definition = c.definition
		}
		if c.local != there {
			return
		}
		if !c.local {
			only.Columns = append(only.Columns, c.name)
		}
		list = append(list, definition)
	}
	for _, c := range f.checks {
		only.Constraints = append(only.Constraints, c.name)
		others = append(others, "CONSTRAINT "+sqltext.QuoteIdent(c.name)+" "+c.definition)
	}
	it.SQL = head + "(\n    " + strings.Join(append(list, others...), ",\n    ") + "\n)" + tail[end+1:] + f.attach(it, families)
	it.Inherited = &only
}

// attach gives the statements that mark columns NOT NULL, which INHERIT wants of those that are so in a parent, and
// make the table a child.
func (f *family) attach(it *SchemaItem, families map[uint32]*family) string {
	alter := "\nALTER " + it.Kind + " ONLY " + sqltext.QuoteName(f.Namespace, f.Name.Name) + " "
	var sql strings.Builder
	for _, c := range f.columns {
		if c.notNull {
			sql.WriteString(alter + "ALTER COLUMN " + sqltext.QuoteIdent(c.name) + " SET NOT NULL;\n")
		}
	}
	for _, p := range f.parents {
		if parent := families[p]; parent != nil {
			sql.WriteString(alter + "INHERIT " + sqltext.QuoteName(parent.Namespace, parent.Name.Name) + ";\n")
		}
	}
	return sql.String()
}

// familiesSQL lists children (partitions apart) with their parents in order, and parents without.
const familiesSQL = `
WITH links AS (
  SELECT i.inhrelid, i.inhparent, i.inhseqno FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
  WHERE NOT c.relispartition AND c.relkind IN ('r', 'f') AND c.relpersistence <> 't')
SELECT c.oid, n.nspname::text, c.relname::text,
  ARRAY(SELECT l.inhparent FROM links l WHERE l.inhrelid = c.oid ORDER BY l.inhseqno)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (SELECT inhrelid FROM links UNION SELECT inhparent FROM links)`

// familyColumnsSQL gives the columns; the expressions are those of generated columns, defaults have items of their own.
const familyColumnsSQL = `
SELECT a.attrelid, a.attname::text, a.attislocal, a.attnotnull, pg_catalog.format_type(a.atttypid, a.atttypmod),
  CASE WHEN a.attcollation <> t.typcollation THEN (SELECT pg_catalog.format(' COLLATE %I.%I', n.nspname, l.collname)
    FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) ELSE '' END,
  CASE a.attgenerated WHEN '' THEN '' ELSE ' GENERATED ALWAYS AS (' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) || ')'
    || CASE a.attgenerated WHEN 's' THEN ' STORED' ELSE '' END END,
  a.attstorage::text || a.attcompression::text, coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum`

const familyChecksSQL = `
SELECT c.conrelid, c.conname::text, pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint c
WHERE c.conrelid = ANY($1::oid[]) AND c.contype IN ('c', 'n') AND NOT c.conislocal ORDER BY c.conrelid, c.conname`

// readFamilies reads all tables that inherit or are inherited from, by OID.
func readFamilies(ctx context.Context, conn *pgx.Conn) (map[uint32]*family, error) {
	families := map[uint32]*family{}
	rows, err := conn.Query(ctx, familiesSQL)
	if err != nil {
		return nil, sqlFault(err, "reading inheritance")
	}
	var oid uint32
	var name Name
	var parents []uint32
	_, err = pgx.ForEachRow(rows, []any{&oid, &name.Namespace, &name.Name, &parents}, func() error {
		families[oid] = &family{Name: name, parents: slices.Clone(parents)}
		return nil
	})
	if err != nil || len(families) == 0 {
		return nil, sqlFault(err, "reading inheritance")
	}
	if rows, err = conn.Query(ctx, familyColumnsSQL, keysOf(families)); err != nil {
		return nil, sqlFault(err, "reading inheritance")
	}
	var c familyColumn
	var kind, collation, expression string
	_, err = pgx.ForEachRow(rows, []any{&oid, &c.name, &c.local, &c.notNull, &kind, &collation, &expression, &c.stored, &c.value}, func() error {
		c.generated = expression != ""
		c.definition = sqltext.QuoteIdent(c.name) + " " + kind + collation + expression
		families[oid].columns = append(families[oid].columns, c)
		return nil
	})
	if err != nil {
		return nil, sqlFault(err, "reading inheritance")
	}
	if rows, err = conn.Query(ctx, familyChecksSQL, keysOf(families)); err != nil {
		return nil, sqlFault(err, "reading inheritance")
	}
	var check familyCheck
	_, err = pgx.ForEachRow(rows, []any{&oid, &check.name, &check.definition}, func() error {
		families[oid].checks = append(families[oid].checks, check)
		return nil
	})
	return families, sqlFault(err, "reading inheritance")
}

func keysOf(families map[uint32]*family) []uint32 {
	list := make([]uint32, 0, len(families))
	for oid := range families {
		list = append(list, oid)
	}
	return list
}

// InheritedSQL says, for superusers, what the item's table merely inherits; "" where there is nothing to say.
func (it *SchemaItem) InheritedSQL() string {
	if it.Inherited == nil {
		return ""
	}
	table := sqltext.QuoteLiteral(sqltext.QuoteName(it.Namespace, it.Name)) + "::pg_catalog.regclass"
	var sql strings.Builder
	for _, part := range []struct {
		names                          []string
		catalog, flag, owner, nameFlag string
	}{
		{it.Inherited.Columns, "pg_attribute", "attislocal", "attrelid", "attname"},
		{it.Inherited.Constraints, "pg_constraint", "conislocal", "conrelid", "conname"},
	} {
		if len(part.names) == 0 {
			continue
		}
		var names []string
		for _, n := range part.names {
			names = append(names, sqltext.QuoteLiteral(n))
		}
		fmt.Fprintf(&sql, "UPDATE pg_catalog.%s SET %s = false WHERE %s = %s AND %s IN (%s);\n",
			part.catalog, part.flag, part.owner, table, part.nameFlag, strings.Join(names, ", "))
	}
	return sql.String()
}
