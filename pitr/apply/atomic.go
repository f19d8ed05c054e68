package apply

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// Atomic makes the target go from one whole source transaction to another, and to nothing between: one
// connection applies whole transactions in commit order, some to a batch, and each batch commits together
// with a word of how far it came. Options.Workers and Options.InsertOnly don't count then.
type Atomic struct {
	// Progress is called inside the batch's transaction, before its COMMIT, on the connection that applied
	// it, from another goroutine than Apply's. What it writes there commits with the batch or not at all.
	// Its error is final.
	Progress func(ctx context.Context, conn *pgconn.PgConn, at Position) error

	// Lately is a table of the target that remembers the last schema changes, for the process that goes on after this one. It is made
	// when needed. "": none.
	Lately string

	MaxTransactions int64 // of a batch; 0: not bounded
	MaxBytes        int64 // of a batch, after which its last transaction ends it; 0: 16 MiB
}

// Position is how far a target came.
type Position struct {
	CommitLSN segment.LSN       // of the last transaction applied
	EndLSN    segment.LSN       // of its commit record's end: everything before it is applied
	Time      segment.Timestamp // its commit time
	XID       uint32

	Transactions int64 // whole transactions in this batch
}

// batch follows what isn't committed yet in atomic mode.
type batch struct {
	at    Position
	moved bool // at is past what was committed
}

// Advance notes that nothing more is to be applied before at.EndLSN, so that the next batch says so. It is
// called between transactions. Transactions of at don't count.
func (a *Applier) Advance(at Position) {
	at.Transactions = a.batch.at.Transactions
	a.batch = batch{at: at, moved: true}
}

// Flush commits the batch now and waits for it; without anything new it does nothing. It is called between
// transactions. An error is final.
func (a *Applier) Flush(ctx context.Context) error {
	if a.opts.Atomic == nil {
		return a.settle()
	}
	if a.inTx {
		return fault.New(fault.Failed, "", "a batch can't end inside transaction %d at LSN %s", a.begin.XID, a.begin.CommitLSN)
	}
	return a.settle()
}

// EndBatch ends the batch if it holds at least so many bytes, and doesn't wait for that. It is called between
// transactions, in atomic mode.
func (a *Applier) EndBatch(bytes int64) error {
	if a.since+int64(a.pending) < bytes {
		return nil
	}
	return a.commit(true)
}

// note takes the end of a source transaction into the batch.
func (a *Applier) note(c segment.Commit) {
	n := a.batch.at.Transactions + 1
	a.batch = batch{moved: true, at: Position{CommitLSN: c.CommitLSN, EndLSN: c.EndLSN, Time: c.CommitTime, XID: a.begin.XID, Transactions: n}}
}

// batchFull reports whether the batch is to end with the transaction that just ended.
func (a *Applier) batchFull() bool {
	o := a.opts.Atomic
	limit := o.MaxBytes
	if limit <= 0 {
		limit = maxBatch
	}
	return o.MaxTransactions > 0 && a.batch.at.Transactions >= o.MaxTransactions || a.since+int64(a.pending) >= limit
}

// endBatch sends the batch's end to the worker.
func (a *Applier) endBatch() error {
	if !a.batch.moved {
		return nil
	}
	at := a.batch.at
	a.batch = batch{at: at}
	a.batch.at.Transactions = 0
	return a.send(a.workers[0], command{do: func(ctx context.Context, w *worker) error {
		if err := a.opts.Atomic.Progress(ctx, w.conn, at); err != nil {
			return fault.Wrap(err, codeOf(err), "", "note that transactions up to LSN %s are applied", at.EndLSN)
		}
		return nil
	}, commit: true})
}

// barrier makes sure that a statement that comes next runs after everything before it: in parallel that is
// committed first; in atomic mode the one connection keeps the order.
func (a *Applier) barrier() error {
	if a.opts.Atomic == nil {
		return a.settle()
	}
	return a.flushAll()
}
