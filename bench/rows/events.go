package rows

import (
	"context"
	"fmt"

	"tidemark/internal/testserver/postgres"
)

// eventTable is an event store's table, then the indexes that none does without, then a procedure that writes events,
// so many a transaction. Its statement is planned once: a million plans would take longer than what is measured.
func eventTable(name string) string {
	return eventColumns(name) + fmt.Sprintf(`;
		CREATE PROCEDURE write_%[1]s(first bigint, last bigint, rows int) LANGUAGE plpgsql AS $p$
		DECLARE f bigint := first;
		BEGIN
			WHILE f <= last LOOP
				INSERT INTO %[1]s SELECT i, md5((i %% 50000)::text)::uuid, i / 50000, (ARRAY['OrderPlaced','OrderPaid','OrderShipped'])[1 + i %% 3],
					event_payload(i), '2026-01-01 00:00+00'::timestamptz + i * interval '7.131 ms' FROM generate_series(f, least(f + rows - 1, last)) i;
				COMMIT;
				f := f + rows;
			END LOOP;
		END $p$`, name)
}

// eventColumns is the table and its indexes alone, in four statements.
func eventColumns(name string) string {
	return fmt.Sprintf(`CREATE TABLE %[1]s (position bigint NOT NULL, stream_id uuid NOT NULL, version int NOT NULL,
		type text NOT NULL, payload jsonb NOT NULL, at timestamptz NOT NULL);
		CREATE UNIQUE INDEX %[1]s_pkey ON %[1]s (position);
		ALTER TABLE %[1]s ADD PRIMARY KEY USING INDEX %[1]s_pkey;
		CREATE UNIQUE INDEX %[1]s_stream ON %[1]s (stream_id, version)`, name)
}

// eventFunctions make events: JSON of about 300 bytes with numbers and identifiers that repeat no sooner than an
// application's, the same ones in every run.
const eventFunctions = `
CREATE FUNCTION event_payload(i bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $f$
	SELECT format('{"order_id": %s, "customer": {"id": %s, "country": "%s", "email": "customer-%s@example.com"}, "items": [{"sku": "SKU-%s", "quantity": %s, "price": %s.%s}, {"sku": "SKU-%s", "quantity": %s, "price": %s.%s}], "currency": "EUR", "shipping": {"method": "standard", "postcode": "%s"}, "note": "leave at the door"}',
		10000000 + (h & 67108863), h % 999983, (ARRAY['DE','FR','US','JP'])[1 + h % 4], h % 999983, 10000 + g % 90000, 1 + g % 9, g % 500, 10 + g % 89,
		10000 + k % 90000, 1 + k % 9, k % 500, 10 + k % 89, 10000 + (g >> 8) % 89999)::jsonb
	FROM (SELECT hashint8(i)::bigint + 2147483648 AS h, hashint8(-i)::bigint + 2147483648 AS g, hashint8(i * 31 + 7)::bigint + 2147483648 AS k) x
$f$`

// writeEvents commits events first to last into a table, so many rows a transaction.
func writeEvents(ctx context.Context, s *postgres.Server, database, table string, first, last, rows int) error {
	return s.Exec(ctx, database, fmt.Sprintf("CALL write_%s(%d, %d, %d)", table, first, last, rows))
}
