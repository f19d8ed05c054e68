package apply

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// Options say how to replay.
type Options struct {
	// Connect opens a session that is ready for replay: replica role, search_path empty,
	// client_encoding that of the stream. It is called Workers+1 times, once in atomic mode.
	Connect func(ctx context.Context) (*pgconn.PgConn, error)
	Workers int // connections; at least 1
	Others  int // how many other Appliers there are, among which memory is shared
	// Single makes each update and delete by a statement of its own: slower, but an error that the server
	// reports names its row.
	Single bool

	// Want chooses relations; nil takes all. Operations on others are left out.
	Want func(*segment.Relation) bool
	// SchemaOf gives the schema in which the base snapshot has a relation, by its OID at the source; "" where
	// it doesn't know. May be nil. A stream may go on naming the schema that the relation was in before: renaming
	// a schema doesn't have PostgreSQL send its relations anew.
	SchemaOf func(source uint32) string

	// Sources are the tables of the target by the OIDs that they have at the source, as far as they are known: the
	// stream may go on calling one by the name that its schema had before, which another has by now.
	Sources map[uint32]Name
	// Known is a table of the target that remembers the same by OIDs, in columns source and target, and gets those
	// that schema changes make; "": it is not remembered.
	Known string

	// TableSchema gives the target's schema of a wanted relation of the stream, TypeSchema that of a type;
	// nil: the same.
	TableSchema func(namespace, name string) string
	TypeSchema  func(namespace, name string) string
	// InsertOnly says that a relation sees nothing but inserts in everything that will be applied:
	// its rows may then go through all connections at once. nil: none.
	InsertOnly func(*segment.Relation) bool

	Atomic *Atomic // nil: in parallel, with nothing whole before Finish

	Schema *Schema // nil: schema changes in the stream are passed over
	// Inexact says that rows of a relation, in the transaction with that commit LSN, may be missing or there already,
	// so that operations which don't fit are passed over. nil: none.
	Inexact func(*segment.Relation, segment.LSN) bool
}

// Name is a table's, unquoted.
type Name struct{ Namespace, Name string }

// Counts are the operations applied to one table.
type Counts struct {
	Inserted, Updated, Deleted, Truncated int64
}

// Add adds others.
func (c *Counts) Add(o Counts) {
	c.Inserted += o.Inserted
	c.Updated += o.Updated
	c.Deleted += o.Deleted
	c.Truncated += o.Truncated
}

// Live is what became of the number of rows of a table.
type Live struct {
	Rows  int64 // how many more or, with Reset, how many there are
	Reset bool  // it was emptied on the way
}

// Applier applies records in the order they come. It is not safe for concurrent use.
type Applier struct {
	opts    Options
	meta    *pgconn.PgConn
	workers []*worker
	group   *errgroup.Group
	stop    context.CancelCauseFunc
	failed  <-chan struct{} // closed when a worker has failed
	cause   func() error
	budget  *budget

	byID   map[uint32]*mapping
	tables map[uint32]*table // by OID on the target
	order  []*table          // of tables, by first sight
	counts map[string]*Counts
	types  map[uint32]segment.TypeDef
	live   map[uint32]*Live // by the table's OID on the target

	generation int                       // of what is known of the target's tables: schema changes end it
	announced  map[segment.LSN][]*change // of transactions to come
	changes    []*change                 // of the open transaction
	nth        int                       // of changes, the next to come
	changed    bool                      // by the open transaction: the schema
	settled    segment.LSN               // commit of the last transaction that changed the schema
	recent     recent                    // transactions that changed the schema last
	defaults   recent                    // those that changed default privileges
	namings    namings                   // what they gave other names
	labels     map[uint32]*formerLabels  // of enums, by their OIDs on the target
	holds      holds
	doubted    map[string]bool // tables that inexact changes were about
	doubtAll   bool
	told       map[string]bool // notes that are made once

	begin   segment.Begin
	inTx    bool  // between begin and its commit
	batch   batch // in atomic mode
	next    int   // round robin of insert-only tables
	pending int   // bytes in buffers not handed over yet
	since   int64 // bytes handed over since the last commit
	done    int64 // whole transactions applied
	scratch []byte
}

// mapping ties the definition of a relation in the stream to a table of the target.
type mapping struct {
	relation segment.Relation
	seen     *segment.Relation // the definition last compared, to compare the pointer first
	table    *table            // nil: not wanted

	generation int
}

