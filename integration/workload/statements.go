package workload

import (
	"context"
	"fmt"
	"strings"
)

// operation is one statement, or a few that belong together, over up to n rows.
type operation func(c *client, ctx context.Context, n int) error

// statement runs a random operation over up to most rows.
func (c *client) statement(ctx context.Context, most int) error {
	return operations[c.rng.IntN(len(operations))](c, ctx, c.rows(most))
}

// some is a subquery for up to $1 keys of a table from a random place on, skipping rows that others
// are at work on.
func some(table, key string) string {
	return fmt.Sprintf(`(SELECT %[2]s FROM %[1]s WHERE %[2]s >= (SELECT min(%[2]s) + floor(random() * (max(%[2]s) - min(%[2]s) + 1))::bigint FROM %[1]s)
		ORDER BY %[2]s LIMIT $1 FOR UPDATE SKIP LOCKED)`, table, key)
}

// plain makes an operation of a statement whose only parameter is the number of rows.
func plain(sql string) operation {
	return func(c *client, ctx context.Context, n int) error { return c.exec(ctx, sql, n) }
}

// noted makes an operation of a statement with the number of rows and a random text.
func noted(sql string) operation {
	return func(c *client, ctx context.Context, n int) error { return c.exec(ctx, sql, n, c.text()) }
}

// sized makes an operation of a statement with a number of rows, kept low, and a size in units of 32 bytes.
func sized(sql string) operation {
	return func(c *client, ctx context.Context, n int) error {
		units := c.rows(30_000)
		return c.exec(ctx, sql, 1+min(n, 40_000/units, 50), units)
	}
}

const noise = `(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, $2::int) WHERE i IS NOT NULL)`

