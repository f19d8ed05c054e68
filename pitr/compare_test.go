package pitr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/pitr/session"
)

const compareSchema = `
CREATE TABLE customers (id serial PRIMARY KEY, name text);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL REFERENCES customers ON DELETE CASCADE, note text, total numeric, double numeric GENERATED ALWAYS AS (total * 2) STORED, f float8);
CREATE TABLE lines (sku text COLLATE "en-x-icu", n "char", at timestamptz, body bytea, PRIMARY KEY (sku, n));
CREATE TABLE log (what text, at int, j json); ALTER TABLE log REPLICA IDENTITY FULL;
CREATE TABLE nothing (); ALTER TABLE nothing REPLICA IDENTITY FULL;
CREATE TABLE circle (id int PRIMARY KEY, next int REFERENCES circle);
CREATE TABLE events (id int, at date, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE events_2 (at date NOT NULL, body text, id int NOT NULL); ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trigger fired'; END $$;
INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 12) i;
INSERT INTO orders (customer, note, total, f) SELECT i % 12 + 1, E'n\t\\' || i, i / 7.0, i / 3.0 FROM generate_series(1, 60) i;
INSERT INTO lines SELECT s || i, 'a', '2020-01-01', decode(md5(i::text), 'hex') FROM unnest('{a,B,ä,Z-,z_, é,10,9}'::text[]) s, generate_series(1, 40) i;
INSERT INTO log SELECT 'w' || i % 3, i % 5, '{"a":  1}' FROM generate_series(1, 50) i; INSERT INTO log VALUES (null, null, null), ('', null, '1');
INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
INSERT INTO circle VALUES (1, 2), (2, 1);
INSERT INTO events SELECT i, '2020-12-20'::date + i, 'e' FROM generate_series(1, 30) i;
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
`

// compare compares with a live database, collecting the differences as JSON.
func (w *world) compare(target Target, change func(*CompareOptions)) (*CompareReport, []string, error) {
	w.t.Helper()
	var found []string
	o := CompareOptions{Archive: w.view(), Plan: w.plan(target), With: server.DSN(w.db), Jobs: 2, Row: func(d RowDifference) error {
		text, err := json.Marshal(d)
		found = append(found, string(text))
		return err
	}}
	if change != nil {
		change(&o)
	}
	rep, err := Compare(w.t.Context(), o)
	require.NotContains(w.t, databases(w.t), scratchSuffix)
	return rep, found, err
}

func counts(rep *CompareReport) map[string]string {
	out := map[string]string{}
	for _, t := range rep.Tables {
		if t.Differs() || t.PutBack > 0 {
			out[t.Table] = fmt.Sprintf("-%d ~%d +%d back %d", t.Missing, t.Different, t.Extra, t.PutBack)
		}
	}
	return out
}