// Bounds on memory. A buffer is handed over when it is full, all of them when together they hold
// maxPending; at most maxInFlight is with the workers. Appliers at work together share these.
const (
	maxBuffer   = 2 << 20
	maxOps      = 20_000
	maxPending  = 16 << 20
	maxInFlight = 48 << 20
	maxBatch    = 16 << 20 // bytes after which the workers commit, at the end of a source transaction
)

// New opens the connections. The context bounds the Applier's whole life: when it ends, the workers do.
// The caller ends it with Finish or Abort.
func New(ctx context.Context, o Options) (*Applier, error) {
	a := &Applier{opts: o, byID: map[uint32]*mapping{}, tables: map[uint32]*table{}, counts: map[string]*Counts{}, types: map[uint32]segment.TypeDef{}, budget: newBudget(maxInFlight / (1 + o.Others)),
		live: map[uint32]*Live{}, labels: map[uint32]*formerLabels{}, announced: map[segment.LSN][]*change{}, doubted: map[string]bool{}, told: map[string]bool{}}
	if a.opts.Workers < 1 {
		a.opts.Workers = 1
	}
	var err error
	if o.Atomic != nil {
		// What a transaction changed of the schema only its own connection sees.
		a.opts.Workers, a.opts.InsertOnly = 1, nil
	} else if a.meta, err = connectMeta(ctx, o); err != nil {
		return nil, err
	}
	ctx, a.stop = context.WithCancelCause(ctx)
	a.group, ctx = errgroup.WithContext(ctx)
	a.failed, a.cause = ctx.Done(), func() error { return context.Cause(ctx) }
	for range a.opts.Workers {
		conn, err := o.Connect(ctx)
		if err != nil {
			a.Abort()
			return nil, err
		}
		w := newWorker(conn, a.budget)
		w.unseen = o.Atomic == nil
		w.single = o.Single
		a.workers = append(a.workers, w)
		a.group.Go(func() error { return w.run(ctx) })
	}
	if err := a.hold(); err != nil {
		a.Abort()
		return nil, err
	}
	return a, nil
}

// connectMeta opens the connection that only reads the target's catalog.
func connectMeta(ctx context.Context, o Options) (*pgconn.PgConn, error) {
	conn, err := o.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, safePath).ReadAll(); err != nil {
		return nil, errors.Join(fault.Wrap(err, codeOf(err), "", "set the session's search_path"), conn.Close(ctx))
	}
	return conn, nil
}

// Apply takes one record. What it needs of it is copied, except large values, which are applied before
// it returns. An error is final.
func (a *Applier) Apply(ctx context.Context, r *segment.Record) error {
	switch r.Op {
	case segment.OpBegin:
		a.begin, a.inTx = r.Begin, true
		return a.beginChanges()
	case segment.OpCommit:
		a.done++
		a.inTx = false
		a.note(r.Commit)
		changed := len(a.changes) > 0
		if a.changed {
			a.settled, a.changed = a.begin.CommitLSN, false
			a.recent.add(a.begin.XID)
			if err := a.keepLately(); err != nil {
				return err
			}
		}
		a.changes, a.nth = nil, 0
		return a.commit(changed && a.opts.Atomic != nil)
	case segment.OpMessage:
		return a.message(ctx, r)
	case segment.OpType:
		a.types[r.TypeDef.ID] = r.TypeDef
	case segment.OpInsert, segment.OpUpdate, segment.OpDelete:
		t, err := a.table(ctx, r.Relation)
		if err != nil || t == nil {
			return err
		}
		return a.row(t, r)
	case segment.OpTruncate:
		return a.truncate(ctx, r)
	}
	return nil
}

// row turns a row operation into an entry of its table's buffer.
func (a *Applier) row(t *table, r *segment.Record) error {
	if err := t.check(r, a.begin); err != nil {
		return err
	}
	if r.Op == segment.OpUpdate && t.always {
		if err := a.unlock(t, r.Relation.ID); err != nil {
			return err
		}
	}
	t.count(r.Op)
	if len(a.labels) > 0 {
		if err := errors.Join(a.relabel(t, r.Old), a.relabel(t, r.New)); err != nil {
			return err
		}
	}
	if wide(r.Old) || wide(r.New) {
		return a.wideRow(t, r)
	}
	stmt := t.insert
	if r.Op != segment.OpInsert {
		stmt, a.scratch = t.statement(r, a.scratch)
		a.tellSlow(t, r)
	}
	if t.buf == nil {
		t.buf = newBuffer(t)
	}
	n := t.buf.add(stmt, r, a.begin)
	a.pending += n
	if t.buf.full() {
		return a.flush(t)
	}
	if a.pending > maxPending/(1+a.opts.Others) {
		return a.flushAll()
	}
	return nil
}