var operations = []operation{
	noted(`INSERT INTO shop.customer (name, email, note, balance, discount, home, tags)
		SELECT $2, CASE WHEN random() < 0.8 THEN md5(random()::text || clock_timestamp()) END,
			CASE WHEN random() < 0.1 THEN repeat($2 || random(), 200) END, round((random() * 2000)::numeric, 2),
			CASE WHEN random() < 0.5 THEN round((random() * 100)::numeric, 2) END,
			ROW($2, '1' || i, '2020-01-01')::shop.address, ARRAY[$2, NULL, '', 'a,"b"\']
		FROM generate_series(1, $1::int) i`),
	plain(`UPDATE shop.customer SET balance = balance + 1 WHERE id IN ` + some("shop.customer", "id")),
	noted(`UPDATE shop.customer SET name = $2, note = CASE WHEN random() < 0.5 THEN note END WHERE id IN ` + some("shop.customer", "id")),
	plain(`DELETE FROM shop.customer WHERE id IN ` + some("shop.customer", "id")),
	changeCustomerKey,
	plain(`INSERT INTO shop.orders (customer_id, total, status, details)
		SELECT id, round((random() * 500)::numeric, 3), (enum_range(NULL::shop.status))[1 + id % 4], jsonb_build_object('id', id)
		FROM shop.customer WHERE id IN ` + some("shop.customer", "id")),
	plain(`UPDATE shop.orders SET status = 'it''s "done"', total = total + 0.01 WHERE id IN ` + some("shop.orders", "id")),
	plain(`INSERT INTO shop.order_line SELECT id, 1 + (random() * 9)::int, 'sku ' || id, 1 + id % 7
		FROM shop.orders WHERE id IN ` + some("shop.orders", "id") + ` ON CONFLICT (order_id, line) DO UPDATE SET quantity = excluded.quantity + 1`),
	plain(`UPDATE shop.order_line SET line = line + 10 WHERE order_id IN ` + some("shop.orders", "id") + ` AND line < 20`),
	noted(`INSERT INTO shop.audit (what, who, before, payload, nothing)
		SELECT 'same', 1, '{"a":  1}', $2, CASE WHEN i % 3 = 0 THEN '' END FROM generate_series(1, $1::int) i`),
	plain(`UPDATE shop.audit SET who = coalesce(who, 0) + 1 WHERE ctid IN (SELECT ctid FROM shop.audit ORDER BY random() LIMIT least($1, 200) FOR UPDATE SKIP LOCKED)`),
	plain(`DELETE FROM shop.audit WHERE ctid IN (SELECT ctid FROM shop.audit ORDER BY random() LIMIT least($1, 200) FOR UPDATE SKIP LOCKED)`),
	sized(`INSERT INTO shop.audit (what, payload) SELECT 'large', ` + noise + ` FROM generate_series(1, $1::int) i`),
	noted(`INSERT INTO shop.tagged (payload, region, code) SELECT $2, 'r' || i % 3, md5(random()::text) FROM generate_series(1, $1::int) i`),
	plain(`UPDATE shop.tagged SET extra = extra * 2 % 1000 WHERE ctid IN (SELECT ctid FROM shop.tagged ORDER BY random() LIMIT least($1, 200) FOR UPDATE SKIP LOCKED)`),
	plain(`UPDATE shop.tagged SET code = md5(code), payload = NULL WHERE ctid IN (SELECT ctid FROM shop.tagged ORDER BY random() LIMIT least($1, 200) FOR UPDATE SKIP LOCKED)`),
	plain(`DELETE FROM shop.tagged WHERE ctid IN (SELECT ctid FROM shop.tagged ORDER BY random() LIMIT least($1, 200) FOR UPDATE SKIP LOCKED)`),
	swapTags,
	plain(`INSERT INTO shop.metric (at, device, n, reading, note)
		SELECT date '2023-06-01' + (random() * 900)::int, i % 50, nextval('shop.metric_n'), random() * i, CASE WHEN i % 7 = 0 THEN 'seventh' END
		FROM generate_series(1, $1::int) i`),
	plain(`UPDATE shop.metric SET reading = -reading WHERE n IN (SELECT n FROM shop.metric ORDER BY n DESC LIMIT $1)`),
	plain(`UPDATE shop.metric SET at = at + 200, note = 'moved' WHERE n IN (SELECT n FROM shop.metric WHERE at < '2024-12-01' LIMIT $1)`),
	plain(`DELETE FROM shop.metric WHERE n IN (SELECT n FROM shop.metric LIMIT $1)`),
	noted(`INSERT INTO "Odd Näme"."Tab""le; DROP --" SELECT (random() * 1e6)::int, $2, $2 || i, '列' FROM generate_series(1, $1::int) i ON CONFLICT DO NOTHING`),
	noted(`UPDATE "Odd Näme"."Tab""le; DROP --" SET "per%cent \back" = $2 WHERE "Select" IN ` + some(`"Odd Näme"."Tab""le; DROP --"`, `"Select"`)),
	plain(`UPDATE "Odd Näme"."Tab""le; DROP --" SET "Select" = "Select" + 1000000 WHERE "Select" IN ` + some(`"Odd Näme"."Tab""le; DROP --"`, `"Select"`)),
	plain(`DELETE FROM "Odd Näme"."Tab""le; DROP --" WHERE "Select" IN ` + some(`"Odd Näme"."Tab""le; DROP --"`, `"Select"`)),
	insertKinds,
	updateKinds,
	sized(`INSERT INTO shop.blob (body, raw) SELECT ` + noise + `, CASE WHEN random() < 0.5 THEN decode(` + noise + `, 'hex') END FROM generate_series(1, $1::int) i`),
	plain(`UPDATE shop.blob SET counter = counter + 1 WHERE id IN ` + some("shop.blob", "id")),
	plain(`UPDATE shop.blob SET id = nextval('shop.blob_id_seq') WHERE id IN ` + some("shop.blob", "id")),
	plain(`UPDATE shop.blob SET raw = NULL, body = CASE WHEN random() < 0.5 THEN body ELSE '' END WHERE id IN ` + some("shop.blob", "id")),
	plain(`DELETE FROM shop.blob WHERE id IN ` + some("shop.blob", "id")),
	plain(`WITH s AS (INSERT INTO shop.scratch (v) SELECT 'v' || i FROM generate_series(1, $1::int) i RETURNING id)
		INSERT INTO shop.scratch_child (scratch_id, v) SELECT id, nullif('', '') FROM s`),
	plain(`WITH a AS (INSERT INTO shop.animal (name) SELECT 'cat' FROM generate_series(1, $1::int))
		INSERT INTO shop.dog (name, breed) SELECT 'dog ' || i, 'breed' FROM generate_series(1, $1::int) i`),
	plain(`UPDATE shop.animal SET name = name || '!' WHERE id IN (SELECT id FROM shop.animal ORDER BY random() LIMIT least($1, 100)) AND length(name) < 20`),
	plain(`WITH top AS (SELECT coalesce(max(id), 0) AS id FROM shop.tree)
		INSERT INTO shop.tree SELECT top.id + i, CASE WHEN i < $1::int THEN top.id + i + 1 END, 'before its parent' FROM top, generate_series(1, $1::int) i`),
	plain(`DELETE FROM shop.tree WHERE id IN (SELECT id FROM shop.tree ORDER BY random() LIMIT least($1, 5))`),
	plain(`INSERT INTO shop.nothing SELECT FROM generate_series(1, $1::int)`),
	plain(`DELETE FROM shop.nothing WHERE ctid IN (SELECT ctid FROM shop.nothing LIMIT least($1, 20) FOR UPDATE SKIP LOCKED)`),
	plain(`UPDATE shop.changed SET a = a + 1, late = CASE WHEN random() < 0.3 THEN 'late' ELSE late END WHERE id IN ` + some("shop.changed", "id")),
	plain(`INSERT INTO shop.booking (span) SELECT int4range(b, b + 1) FROM (SELECT (random() * 1e9)::int AS b FROM generate_series(1, least($1::int, 50))) x`),
	noted(`SELECT pg_logical_emit_message(i % 2 = 0, 'workload', $2 || i) FROM generate_series(1, least($1::int, 10)) i`),
	plain(`SELECT nextval('shop.down') FROM generate_series(1, least($1::int, 100))`),
	insertUpdateDelete,
}

