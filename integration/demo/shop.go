package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const schema = `
CREATE TYPE state AS ENUM ('placed', 'paid', 'shipped', 'cancelled');
CREATE TABLE event (
	position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id uuid NOT NULL, version int NOT NULL, type text NOT NULL,
	data jsonb NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),
	UNIQUE (stream_id, version)
);
CREATE TABLE purchase (
	id uuid PRIMARY KEY, customer text NOT NULL, state state NOT NULL,
	net numeric(10,2) NOT NULL, gross numeric GENERATED ALWAYS AS (round(net * 1.19, 2)) STORED
);
CREATE TABLE stock (sku text PRIMARY KEY, on_hand int NOT NULL);
CREATE TABLE ledger (account text, amount numeric(10,2), note text);
ALTER TABLE ledger REPLICA IDENTITY FULL;
INSERT INTO stock SELECT 'sku-' || i, 100000 FROM generate_series(1, 20) i;`

// shop is the order processing: a few clients, each in a session of its own.
type shop struct {
	conns   []*pgx.Conn
	stop    context.CancelFunc
	clients sync.WaitGroup
	events  atomic.Int64
	commits atomic.Int64

	mu  sync.Mutex
	err error // the first that a client met
}

// openShop sets n clients to work.
func openShop(ctx context.Context, dsn string, n int) (*shop, error) {
	ctx, stop := context.WithCancel(ctx)
	s := &shop{stop: stop}
	for range n {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.conns = append(s.conns, conn)
	}
	for _, conn := range s.conns {
		s.clients.Add(1)
		go func() {
			defer s.clients.Done()
			for ctx.Err() == nil {
				if err := s.process(context.WithoutCancel(ctx), conn); err != nil {
					s.fail(err)
					return
				}
				time.Sleep(time.Duration(5+rand.IntN(15)) * time.Millisecond) // clients think
			}
		}()
	}
	return s, nil
}

// order is one order on its way through the shop.
type order struct {
	id       string
	customer string
	sku      string
	amount   string
}

// process takes a few orders through their life, one transaction for each step.
func (s *shop) process(ctx context.Context, conn *pgx.Conn) error {
	orders := make([]order, 1+rand.IntN(6))
	for i := range orders {
		orders[i] = order{
			id:       fmt.Sprintf("%08x-%04x-4000-8000-%012x", rand.Uint32(), rand.IntN(1<<16), rand.Int64N(1<<48)),
			customer: fmt.Sprintf("customer %d", rand.IntN(500)),
			sku:      fmt.Sprintf("sku-%d", 1+rand.IntN(20)),
			amount:   fmt.Sprintf("%d.%02d", rand.IntN(500), rand.IntN(100)),
		}
	}
	steps := []step{place, pay, ship}
	if rand.IntN(5) == 0 {
		steps = []step{place, cancel}
	}
	for version, step := range steps {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			for _, o := range orders {
				if err := step(ctx, tx, o, version+1); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		s.commits.Add(1)
		s.events.Add(int64(len(orders)))
	}
	return nil
}

// step is one event in an order's life, with what follows from it.
type step func(ctx context.Context, tx pgx.Tx, o order, version int) error

func place(ctx context.Context, tx pgx.Tx, o order, version int) error {
	if err := emit(ctx, tx, o, version, "OrderPlaced"); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO purchase (id, customer, state, net) VALUES ($1, $2, 'placed', $3)", o.id, o.customer, o.amount)
	return err
}

func pay(ctx context.Context, tx pgx.Tx, o order, version int) error {
	if err := emit(ctx, tx, o, version, "OrderPaid"); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO ledger VALUES ('cash', $1, $2)", o.amount, o.customer); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "UPDATE purchase SET state = 'paid' WHERE id = $1", o.id)
	return err
}

func ship(ctx context.Context, tx pgx.Tx, o order, version int) error {
	if err := emit(ctx, tx, o, version, "OrderShipped"); err != nil {
		return err
	}
	// SKIP LOCKED: two clients that ship several goods must not wait for each other crosswise.
	_, err := tx.Exec(ctx, "UPDATE stock SET on_hand = on_hand - 1 WHERE sku = (SELECT sku FROM stock WHERE sku = $1 FOR UPDATE SKIP LOCKED)", o.sku)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE purchase SET state = 'shipped' WHERE id = $1", o.id)
	return err
}

func cancel(ctx context.Context, tx pgx.Tx, o order, version int) error {
	if err := emit(ctx, tx, o, version, "OrderCancelled"); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DELETE FROM purchase WHERE id = $1", o.id)
	return err
}

func emit(ctx context.Context, tx pgx.Tx, o order, version int, kind string) error {
	_, err := tx.Exec(ctx, `INSERT INTO event (stream_id, version, type, data)
		VALUES ($1, $2, $3, jsonb_build_object('customer', $4::text, 'sku', $5::text, 'amount', $6::text))`,
		o.id, version, kind, o.customer, o.sku, o.amount)
	return err
}

// letWork waits while the clients work, and tells how they get on.
func (s *shop) letWork(ctx context.Context, d time.Duration, c *console) error {
	events, commits := s.events.Load(), s.commits.Load()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return ctx.Err()
	}
	c.say("%s events in %s transactions within %.0f seconds.", count(s.events.Load()-events), count(s.commits.Load()-commits), d.Seconds())
	return s.failed()
}

// close lets the clients finish their order, and returns the first error that one met. It may be
// called again.
func (s *shop) close() error {
	s.stop()
	s.clients.Wait()
	for _, conn := range s.conns {
		_ = conn.Close(context.Background())
	}
	s.conns = nil
	return s.failed()
}

func (s *shop) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("processing orders: %w", err)
	}
}

func (s *shop) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
