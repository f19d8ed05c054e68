package apply

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"tidemark/internal/fault"
	"tidemark/pitr/pgbinary"
	"tidemark/segment"
)

// statement is a statement of a certain shape: which columns it sets and how it finds the row.
type statement struct {
	op      segment.Op
	name    string // as prepared; the same on every connection
	sql     string
	newCols []int           // columns whose new values are parameters, first
	oldCols []int           // columns whose old values are parameters, after them
	oids    []uint32        // of the parameters
	kinds   []pgbinary.Kind // of the parameters

	many    string   // makes a run of such operations; "" if there is none
	arrays  []uint32 // types of its parameters; nil: not looked up yet. They belong to the worker
	keyFrom int      // the first parameter of those that find the row
}

func (s *statement) params() int { return len(s.newCols) + len(s.oldCols) }

var statements atomic.Int64

func (t *table) newStatement(op segment.Op, newCols, oldCols []int) *statement {
	s := &statement{op: op, name: "tm" + itoa(statements.Add(1)), newCols: newCols, oldCols: oldCols}
	for _, i := range newCols {
		if oid := t.cols[i].oid; op == segment.OpInsert || t.cols[i].lax == "" {
			s.oids = append(s.oids, oid)
		} else {
			s.oids = append(s.oids, t.cols[i].baseOID)
		}
		s.kinds = append(s.kinds, t.cols[i].kind)
	}
	for _, i := range oldCols {
		s.oids = append(s.oids, t.cols[i].baseOID)
		s.kinds = append(s.kinds, t.cols[i].kind)
	}
	return s
}

// prepareInsert makes the INSERT and the COPY of the table. OVERRIDING SYSTEM VALUE lets identity
// columns keep their archived values; COPY does so by itself.
func (t *table) prepareInsert() {
	names := make([]string, len(t.plain))
	values := make([]string, len(t.plain))
	for n, i := range t.plain {
		names[n], values[n] = t.cols[i].sql, param(n)
	}
	t.insert = t.newStatement(segment.OpInsert, t.plain, nil)
	if len(t.plain) == 0 {
		t.insert.sql = "INSERT INTO " + t.sql + " DEFAULT VALUES" + t.conflict()
		t.copySQL = "COPY " + t.sql + " FROM STDIN"
		return
	}
	list := " (" + strings.Join(names, ", ") + ")"
	t.insert.sql = "INSERT INTO " + t.sql + list + " OVERRIDING SYSTEM VALUE VALUES (" + strings.Join(values, ", ") + ")" + t.conflict()
	t.copySQL = "COPY " + t.sql + list + " FROM STDIN"
	if pgbinary.All(t.insert.kinds) {
		t.binary = t.insert.kinds
	}
}

// conflict lets an insert pass whose row may be there already.
func (t *table) conflict() string {
	if t.lenient && !t.ruled {
		return " ON CONFLICT DO NOTHING"
	}
	return ""
}

func param(n int) string { return "$" + strconv.Itoa(n+1) }

// How a row is found.
const (
	byNewKey byte = 'n' // the key did not change: its values stand in the new tuple
	byOldKey byte = 'k'
	byImage  byte = 'f'
)

func findBy(r *segment.Record) byte {
	switch r.OldRole {
	case segment.OldKey:
		return byOldKey
	case segment.OldFull:
		return byImage
	}
	return byNewKey
}

// statement returns the update or delete of the record's shape. Scratch is a buffer for the lookup.
func (t *table) statement(r *segment.Record, scratch []byte) (*statement, []byte) {
	find := findBy(r)
	scratch = append(scratch[:0], byte(r.Op), find)
	for _, i := range t.plain {
		scratch = append(scratch, t.shapeOf(r, find, i))
	}
	s := t.shapes[string(scratch)]
	if s == nil {
		s = t.build(r, find)
		if len(t.shapes) >= maxShapes {
			clear(t.shapes)
		}
		t.shapes[string(scratch)] = s
	}
	return s, scratch
}

// maxShapes bounds the statements a table keeps; each is prepared on the server.
const maxShapes = 256

