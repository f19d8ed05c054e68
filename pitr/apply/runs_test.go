package apply

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/segment"
)

const (
	textOID = 25
	nameOID = 19
	jsonOID = 114
	boxOID  = 603
)

// awkward values for arrays in text form, and for any other.
var awkward = []string{"", "NULL", `"`, `\`, "{", "}", ",", `{"a,\"b"}`, " x ", "tab\tand\nline", "žluťoučký", `\N`}

func value(s string) segment.Value { return segment.Value{Kind: segment.Text, Data: []byte(s)} }

func key(id int) []segment.Value {
	return []segment.Value{value(fmt.Sprint(id)), {Kind: segment.Null}, {Kind: segment.Null}}
}

// TestRunsCarryAnyValue: what follows each other and has one shape goes by one statement, whatever the values hold, and whether
// they have a binary format.
func TestRunsCarryAnyValue(t *testing.T) {
	t.Run("binary", func(t *testing.T) { runsCarryAnyValue(t, "text", textOID) })
	t.Run("text", func(t *testing.T) { runsCarryAnyValue(t, "name", nameOID) })
}

func runsCarryAnyValue(t *testing.T, typ string, oid uint32) {
	name := "runs_" + typ
	d := newTarget(t, name)
	server.MustExec(t, name, `CREATE TABLE odd (id `+typ+` PRIMARY KEY, a json, t `+typ+`); CREATE TABLE boxes (id int PRIMARY KEY, b box, t text)`)
	odd := &segment.Relation{ID: 2, Namespace: "public", Name: "odd", Identity: 'd', Columns: []segment.Column{
		{Flags: 1, Name: "id", TypeOID: oid, Modifier: -1}, {Name: "a", TypeOID: jsonOID, Modifier: -1}, {Name: "t", TypeOID: oid, Modifier: -1}}}
	boxes := &segment.Relation{ID: 3, Namespace: "public", Name: "boxes", Identity: 'd', Columns: []segment.Column{
		{Flags: 1, Name: "id", TypeOID: int4OID, Modifier: -1}, {Name: "b", TypeOID: boxOID, Modifier: -1}, {Name: "t", TypeOID: textOID, Modifier: -1}}}
	changes := []segment.Record{{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: 100, XID: 1}}}
	add := func(r segment.Record) { changes = append(changes, r) }
	for i, v := range awkward {
		add(segment.Record{Op: segment.OpInsert, Relation: odd, New: []segment.Value{value(v), value(`{"a": [null]}`), {Kind: segment.Null}}})
		add(segment.Record{Op: segment.OpInsert, Relation: boxes, New: []segment.Value{value(fmt.Sprint(i)), value("(1,1),(0,0)"), {Kind: segment.Null}}})
	}
	for round := range 2 { // the second changes the keys of the first again
		for i, v := range awkward {
			add(segment.Record{Op: segment.OpUpdate, Relation: odd, New: []segment.Value{value(v), value(fmt.Sprintf(`{"a": "%d\"]"}`, round)), value(v)}})
			add(segment.Record{Op: segment.OpUpdate, Relation: boxes, New: []segment.Value{value(fmt.Sprint(i)), value("(2,2),(1,1)"), value(v)}})
		}
	}
	for i := range 5 {
		add(segment.Record{Op: segment.OpDelete, Relation: boxes, OldRole: segment.OldKey, Old: key(i)})
	}
	add(segment.Record{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: 100, EndLSN: 150}})
	a := d.applier(Atomic{})
	feed(t, a, changes)
	require.NoError(t, a.Flush(t.Context()))
	shapes := map[string]map[string]*statement{}
	for _, table := range a.order {
		shapes[table.name] = table.shapes
	}
	require.NotEmpty(t, shapes["public.odd"])
	for _, s := range shapes["public.odd"] {
		require.NotEmpty(t, s.many)
	}
	for _, s := range shapes["public.boxes"] {
		require.Equal(t, s.op == segment.OpDelete, s.many != "", "an array of boxes is written in another way")
	}
	a.Abort()
	require.Equal(t, fmt.Sprint(len(awkward)), d.value(`select count(*)::text from odd where t = id and a ->> 'a' = '1"]'`))
	require.Equal(t, fmt.Sprint(len(awkward)-5), d.value(`select count(*)::text from boxes b, odd o where b.t = o.id and b.b::text = '(2,2),(1,1)'`))
}

// TestCompositeValuesGoRowByRow: unnest would make several columns of one parameter.
func TestCompositeValuesGoRowByRow(t *testing.T) {
	d := newTarget(t, "composites")
	server.MustExec(t, "composites", `CREATE TYPE pair AS (x int, y text); CREATE DOMAIN paired AS pair; CREATE TABLE pairs (id int PRIMARY KEY, p pair, q paired)`)
	pairs := &segment.Relation{ID: 2, Namespace: "public", Name: "pairs", Identity: 'd', Columns: []segment.Column{
		{Flags: 1, Name: "id", TypeOID: int4OID, Modifier: -1}, {Name: "p", TypeOID: 20000, Modifier: -1}, {Name: "q", TypeOID: 20001, Modifier: -1}}}
	changes := []segment.Record{{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: 100, XID: 1}}}
	for _, op := range []segment.Op{segment.OpInsert, segment.OpUpdate} {
		for i := range 10 {
			pair := value(fmt.Sprintf("(%d,%d)", i, op))
			changes = append(changes, segment.Record{Op: op, Relation: pairs, New: []segment.Value{value(fmt.Sprint(i)), pair, pair}})
		}
	}
	changes = append(changes, segment.Record{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: 100, EndLSN: 150}})
	a := d.applier(Atomic{})
	feed(t, a, changes)
	require.NoError(t, a.Flush(t.Context()))
	a.Abort()
	require.Equal(t, "10", d.value(fmt.Sprintf("select count(*)::text from pairs where (p).x = id and (q).y = '%d'", segment.OpUpdate)))
}

// TestRunNamesTheMissingRow: one row of many that isn't there is named, with its transaction.
func TestRunNamesTheMissingRow(t *testing.T) {
	d := newTarget(t, "missing")
	server.MustExec(t, "missing", `INSERT INTO numbers SELECT i, 0 FROM generate_series(1, 40) i WHERE i <> 17`)
	for _, op := range []segment.Op{segment.OpUpdate, segment.OpDelete} {
		var changes []segment.Record
		for i := range 40 {
			r := segment.Record{Op: op, Relation: numbers, New: []segment.Value{text(i + 1), text(7)}}
			if op == segment.OpDelete {
				r = segment.Record{Op: op, Relation: numbers, OldRole: segment.OldKey, Old: []segment.Value{text(i + 1), {Kind: segment.Null}}}
			}
			at := segment.LSN(1000 + 10*i)
			changes = append(changes, segment.Record{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: at, XID: uint32(500 + i)}}, r,
				segment.Record{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: at, EndLSN: at + 5}})
		}
		a := d.applier(Atomic{})
		feed(t, a, changes)
		err := a.Flush(t.Context())
		a.Abort()
		require.ErrorContains(t, err, "public.numbers (id) = (17), transaction 516, LSN 0/488")
		require.ErrorContains(t, err, "there is no such row")
		require.Equal(t, "39", d.value("select count(*)::text from numbers where n = 0"), "the batch is not undone")
	}
}

// TestValuesWithoutBinaryFormGoAsText: a value that is not as PostgreSQL writes it may mean something to the target's server all the same,
// in COPY and in an array.
func TestValuesWithoutBinaryFormGoAsText(t *testing.T) {
	d := newTarget(t, "unusual")
	const rows = 3 * copyRun
	changes := func(op segment.Op, odd map[int]string) []segment.Record {
		list := []segment.Record{{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: 100, XID: 1}}}
		for i := range rows {
			n := text(i)
			if v, ok := odd[i]; ok {
				n = value(v)
			}
			list = append(list, segment.Record{Op: op, Relation: numbers, New: []segment.Value{text(i), n}})
		}
		return append(list, segment.Record{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: 100, EndLSN: 150}})
	}
	a := d.applier(Atomic{})
	feed(t, a, changes(segment.OpInsert, map[int]string{7: " 70 ", copyRun + 7: "+19"}))
	require.NoError(t, a.Flush(t.Context()))
	a.Abort()
	require.Equal(t, "36 630 70", d.value("select count(*) || ' ' || sum(n) - 63 || ' ' || max(n) from numbers"))

	server.MustExec(t, "unusual", "UPDATE numbers SET n = 0")
	a = d.applier(Atomic{})
	feed(t, a, changes(segment.OpUpdate, map[int]string{7: " 70 ", copyRun + 7: "+19"}))
	require.NoError(t, a.Flush(t.Context()))
	a.Abort()
	require.Equal(t, "36 630 70", d.value("select count(*) || ' ' || sum(n) - 63 || ' ' || max(n) from numbers"))

	for _, odd := range []map[int]string{{20: "x"}, {3: " 3", 20: "x"}} { // as the first that isn't known, and after it
		server.MustExec(t, "unusual", "TRUNCATE numbers")
		a = d.applier(Atomic{})
		feed(t, a, changes(segment.OpInsert, odd))
		require.ErrorContains(t, a.Flush(t.Context()), "public.numbers (id) = (20), transaction 1, LSN 0/64")
		a.Abort()
		require.Equal(t, "0", d.value("select count(*)::text from numbers"))
	}
	server.MustExec(t, "unusual", "INSERT INTO numbers VALUES (31, 0)") // and where the binary format is no reason
	a = d.applier(Atomic{})
	feed(t, a, changes(segment.OpInsert, nil))
	require.ErrorContains(t, a.Flush(t.Context()), "public.numbers (id) = (31), transaction 1, LSN 0/64")
	a.Abort()
}
