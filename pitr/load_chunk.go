package pitr

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/pitr/fold"
	"tidemark/pitr/pgbinary"
	"tidemark/pitr/session"
)

// chunkLoad is a chunk of the base snapshot that is being loaded, by one connection or, towards the end of a phase,
// several: its rows are dealt out in pieces that end with a row.
type chunkLoad struct {
	table *basesnapshot.Table
	chunk basesnapshot.Chunk
	body  io.ReadCloser   // its rows
	kept  *fold.Rows      // those of body that are to be loaded; nil: all
	kinds []pgbinary.Kind // of the table's columns; nil: rows go as text

	mu    sync.Mutex
	turn  sync.Cond // of mu: the row that owner was in has ended
	users int
	owner *chunkReader // has the beginning of a row that is longer than a piece; nil: nobody has
	carry []byte       // the beginning of the next row
	ended error        // io.EOF when all rows were dealt out, or why there are no more
	taken int64        // rows that the target took
}

// pieceSize is how much of a chunk is dealt out at a time, in bytes.
const pieceSize = 256 << 10

func newChunkLoad(t *basesnapshot.Table, c basesnapshot.Chunk, kinds []pgbinary.Kind, filter *fold.Snapshot, body io.ReadCloser) *chunkLoad {
	l := &chunkLoad{table: t, chunk: c, body: body, kinds: kinds}
	l.turn.L = &l.mu
	if filter != nil {
		l.kept = filter.Rows(body)
	}
	return l
}

// join reports whether there is something left to load, and if so counts the caller in, who has to leave.
func (l *chunkLoad) join() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return false
	}
	l.users++
	return true
}

// leave counts a user out: it has taken so many rows, or failed. The last one out closes the chunk, and hears whether all
// of its rows arrived.
func (l *chunkLoad) leave(rows int64, failed error) (last bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken += rows
	l.users--
	if failed != nil && (l.ended == nil || l.ended == io.EOF) {
		l.ended = failed
	}
	l.owner = nil
	l.turn.Broadcast()
	if l.users > 0 || l.ended == nil {
		return false, failed
	}
	dropped := int64(0)
	if l.kept != nil {
		dropped = l.kept.Dropped()
		defer l.kept.Close() // a temporary file that is deleted already
	}
	closeErr := l.body.Close()
	switch {
	case failed != nil:
		return true, failed
	case l.ended != io.EOF:
		return true, nil // who failed says so
	case closeErr != nil:
		return true, closeErr
	case l.taken+dropped != l.chunk.Rows:
		return true, fault.New(fault.Failed, verifyHint, "%s took %d rows from %s, which holds %d", l.table, l.taken+dropped, l.chunk.Objects[0].Key, l.chunk.Rows)
	}
	return true, nil
}

// chunkReader gives one user its rows of a chunk.
type chunkReader struct {
	load *chunkLoad
	buf  []byte
	rest []byte // of buf
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if err := r.load.deal(r); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// deal gives a user the next piece.
func (l *chunkLoad) deal(r *chunkReader) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.owner != nil && l.owner != r && l.ended == nil {
		l.turn.Wait()
	}
	if l.ended != nil {
		return l.ended
	}
	if r.buf == nil {
		r.buf = make([]byte, 0, pieceSize)
	}
	var rows io.Reader = l.body
	if l.kept != nil {
		rows = l.kept
	}
	buf := append(r.buf[:0], l.carry...)
	l.carry, l.owner = l.carry[:0], nil
	for l.ended == nil && len(buf) < pieceSize {
		var n int
		n, l.ended = rows.Read(buf[len(buf):pieceSize])
		buf = buf[:len(buf)+n]
	}
	if l.ended == nil {
		if end := bytes.LastIndexByte(buf, '\n') + 1; end > 0 {
			buf, l.carry = buf[:end], append(l.carry, buf[end:]...)
		} else {
			l.owner = r
		}
	}
	l.turn.Broadcast()
	if l.ended != nil && (l.ended != io.EOF || len(buf) == 0) {
		return l.ended
	}
	r.rest = buf
	return nil
}

// failure returns why the chunk could not be read on; nil if that is not what went wrong.
func (l *chunkLoad) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == io.EOF {
		return nil
	}
	return l.ended
}

// chunkLoads are the chunks that were begun, so that whoever finds nothing more to begin can help.
type chunkLoads struct {
	mu  sync.Mutex
	all []*chunkLoad
}

func (c *chunkLoads) begin(l *chunkLoad) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(slices.DeleteFunc(c.all, (*chunkLoad).done), l)
}

// unfinished returns a chunk of which rows are left to deal out; nil if there is none.
func (c *chunkLoads) unfinished() *chunkLoad {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, (*chunkLoad).done)
	if len(c.all) == 0 {
		return nil
	}
	return c.all[0]
}

// done reports whether nothing is left to deal out.
func (l *chunkLoad) done() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended != nil
}

// copyChunk loads what it can get of a chunk.
func (r *run) copyChunk(ctx context.Context, conn *pgconn.PgConn, l *chunkLoad) error {
	if !l.join() {
		return nil
	}
	rows, err := copyRows(ctx, conn, &chunkReader{load: l}, r.copySQL(l.table), l.kinds)
	if damage := l.failure(); err != nil && damage != nil {
		err = contradiction(damage) // found under way
	} else if err != nil {
		err = session.Error(err)
		err = fault.Wrap(err, fault.CodeOf(err), "", "load %s from %s", l.table, l.chunk.Objects[0].Key)
	}
	last, err := l.leave(rows, err)
	if err != nil || !last {
		return err
	}
	if r.fold.Pass() == 0 {
		r.mu.Lock()
		r.tableRows(l.table.String()).Copied += l.chunk.Rows
		r.mu.Unlock()
	}
	r.advance(l.chunk.StoredBytes())
	return nil
}
