package pitr

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
)

func TestRewriteSchema(t *testing.T) {
	m := &schemaMap{to: "re", names: map[qualifiedName]bool{}}
	for _, n := range []string{"orders", "orders_id_seq", "mood", "===", "f", `Odd "N`} {
		m.names[qualifiedName{"public", n}] = true
	}
	for in, want := range map[string]string{
		`CREATE TABLE public.orders (id int, m public.mood DEFAULT 'public.mood'::public.mood, c public.citext);`: `CREATE TABLE "re".orders (id int, m "re".mood DEFAULT 'public.mood'::"re".mood, c public.citext);`,
		`SET DEFAULT nextval('public.orders_id_seq'::regclass)`:                                                   `SET DEFAULT nextval('"re".orders_id_seq'::regclass)`,
		`SET DEFAULT nextval(('public.orders_id_seq'::text)::regclass)`:                                           `SET DEFAULT nextval(('"re".orders_id_seq')::regclass)`,
		`CHECK (a OPERATOR(public.===) 'it''s public.orders') -- public.orders`:                                   `CHECK (a OPERATOR("re".===) 'it''s public.orders') -- public.orders`,
		`COMMENT ON COLUMN "public"."Odd ""N".x IS E'public.orders\' public.orders'`:                              `COMMENT ON COLUMN "re"."Odd ""N".x IS E'public.orders\' public.orders'`,
		`CREATE FUNCTION PUBLIC.F() AS $_$ select public.orders $$ $_$; SELECT public.f($1, 1.5)`:                 `CREATE FUNCTION "re".F() AS $_$ select public.orders $$ $_$; SELECT "re".f($1, 1.5)`,
		`SELECT o.public.orders, public.orders.id, /* public.orders /* */ public.f */ orders.id`:                  `SELECT o.public.orders, "re".orders.id, /* public.orders /* */ public.f */ orders.id`,
		`'public.f(public.mood,pg_catalog.int4)'::regprocedure`:                                                   `'"re".f("re".mood,pg_catalog.int4)'::regprocedure`,
	} {
		got, err := m.rewrite(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{`'open`, `"open`, `$a$ $b$`, `/* /* */`} {
		_, err := m.rewrite(bad)
		require.Error(t, err, bad)
	}
}

const liveSchema = `
CREATE ROLE live_owner NOLOGIN; CREATE ROLE live_reader NOLOGIN; CREATE ROLE live_default NOLOGIN;
CREATE EXTENSION citext; CREATE EXTENSION hstore SCHEMA public;
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TYPE span AS RANGE (subtype = int, multirange_type_name = spans);
CREATE TABLE customers (id serial PRIMARY KEY, name citext UNIQUE, moods mood[]);
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'select $1 * 2';
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES customers, m mood DEFAULT 'ok', n positive,
  double int GENERATED ALWAYS AS (public.twice(n)) STORED, h hstore, s span, CHECK (public.twice(n) > 1));
CREATE INDEX ON orders (public.twice(n));
CREATE TABLE lines ("order" bigint REFERENCES orders ON DELETE CASCADE, n int, PRIMARY KEY ("order", n));
CREATE TABLE log (what text, at timestamptz DEFAULT now()); ALTER TABLE log REPLICA IDENTITY FULL;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (TG_OP, now()); RETURN NEW; END $$;
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TABLE parts (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE VIEW happy AS SELECT o.id, orders.name FROM orders o JOIN customers orders ON orders.id = o.customer WHERE o.m = 'ok';
CREATE MATERIALIZED VIEW many AS SELECT count(*) AS n FROM orders;
CREATE SEQUENCE late; CREATE TABLE drawn (id int PRIMARY KEY DEFAULT nextval('public.late'::text::regclass), other int DEFAULT nextval('customers_id_seq'));
ALTER TABLE orders OWNER TO live_owner; ALTER TABLE customers OWNER TO live_owner; ALTER MATERIALIZED VIEW many OWNER TO live_owner;
GRANT SELECT (id) ON orders TO live_reader; GRANT SELECT ON customers TO live_reader;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON orders TO live_reader USING (m = 'ok'::public.mood);
COMMENT ON COLUMN orders.n IS 'public.orders';
CREATE SCHEMA other; CREATE TABLE other.log (id int PRIMARY KEY);
INSERT INTO customers (name, moods) VALUES ('Ann', '{ok}'), ('Bob', '{sad,ok}');
INSERT INTO orders (customer, n, h, s) SELECT 1 + i % 2, i, 'a=>1', span(i, i + 1) FROM generate_series(1, 20) i;
INSERT INTO lines SELECT id, 1 FROM orders; INSERT INTO parts VALUES (1, '2020-02-02'); INSERT INTO drawn DEFAULT VALUES;
REFRESH MATERIALIZED VIEW many;
`

func TestRestoreBesideLiveTables(t *testing.T) {
	w := newWorld(t, "live", liveSchema)
	w.sql(`UPDATE orders SET m = 'sad', h = 'b=>2' WHERE id % 3 = 0; DELETE FROM orders WHERE id = 7; INSERT INTO parts VALUES (2, '2020-03-03'); UPDATE parts SET at = '2020-04-04' WHERE id = 1;
INSERT INTO orders (customer, n, s) VALUES (1, 99, span(5, 7)); UPDATE customers SET moods = '{sad}' WHERE id = 2; UPDATE log SET what = 'x' WHERE what = 'INSERT'; INSERT INTO drawn DEFAULT VALUES`)
	good, want := w.here(), hashes(t, "live")
	w.sql(`DELETE FROM lines; DELETE FROM orders; UPDATE customers SET name = 'gone ' || id; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO live_default`)
	w.archive()
	at := Target{Kind: ToLSN, LSN: good, Exclusive: true}
	as := func(name string, tables ...string) func(*Options) {
		return func(o *Options) { o.Create, o.AsSchema, o.Tables = false, name, tables }
	}
	public := []string{"public.*"}
	live, dump := hashes(t, "live"), schemaOf(t, "live")

	rep := w.restore(at, "live", as("rescue", public...))
	require.Equal(t, "rescue", rep.AsSchema)
	require.Equal(t, TableRows{Copied: 20, Inserted: 1, Updated: 6, Deleted: 1}, rep.Rows["public.orders"])
	require.Contains(t, rep.Notes, "1 triggers and rules were left out: they could reach out of the schema")
	require.Contains(t, rep.Notes, `publication "tidemark" is of all tables: what is restored goes to its subscribers and archives as well`)
	for name, hash := range hashes(t, "live") {
		if bare, ok := strings.CutPrefix(name, "rescue."); ok {
			require.Equal(t, want["public."+bare], hash, name)
			delete(want, "public."+bare)
		} else {
			require.Equal(t, live[name], hash, name)
		}
	}
	require.Len(t, want, 1, "all but other.log")
	require.Equal(t, "rescue.mood[]", server.MustQuery(t, "live", "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'rescue.customers'::regclass and attname = 'moods'"))
	require.Equal(t, "live_owner live_owner live_owner", server.MustQuery(t, "live", "select string_agg(relowner::regrole::text, ' ') from pg_class where oid in ('rescue.orders'::regclass, 'rescue.customers'::regclass, 'rescue.many'::regclass)"))
	require.Equal(t, "{live_owner=arwdDxt/live_owner,live_reader=r/live_owner}", server.MustQuery(t, "live", "select relacl::text from pg_class where oid = 'rescue.customers'::regclass"))
	require.Equal(t, "public.orders", server.MustQuery(t, "live", "select col_description('rescue.orders'::regclass, 4)"))
	require.Equal(t, "1", server.MustQuery(t, "live", "select count(*)::text from pg_policy where polrelid = 'rescue.orders'::regclass"))
	require.Equal(t, "22", server.MustQuery(t, "live", "insert into rescue.orders (customer, n) values (1, 1) returning id::text"), "its own sequence goes on")
	require.Equal(t, "3 5", server.MustQuery(t, "live", "insert into rescue.drawn default values returning id || ' ' || other"), "and the one looked up by text")
	server.MustExec(t, "live", "SET ROLE live_owner; INSERT INTO rescue.customers (name) VALUES ('fk'); INSERT INTO rescue.orders (customer, n) SELECT max(id), 3 FROM rescue.customers")
	_, err := w.try(w.store, "live", func(o *Options) { as("rescue", public...)(o) })
	require.ErrorIs(t, err, ErrNotEmpty)
	require.ErrorContains(t, err, `schema "rescue" exists in database "live"`)
	server.MustExec(t, "live", "DROP SCHEMA rescue CASCADE")
	odd := `Re"s-cue.1`
	require.Equal(t, odd, w.restore(at, "live", as(odd, public...)).AsSchema)
	require.Equal(t, "20", server.MustQuery(t, "live", `select count(*)::text from "Re""s-cue.1".orders`))
	server.MustExec(t, "live", `DROP SCHEMA "Re""s-cue.1" CASCADE`)
	require.Equal(t, live, hashes(t, "live"))
	require.Equal(t, dump, schemaOf(t, "live"), "nothing hung on the schema")

	t.Run("tables alone, over what a killed restore left", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o := Options{Archive: w.view(), Plan: w.plan(at), DSN: server.DSN("live"), Jobs: 2}
		as("rescue", "lines", "drawn")(&o)
		o.Progress = func(p Progress) {
			if p.Phase == PhaseIndexes {
				cancel()
			}
		}
		_, err := Restore(ctx, o)
		require.ErrorIs(t, err, context.Canceled)
		left := "select string_agg(nspname, ' ') from pg_namespace where nspname like 'rescue%'"
		require.Equal(t, "rescue_tidemark_unfinished", server.MustQuery(t, "live", left))
		rep := w.restore(at, "live", as("rescue", "lines", "drawn"))
		require.Contains(t, rep.Notes, "foreign key lines_order_fkey of public.lines was left out: the table it references is not restored")
		require.Equal(t, "rescue", server.MustQuery(t, "live", left))
		require.Equal(t, "customers drawn lines", server.MustQuery(t, "live", "select string_agg(relname, ' ' order by relname) from pg_class where relkind = 'r' and relnamespace = 'rescue'::regnamespace"))
		server.MustExec(t, "live", "CREATE SCHEMA third_tidemark_unfinished")
		_, err = w.try(w.store, "live", as("third", "lines"))
		require.ErrorContains(t, err, "has the name of an unfinished restore and not its mark")
		server.MustExec(t, "live", "DROP SCHEMA rescue CASCADE; DROP SCHEMA third_tidemark_unfinished")
	})
	t.Run("refusals", func(t *testing.T) {
		for says, change := range map[string]func(*Options){
			`"pg_x" can't be the name`:                       as("pg_x"),
			`"public" can't be the name`:                     as("public"),
			"goes neither with --create nor with":            func(o *Options) { o.AsSchema, o.Create = "x", true },
			"other and public both have a relation log":      as("rescue"),
			"no table of the base snapshot matches [nobody]": as("rescue", "nobody"),
		} {
			_, err := w.try(w.store, "live", change)
			require.ErrorContains(t, err, says)
			require.Equal(t, fault.Usage, fault.CodeOf(err))
		}
		server.CreateDatabase(t, "live_bare")
		_, err := w.try(w.store, "live_bare", as("rescue", "customers"))
		require.ErrorContains(t, err, `the tables need extension "citext"`)
		server.MustExec(t, "live_bare", "CREATE SCHEMA e; CREATE EXTENSION citext SCHEMA e")
		_, err = w.try(w.store, "live_bare", as("rescue", "customers"))
		require.ErrorContains(t, err, `extension "citext" lies in schema "e" there, and in "public" in the archive`)
		require.Equal(t, "0", server.MustQuery(t, "live_bare", "select count(*)::text from pg_namespace where nspname like 'rescue%'"))
	})
}

func TestRestoreBesideChangedTables(t *testing.T) {
	w := newWorld(t, "moving", "CREATE TABLE kept (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY); INSERT INTO kept VALUES (1, 'a')")
	w.changes(".ALTER TABLE other ADD COLUMN x int", "INSERT INTO kept VALUES (2, 'b')", "INSERT INTO other VALUES (1, 1)")
	before := Target{Kind: ToLSN, LSN: w.here(), Exclusive: true}
	w.changes(".ALTER TABLE kept ADD COLUMN y int", "INSERT INTO kept VALUES (3, 'c', 1)")
	w.changes(".CREATE TABLE newer (id int PRIMARY KEY)", "INSERT INTO newer VALUES (1)")
	w.archive()
	as := func(o *Options) { o.Create, o.AsSchema, o.Tables = false, "rescue", []string{"kept"} }
	dump := schemaOf(t, "moving")
	_, err := w.try(w.store, "moving", as)
	require.ErrorContains(t, err, "--as-schema can't replay changes of the tables, and the range holds one: ALTER TABLE on table kept")
	_, err = w.try(w.store, "moving", func(o *Options) { as(o); o.Tables = []string{"newer"} })
	require.ErrorContains(t, err, "the range holds one: CREATE TABLE on table newer")
	require.Equal(t, dump, schemaOf(t, "moving"), "refused before anything was written")
	w.restore(before, "moving", as)
	require.Equal(t, "1,a 2,b", server.MustQuery(t, "moving", "select string_agg(id || ',' || v, ' ' order by id) from rescue.kept"))
	require.Equal(t, "1", server.MustQuery(t, "moving", "select count(*)::text from other"), "the live table was not touched")
	_, err = w.try(w.store, "moving", func(o *Options) { as(o); o.AsSchema, o.SchemaOnly = "empty", true })
	require.ErrorContains(t, err, "can't replay changes of the tables")

	rep, _, err := w.compare(Target{Kind: ToLatest}, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"rescue.kept": "-0 ~0 +2 back 0"}, counts(rep), "a comparison follows the changes")

}
