package apply

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/pitr/pgbinary"
	"tidemark/segment"
)

// command is what a worker is asked to do; fields that are not set are not done.
type command struct {
	buffer *buffer
	do     func(context.Context, *worker) error // inside the worker's transaction, under safePath
	commit bool
	done   chan struct{} // closed after all that
}

// worker owns one connection.
type worker struct {
	conn     *pgconn.PgConn
	budget   *budget
	commands chan command
	open     bool // a transaction is
	prepared map[string]bool
	wide     map[string]int // temporary tables of the open transaction, by name, and their states
	values   [][]byte
	session  sessionState

	single bool                // a statement for each row, so that an error names its row
	unseen bool                // nobody looks at the target, and no trigger fires: only a row's last state counts
	arrays map[uint32]uint32   // array types of the target by their elements' types
	keys   map[string]struct{} // of the run that is gathered
	key    []byte

	arranger arranger
}

func newWorker(conn *pgconn.PgConn, b *budget) *worker {
	return &worker{conn: conn, budget: b, commands: make(chan command, 4), prepared: map[string]bool{}, wide: map[string]int{}, arrays: map[uint32]uint32{}, keys: map[string]struct{}{}, arranger: newArranger()}
}

// run does commands until there are no more, one fails, or the context ends. It closes the connection.
func (w *worker) run(ctx context.Context) (err error) {
	defer func() {
		end := ctx
		if err != nil {
			// Closing with an ended context cuts the connection: the server rolls back.
			var cancel context.CancelFunc
			end, cancel = context.WithCancel(context.WithoutCancel(ctx))
			cancel()
		}
		err = errors.Join(err, w.close(end, err))
	}()
	for {
		select {
		case c, ok := <-w.commands:
			if !ok {
				return nil
			}
			if err := w.execute(ctx, c); err != nil {
				if fault.CodeOf(err) == fault.Failed && lostConnection(err) {
					err = fault.Wrap(err, fault.Unreachable, "", "the target database")
				}
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// close closes the connection; after a failure its own error says nothing new.
func (w *worker) close(ctx context.Context, failed error) error {
	err := w.conn.Close(ctx)
	if failed != nil {
		return nil
	}
	return err
}

func (w *worker) execute(ctx context.Context, c command) error {
	if c.buffer != nil || c.do != nil {
		if err := w.begin(ctx); err != nil {
			return err
		}
	}
	if c.buffer != nil {
		err := w.forRows(ctx)
		if err == nil {
			err = w.apply(ctx, c.buffer)
		}
		w.budget.give(c.buffer.size)
		if err != nil {
			return err
		}
		c.buffer.release()
	}
	if c.do != nil {
		if err := w.safely(ctx); err != nil {
			return err
		}
		if err := c.do(ctx, w); err != nil {
			return err
		}
	}
	if c.commit && w.open {
		w.open = false
		clear(w.wide)
		if err := w.commit(ctx); err != nil {
			return fault.Wrap(err, fault.Failed, "", "commit replayed transactions")
		}
		if len(w.prepared) > maxPrepared {
			clear(w.prepared)
			if err := w.exec(ctx, "DEALLOCATE ALL"); err != nil {
				return fault.Wrap(err, codeOf(err), "", "let prepared statements go")
			}
		}
	}
	if c.done != nil {
		close(c.done)
	}
	return nil
}

// maxPrepared bounds the statements a session keeps; schema changes leave old ones behind.
const maxPrepared = 1000

func (w *worker) begin(ctx context.Context) error {
	if w.open {
		return nil
	}
	w.open = true
	return w.exec(ctx, "BEGIN")
}

// commit checks the answer: the server takes the COMMIT of a transaction in which something failed, rolls back, and says no more of it
// than that.
func (w *worker) commit(ctx context.Context) error {
	results, err := w.conn.Exec(ctx, "COMMIT").ReadAll()
	if err == nil && results[0].CommandTag.String() != "COMMIT" {
		err = errors.New("the server answered " + results[0].CommandTag.String())
	}
	return err
}

func (w *worker) exec(ctx context.Context, sql string) error {
	_, err := w.conn.Exec(ctx, sql).ReadAll()
	return err
}

// Shorter runs of inserts than this go as statements in the pipeline: a COPY costs two round trips.
const copyRun = 12

// apply does the operations of a buffer, each key's in order.
func (w *worker) apply(ctx context.Context, b *buffer) error {
	w.arrange(b)
	for i := 0; i < len(b.ops); {
		n := 0
		for i+n < len(b.ops) && b.ops[i+n].stmt == b.table.insert {
			n++
		}
		if n >= copyRun && !b.table.lenient {
			if err := w.copyRows(ctx, b, b.ops[i:i+n]); err != nil {
				return err
			}
			i += n
			continue
		}
		end := i + n
		for end < len(b.ops) && !copyNext(b, end) {
			end++
		}
		if err := w.pipeline(ctx, b, b.ops[i:end]); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// copyNext reports whether a run of inserts that is worth a COPY begins at i.
func copyNext(b *buffer, i int) bool {
	if i+copyRun > len(b.ops) || b.table.lenient {
		return false
	}
	for _, o := range b.ops[i : i+copyRun] {
		if o.stmt != b.table.insert {
			return false
		}
	}
	return true
}

var copyLine = regexp.MustCompile(`line (\d+)`)

// copyRows inserts rows by COPY: in binary format up to the first that has none, if there is one, and from there as text.
func (w *worker) copyRows(ctx context.Context, b *buffer, ops []op) error {
	if b.table.binary != nil {
		rows := &rowsOf{buffer: b, ops: ops}
		tag, err := w.conn.CopyFrom(ctx, pgbinary.NewCopyReader(rows.binary), b.table.copySQL+pgbinary.CopyOptions)
		if err := copied(b, ops, len(ops)-len(rows.ops), tag, err); err != nil {
			return err
		}
		if ops = rows.ops; len(ops) == 0 {
			return nil
		}
	}
	tag, err := w.conn.CopyFrom(ctx, pgbinary.NewTextReader((&rowsOf{buffer: b, ops: ops}).text), b.table.copySQL)
	return copied(b, ops, len(ops), tag, err)
}

// copied checks the answer to a COPY of the first n of ops.
func copied(b *buffer, ops []op, n int, tag pgconn.CommandTag, err error) error {
	if err != nil {
		at := &ops[0]
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
			if m := copyLine.FindStringSubmatch(pgErr.Where); m != nil {
				if n, _ := strconv.Atoi(m[1]); n >= 1 && n <= len(ops) {
					at = &ops[n-1]
				}
			}
		}
		return b.failed(at, err)
	}
	if tag.RowsAffected() != int64(n) {
		return b.failed(&ops[0], errors.New("COPY took "+itoa(tag.RowsAffected())+" of "+itoa(int64(n))+" rows"))
	}
	return nil
}

// Bounds of what is sent before results are read, of which two such groups may be on the way.
const (
	groupOps   = 256
	groupBytes = 128 << 10
)

// pipeline runs operations as prepared statements, many to a round trip.
func (w *worker) pipeline(ctx context.Context, b *buffer, ops []op) (err error) {
	if err := w.prepareRuns(ctx, ops); err != nil {
		return err
	}
	p := w.conn.StartPipeline(ctx)
	defer func() {
		if closeErr := p.Close(); err == nil {
			err = closeErr
		}
	}()
	pending := pending{p: p, buffer: b}
	bytes, sent := 0, 0
	for i := 0; i < len(ops); {
		n := w.runLength(b, ops[i:])
		bytes += w.send(&pending, ops[i:i+n])
		i, sent = i+n, sent+1
		if sent%groupOps != 0 && bytes < groupBytes && i < len(ops) {
			continue
		}
		bytes = 0
		if err := pending.sync(); err != nil {
			return err
		}
	}
	return pending.read(0)
}

// send sends one statement: that of an operation, or of a run of them. It returns the bytes of its values.
func (w *worker) send(q *pending, ops []op) (bytes int) {
	s := ops[0].stmt
	name, sql, oids := s.name, s.sql, s.oids
	if len(ops) > 1 {
		name, sql, oids = s.name+"s", s.many, s.arrays
	}
	if !w.prepared[name] {
		w.prepared[name] = true
		q.p.SendPrepare(name, sql, oids)
		q.add(ops, true)
	}
	var formats []int16 // none: all are text
	if len(ops) > 1 {
		w.values, formats = w.arrayValues(q.buffer, ops)
	} else {
		w.values = q.buffer.params(w.values[:0], &ops[0])
	}
	for _, v := range w.values {
		bytes += len(v)
	}
	q.p.SendQueryPrepared(name, w.values, formats, nil)
	q.add(ops, false)
	return bytes
}

// awaited is a request whose result wasn't read yet; one without operations is a sync.
type awaited struct {
	ops     []op
	prepare bool
}

// first is the operation that an error of the request is told of.
func (a awaited) first() *op {
	if len(a.ops) == 0 {
		return nil
	}
	return &a.ops[0]
}

// pending follows a pipeline's requests to their results.
type pending struct {
	p      *pgconn.Pipeline
	buffer *buffer
	queue  []awaited
	syncs  int
}

func (q *pending) add(ops []op, prepare bool) { q.queue = append(q.queue, awaited{ops, prepare}) }

// sync sends what was queued and reads results until only this group is on the way.
func (q *pending) sync() error {
	q.queue = append(q.queue, awaited{})
	q.syncs++
	if err := q.p.Sync(); err != nil {
		return q.buffer.failed(q.queue[0].first(), err)
	}
	return q.read(1)
}

// read reads results until at most keep groups are on the way.
func (q *pending) read(keep int) error {
	for q.syncs > keep {
		next := q.queue[0]
		q.queue = q.queue[1:]
		res, err := q.p.GetResults()
		if err != nil {
			return q.buffer.failed(next.first(), err)
		}
		if next.ops == nil {
			q.syncs--
			continue
		}
		if next.prepare {
			continue
		}
		rr, ok := res.(*pgconn.ResultReader)
		if !ok {
			return q.buffer.failed(next.first(), errors.New("the server's answers are out of step"))
		}
		if len(next.ops) > 1 {
			if err := readRun(q.buffer, rr, next.ops); err != nil {
				return err
			}
			continue
		}
		tag, err := rr.Close()
		if err != nil {
			return q.buffer.failed(next.first(), err)
		}
		if n := tag.RowsAffected(); n != 1 && !(q.buffer.table.lenient && n == 0) {
			return q.buffer.failed(next.first(), &rowCountError{n})
		}
	}
	return nil
}

// rowCountError says that an operation hit another number of rows than one.
type rowCountError struct{ rows int64 }

func (e *rowCountError) Error() string {
	if e.rows == 0 {
		return "there is no such row"
	}
	return itoa(e.rows) + " rows were hit instead of one"
}

// failed tells which operation could not be applied: table, transaction, LSN and what identifies the row.
func (b *buffer) failed(o *op, err error) error {
	if o == nil {
		return fault.Wrap(err, codeOf(err), "", "replay into %s", b.table.name)
	}
	return opFailed(b.table, o.stmt.op, o.lsn, o.xid, b.describe(o), err)
}

func opFailed(t *table, op segment.Op, lsn segment.LSN, xid uint32, row string, err error) error {
	hint := ""
	if _, ok := errors.AsType[*rowCountError](err); ok {
		hint = "the base snapshot and the segments disagree: restorer verify checks them; --to-snapshot restores without replay"
	}
	return fault.Wrap(err, codeOf(err), hint, "%s on %s%s, transaction %d, LSN %s", opName(op), t.name, row, xid, lsn)
}

// codeOf tells a lost connection from a refused row.
func codeOf(err error) fault.Code {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		if strings.HasPrefix(pgErr.Code, "57P") || strings.HasPrefix(pgErr.Code, "08") {
			return fault.Unreachable
		}
		return fault.Failed
	}
	if errors.Is(err, context.Canceled) {
		return fault.Interrupted
	}
	if lostConnection(err) {
		return fault.Unreachable
	}
	return fault.Failed
}

// lostConnection reports whether an error is one of the way to the server, and not of what it was asked. What was sent last
// may have been done or not.
func lostConnection(err error) bool {
	if _, ok := errors.AsType[*pgconn.PgError](err); ok || errors.Is(err, context.Canceled) {
		return false
	}
	_, network := errors.AsType[net.Error](err)
	return network || pgconn.Timeout(err) || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// describe shows the key of an operation's row, cut to a bearable length.
func (b *buffer) describe(o *op) string {
	columns := b.table.keys
	if len(columns) == 0 {
		return ""
	}
	var names, shown []string
	values := b.params(nil, o)
	for _, k := range columns {
		at := -1
		for n, i := range o.stmt.newCols {
			if i == k {
				at = n
			}
		}
		for n, i := range o.stmt.oldCols {
			if i == k {
				at = len(o.stmt.newCols) + n
			}
		}
		if at < 0 || at >= len(values) {
			continue
		}
		names = append(names, b.table.cols[k].name)
		shown = append(shown, show(values[at]))
		if len(names) == 8 {
			break
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ") = (" + strings.Join(shown, ", ") + ")"
}

const shownValue = 60

func show(v []byte) string {
	if v == nil {
		return "null"
	}
	s := string(v[:min(len(v), shownValue)])
	if !utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\t") {
		s = strconv.QuoteToASCII(s)
	}
	if len(v) > shownValue {
		s += "…"
	}
	return s
}