func TestCompareWithLiveTables(t *testing.T) {
	w := newWorld(t, "shop", compareSchema)
	w.sql(`UPDATE orders SET note = 'kept' WHERE id = 5; INSERT INTO events VALUES (77, '2021-07-07', 'late'); UPDATE lines SET body = 'x' WHERE sku = 'ä7'`)
	good, want := Target{Kind: ToLSN, LSN: w.here(), Exclusive: true}, hashes(t, "shop")

	w.archive()
	rep, found, err := w.compare(good, nil)
	require.NoError(t, err)
	require.True(t, rep.Equal)
	require.Empty(t, found)
	require.Empty(t, counts(rep))
	require.Len(t, rep.Tables, 9)

	w.sql(`DELETE FROM customers WHERE id IN (3, 7); DELETE FROM orders WHERE id = 1; UPDATE orders SET note = null, f = f + 1 WHERE id = 4; DELETE FROM lines WHERE sku LIKE 'é%' OR sku = 'B9';
DELETE FROM log WHERE ctid IN (SELECT min(ctid) FROM log WHERE what = 'w1' AND at = 1 UNION SELECT ctid FROM log WHERE what IS NULL); INSERT INTO log VALUES ('new', 1, null), ('new', 1, null);
DELETE FROM nothing WHERE ctid = (SELECT min(ctid) FROM nothing); UPDATE circle SET next = null; DELETE FROM circle;
DELETE FROM events WHERE id BETWEEN 10 AND 20; INSERT INTO events VALUES (99, '2020-05-05', 'more'); DELETE FROM ONLY parent`)
	w.sql(`CREATE TRIGGER stop BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION stop(); CREATE TRIGGER always AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION stop();
ALTER TABLE events ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER off BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION stop(); ALTER TABLE orders DISABLE TRIGGER off`)
	w.archive()

	rep, found, err = w.compare(good, func(o *CompareOptions) { o.Tables = []string{"public.orders", "log"} })
	require.NoError(t, err)
	require.Equal(t, map[string]string{"public.orders": "-11 ~1 +0 back 0", "public.log": "-2 ~0 +2 back 0"}, counts(rep))
	require.Contains(t, found, `{"table":"public.orders","kind":"different","key":{"id":"4"},"archive":{"note":"n\t\\4","f":"1.3333333333333333"},"live":{"note":null,"f":"2.333333333333333"}}`)
	require.Contains(t, found, `{"table":"public.log","kind":"extra","live":{"what":"new","at":"1","j":null},"count":2}`)
	require.Contains(t, found, `{"table":"public.log","kind":"missing","archive":{"what":null,"at":null,"j":null},"count":1}`)
	require.Contains(t, strings.Join(found, "\n"), `{"table":"public.orders","kind":"missing","key":{"id":"1"},"archive":{"id":"1","customer":"2"`)

	t.Run("a parent row is missing: nothing is put back", func(t *testing.T) {
		before := hashes(t, "shop")
		_, _, err := w.compare(good, func(o *CompareOptions) { o.Tables, o.ApplyMissing = []string{"orders", "events"}, true })
		require.ErrorContains(t, err, "orders_customer_fkey")
		require.Equal(t, before, hashes(t, "shop"))
	})
	rep, _, err = w.compare(good, func(o *CompareOptions) { o.ApplyMissing = true })
	require.NoError(t, err)
	require.True(t, rep.Applied)
	require.False(t, rep.Equal, "what is different or extra stays")
	require.Equal(t, map[string]string{
		"public.customers": "-2 ~0 +0 back 2", "public.orders": "-11 ~1 +0 back 11", "public.lines": "-41 ~0 +0 back 41", "public.log": "-2 ~0 +2 back 2",
		"public.nothing": "-1 ~0 +0 back 1", "public.circle": "-2 ~0 +0 back 2", "public.events": "-11 ~0 +1 back 11", "public.parent": "-1 ~0 +0 back 1",
	}, counts(rep))
	require.Equal(t, "always A, off D, stop O", server.MustQuery(t, "shop", "select string_agg(tgname || ' ' || tgenabled::text, ', ' order by tgname) from pg_trigger where not tgisinternal and tgparentid = 0"))
	w.sql(`UPDATE orders SET note = E'n\t\\4', f = 4 / 3.0 WHERE id = 4; DELETE FROM log WHERE what = 'new'; DELETE FROM events WHERE id = 99`)
	require.Equal(t, want, hashes(t, "shop"))
	rep, _, err = w.compare(good, func(o *CompareOptions) { o.Scratch = server.DSN("elsewhere_tidemark_compare") })
	require.NoError(t, err)
	require.True(t, rep.Equal)

	t.Run("a live database that sorts in another way", func(t *testing.T) {
		server.MustExec(t, "postgres", "CREATE DATABASE shop_icu TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en'")
		lines := []string{"lines", "log"}
		w.restore(good, "shop_icu", func(o *Options) { o.Create, o.Tables = false, lines })
		rep, _, err := w.compare(good, func(o *CompareOptions) { o.With, o.Tables = server.DSN("shop_icu"), lines })
		require.NoError(t, err)
		require.True(t, rep.Equal)
	})
	t.Run("the live schema changed", func(t *testing.T) {
		w.sql(`ALTER TABLE orders DROP COLUMN note, ADD COLUMN more int DEFAULT 1; ALTER TABLE customers RENAME TO people; ALTER TABLE lines DROP CONSTRAINT lines_pkey, ALTER n DROP NOT NULL, REPLICA IDENTITY FULL; UPDATE lines SET n = null WHERE sku = 'a1'`)
		rep, _, err := w.compare(good, func(o *CompareOptions) { o.Tables = []string{"orders", "customers", "people", "lines"} })
		require.NoError(t, err)
		require.Equal(t, map[string]string{"public.customers": "-12 ~0 +0 back 0", "public.people": "-0 ~0 +12 back 0", "public.lines": "-1 ~0 +1 back 0"}, counts(rep))
		require.Equal(t, []string{"note"}, rep.Tables[2].ArchiveColumns)
		require.Equal(t, []string{"more"}, rep.Tables[2].LiveColumns)
		_, _, err = w.compare(good, func(o *CompareOptions) { o.Tables, o.ApplyMissing = []string{"orders"}, true })
		require.ErrorContains(t, err, "the live table public.orders lacks columns of the archive: note")
		_, _, err = w.compare(good, func(o *CompareOptions) { o.Tables, o.ApplyMissing = []string{"customers"}, true })
		require.ErrorContains(t, err, "the live database has no table public.customers")
	})
	t.Run("no live database", func(t *testing.T) {
		_, _, err := w.compare(good, func(o *CompareOptions) {
			o.With = server.DSN("nosuch")
			o.Confirm = func(*Plan) error { return errors.New("it is restored first") }
		})
		require.ErrorIs(t, err, session.ErrNoDatabase)
		require.NotContains(t, fault.HintOf(err), "--create")
		_, err = w.try(w.store, "nosuch", nil)
		require.Equal(t, "--create makes it", fault.HintOf(err))
	})
	t.Run("what lies there under the scratch database's name", func(t *testing.T) {
		server.CreateDatabase(t, "their_scratch")
		_, _, err := w.compare(good, func(o *CompareOptions) { o.Scratch = server.DSN("their_scratch") })
		require.ErrorContains(t, err, `database "their_scratch" exists and is no scratch database`)
		require.Equal(t, fault.Usage, fault.CodeOf(err))
		server.MustExec(t, "postgres", "COMMENT ON DATABASE their_scratch IS '"+scratchComment+"'")
		server.MustExec(t, "their_scratch", "CREATE TABLE left_behind ()")
		_, _, err = w.compare(good, func(o *CompareOptions) { o.Scratch, o.Tables = server.DSN("their_scratch"), []string{"circle"} })
		require.NoError(t, err)
		require.NotContains(t, databases(t), "their_scratch")
	})
}