// flush hands a table's buffer to its worker.
func (a *Applier) flush(t *table) error {
	if t.buf == nil {
		return nil
	}
	b := t.buf
	t.buf = nil
	a.pending -= b.size
	a.since += int64(b.size)
	w := a.workers[t.worker]
	if t.insertOnly {
		a.next++
		w = a.workers[a.next%len(a.workers)]
	}
	if err := a.budget.take(b.size, a.failed); err != nil {
		return a.failure()
	}
	return a.send(w, command{buffer: b})
}

func (a *Applier) flushAll() error {
	for _, t := range a.order {
		if err := a.flush(t); err != nil {
			return err
		}
	}
	return nil
}

// commit ends the workers' transactions if enough has come together or all is to be settled. It is
// called between source transactions, so that each is whole in one target transaction per worker.
func (a *Applier) commit(now bool) error {
	full := a.since+int64(a.pending) >= maxBatch
	if a.opts.Atomic != nil {
		full = a.batchFull()
	}
	if !now && !full {
		return a.alive()
	}
	if err := a.flushAll(); err != nil {
		return err
	}
	a.since = 0
	if a.opts.Atomic != nil {
		return a.endBatch()
	}
	for _, w := range a.workers {
		if err := a.send(w, command{commit: true}); err != nil {
			return err
		}
	}
	return nil
}

// settle commits everything and waits for it.
func (a *Applier) settle() error {
	if err := a.commit(true); err != nil {
		return err
	}
	for _, w := range a.workers {
		if err := a.sendWait(w, command{}); err != nil {
			return err
		}
	}
	return nil
}

func (a *Applier) send(w *worker, c command) error {
	select {
	case w.commands <- c:
		return nil
	case <-a.failed:
		return a.failure()
	}
}

// sendWait sends a command and waits until the worker has done it.
func (a *Applier) sendWait(w *worker, c command) error {
	done := make(chan struct{})
	c.done = done
	if err := a.send(w, c); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-a.failed:
		return a.failure()
	}
}

func (a *Applier) alive() error {
	select {
	case <-a.failed:
		return a.failure()
	default:
		return nil
	}
}

// failure returns what ended the workers: the first error of one, or the context's end.
func (a *Applier) failure() error {
	if err := a.group.Wait(); err != nil {
		return err
	}
	return a.cause()
}

// Live gives what became of the number of rows of each table that rows were applied to, by its OID on the
// target. It is called after Finish.
func (a *Applier) Live() map[uint32]Live {
	out := make(map[uint32]Live, len(a.live))
	for oid, l := range a.live {
		out[oid] = *l
	}
	return out
}

// Known gives the OIDs on the target of the tables that are known by their OIDs at the source. It is called after
// Finish.
func (a *Applier) Known() map[uint32]uint32 { return a.holds.known }

// Transactions is the number of whole transactions taken so far.
func (a *Applier) Transactions() int64 { return a.done }

// Finish commits everything, closes the connections and returns the counts by namespace.name.
func (a *Applier) Finish(ctx context.Context) (map[string]Counts, error) {
	if err := a.Flush(ctx); err != nil {
		a.Abort()
		return nil, err
	}
	for _, w := range a.workers {
		close(w.commands)
	}
	err := a.group.Wait()
	if a.meta != nil {
		err = errors.Join(err, a.meta.Close(ctx))
	}
	a.stop(nil)
	if err != nil {
		return nil, fault.Wrap(err, fault.Failed, "", "end the replay")
	}
	out := make(map[string]Counts, len(a.counts))
	for name, c := range a.counts {
		out[name] = *c
	}
	return out, nil
}

// Abort gives up: open transactions are rolled back, connections closed. It may follow a failed Apply.
func (a *Applier) Abort() {
	a.stop(context.Canceled)
	// The workers' own errors were returned by Apply, or don't matter any more.
	_ = a.group.Wait()
	if a.meta == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // don't wait for the server's goodbye
	_ = a.meta.Close(ctx)
}
