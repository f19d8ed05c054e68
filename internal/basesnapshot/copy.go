package basesnapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"tidemark/internal/fault"
	"tidemark/internal/sqltext"
)

const (
	rangeBytes     = 128 << 20 // of a table, TOAST included, that one range holds
	copyAttempts   = 3         // of one range, when connections break
	lockAttempts   = 30        // of LockTimeout each
	attemptPause   = time.Second
	pagesPerRange  = 16 // at least: a range has to be worth its query
	bufferSlack    = maxFrame + chunkHeaderSize + chunkTrailerSize
	buffersPerTask = 2 // one is filled while one is uploaded
)

// task is one range of a table.
type task struct {
	source     *source
	number     int // of the range
	first, end int64
	last       bool
}

// tasksOf cuts tables into ranges, small tables first: what is truncated or rewritten often is mostly small, and the
// sooner a table is read after the point, the less likely it is to have been.
func tasksOf(tables []*source) []task {
	order := slices.Clone(tables)
	slices.SortStableFunc(order, func(a, b *source) int { return cmp.Compare(a.bytes, b.bytes) })
	var tasks []task
	for _, t := range order {
		n := int64(1)
		if t.heap {
			n = max(1, min(t.bytes/rangeBytes, t.pages/pagesPerRange))
		}
		for i := range n {
			tasks = append(tasks, task{source: t, number: int(i), first: t.pages * i / n, end: t.pages * (i + 1) / n, last: i == n-1})
		}
	}
	return tasks
}

// copier copies tables in parallel, each worker in a session that imported the snapshot.
type copier struct {
	opt      *Options
	snapshot string // exported, held by someone else until run returns
	prefix   string
	header   ChunkHeader
	buffers  chan []byte
	numbers  []atomic.Uint32 // next chunk number by table
	progress *progress

	monitorMu sync.Mutex
	monitor   *pgx.Conn

	mu     sync.Mutex
	chunks [][][]Chunk // by table and range
}

