package apply

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/internal/fault"
	"tidemark/pitr/pgbinary"
	"tidemark/segment"
)

// A run is updates or deletes of one shape, of rows told apart by their keys, that follow each other: one
// statement makes them all, with an array for each parameter. Going through the server's protocol row by row
// costs several times as much as finding and changing the row.
const (
	shortestRun = 4
	longestRun  = 256
	runBytes    = 64 << 10
)

// many gives the statement for a run of the shape; "" if rows of the shape are made one by one. Its first
// column in the result says which of the rows each was.
func (t *table) many(s *statement, find byte, set, where []int) string {
	byKey := find == byNewKey && s.op == segment.OpUpdate && len(set) > 0 || find == byOldKey && s.op == segment.OpDelete
	if !byKey || t.kind != 'r' || t.lenient || !t.indexed(where) {
		return ""
	}
	value := func(n int) string { return "x.p" + strconv.Itoa(n) }
	params, columns := make([]string, s.params()), make([]string, s.params())
	for n := range params {
		params[n], columns[n] = param(n), "p"+strconv.Itoa(n)
	}
	assign, condition := make([]string, len(set)), make([]string, len(where))
	for n, i := range set {
		assign[n] = t.cols[i].sql + " = " + t.cols[i].assigned("t.", value(n))
	}
	for n, i := range where {
		condition[n] = t.cols[i].equals("t.", value(len(set)+n))
	}
	from := "ROWS FROM (pg_catalog.unnest(" + strings.Join(params, "), pg_catalog.unnest(") + ")) WITH ORDINALITY AS x(" + strings.Join(columns, ", ") + ", n)"
	return t.rowSQL(s.op, assign, from, strings.Join(condition, " AND ")) + " RETURNING x.n"
}

// runLength returns how many operations from the first on are made by one statement; 1: by its own.
func (w *worker) runLength(b *buffer, ops []op) int {
	s := ops[0].stmt
	if s.many == "" || w.single {
		return 1
	}
	if len(ops) < shortestRun || ops[shortestRun-1].stmt != s {
		return 1
	}
	clear(w.keys)
	n, size := 0, 0
	for n < len(ops) && n < longestRun && size < runBytes && ops[n].stmt == s {
		w.values = b.params(w.values[:0], &ops[n])
		w.key = w.key[:0]
		for _, v := range w.values[s.keyFrom:] {
			w.key = appendKey(w.key, v)
		}
		if _, again := w.keys[string(w.key)]; again {
			break
		}
		w.keys[string(w.key)] = struct{}{}
		for _, v := range w.values {
			size += len(v)
		}
		n++
	}
	if n < shortestRun {
		return 1
	}
	return n
}

// appendKey appends a value so that no two lists of values give the same bytes. Nil is NULL.
func appendKey(dst, v []byte) []byte {
	if v == nil {
		return append(dst, '-')
	}
	return append(append(strconv.AppendInt(dst, int64(len(v)), 10), ':'), v...)
}

// arrayTypeQuery gives the array type of a type. unnest makes a column of each attribute of a composite type, also of
// a domain over one; such a domain, or one over another domain, has none here.
const arrayTypeQuery = `
select t.typarray::text from pg_catalog.pg_type t left join pg_catalog.pg_type b on b.oid = t.typbasetype
where t.oid = $1::oid and t.typdelim = ',' and t.typtype <> 'c' and coalesce(b.typtype, 'b') not in ('c', 'd')`

// arrayOf finds the array types of a statement's parameters; nil if one has none that text can be given for.
func (w *worker) arrayOf(ctx context.Context, s *statement) ([]uint32, error) {
	arrays := make([]uint32, len(s.oids))
	for n, oid := range s.oids {
		array, ok := w.arrays[oid]
		if !ok {
			err := w.safely(ctx)
			var rows [][][]byte
			if err == nil {
				rows, err = queryOn(ctx, w.conn, arrayTypeQuery, itoa(int64(oid)))
			}
			if err == nil {
				err = w.forRows(ctx)
			}
			if err != nil {
				return nil, fault.Wrap(err, codeOf(err), "", "look up a type of the target")
			}
			if len(rows) == 1 {
				array = uint32(atoi(rows[0][0]))
			}
			w.arrays[oid] = array
		}
		if array == 0 {
			return nil, nil
		}
		arrays[n] = array
	}
	return arrays, nil
}

