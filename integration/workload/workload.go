// Package workload writes to a database as several busy clients would, at random but from a seed, and
// tells what a database holds in a form that two databases can be compared by.
package workload

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed schema.sql
var schema string

// Options shape a workload.
type Options struct {
	Seed    uint64        // printed by Start, so that a failure can be repeated
	Clients int           // concurrent sessions; 4 when 0
	MaxRows int           // rows of the largest transaction; 100,000 when 0
	Pause   time.Duration // between two transactions of a client; 0 for none
	Log     func(format string, args ...any)
}

// Commit is a transaction that the server has confirmed as committed.
type Commit struct {
	Client, N int // the key of its row in shop.ledger
	Kind      string
	XID       string
}

// Workload is a set of clients at work.
type Workload struct {
	dsn  string
	opts Options
	stop context.CancelFunc
	done sync.WaitGroup
	gate sync.RWMutex // held for reading during a transaction, for writing while paused

	mu      sync.Mutex
	commits []Commit
	pending map[string]Commit // prepared transactions by their identifier
	failed  error
}

// Setup makes the workload's schema in an empty database.
func Setup(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, schema, pgx.QueryExecModeSimpleProtocol)
	return err
}

// Start sets the clients to work on a database that Setup has prepared. They stop when ctx ends or
// Stop is called.
func Start(ctx context.Context, dsn string, o Options) (*Workload, error) {
	if o.Clients == 0 {
		o.Clients = 4
	}
	if o.MaxRows == 0 {
		o.MaxRows = 100_000
	}
	if o.Log != nil {
		o.Log("workload: seed %d, %d clients, transactions of up to %d rows", o.Seed, o.Clients, o.MaxRows)
	}
	ctx, stop := context.WithCancel(ctx)
	w := &Workload{dsn: dsn, opts: o, stop: stop, pending: map[string]Commit{}}
	for i := range o.Clients {
		// A connection's life must not depend on ctx: a transaction under way is finished, not cut.
		conn, err := pgx.Connect(context.WithoutCancel(ctx), dsn)
		if err != nil {
			return nil, errors.Join(err, w.Stop())
		}
		c := &client{
			w: w, number: i, conn: conn,
			rng: rand.New(rand.NewPCG(o.Seed, uint64(i))),
		}
		w.done.Add(1)
		go func() {
			defer w.done.Done()
			defer conn.Close(context.Background())
			if err := c.run(ctx); err != nil {
				w.fail(fmt.Errorf("workload client %d (seed %d): %w", i, o.Seed, err))
			}
		}()
	}
	return w, nil
}

// Stop lets every client finish its transaction, ends them, settles what is prepared, and returns the
// first error that a client met. It may be called again.
func (w *Workload) Stop() error {
	w.stop()
	w.done.Wait()
	err := w.settle()
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.failed, err)
}

// Quiesce holds all clients between two transactions, settles what is prepared, runs f while nothing
// is written, and lets them go on.
func (w *Workload) Quiesce(f func() error) error {
	w.gate.Lock()
	defer w.gate.Unlock()
	if err := w.Err(); err != nil {
		return err
	}
	if err := w.settle(); err != nil {
		return err
	}
	return f()
}

// Commits returns what was committed so far, in the order in which it was confirmed.
func (w *Workload) Commits() []Commit {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Commit(nil), w.commits...)
}

// Err returns the first error that a client met and that ended it.
func (w *Workload) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// settle commits the prepared transactions that no client has finished.
func (w *Workload) settle() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		return nil
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for id, commit := range w.pending {
		if _, err := conn.Exec(ctx, "COMMIT PREPARED '"+id+"'"); err != nil {
			return err
		}
		w.commits = append(w.commits, commit)
		delete(w.pending, id)
	}
	return nil
}

func (w *Workload) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

func (w *Workload) committed(c Commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits = append(w.commits, c)
}

// prepared remembers a prepared transaction, or, with false, that it was finished.
func (w *Workload) prepared(id string, c Commit, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if open {
		w.pending[id] = c
	} else {
		delete(w.pending, id)
	}
}

// expected tells whether an error belongs to a busy database: constraints, deadlocks, locks that
// were not to be had in time.
func expected(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "40P01", "40001", "55P03":
		return true
	}
	return pg.Code[:2] == "23"
}