// shapeOf tells a column's part in a statement: set or not, and whether an old value is NULL where an
// index is to find the row.
func (t *table) shapeOf(r *segment.Record, find byte, i int) byte {
	var b byte
	if t.sets(r, find, i) {
		b = 1
	}
	if find == byImage && r.Old[i].Kind == segment.Null && slices.Contains(t.narrow, i) {
		b |= 2
	}
	return b
}

// sets reports whether an update assigns the column: not if its value wasn't sent, or is the key that
// the row is found by.
func (t *table) sets(r *segment.Record, find byte, i int) bool {
	if r.Op != segment.OpUpdate || r.New[i].Kind == segment.Unchanged {
		return false
	}
	return find != byNewKey || !t.cols[i].key
}

// build makes the statement for a shape.
func (t *table) build(r *segment.Record, find byte) *statement {
	var set, where []int
	for _, i := range t.plain {
		if t.sets(r, find, i) {
			set = append(set, i)
		}
	}
	switch find {
	case byImage:
		where = t.plain
	default:
		where = t.keys
	}
	var s *statement
	if find == byNewKey {
		s = t.newStatement(r.Op, slices.Concat(set, where), nil)
	} else {
		s = t.newStatement(r.Op, set, where)
	}
	values := make([]string, len(where))
	for n := range where {
		values[n] = param(len(set) + n)
	}
	assign := make([]string, len(set))
	for n, i := range set {
		assign[n] = t.cols[i].sql + " = " + t.cols[i].assigned("t.", param(n))
	}
	s.sql = t.rowSQL(r.Op, assign, "", t.rowCondition(r, find, where, values, ""))
	s.many, s.keyFrom = t.many(s, find, set, where), len(set)
	return s
}

// assigned is what an update assigns for a value. One that stays is not looked at by its domain at the source, nor is it here: the row may be
// older than a constraint of the domain that is NOT VALID.
func (c *column) assigned(row, value string) string {
	if c.lax == "" {
		return value
	}
	kept := row + c.sql
	return "CASE WHEN ROW(" + kept + "::" + c.base + ")::pg_catalog.record OPERATOR(pg_catalog.*=) ROW(" + value + ")::pg_catalog.record THEN " + kept + " ELSE " + value + "::" + c.lax + " END"
}

// only is the table without its inheritance children. A partitioned table has no rows of its own: the
// publication sends its partitions' rows as its own, and they are found through it.
func (t *table) only() string {
	if t.kind == 'p' {
		return t.sql
	}
	return "ONLY " + t.sql
}

// rowSQL puts an UPDATE or DELETE together; from is a further table, or "".
func (t *table) rowSQL(op segment.Op, assign []string, from, condition string) string {
	if op == segment.OpDelete {
		using := ""
		if from != "" {
			using = " USING " + from
		}
		return "DELETE FROM " + t.only() + " t" + using + " WHERE " + condition
	}
	if from != "" {
		from = ", " + from
	}
	if len(assign) == 0 {
		// Nothing to set: the row must be there all the same.
		return "SELECT 1 FROM " + t.only() + " t" + from + " WHERE " + condition
	}
	if from != "" {
		from = " FROM " + from[2:]
	}
	return "UPDATE " + t.only() + " t SET " + strings.Join(assign, ", ") + from + " WHERE " + condition
}