// prepareRuns finds out, before a pipeline begins, which shapes of its operations can be made in runs.
func (w *worker) prepareRuns(ctx context.Context, ops []op) error {
	if w.single {
		return nil
	}
	var last *statement
	for i := range ops {
		s := ops[i].stmt
		if s == last || s.many == "" || s.arrays != nil {
			continue
		}
		last = s
		arrays, err := w.arrayOf(ctx, s)
		if err != nil {
			return err
		}
		if s.arrays = arrays; arrays == nil {
			s.many = ""
		}
	}
	return nil
}

// arrayValues are the parameters of a run's statement, an array for each, and their formats: binary, unless one of the array's values
// has no such form.
func (w *worker) arrayValues(b *buffer, ops []op) (arrays [][]byte, formats []int16) {
	s := ops[0].stmt
	arrays, formats = make([][]byte, s.params()), make([]int16, s.params())
	for n := range formats {
		if s.kinds[n] != pgbinary.None {
			formats[n] = pgtype.BinaryFormatCode
		}
	}
	for n := w.appendArrays(arrays, formats, b, ops); n >= 0; n = w.appendArrays(arrays, formats, b, ops) {
		formats[n] = pgtype.TextFormatCode
	}
	return arrays, formats
}

// appendArrays makes the arrays in these formats. It returns the number of one that has no binary format after all, or -1.
func (w *worker) appendArrays(arrays [][]byte, formats []int16, b *buffer, ops []op) int {
	s := ops[0].stmt
	for n := range arrays {
		if arrays[n] = arrays[n][:0]; formats[n] == pgtype.BinaryFormatCode {
			arrays[n] = pgbinary.AppendArray(arrays[n], len(ops), s.oids[n])
		}
	}
	for i := range ops {
		w.values = b.params(w.values[:0], &ops[i])
		for n, v := range w.values {
			ok := true
			switch {
			case formats[n] == pgtype.TextFormatCode:
				arrays[n] = appendElement(append(arrays[n], ','), v)
			case v == nil:
				arrays[n] = pgbinary.AppendNull(arrays[n])
			default:
				arrays[n], ok = s.kinds[n].AppendSized(arrays[n], v)
			}
			if !ok {
				return n
			}
		}
	}
	for n := range arrays {
		if formats[n] == pgtype.TextFormatCode {
			arrays[n][0] = '{'
			arrays[n] = append(arrays[n], '}')
		}
	}
	return -1
}

// appendElement appends an element of an array in text form (array_in, src/backend/utils/adt/arrayfuncs.c).
func appendElement(dst, v []byte) []byte {
	if v == nil {
		return append(dst, "NULL"...)
	}
	dst = append(dst, '"')
	for _, c := range v {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// readRun reads the result of a run's statement and names the first row that was not hit.
func readRun(b *buffer, rr *pgconn.ResultReader, ops []op) error {
	hit := make([]bool, len(ops))
	hits := 0
	for rr.NextRow() {
		n := atoi(rr.Values()[0])
		if n < 1 || int(n) > len(ops) || hit[n-1] {
			_, _ = rr.Close() // says nothing more
			return b.failed(&ops[0], errors.New("several rows have one key"))
		}
		hit[n-1] = true
		hits++
	}
	if _, err := rr.Close(); err != nil {
		return b.failed(&ops[0], err)
	}
	if hits == len(ops) {
		return nil
	}
	for i := range hit {
		if !hit[i] {
			return b.failed(&ops[i], &rowCountError{0})
		}
	}
	return nil
}
