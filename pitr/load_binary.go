package pitr

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/pitr/pgbinary"
)

// binaryMinimum is the size of a table's rows, in bytes, from which on it is worth asking for the types of its columns.
const binaryMinimum = 64 << 10

// columnKinds finds out, once for all chunks of a table, in what form the target takes its rows.
type columnKinds struct {
	mu    sync.Mutex
	asked bool
	kinds []pgbinary.Kind
}

// of returns the kinds of the columns that COPY fills; nil if not all of them have a binary format.
func (k *columnKinds) of(ctx context.Context, conn *pgconn.PgConn, t *basesnapshot.Table, quoted string) ([]pgbinary.Kind, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked || t.RawBytes < binaryMinimum {
		return k.kinds, nil
	}
	rows, err := queryRows(ctx, conn, columnTypesQuery, quoted)
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
	if k.asked = true; pgbinary.All(kinds) {
		k.kinds = kinds
	}
	return k.kinds, nil
}

// columnTypesQuery gives a table's columns and the types below their domains.
const columnTypesQuery = `
with recursive base as (
  select a.attname, t.oid, t.typtype, t.typbasetype from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = $1::pg_catalog.regclass and a.attnum > 0 and not a.attisdropped
  union all select b.attname, t.oid, t.typtype, t.typbasetype from base b join pg_catalog.pg_type t on b.typtype = 'd' and t.oid = b.typbasetype)
select attname, oid, typtype from base where typtype <> 'd'`

// binaryChunk gives one user its rows of a chunk in binary format, up to the first that has none or that is longer than a piece.
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
	if end >= 0 {
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