// rowCondition finds the one row whose columns have the given values. from is a table that the values
// come from, or "".
func (t *table) rowCondition(r *segment.Record, find byte, where []int, values []string, from string) string {
	if find != byImage && t.indexed(where) {
		parts := make([]string, len(where))
		for n, i := range where {
			parts[n] = t.cols[i].equals("t.", values[n])
		}
		return strings.Join(parts, " AND ")
	}
	var parts []string
	names, images := make([]string, len(where)), slices.Clone(values)
	for n, i := range where {
		names[n] = "s." + t.cols[i].sql
		if slices.Contains(t.narrow, i) && (find != byImage || r.Old[i].Kind != segment.Null) {
			parts = append(parts, t.cols[i].equals("s.", values[n]))
		}
		if base := t.cols[i].base; base != "" {
			names[n], images[n] = names[n]+"::"+base, values[n]+"::"+base
		}
	}
	place, found := "t.ctid", "s.ctid"
	if t.kind == 'p' {
		place, found = "(t.tableoid, t.ctid)", "s.tableoid, s.ctid"
	}
	rows := func(as, equals string) string {
		inner := "SELECT " + found + " FROM " + t.only() + " s"
		if from != "" {
			inner += ", " + from
		}
		all := parts
		if len(where) > 0 {
			all = append(slices.Clip(parts), fmt.Sprintf("ROW(%s)%s OPERATOR(pg_catalog.%s) ROW(%s)%s", strings.Join(names, ", "), as, equals, strings.Join(images, ", "), as))
		}
		if len(all) > 0 {
			inner += " WHERE " + strings.Join(all, " AND ")
		}
		return inner
	}
	// *= compares the images of the values: it needs no equality operator, which json and point lack, and
	// takes 1.0 and 1.00 for different (src/backend/utils/adt/rowtypes.c, record_image_eq).
	inner := rows("::pg_catalog.record", "*=")
	// Of rows that are equal in all columns any one will do. A key that several rows have is none: an error. One value may have two images,
	// as one of a composite type that got another attribute since: where nothing has the row's image, its text counts, as the stream has it.
	switch {
	case find != byImage:
	case !t.severalImages():
		inner += " LIMIT 1"
	default:
		inner = "(" + inner + " LIMIT 1) UNION ALL (" + rows("::pg_catalog.record::pg_catalog.text", "=") + " LIMIT 1) LIMIT 1"
	}
	return place + " OPERATOR(pg_catalog.=) (" + inner + ")"
}

// severalImages reports whether two values of a column may have one text. Those of types that are known well enough for the binary format don't,
// and looking for the text too makes each statement slower.
func (t *table) severalImages() bool {
	return slices.ContainsFunc(t.plain, func(i int) bool { return t.cols[i].kind == pgbinary.None })
}

// indexed reports whether all columns have the equality of an index.
func (t *table) indexed(columns []int) bool {
	for _, i := range columns {
		if t.cols[i].equality == "" {
			return false
		}
	}
	return len(columns) > 0
}

// check refuses records that a correct stream can't hold, before anything relies on their shape.
func (t *table) check(r *segment.Record, begin segment.Begin) error {
	bad := func(what string) error {
		return fault.New(fault.Failed, "restorer verify --level decode checks the archive", "%s of %s in transaction %d at LSN %s: %s",
			opName(r.Op), t.name, begin.XID, begin.CommitLSN, what)
	}
	if r.Op != segment.OpDelete && len(r.New) != len(t.cols) {
		return bad(fmt.Sprintf("the new row has %d columns, its table %d", len(r.New), len(t.cols)))
	}
	if r.OldRole != 0 && len(r.Old) != len(t.cols) {
		return bad(fmt.Sprintf("the old row has %d columns, its table %d", len(r.Old), len(t.cols)))
	}
	if r.Op == segment.OpInsert {
		if slices.ContainsFunc(r.New, func(v segment.Value) bool { return v.Kind == segment.Unchanged }) {
			return bad("a column has no value")
		}
		return nil
	}
	if t.insertOnly {
		return bad("the catalog says that this table saw only inserts")
	}
	tuple, columns := r.Old, t.plain
	switch findBy(r) {
	case byNewKey:
		tuple, columns = r.New, t.keys
	case byOldKey:
		columns = t.keys
	}
	if r.OldRole == 0 && (r.Op == segment.OpDelete || len(columns) == 0) || r.OldRole == segment.OldKey && len(columns) == 0 {
		return bad("nothing identifies the row")
	}
	for _, i := range columns {
		if tuple[i].Kind == segment.Unchanged {
			return bad(fmt.Sprintf("column %q, which identifies the row, has no value", t.cols[i].name))
		}
	}
	return nil
}

func opName(op segment.Op) string {
	switch op {
	case segment.OpInsert:
		return "insert"
	case segment.OpUpdate:
		return "update"
	case segment.OpDelete:
		return "delete"
	}
	return "truncate"
}

func itoa(v int64) string { return strconv.FormatInt(v, 10) }

// atoi reads a number that the server printed.
func atoi(b []byte) int64 {
	v, _ := strconv.ParseInt(string(b), 10, 64)
	return v
}
