package apply

import (
	"context"
	"slices"
	"strings"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
	"tidemark/pitr/pgbinary"
	"tidemark/segment"
)

// column is a column of a relation in the stream and what the target says of it.
type column struct {
	name     string
	sql      string // quoted
	oid      uint32 // its type on the target: statements declare their parameters with it
	baseOID  uint32 // of a domain, the type below it: an old value may not satisfy the domain any more
	base     string // quoted name of that type; "" if the column's isn't a domain
	lax      string // quoted name of its domain, if that has constraints that were not validated: a row may break them; else ""
	key      bool   // of the replica identity
	derived  bool   // generated on the target: follows from the other columns
	kind     pgbinary.Kind
	equality string // qualified operator of an index on it, such as OPERATOR("pg_catalog".=); "" if none is known
	collate  string // COLLATE for that operator's right side, where the index has another collation than the column; else ""
}

// equals is the condition that an index on the column finds a value by.
func (c *column) equals(row, value string) string {
	return row + c.sql + " " + c.equality + " " + value + c.collate
}

// table is a table of the target as one definition in the stream sees it.
type table struct {
	name       string // namespace.name, unquoted, for messages
	sql        string // quoted
	oid        uint32 // on the target
	kind       byte   // pg_class.relkind
	cols       []column
	plain      []int // columns that hold data of their own, in order
	keys       []int // columns of the replica identity
	narrow     []int // columns that an index finds old row images by
	worker     int
	insertOnly bool
	always     bool  // an identity column is GENERATED ALWAYS: no update can assign it
	lenient    bool  // rows may be missing, or there already
	ruled      bool  // it has rules, which ON CONFLICT can't be used beside, though they don't fire
	commutes   bool  // operations on rows of different keys do
	insertKeys []int // where the key's columns stand among the parameters of insert, if they do
	slowTold   bool  // that nothing finds its rows was told
	live       *Live
	insert     *statement
	copySQL    string
	binary     []pgbinary.Kind // of the columns of insert, for COPY in binary format; nil: it has no such form
	shapes     map[string]*statement
	buf        *buffer
	counts     *Counts // of the name that the stream gives it
}

// count notes an operation.
func (t *table) count(op segment.Op) {
	switch op {
	case segment.OpInsert:
		t.counts.Inserted++
		t.live.Rows++
	case segment.OpUpdate:
		t.counts.Updated++
	case segment.OpDelete:
		t.counts.Deleted++
		t.live.Rows--
	}
}

// table finds the target's table for a relation of the stream; nil if it isn't wanted.
func (a *Applier) table(ctx context.Context, r *segment.Relation) (*table, error) {
	m := a.byID[r.ID]
	if m != nil && m.generation != a.generation {
		m = nil
	}
	if m != nil && m.seen == r {
		return m.table, nil
	}
	if m != nil && sameRelation(&m.relation, r) {
		m.seen = r
		return m.table, nil
	}
	wanted := a.opts.Want == nil || a.opts.Want(r)
	if wanted {
		if err := a.early(ctx, r); err != nil {
			return nil, err
		}
	}
	m = &mapping{relation: *r, seen: r, generation: a.generation}
	m.relation.Columns = slices.Clone(r.Columns)
	if wanted {
		t, err := a.define(ctx, r)
		if err != nil {
			return nil, err
		}
		m.table = t
	}
	a.byID[r.ID] = m
	return m.table, nil
}

func sameRelation(a, b *segment.Relation) bool {
	return a.ID == b.ID && a.Namespace == b.Namespace && a.Name == b.Name && a.Identity == b.Identity && slices.Equal(a.Columns, b.Columns)
}

