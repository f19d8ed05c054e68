package workload

import (
	"context"
	"fmt"
)

// single is one statement.
func (c *client) single(ctx context.Context) error { return c.statement(ctx, 3) }

// several is a handful of statements with savepoints, some of which are rolled back to.
func (c *client) several(ctx context.Context) error {
	depth := 0
	for range 1 + c.rng.IntN(8) {
		if c.rng.IntN(4) == 0 {
			depth++
			if err := c.exec(ctx, fmt.Sprintf("SAVEPOINT s%d", depth)); err != nil {
				return err
			}
		}
		if err := c.statement(ctx, 20); err != nil {
			if depth == 0 || !expected(err) {
				return err
			}
			// A failed statement is survived by going back to the innermost savepoint.
			if err := c.exec(ctx, fmt.Sprintf("ROLLBACK TO s%d", depth)); err != nil {
				return err
			}
		}
		if depth == 0 {
			continue
		}
		switch c.rng.IntN(5) {
		case 0:
			if err := c.exec(ctx, fmt.Sprintf("ROLLBACK TO s%d", depth)); err != nil {
				return err
			}
		case 1:
			if err := c.exec(ctx, fmt.Sprintf("RELEASE s%d", depth)); err != nil {
				return err
			}
			depth--
		}
	}
	return nil
}

func (c *client) rolledBack(ctx context.Context) error { return c.several(ctx) }

// events appends to one or two streams, as an event store's clients do.
func (c *client) events(ctx context.Context) error {
	for range 1 + c.rng.IntN(2) {
		err := c.exec(ctx, `
			INSERT INTO events.event (stream_id, version, type, data, metadata)
			SELECT s.id, s.version + i, (ARRAY['OrderPlaced', 'OrderPaid', 'OrderShipped'])[1 + i % 3],
			       jsonb_build_object('total', round((random() * 1000)::numeric, 2), 'note', $2::text, 'n', i),
			       CASE WHEN i % 2 = 0 THEN '{"source": "workload"}'::jsonb END
			FROM (SELECT id, coalesce((SELECT max(version) FROM events.event WHERE stream_id = id), 0) AS version
			      FROM (SELECT md5($3::text)::uuid AS id) x) s, generate_series(1, $1::int) i`,
			c.rows(50), c.text(), fmt.Sprint(c.rng.IntN(400)))
		if err != nil {
			return err
		}
	}
	return nil
}

// bulk is one or two statements over many rows.
func (c *client) bulk(ctx context.Context) error {
	for range 1 + c.rng.IntN(2) {
		if err := c.statement(ctx, c.w.opts.MaxRows/5); err != nil {
			return err
		}
	}
	return nil
}

// largest is the largest transaction that was asked for.
func (c *client) largest(ctx context.Context) error {
	return c.exec(ctx, `
		INSERT INTO shop.metric (at, device, n, reading, note)
		SELECT date '2023-06-01' + i % 900, i % 50, nextval('shop.metric_n'), random() * i, NULL
		FROM generate_series(1, $1) i`, c.w.opts.MaxRows-1)
}

// truncate empties tables, and fills them again in the same transaction now and then.
func (c *client) truncate(ctx context.Context) error {
	statements := []string{
		"TRUNCATE shop.scratch, shop.scratch_child, shop.nothing RESTART IDENTITY",
		"TRUNCATE shop.scratch CASCADE",
		"TRUNCATE ONLY shop.animal",
		"TRUNCATE shop.metric_old",
		"TRUNCATE shop.kinds RESTART IDENTITY",
		"TRUNCATE shop.audit",
		"DELETE FROM shop.metric WHERE at < date '2024-03-01'",
	}
	if err := c.exec(ctx, statements[c.rng.IntN(len(statements))]); err != nil {
		return err
	}
	if c.rng.IntN(2) == 0 {
		return nil
	}
	return c.statement(ctx, 100)
}
