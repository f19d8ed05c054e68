package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// client is one session. It is used by one goroutine.
type client struct {
	w        *Workload
	number   int
	n        int // transactions so far
	conn     *pgx.Conn
	rng      *rand.Rand
	waiting  string // a prepared transaction of ours that is not finished yet
	patience int    // transactions until it is
}

// shape is a way to spend a transaction.
type shape struct {
	kind   string
	weight int
	run    func(*client, context.Context) error
}

// TRUNCATE is rare: a base snapshot begins again when a table was truncated while it was taken.
var shapes = []shape{
	{"single", 300, (*client).single},
	{"several", 300, (*client).several},
	{"events", 250, (*client).events},
	{"bulk", 40, (*client).bulk},
	{"truncate", 4, (*client).truncate},
	{"rolled back", 50, (*client).rolledBack},
	{"prepared", 40, nil}, // ends otherwise than by COMMIT
}

// run works until ctx ends.
func (c *client) run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	if _, err := c.conn.Exec(work, fmt.Sprintf(
		"SET lock_timeout = '400ms'; SET deadlock_timeout = '100ms'; SELECT setseed(%f)", c.rng.Float64())); err != nil {
		return err
	}
	for ctx.Err() == nil {
		c.w.gate.RLock()
		err := c.step(work)
		c.w.gate.RUnlock()
		if err != nil {
			return err
		}
		if c.w.opts.Pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(c.rng.Int64N(int64(2 * c.w.opts.Pause)))):
			}
		}
	}
	return nil
}

// step runs one transaction. What a busy database is entitled to refuse is no error.
func (c *client) step(ctx context.Context) error {
	if c.waiting != "" {
		if c.patience--; c.patience < 0 {
			return c.finishPrepared(ctx)
		}
	}
	s := c.pick()
	c.n++
	commit := Commit{Client: c.number, N: c.n, Kind: s.kind}
	err := c.transact(ctx, s, &commit)
	if err == nil {
		return nil
	}
	if _, rerr := c.conn.Exec(ctx, "ROLLBACK"); rerr != nil {
		return fmt.Errorf("%s: %w (rolling back: %w)", s.kind, err, rerr)
	}
	if !expected(err) {
		return fmt.Errorf("%s: %w", s.kind, err)
	}
	return nil
}

// pick chooses a shape. The first client begins with the largest transaction.
func (c *client) pick() shape {
	if c.number == 0 && c.n == 0 {
		return shape{"largest", 0, (*client).largest}
	}
	total := 0
	for _, s := range shapes {
		total += s.weight
	}
	at := c.rng.IntN(total)
	for _, s := range shapes {
		if at -= s.weight; at < 0 {
			return s
		}
	}
	panic("unreachable")
}

func (c *client) transact(ctx context.Context, s shape, commit *Commit) error {
	if _, err := c.conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	body := s.run
	if body == nil {
		body = (*client).several
	}
	if err := body(c, ctx); err != nil {
		return err
	}
	err := c.conn.QueryRow(ctx, `INSERT INTO shop.ledger VALUES ($1, $2, $3, pg_current_xact_id()::text) RETURNING xid`,
		commit.Client, commit.N, commit.Kind).Scan(&commit.XID)
	if err != nil {
		return err
	}
	switch {
	case s.kind == "rolled back":
		_, err = c.conn.Exec(ctx, "ROLLBACK")
		return err
	case s.kind == "prepared" && c.waiting == "":
		return c.prepare(ctx, *commit)
	}
	if _, err := c.conn.Exec(ctx, "COMMIT"); err != nil {
		return err
	}
	c.w.committed(*commit)
	return nil
}

// prepare leaves the transaction prepared for a few transactions to come.
func (c *client) prepare(ctx context.Context, commit Commit) error {
	id := fmt.Sprintf("workload %d %d %d", c.w.opts.Seed, c.number, commit.N)
	if _, err := c.conn.Exec(ctx, "PREPARE TRANSACTION '"+id+"'"); err != nil {
		return err
	}
	c.w.prepared(id, commit, true)
	c.waiting, c.patience = id, c.rng.IntN(4)
	return nil
}

// finishPrepared commits or rolls back what prepare left, unless a Quiesce has committed it already.
func (c *client) finishPrepared(ctx context.Context) error {
	id := c.waiting
	c.waiting = ""
	c.w.mu.Lock()
	commit, open := c.w.pending[id]
	c.w.mu.Unlock()
	if !open {
		return nil
	}
	verb := "COMMIT"
	if c.rng.IntN(4) == 0 {
		verb = "ROLLBACK"
	}
	if _, err := c.conn.Exec(ctx, verb+" PREPARED '"+id+"'"); err != nil {
		return err
	}
	c.w.prepared(id, commit, false)
	if verb == "COMMIT" {
		c.w.committed(commit)
	}
	return nil
}

// rows draws a number of rows, small ones far more often: log-uniform between 1 and most.
func (c *client) rows(most int) int {
	n := 1
	for bound := most; bound > 1 && c.rng.IntN(3) > 0; bound /= 4 {
		n *= 4
	}
	return min(most, n+c.rng.IntN(n))
}

// exec runs a statement and forgets its result.
func (c *client) exec(ctx context.Context, sql string, args ...any) error {
	_, err := c.conn.Exec(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("%.200s: %w", sql, err)
	}
	return nil
}
