package pitr

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/pitr/pgbinary"
	"tidemark/pitr/session"
)

// binaryMinimum is the size of a table's rows, in bytes, from which on it is worth asking for the types of its columns.
const binaryMinimum = 64 << 10

// binaryKinds finds out in what form the target takes the rows of each table, by the tables' places: the kinds of the columns that COPY
// fills, nil where not all of them have a binary format.
//
// It asks on a session of its own, whose path is empty: on one for rows, the source's operators could stand in for those of the query.
func (r *run) binaryKinds(ctx context.Context, tables []*basesnapshot.Table) ([][]pgbinary.Kind, error) {
	all := make([][]pgbinary.Kind, len(tables))
	worth := func(t *basesnapshot.Table) bool { return t.RawBytes >= binaryMinimum }
	if !slices.ContainsFunc(tables, worth) {
		return all, nil
	}
	conn, err := r.session(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close(conn)
	for i, t := range tables {
		if !worth(t) {
			continue
		}
		rows, err := session.Rows(ctx, conn, columnTypesQuery, r.quoted(t.Namespace, t.Name))
		if err != nil {
			return nil, err
		}
		types := map[string]pgbinary.Kind{}
		for _, row := range rows {
			types[row[0]] = pgbinary.KindOf(number(row[1]), row[2] == "e")
		}
		var kinds []pgbinary.Kind
		for _, name := range t.CopyColumns() {
			kinds = append(kinds, types[name])
		}
		if pgbinary.All(kinds) {
			all[i] = kinds
		}
	}
	return all, nil
}

// columnTypesQuery gives a table's columns and the types below their domains.
const columnTypesQuery = `
with recursive base as (
  select a.attname, t.oid, t.typtype, t.typbasetype from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = $1::pg_catalog.regclass and a.attnum > 0 and not a.attisdropped
  union all select b.attname, t.oid, t.typtype, t.typbasetype from base b join pg_catalog.pg_type t on b.typtype = 'd' and t.oid = b.typbasetype)
select attname, oid, typtype from base where typtype <> 'd'`

// maxBinaryRow bounds the rows, in bytes of text, that go in binary format. The server gathers 1,000 rows before it stores them; of text it
// stops at 64 KiB, of binary rows it doesn't look at the size (CopyMultiInsertInfoIsFull, src/backend/commands/copyfrom.c).
const maxBinaryRow = 32 << 10

// binaryChunk gives one user its rows of a chunk in binary format, up to the first that has none or is too long.
type binaryChunk struct {
	text    *chunkReader
	rows    pgbinary.CopyText
	stopped bool // the rest is left to text
}

func (b *binaryChunk) next(dst []byte) ([]byte, error) {
	if len(b.text.rest) == 0 {
		if err := b.text.load.deal(b.text); err != nil {
			return dst, err
		}
	}
	end := bytes.IndexByte(b.text.rest, '\n')
	if end >= 0 && end <= maxBinaryRow {
		row, ok := b.rows.Append(dst, b.text.rest[:end])
		if ok {
			b.text.rest = b.text.rest[end+1:]
			return row, nil
		}
	}
	b.stopped = true
	return dst, io.EOF
}

// copyRows loads what one user can get of a chunk, and returns how many rows the target took.
func copyRows(ctx context.Context, conn *pgconn.PgConn, text *chunkReader, sql string, kinds []pgbinary.Kind) (rows int64, err error) {
	if kinds != nil {
		b := &binaryChunk{text: text, rows: pgbinary.CopyText{Kinds: kinds}}
		tag, err := conn.CopyFrom(ctx, pgbinary.NewCopyReader(b.next), sql+pgbinary.CopyOptions)
		if rows = tag.RowsAffected(); err != nil || !b.stopped {
			return rows, err
		}
	}
	tag, err := conn.CopyFrom(ctx, text, sql)
	return rows + tag.RowsAffected(), err
}