// run copies all tables and puts the chunks into them.
func (c *copier) run(ctx context.Context, tables []*source) error {
	tasks := tasksOf(tables)
	jobs := min(c.opt.Jobs, max(len(tasks), 1))
	c.numbers = make([]atomic.Uint32, len(tables))
	c.chunks = make([][][]Chunk, len(tables))
	left := make([]atomic.Int32, len(tables))
	for _, t := range tasks {
		c.chunks[t.source.index] = append(c.chunks[t.source.index], nil)
		left[t.source.index].Add(1)
	}
	c.buffers = make(chan []byte, jobs*buffersPerTask)
	for range cap(c.buffers) {
		c.buffers <- nil
	}
	queue := make(chan task)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(queue)
		for _, t := range tasks {
			select {
			case queue <- t:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	})
	for range jobs {
		group.Go(func() error {
			w := &worker{copier: c, block: make([]byte, 0, maxBlockRaw)}
			defer w.close()
			for t := range queue {
				if err := w.copyTask(ctx, t); err != nil {
					return err
				}
				if left[t.source.index].Add(-1) == 0 {
					c.progress.tableDone()
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.collect(tables)
	return nil
}

// collect puts the chunks into the tables, in the order of their ranges.
func (c *copier) collect(tables []*source) {
	for i, t := range tables {
		for _, chunks := range c.chunks[i] {
			t.Chunks = append(t.Chunks, chunks...)
		}
		for _, chunk := range t.Chunks {
			t.Rows += chunk.Rows
			t.RawBytes += chunk.RawBytes
		}
	}
}

// worker copies one range after the other.
type worker struct {
	*copier
	session *session
	block   []byte // memory of the writer's block
}

func (w *worker) close() {
	if w.session != nil {
		w.session.close()
		w.session = nil
	}
}

// copyTask copies a range, over a new session if one breaks. What a broken attempt uploaded is never named.
func (w *worker) copyTask(ctx context.Context, t task) error {
	for attempt := 1; ; attempt++ {
		chunks, err := w.tryTask(ctx, t)
		if err == nil {
			w.mu.Lock()
			w.chunks[t.source.index][t.number] = chunks
			w.mu.Unlock()
			return nil
		}
		w.close()
		if fault.CodeOf(err) != fault.Unreachable || attempt == copyAttempts || ctx.Err() != nil || ofStore(err) {
			return err
		}
		w.opt.Log.Warn("copying is tried again", "table", t.source.String(), "range", t.number, "err", err)
		if err := pause(ctx, attemptPause); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *worker) tryTask(ctx context.Context, t task) ([]Chunk, error) {
	if w.session == nil {
		s, err := openSession(ctx, w.opt.DSN)
		if err != nil {
			return nil, err
		}
		w.session = s
		if err := s.exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT "+sqltext.QuoteLiteral(w.snapshot)); err != nil {
			return nil, sqlFault(err, "importing the snapshot")
		}
	}
	if err := w.lock(ctx, t.source); err != nil {
		return nil, err
	}
	if err := w.unchanged(ctx, t.source); err != nil {
		return nil, err
	}
	chunks, err := w.copyRows(ctx, t)
	if err != nil {
		return nil, err
	}
	// The lock is held only as long as the table is read.
	return chunks, sqlFault(w.session.exec(ctx, "ROLLBACK TO SAVEPOINT t; RELEASE SAVEPOINT t"), "unlocking table %s", t.source)
}

// lock takes ACCESS SHARE on the table, and no other lock while it waits, so that it can't be part of a
// deadlock, which across sessions nobody would see. A lock that is not given in time is tried for again.
func (w *worker) lock(ctx context.Context, t *source) error {
	sql := fmt.Sprintf("SAVEPOINT t; SET LOCAL lock_timeout = %d; LOCK TABLE ONLY %s IN ACCESS SHARE MODE",
		w.opt.LockTimeout.Milliseconds(), sqltext.QuoteName(t.Namespace, t.Name))
	for attempt := 1; ; attempt++ {
		err := w.session.exec(ctx, sql)
		switch sqlState(err) {
		case "55P03", "40P01": // lock_not_available, deadlock_detected
			if attempt == lockAttempts {
				return fault.Wrap(err, fault.Failed, "end the transaction that holds the lock, and try again", "table %s was locked for %s", t, time.Duration(attempt)*w.opt.LockTimeout)
			}
			w.opt.Log.Warn("the base snapshot waits for a lock", "table", t.String(), "blockers", w.lockHolders(ctx, t))
			if err := w.session.exec(ctx, "ROLLBACK TO SAVEPOINT t; RELEASE SAVEPOINT t"); err != nil {
				return sqlFault(err, "locking table %s", t)
			}
			continue
		}
		return w.tableFault(err, t, "locking")
	}
}

// lockHolders names the sessions in the way; what they run is not shown: it may hold secrets.
func (w *worker) lockHolders(ctx context.Context, t *source) string {
	w.monitorMu.Lock()
	defer w.monitorMu.Unlock()
	rows, err := w.monitor.Query(ctx, `
SELECT CASE WHEN a.pid IS NULL THEN format('prepared transaction %L', p.gid) ELSE format('pid %s (%s, %s)', a.pid, a.usename, a.state) END
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.virtualtransaction = '-1/' || p.transaction
WHERE l.relation = $1 AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.granted AND l.mode = 'AccessExclusiveLock' ORDER BY 1 LIMIT 10`, t.OID)
	if err != nil {
		return ""
	}
	who, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return ""
	}
	return strings.Join(who, "; ")
}

// unchanged checks, while the table is locked, that it is still what the snapshot saw: TRUNCATE and rewrites give it
// another file, in which the snapshot finds nothing, and other columns would be read under the old names.
func (w *worker) unchanged(ctx context.Context, t *source) error {
	w.monitorMu.Lock()
	defer w.monitorMu.Unlock()
	var now Name
	var filenode uint32
	err := w.monitor.QueryRow(ctx, `
SELECT n.nspname::text, c.relname::text, coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`, t.OID).Scan(&now.Namespace, &now.Name, &filenode)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return &ChangedError{Object: "table " + t.String(), Reason: "was dropped"}
	case err != nil:
		return sqlFault(err, "checking table %s", t)
	case now != Name{t.Namespace, t.Name}:
		return &ChangedError{Object: "table " + t.String(), Reason: "was renamed or moved"}
	case filenode != t.filenode:
		return &ChangedError{Object: "table " + t.String(), Reason: "was truncated or rewritten"}
	}
	signatures, err := readSignatures(ctx, w.monitor, []uint32{t.OID})
	if err != nil {
		return err
	}
	if signatures[t.OID] != t.signature {
		return &ChangedError{Object: "table " + t.String(), Reason: "got other columns"}
	}
	return nil
}

// tableFault tells a table that changed since the point from other errors.
func (w *worker) tableFault(err error, t *source, what string) error {
	switch sqlState(err) {
	case "":
		return sqlFault(err, "%s table %s", what, t)
	case "42P01", "3F000", "42703", "42809": // table, schema, column gone; no table any more
		return &ChangedError{Object: "table " + t.String(), Reason: "was dropped, renamed or altered"}
	case "42501":
		return fault.Wrap(err, fault.Usage, "the role must see every row: GRANT pg_read_all_data, and ALTER ROLE ... BYPASSRLS where tables have row security", "%s table %s", what, t)
	}
	return sqlFault(err, "%s table %s", what, t)
}

func (w *worker) copyRows(ctx context.Context, t task) ([]Chunk, error) {
	header := w.header
	header.Table = uint32(t.source.index)
	up := &uploader{copier: w.copier}
	writer := &chunkWriter{
		header: header, prefix: fmt.Sprintf("%s%06d/", w.prefix, t.source.index), block: w.block[:0],
		number: func() uint32 { return w.numbers[t.source.index].Add(1) - 1 },
		buffer: w.takeBuffer, upload: up.upload,
	}
	chunks, err := w.stream(ctx, t, writer)
	w.block = writer.block
	if writer.object != nil {
		w.buffers <- writer.object
	}
	if upErr := up.wait(); err == nil {
		err = upErr
	}
	return chunks, err
}

func (w *worker) stream(ctx context.Context, t task, writer *chunkWriter) ([]Chunk, error) {
	var sinkErr error
	err := w.session.copyOut(ctx, copySQL(t.source, t.first, t.end, t.last), func(b []byte) error {
		sinkErr = writer.write(ctx, b)
		return sinkErr
	})
	if sinkErr != nil {
		return nil, sinkErr
	}
	if err != nil {
		return nil, w.tableFault(err, t.source, "reading")
	}
	return writer.close(ctx)
}

// takeBuffer waits for a free buffer. There are as many as can be in use; they are made when first needed.
func (c *copier) takeBuffer(ctx context.Context) ([]byte, error) {
	select {
	case b := <-c.buffers:
		if b == nil {
			b = make([]byte, 0, fullSize+bufferSlack)
		}
		return b[:0], nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// uploader stores a range's objects, one at a time, while the next is filled.
type uploader struct {
	*copier
	under chan error // of the upload under way; nil: none
}

// uploadError marks a store's error, so that it isn't taken for the server's.
type uploadError struct{ error }

func (e uploadError) Unwrap() error { return e.error }

func ofStore(err error) bool {
	_, ok := errors.AsType[uploadError](err)
	return ok
}

func (u *uploader) upload(ctx context.Context, o object) error {
	if err := u.wait(); err != nil {
		u.buffers <- o.data
		return err
	}
	done := make(chan error, 1)
	u.under = done
	go func() {
		err := putOnce(ctx, u.opt.Store, o.key, o.data)
		u.buffers <- o.data
		if err == nil {
			u.progress.stored(o)
		} else if !errors.Is(err, context.Canceled) {
			err = uploadError{err}
		}
		done <- err
	}()
	return nil
}

// wait waits for the upload under way.
func (u *uploader) wait() error {
	if u.under == nil {
		return nil
	}
	err := <-u.under
	u.under = nil
	return err
}