func TestInterruptedComparisonLeavesNoScratchDatabase(t *testing.T) {
	w := newWorld(t, "cut_short", "CREATE TABLE kept (id int PRIMARY KEY)")
	w.archive()
	lock := server.Connect(t, "postgres")
	_, err := lock.Exec(t.Context(), "BEGIN; LOCK TABLE pg_catalog.pg_shdescription IN SHARE MODE") // COMMENT waits for it
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := Compare(ctx, CompareOptions{Archive: w.view(), Plan: w.plan(Target{Kind: ToLatest}), With: server.DSN("cut_short"), Jobs: 2})
		done <- err
	}()
	require.Eventually(t, func() bool {
		return server.MustQuery(t, "postgres", "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like 'COMMENT ON DATABASE%')::text") == "true"
	}, time.Minute, 10*time.Millisecond)
	cancel()
	_, err = lock.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.ErrorIs(t, <-done, context.Canceled)
	require.NotContains(t, databases(t), scratchSuffix)

	t.Run("one that was killed there left it empty", func(t *testing.T) {
		left := scratchName("cut_short")
		server.MustExec(t, "postgres", "CREATE DATABASE "+left)
		rep, _, err := w.compare(Target{Kind: ToLatest}, nil)
		require.NoError(t, err)
		require.True(t, rep.Equal)
		server.CreateDatabase(t, left)
		server.MustExec(t, left, "CREATE TABLE theirs ()")
		_, err = Compare(t.Context(), CompareOptions{Archive: w.view(), Plan: w.plan(Target{Kind: ToLatest}), With: server.DSN("cut_short")})
		require.ErrorIs(t, err, ErrNotEmpty)
	})
}

func TestDSNOfAnotherDatabase(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:p@h:1/live?sslmode=disable&dbname=x": "postgres://u:p@h:1/other%20db?sslmode=disable",
		"host=h dbname=live password='a b'":                `host=h dbname=live password='a b' dbname='other db'`,
		"":                                                 "dbname='other db'",
	} {
		require.Equal(t, want, withDatabase(in, "other db"))
		c, err := session.NewConnector(want)
		require.NoError(t, err)
		require.Equal(t, "other db", c.Database())
	}
}