// define maps a relation that is new, or defined differently than before. What came before under the
// old definition goes out first; connection and counts are kept.
func (a *Applier) define(ctx context.Context, r *segment.Relation) (*table, error) {
	t, err := a.lookUp(ctx, r)
	if err != nil && a.doubts(r) {
		a.tell(err.Error() + ": its rows from here on are left out")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if a.live[t.oid] == nil {
		a.live[t.oid] = new(Live)
	}
	t.live = a.live[t.oid]
	if a.counts[t.name] == nil {
		a.counts[t.name] = new(Counts)
	}
	t.counts = a.counts[t.name]
	// One table of the target may have two names in the stream, but only one at a time.
	t.insertOnly = a.opts.InsertOnly != nil && a.opts.InsertOnly(r) && t.sql == quoteTable(a.tableSchema(r), r.Name)
	t.worker = len(a.order) % len(a.workers)
	old := a.tables[t.oid]
	if old == nil {
		a.order = append(a.order, t)
	} else {
		if err := a.replace(old, t); err != nil {
			return nil, err
		}
		if old.same(t) {
			old.always, old.live, old.counts = t.always, t.live, t.counts
			return old, nil
		}
		a.order[slices.Index(a.order, old)] = t
	}
	a.tables[t.oid] = t
	return t, nil
}

// replace makes room for another definition of a table: what came under the old one comes first.
func (a *Applier) replace(old, t *table) error {
	t.worker = old.worker
	if old.insertOnly != t.insertOnly {
		t.insertOnly = false
		return a.settle()
	}
	return a.flush(old)
}

// forget ends what is known of the target's tables. All that came for them is with the server.
func (a *Applier) forget() {
	a.generation++
	a.order = a.order[:0]
	clear(a.tables)
}

// same reports whether statements for one definition do for another.
func (t *table) same(o *table) bool {
	return t.name == o.name && t.insertOnly == o.insertOnly && t.sql == o.sql && t.kind == o.kind && t.lenient == o.lenient && t.commutes == o.commutes && slices.Equal(t.cols, o.cols) && slices.Equal(t.keys, o.keys) && slices.Equal(t.narrow, o.narrow)
}

// targetColumn is a column as the target's catalog has it.
type targetColumn struct {
	name, typeSchema, typeName string
	element                    string // of an array type: its element's name
	oid, baseOID               uint32
	modifier                   int32
	lax                        string
	kind                       pgbinary.Kind
	generated                  bool
	always                     bool // GENERATED ALWAYS AS IDENTITY
	ruled                      bool // its table has rules
}

// base names the type below a domain.
func (c targetColumn) base() string {
	if c.oid == c.baseOID {
		return ""
	}
	return quoteTable(c.typeSchema, c.typeName)
}

// lookUp reads the target's table and checks that it is what the stream describes: the same columns, of
// the same types. Without captured DDL, a difference means that the schema changed after the snapshot.
func (a *Applier) lookUp(ctx context.Context, r *segment.Relation) (*table, error) {
	at, oid, kind, columns, err := a.targetColumns(ctx, r)
	if err != nil {
		return nil, err
	}
	t := &table{name: r.String(), sql: at, oid: oid, kind: kind, lenient: a.doubts(r), shapes: map[string]*statement{}}
	for _, c := range r.Columns {
		i := slices.IndexFunc(columns, func(tc targetColumn) bool { return tc.name == c.Name })
		if i < 0 {
			return nil, a.mismatch(r, "the target has no column %q", c.Name)
		}
		tc := columns[i]
		if what := a.differs(c, tc); what != "" {
			return nil, a.mismatch(r, "column %q is %s", c.Name, what)
		}
		t.cols = append(t.cols, column{name: c.Name, sql: sqltext.QuoteIdent(c.Name), oid: tc.oid, baseOID: tc.baseOID, base: tc.base(), lax: tc.lax, kind: tc.kind, key: c.Key(), derived: tc.generated})
		t.always = t.always || tc.always
		t.ruled = t.ruled || tc.ruled
		columns = slices.Delete(columns, i, i+1)
	}
	for _, tc := range columns {
		if !tc.generated {
			return nil, a.mismatch(r, "the stream has no column %q", tc.name)
		}
	}
	for i, c := range t.cols {
		if !c.derived {
			t.plain = append(t.plain, i)
		}
		if c.key {
			t.keys = append(t.keys, i)
		}
	}
	if err := a.readIndexes(ctx, oid, t); err != nil {
		return nil, err
	}
	t.prepareInsert()
	return t, nil
}

// differs says how the type of a column in the stream is not the target's; "" if it is. OIDs below
// 10000 are the same everywhere; those above, which initdb gave (information_schema's) or a user, are
// compared by the names that the stream gave, where it gave them.
func (a *Applier) differs(c segment.Column, tc targetColumn) string {
	const firstGenbkiOID = 10000 // src/include/access/transam.h
	def, named := a.types[c.TypeOID]
	if def.Namespace == "" {
		def.Namespace = "pg_catalog" // as the protocol shortens it
	}
	if a.opts.TypeSchema != nil {
		def.Namespace = a.opts.TypeSchema(def.Namespace, def.Name)
	}
	nowNamespace, nowName := a.holds.typeNow(def.Namespace, def.Name)
	switch {
	case c.TypeOID < firstGenbkiOID || tc.oid < firstGenbkiOID:
		if c.TypeOID != tc.oid {
			return "of another type (OID " + itoa(int64(c.TypeOID)) + ") than the target's " + tc.typeName
		}
	case named && !a.isType(def.Namespace, def.Name, tc) && !a.isType(nowNamespace, nowName, tc):
		return "of type " + def.Namespace + "." + def.Name + ", the target's of type " + tc.typeSchema + "." + tc.typeName
	}
	if c.Modifier != tc.modifier {
		return "of another length or precision (type modifier " + itoa(int64(c.Modifier)) + ") than the target's (" + itoa(int64(tc.modifier)) + ")"
	}
	return ""
}

// isType reports whether a column is of the type of that name. Where schema changes are replayed the schema
// does not count: a type, or the extension it belongs to, can be moved to another one while a transaction
// that knows it by the old one is under way.
func (a *Applier) isType(namespace, name string, tc targetColumn) bool {
	return (namespace == tc.typeSchema || a.opts.Schema != nil) && (name == tc.typeName || isArrayName(name, tc.element))
}

// isArrayName reports whether a name is one that PostgreSQL can have given to the array type of an element
// type: with as many underscores before it as made it unique at the time, and cut to 63 bytes
// (makeArrayTypeName, src/backend/catalog/pg_type.c).
func isArrayName(name, element string) bool {
	bare := strings.TrimLeft(name, "_")
	return element != "" && bare != name && strings.HasPrefix(strings.TrimLeft(element, "_"), bare) && (len(name) > 59 || bare == strings.TrimLeft(element, "_"))
}

func (a *Applier) mismatch(r *segment.Relation, format string, args ...any) error {
	e := fault.New(fault.Failed, "the table was changed after the base snapshot, and that change is not archived: restore to a moment before it, or from a snapshot taken after it", format, args...)
	e.Msg = "table " + r.String() + " does not fit the transactions from LSN " + a.begin.CommitLSN.String() + " on: " + e.Msg
	return e
}

// columnsQuery gives the columns with the names of their types, for a domain that of the type below it:
// pgoutput names that one too (src/backend/replication/logical/proto.c, logicalrep_write_typ).
const columnsQuery = `
select c.oid::text, c.relkind::text, a.attname, a.atttypid::text, a.atttypmod::text, (a.attgenerated <> '')::int::text,
       base.namespace, base.name, base.element, (a.attidentity = 'a')::int::text, base.oid::text, n.nspname, c.relname, c.relhasrules::int::text,
       (select pg_catalog.quote_ident(dn.nspname) || '.' || pg_catalog.quote_ident(d.typname) from pg_catalog.pg_type d join pg_catalog.pg_namespace dn on dn.oid = d.typnamespace
        where d.oid = a.atttypid and base.lax), (base.typtype = 'e')::int::text
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join lateral (
  with recursive base as (
    select t.oid, t.typtype, t.typbasetype, t.typname, t.typnamespace from pg_catalog.pg_type t where t.oid = a.atttypid
    union all select t.oid, t.typtype, t.typbasetype, t.typname, t.typnamespace from base b join pg_catalog.pg_type t on b.typtype = 'd' and t.oid = b.typbasetype)
  select b.oid, (select exists (select from base d join pg_catalog.pg_constraint o on o.contypid = d.oid where not o.convalidated)) as lax, b.typname as name, b.typtype, n.nspname as namespace, (select e.typname from pg_catalog.pg_type e where e.typarray = b.oid) as element
  from base b join pg_catalog.pg_namespace n on n.oid = b.typnamespace where b.typtype <> 'd'
) base on true
where c.relkind in ('r', 'p') and `

// Conditions of columnsQuery, which the order follows.
const (
	byName = "n.nspname = $1 and c.relname = $2 order by a.attnum"
	byOID  = "c.oid = $1::oid and c.relname = $2 order by a.attnum" // only the name of its schema may be an old one
)

func (a *Applier) targetColumns(ctx context.Context, r *segment.Relation) (at string, oid uint32, kind byte, cols []targetColumn, err error) {
	var rows [][][]byte
	if known, ok := a.holds.known[r.ID]; ok {
		rows, err = a.query(ctx, columnsQuery+byOID, itoa(int64(known)), r.Name)
	}
	namespace := a.tableSchema(r)
	for _, now := range append([]string{namespace}, a.otherSchemas(namespace, r.ID)...) {
		if err == nil && len(rows) == 0 {
			rows, err = a.query(ctx, columnsQuery+byName, now, r.Name)
		}
	}
	if err != nil {
		return "", 0, 0, nil, err
	}
	if len(rows) == 0 {
		return "", 0, 0, nil, a.mismatch(r, "the target has no such table")
	}
	for _, row := range rows {
		oid, kind, at = uint32(atoi(row[0])), row[1][0], quoteTable(string(row[11]), string(row[12]))
		if row[2] == nil {
			continue
		}
		cols = append(cols, targetColumn{
			name: string(row[2]), oid: uint32(atoi(row[3])), modifier: int32(atoi(row[4])),
			generated: string(row[5]) == "1", typeSchema: string(row[6]), typeName: string(row[7]), element: string(row[8]),
			always: string(row[9]) == "1", baseOID: uint32(atoi(row[10])), ruled: string(row[13]) == "1", lax: string(row[14]),
			kind: pgbinary.KindOf(uint32(atoi(row[10])), string(row[15]) == "1"),
		})
	}
	return at, oid, kind, cols, nil
}

// otherSchemas are those in which a relation may be that the stream names in a schema: it has another name by
// now, or had it already when the base snapshot was taken.
func (a *Applier) otherSchemas(namespace string, source uint32) []string {
	schemas := []string{a.holds.schemaNow(namespace)}
	if a.opts.SchemaOf != nil {
		if before := a.opts.SchemaOf(source); before != "" {
			schemas = append(schemas, before, a.holds.schemaNow(before))
		}
	}
	return schemas
}

// indexQuery gives the columns of the indexes that can find a row by equality, with the operators of their operator
// classes and their collations where the column has another: with an empty search_path a plain = may find another operator, or
// none, and what is unique in one collation isn't in another. The operators stand in a query of their own: a join of nine tables takes longer to plan than to run, and this runs after every schema change.
const indexQuery = `
select i.indexrelid::text, (i.indisunique and am.amname = 'btree')::int::text, i.indisprimary::int::text, a.attname,
       (select 'OPERATOR(' || quote_ident(opn.nspname) || '.' || op.oprname || ')'
        from pg_catalog.pg_opclass oc
        join pg_catalog.pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
         and ao.amoppurpose = 's' and ao.amopstrategy = case am.amname when 'btree' then 3 else 1 end
        join pg_catalog.pg_operator op on op.oid = ao.amopopr
        join pg_catalog.pg_namespace opn on opn.oid = op.oprnamespace
        where oc.oid = x.opclass),
       (select ' COLLATE ' || quote_ident(con.nspname) || '.' || quote_ident(co.collname)
        from pg_catalog.pg_collation co join pg_catalog.pg_namespace con on con.oid = co.collnamespace
        where co.oid = x.coll and co.oid <> a.attcollation)
from pg_catalog.pg_index i
join pg_catalog.pg_class ic on ic.oid = i.indexrelid
join pg_catalog.pg_am am on am.oid = ic.relam
cross join lateral unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[]) with ordinality x(attnum, opclass, coll, ord)
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = x.attnum
where i.indrelid = $1::oid and i.indisvalid and i.indpred is null and i.indexprs is null and am.amname in ('btree', 'hash') and x.opclass is not null
order by i.indexrelid, x.ord`

// index is an index of the target.
type index struct {
	unique, primary bool
	columns         []int
	equality        []string
	collate         []string
}

func (a *Applier) readIndexes(ctx context.Context, oid uint32, t *table) error {
	rows, err := a.query(ctx, indexQuery, itoa(int64(oid)))
	if err != nil {
		return err
	}
	var indexes []index
	last := ""
	for _, row := range rows {
		if string(row[0]) != last {
			last = string(row[0])
			indexes = append(indexes, index{unique: string(row[1]) == "1", primary: string(row[2]) == "1"})
		}
		x := &indexes[len(indexes)-1]
		i := slices.IndexFunc(t.cols, func(c column) bool { return c.name == string(row[3]) && !c.derived })
		x.columns = append(x.columns, i)
		x.equality = append(x.equality, string(row[4]))
		x.collate = append(x.collate, string(row[5]))
	}
	return a.readCommutes(ctx, t, t.chooseIndexes(indexes))
}

// chooseIndexes takes the operators of the unique index on exactly the replica identity's columns, and
// the best index to find row images by: primary before unique before others. It reports whether there is one on the identity.
func (t *table) chooseIndexes(indexes []index) (keyed bool) {
	rank := 0
	for _, x := range indexes {
		if slices.Contains(x.columns, -1) {
			continue
		}
		if !keyed && x.unique && sameSet(x.columns, t.keys) {
			keyed = true
			t.setEquality(x)
		}
		r := 1
		if x.unique {
			r = 2
		}
		if x.primary {
			r = 3
		}
		if r > rank {
			rank = r
			t.narrow = x.columns
			if !keyed {
				t.setEquality(x)
			}
		}
	}
	if keyed {
		return true
	}
	// Without an index on the key the operators of others must not stand for it.
	for i := range t.cols {
		if !slices.Contains(t.narrow, i) {
			t.cols[i].equality, t.cols[i].collate = "", ""
		}
	}
	return false
}

func (t *table) setEquality(x index) {
	for n, i := range x.columns {
		t.cols[i].equality, t.cols[i].collate = x.equality[n], x.collate[n]
	}
}

func sameSet(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for _, v := range a {
		if !slices.Contains(b, v) {
			return false
		}
	}
	return true
}

// query runs a catalog query with text parameters and results, on the connection kept for that, or in
// atomic mode inside the open batch.
func (a *Applier) query(ctx context.Context, sql string, params ...string) (rows [][][]byte, err error) {
	read := func(err error) error { return fault.Wrap(err, codeOf(err), "", "read the target's catalog") }
	if a.meta != nil {
		rows, err = queryKept(ctx, a.meta, sql, params...)
		return rows, read(err)
	}
	err = a.sendWait(a.workers[0], command{do: func(ctx context.Context, w *worker) (err error) {
		rows, err = queryOn(ctx, w.conn, sql, params...)
		return read(err)
	}})
	return rows, err
}

// tableSchema is the schema of a relation on the target.
func (a *Applier) tableSchema(r *segment.Relation) string {
	if a.opts.TableSchema == nil {
		return namespaceOf(r)
	}
	return a.opts.TableSchema(namespaceOf(r), r.Name)
}

func namespaceOf(r *segment.Relation) string {
	if r.Namespace == "" {
		return "pg_catalog"
	}
	return r.Namespace
}

func quoteTable(namespace, name string) string {
	if namespace == "" {
		namespace = "pg_catalog"
	}
	return sqltext.QuoteName(namespace, name)
}