// changeCustomerKey moves customers to new keys; their orders follow by ON UPDATE CASCADE.
func changeCustomerKey(c *client, ctx context.Context, n int) error {
	return c.exec(ctx, `UPDATE shop.customer SET id = nextval('shop.customer_id_seq') WHERE id IN `+
		some("shop.customer", "id"), min(n, 500))
}

// swapTags exchanges the keys of two rows by way of a third value.
func swapTags(c *client, ctx context.Context, _ int) error {
	return c.exec(ctx, `DO $$
		DECLARE a shop.tagged; b shop.tagged;
		BEGIN
			SELECT * INTO a FROM shop.tagged ORDER BY code LIMIT 1 FOR UPDATE SKIP LOCKED;
			SELECT * INTO b FROM shop.tagged ORDER BY code DESC LIMIT 1 FOR UPDATE SKIP LOCKED;
			IF a.code IS NULL OR b.code IS NULL OR a.code = b.code THEN RETURN; END IF;
			UPDATE shop.tagged SET code = 'swapping' || pg_backend_pid() WHERE code = a.code AND region = a.region;
			UPDATE shop.tagged SET code = a.code, region = a.region WHERE code = b.code AND region = b.region;
			UPDATE shop.tagged SET code = b.code, region = b.region WHERE code = 'swapping' || pg_backend_pid();
		END $$`)
}

// insertUpdateDelete touches the same key again and again within a transaction.
func insertUpdateDelete(c *client, ctx context.Context, n int) error {
	id := 1000 + c.number*1000 + c.rng.IntN(50)
	for _, sql := range []string{
		"INSERT INTO shop.changed (id, a, b) VALUES (%d, 1, 'first') ON CONFLICT (id) DO UPDATE SET b = 'again'",
		"UPDATE shop.changed SET a = a + 1 WHERE id = %d",
		"DELETE FROM shop.changed WHERE id = %d",
		"INSERT INTO shop.changed (id, late) VALUES (%d, NULL)",
	}[:1+n%4] {
		if err := c.exec(ctx, fmt.Sprintf(sql, id)); err != nil {
			return err
		}
	}
	return nil
}

// insertKinds fills the table of types.
func insertKinds(c *client, ctx context.Context, n int) error {
	columns := make([]string, len(kinds))
	for i, k := range kinds {
		columns[i] = k.column
	}
	rows := make([]string, min(n, 20))
	for r := range rows {
		values := make([]string, len(kinds))
		for i, k := range kinds {
			values[i] = c.literal(k)
		}
		rows[r] = "(" + strings.Join(values, ", ") + ")"
	}
	return c.exec(ctx, "INSERT INTO shop.kinds ("+strings.Join(columns, ", ")+") VALUES "+strings.Join(rows, ", "))
}

// updateKinds sets a few columns of a few rows.
func updateKinds(c *client, ctx context.Context, n int) error {
	var set []string
	for _, i := range c.rng.Perm(len(kinds))[:1+c.rng.IntN(5)] {
		set = append(set, kinds[i].column+" = "+c.literal(kinds[i]))
	}
	return c.exec(ctx, "UPDATE shop.kinds SET "+strings.Join(set, ", ")+" WHERE id IN "+some("shop.kinds", "id"), min(n, 50))
}
