// Package evolve changes a database's schema as its developers, their tools and their functions would, at
// random but from a seed, while other sessions write rows. Kinds say what is changed, forms in which way the
// statements reach the server.
package evolve

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

//go:embed setup.sql
var setup string

// Options shape a workload.
type Options struct {
	Seed     uint64
	Changers int  // sessions that change the schema; 2 when 0
	Writers  int  // sessions that only write rows; 2 when 0
	Inexact  bool // also changes that no archive can carry exactly

	// Coverage counts what was done; one of its own when nil.
	Coverage *Coverage
}

// Workload is a set of sessions on one database.
type Workload struct {
	opts     Options
	changers []*session
	writers  []*session
	stop     context.CancelFunc
	writing  sync.WaitGroup
	gate     sync.RWMutex // held for writing by a changer that must be alone

	mu      sync.Mutex
	failed  error
	journal []Entry
	tallies map[string]*Tally
}

// Entry is something that a session ran.
type Entry struct {
	Session int
	SQL     string
	Err     error
}

// Tally counts what became of a kind of change.
type Tally struct {
	Done, Failed int
	LastError    error
}

// Setup makes the workload's first objects in an empty database, and its roles where the server lacks them.
func Setup(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, setup, pgx.QueryExecModeSimpleProtocol)
	return err
}

// Start connects the sessions and has the writers write, until Stop.
func Start(ctx context.Context, dsn string, o Options) (*Workload, error) {
	if o.Changers == 0 {
		o.Changers = 2
	}
	if o.Writers == 0 {
		o.Writers = 2
	}
	if o.Coverage == nil {
		o.Coverage = new(Coverage)
	}
	ctx, stop := context.WithCancel(ctx)
	w := &Workload{opts: o, stop: stop, tallies: map[string]*Tally{}}
	for i := range o.Changers + o.Writers {
		s, err := newSession(ctx, w, dsn, i)
		if err != nil {
			return nil, errors.Join(err, w.Stop())
		}
		if i < o.Changers {
			w.changers = append(w.changers, s)
		} else {
			w.writers = append(w.writers, s)
		}
	}
	for _, s := range w.writers {
		w.writing.Add(1)
		go func() {
			defer w.writing.Done()
			if err := s.write(ctx); err != nil {
				w.fail(fmt.Errorf("writer %d (seed %d): %w", s.number, o.Seed, err))
			}
		}()
	}
	return w, nil
}

// Change has every changer run a number of transactions and returns when all have: from then until the next
// call the schema stands still.
func (w *Workload) Change(ctx context.Context, transactions int) error {
	var changing sync.WaitGroup
	for _, s := range w.changers {
		changing.Add(1)
		go func() {
			defer changing.Done()
			for range transactions {
				if err := s.step(ctx); err != nil {
					w.fail(fmt.Errorf("changer %d (seed %d): %w", s.number, w.opts.Seed, err))
					return
				}
			}
		}()
	}
	changing.Wait()
	return w.Err()
}

// Stop ends the writers after their transactions, closes all sessions, and returns the first error that one
// of them met. It may be called again.
func (w *Workload) Stop() error {
	w.stop()
	w.writing.Wait()
	for _, s := range append(w.changers, w.writers...) {
		_ = s.conn.Close(context.Background())
	}
	return w.Err()
}

// Err returns the first error that a session met that no busy database is entitled to.
func (w *Workload) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// Journal returns everything that the changers ran so far, in the order in which it ended.
func (w *Workload) Journal() []Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Entry(nil), w.journal...)
}

// Tallies returns how often each "group: kind" and each "form: name" was run, and with what success.
func (w *Workload) Tallies() map[string]Tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]Tally, len(w.tallies))
	for name, t := range w.tallies {
		all[name] = *t
	}
	return all
}

func (w *Workload) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

func (w *Workload) note(session int, sql string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal = append(w.journal, Entry{session, sql, err})
}

func (w *Workload) tally(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tallies[name]
	if t == nil {
		t = new(Tally)
		w.tallies[name] = t
	}
	if err == nil {
		t.Done++
	} else {
		t.Failed++
		t.LastError = err
	}
}

func newSession(ctx context.Context, w *Workload, dsn string, number int) (*session, error) {
	// A transaction under way is finished, not cut: the connection's life does not depend on ctx.
	conn, err := pgx.Connect(context.WithoutCancel(ctx), dsn)
	if err != nil {
		return nil, err
	}
	s := &session{w: w, number: number, conn: conn, rng: rand.New(rand.NewPCG(w.opts.Seed, uint64(number))),
		decks: map[string][]int{}, plans: map[string]bool{}}
	_, err = conn.Exec(ctx, fmt.Sprintf("SET client_min_messages = error; SET lock_timeout = '2s'; SET deadlock_timeout = '100ms'; SET plan_cache_mode = force_generic_plan; SELECT setseed(%f)",
		s.rng.Float64()), pgx.QueryExecModeSimpleProtocol)
	return s, err
}

// String is the entry on one line.
func (e Entry) String() string {
	line := fmt.Sprintf("%d: %s", e.Session, strings.ReplaceAll(e.SQL, "\n", " ⏎ "))
	if e.Err != nil {
		line += "  -- " + e.Err.Error()
	}
	return line
}
