package pitr

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/ddl"
	"tidemark/internal/fault"
	"tidemark/segment"
)

// change executes a statement and writes its message, as the capture's event triggers do, in the open
// transaction of tx.
func (w *world) change(tx pgx.Tx, m ddl.Message) {
	w.t.Helper()
	before := w.object(tx, m.SQL)
	_, err := tx.Exec(w.t.Context(), m.SQL)
	require.NoError(w.t, err)
	if len(before) == 0 {
		before = w.object(tx, m.SQL)
	}
	m.Objects = append(m.Objects, before...)
	w.message(tx, m)
}

// object finds the table that a statement is about, as far as its third word names one.
func (w *world) object(tx pgx.Tx, sql string) []ddl.Object {
	w.t.Helper()
	name, _, _ := strings.Cut(strings.Fields(sql)[2], "(")
	rows, err := tx.Query(w.t.Context(), `select 'table' as type, n.nspname as schema, c.relname as name, c.oid::regclass::text as identity, c.oid, false as ext
from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1) and c.relkind in ('r', 'p')`, name)
	require.NoError(w.t, err)
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o ddl.Object, err error) {
		return o, row.Scan(&o.Type, &o.Schema, &o.Name, &o.Identity, &o.OID, &o.Extension)
	})
	require.NoError(w.t, err)
	return found
}

func (w *world) message(tx pgx.Tx, m ddl.Message) {
	w.t.Helper()
	if m.Tag == "" {
		words := strings.Fields(strings.ToUpper(m.SQL))
		m.Tag = words[0] + " " + words[1]
		if words[0] == "GRANT" || words[0] == "COMMENT" {
			m.Tag = words[0]
		}
	}
	m.Version, m.ServerVersion = 1, 150000
	if m.User == "" {
		m.User = "postgres"
	}
	if m.Settings == nil {
		m.Settings = map[string]string{"search_path": `"$user", public`}
	}
	text, err := json.Marshal(m)
	require.NoError(w.t, err)
	_, err = tx.Exec(w.t.Context(), "select pg_logical_emit_message(true, 'tidemark', $1::bytea)", ddl.Seal(nil, text))
	require.NoError(w.t, err)
}

// changes executes statements in one transaction; those that begin with a dot are schema changes.
func (w *world) changes(statements ...string) {
	w.t.Helper()
	require.NoError(w.t, pgx.BeginFunc(w.t.Context(), w.conn, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if sql, ok := strings.CutPrefix(sql, "."); ok {
				w.change(tx, ddl.Message{SQL: sql})
				continue
			}
			if _, err := tx.Exec(w.t.Context(), sql); err != nil {
				return err
			}
		}
		return nil
	}))
}

const changingSchema = `
CREATE ROLE %s_keeper;
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, what text);
CREATE TABLE audit (id bigserial PRIMARY KEY, what text);
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit (what) VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION log_it();
ALTER TABLE orders ENABLE ALWAYS TRIGGER always;
CREATE TABLE loose (a int, b text);
ALTER TABLE loose REPLICA IDENTITY FULL;
CREATE TABLE events (id int, at date, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE VIEW everything AS SELECT id, what FROM orders;
CREATE MATERIALIZED VIEW counts AS SELECT count(*) n FROM orders;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.audit (what) VALUES (tg_tag); END $$;
INSERT INTO orders (what) SELECT 'w' || i FROM generate_series(1, 20) i;
INSERT INTO loose SELECT i, 'b' || i FROM generate_series(1, 30) i;
INSERT INTO events SELECT i, '2020-05-05', 'n' FROM generate_series(1, 10) i;
`

// Each step is one transaction.
var changingSteps = [][]string{
	{".ALTER TABLE orders ADD COLUMN total numeric(10,2) NOT NULL DEFAULT 0", "UPDATE orders SET total = id * 1.5", "INSERT INTO orders (what, total) VALUES ('new', 3)"},
	{".CREATE TABLE lines (order_id bigint REFERENCES orders ON DELETE CASCADE, n int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (order_id, n))", "INSERT INTO lines (order_id) SELECT id FROM orders",
		".CREATE INDEX lines_n ON lines (n)", "UPDATE lines SET order_id = order_id WHERE n < 5"},
	{".ALTER TABLE orders RENAME COLUMN what TO label", "UPDATE orders SET label = upper(label) WHERE id < 4", ".ALTER TABLE orders RENAME TO purchases", "INSERT INTO purchases (label) VALUES ('renamed')"},
	{"UPDATE loose SET b = b || '!' WHERE a < 5", ".ALTER TABLE loose ADD COLUMN c int", "UPDATE loose SET c = a WHERE a > 25", "DELETE FROM loose WHERE a = 30"},
	{".CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')", "INSERT INTO events VALUES (100, '2021-06-06', 'x')", "UPDATE events SET at = '2021-02-02' WHERE id = 1"},
	{".ALTER TABLE events DETACH PARTITION events_1", "UPDATE events_1 SET note = 'detached'"},
	{".ALTER TYPE mood ADD VALUE 'happy'"},
	{".ALTER TABLE purchases ADD COLUMN m mood", "UPDATE purchases SET m = 'happy' WHERE id % 2 = 0"},
	{".CREATE OR REPLACE VIEW everything AS SELECT id, label AS what, m::text AS mood FROM purchases"},
	{".CREATE SCHEMA other", ".CREATE TABLE other.t (a int PRIMARY KEY, b text)", "INSERT INTO other.t SELECT i, 'x' FROM generate_series(1, 40) i", ".ALTER TABLE other.t ALTER COLUMN a TYPE bigint", "DELETE FROM other.t WHERE a > 30"},
	{".ALTER TABLE other.t SET SCHEMA public", "INSERT INTO t VALUES (1000, 'moved')", ".DROP TABLE audit CASCADE", ".CREATE TABLE audit (id bigserial PRIMARY KEY, what text, more int)"},
	{"UPDATE purchases SET label = 'again' WHERE id = 3", ".DROP TABLE lines", ".CREATE TABLE lines (only_one text PRIMARY KEY)", "INSERT INTO lines VALUES ('one')"},
	{".CREATE SEQUENCE numbers START 500", ".ALTER TABLE t ALTER COLUMN a SET DEFAULT nextval('numbers')", "INSERT INTO t (b) VALUES ('numbered')", ".COMMENT ON TABLE t IS 'numbered'"},
	{".GRANT SELECT ON t TO PUBLIC", ".CREATE POLICY p ON t USING (a > 0)", ".ALTER TABLE t ENABLE ROW LEVEL SECURITY", "TRUNCATE t", "INSERT INTO t VALUES (1, 'after')"},
}

func TestReplaySchemaChanges(t *testing.T) {
	w := newWorld(t, "changing", strings.ReplaceAll(changingSchema, "%s", "changing"))
	type moment struct {
		at     segment.LSN
		want   map[string]string
		schema string
	}
	var moments []moment
	for i, step := range changingSteps {
		w.changes(step...)
		if i%4 == 3 || i == len(changingSteps)-1 {
			moments = append(moments, moment{w.here(), hashes(t, w.db), schemaOf(t, w.db)})
		}
	}
	w.archive()
	for i, m := range moments {
		into := "changing_" + string(rune('a'+i))
		rep := w.restore(Target{Kind: ToLSN, LSN: m.at, Exclusive: true}, into, nil)
		got := hashes(t, into)
		delete(got, "public.counts") // filled anew
		delete(m.want, "public.counts")
		require.Equal(t, m.want, got)
		require.Equal(t, m.schema, schemaOf(t, into))
		require.True(t, rep.Verified)
		require.Empty(t, withoutStatistics(t, into))
		require.Empty(t, server.MustQuery(t, into, "select coalesce(string_agg(nspname, ','), '') from pg_namespace where nspname ~ 'tidemark'"))
	}
	t.Run("schema only", func(t *testing.T) {
		last := moments[len(moments)-1]
		w.restore(Target{Kind: ToLatest}, "changing_schema", func(o *Options) { o.SchemaOnly = true })
		require.Equal(t, last.schema, schemaOf(t, "changing_schema"))
		require.Equal(t, "0", server.MustQuery(t, "changing_schema", "select count(*)::text from purchases"))
	})
	t.Run("one table", func(t *testing.T) {
		last := moments[len(moments)-1]
		w.restore(Target{Kind: ToLatest}, "changing_one", func(o *Options) { o.Tables = []string{"public.orders"} })
		require.Equal(t, last.want["public.purchases"], hashes(t, "changing_one")["public.purchases"])
	})
	t.Run("rows only are refused", func(t *testing.T) {
		w.restore(Target{Kind: ToSnapshot, Name: w.plan(Target{Kind: ToLatest}).Snapshot.ID}, "changing_rows", func(o *Options) { o.SchemaOnly = true })
		server.MustExec(t, "changing_rows", "DROP TRIGGER always ON orders")
		_, err := w.try(w.store, "changing_rows", func(o *Options) { o.DataOnly = true })
		require.Equal(t, fault.Usage, fault.CodeOf(err))
		require.ErrorContains(t, err, "ALTER TABLE")
	})
}

// TestReplayChangesInTheirPlace has changes whose rows come before them, that are undone, and that only a
// role of the source may make.
func TestReplayChangesInTheirPlace(t *testing.T) {
	w := newWorld(t, "placed", `CREATE ROLE placed_owner; GRANT ALL ON SCHEMA public TO placed_owner; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')`)
	require.NoError(t, pgx.BeginFunc(t.Context(), w.conn, func(tx pgx.Tx) error {
		exec := func(sql string) {
			_, err := tx.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
		// The rows of CREATE TABLE AS come before its message.
		exec("CREATE TABLE copied AS SELECT g AS id, 'x' || g AS v FROM generate_series(1, 500) g")
		w.message(tx, ddl.Message{Tag: "CREATE TABLE AS", SQL: "CREATE TABLE public.copied (id integer, v text)", RowsFirst: true, Objects: w.object(tx, "CREATE TABLE copied")})
		exec("SAVEPOINT s")
		w.change(tx, ddl.Message{SQL: "ALTER TABLE t ADD COLUMN never int"})
		exec("ROLLBACK TO s")
		w.change(tx, ddl.Message{SQL: "ALTER TABLE t ADD COLUMN later int"})
		exec("UPDATE t SET later = 5")
		exec("SET LOCAL ROLE placed_owner")
		w.change(tx, ddl.Message{SQL: "CREATE TABLE owned (id int PRIMARY KEY)", User: "placed_owner"})
		exec("RESET ROLE")
		exec("SET LOCAL DateStyle = 'SQL, DMY'")
		w.change(tx, ddl.Message{SQL: "ALTER TABLE t ADD COLUMN day date DEFAULT '02/01/2020'", Settings: map[string]string{"search_path": "public", "DateStyle": "SQL, DMY", "no.such_setting": "x"}})
		return nil
	}))
	w.sql("CREATE ROLE placed_late")
	w.changes(".GRANT SELECT ON t TO placed_late")
	w.archive()
	server.MustExec(t, "postgres", "DROP OWNED BY placed_late")
	want, schema := hashes(t, w.db), schemaOf(t, w.db)
	w.sql("DROP OWNED BY placed_late")
	server.MustExec(t, "postgres", "DROP ROLE placed_late")
	rep := w.restore(Target{Kind: ToLatest}, "placed_into", nil)
	require.Equal(t, want, hashes(t, "placed_into"))
	require.Equal(t, schema, schemaOf(t, "placed_into"))
	require.Contains(t, strings.Join(rep.Notes, "\n"), `role "placed_late" was missing`)

	w.restore(Target{Kind: ToLatest}, "placed_bare", func(o *Options) { o.NoOwner, o.NoPrivileges = true, true })
	require.Equal(t, want, hashes(t, "placed_bare"))
	require.NotContains(t, schemaOf(t, "placed_bare"), "placed_")

	var lines []LogLine
	for line, err := range Log(t.Context(), w.view(), LogQuery{Schema: true, Tables: []string{"public.t"}}) {
		require.NoError(t, err)
		lines = append(lines, line)
	}
	require.Len(t, lines, 1, "one transaction changed the table by name")
	require.Equal(t, "ALTER TABLE t ADD COLUMN later int", lines[0].Schema[0].Statement)
	require.Len(t, lines[0].Schema, 2)
}

func TestChangesThatCanNotBeReplayed(t *testing.T) {
	w := newWorld(t, "blurred", `CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY); INSERT INTO t SELECT i, 'a' FROM generate_series(1, 9) i`)
	w.sql("INSERT INTO other VALUES (1)")
	before := w.here()
	require.NoError(t, pgx.BeginFunc(t.Context(), w.conn, func(tx pgx.Tx) error {
		w.change(tx, ddl.Message{SQL: "ALTER TABLE t ADD COLUMN r float8 DEFAULT random()", Inexact: "a volatile default", Tables: []string{"public.t"}})
		return nil
	}))
	w.sql("UPDATE t SET v = 'b' WHERE id = 3")
	w.archive()
	var at segment.LSN
	for line, err := range Log(t.Context(), w.view(), LogQuery{Schema: true}) {
		require.NoError(t, err)
		at = line.LSN
	}
	w.append(catalog.Entry{Kind: catalog.KindInexact, Epoch: 1, History: 1, From: at, To: at + 1, Inexact: []catalog.Inexact{{From: at, To: at + 1, Tables: []string{"public.t"}, Reason: "a volatile default"}}})

	_, err := w.try(w.store, "blurred_into", func(o *Options) { o.Create = true })
	require.Equal(t, fault.Uncovered, fault.CodeOf(err))
	require.ErrorContains(t, err, "a volatile default (at LSN "+at.String()+", public.t)")
	require.Contains(t, fault.HintOf(err), "--to-lsn "+at.String()+" --exclusive")
	require.NotContains(t, databases(t), "blurred_into")
	w.restore(Target{Kind: ToLSN, LSN: before, Exclusive: true}, "blurred_before", nil)

	rep := w.restore(Target{Kind: ToLatest}, "blurred_accepted", func(o *Options) { o.AcceptInexact = true })
	require.Contains(t, strings.Join(rep.Notes, "\n"), "a volatile default")
	require.Equal(t, "9 1", server.MustQuery(t, "blurred_accepted", "select count(r) || ' ' || count(*) filter (where v = 'b') from t"))
	w.restore(Target{Kind: ToLatest}, "blurred_other", func(o *Options) { o.Tables = []string{"public.other"} })

	t.Run("what the source could do", func(t *testing.T) {
		require.NoError(t, pgx.BeginFunc(t.Context(), w.conn, func(tx pgx.Tx) error {
			w.message(tx, ddl.Message{SQL: "CREATE FUNCTION f() RETURNS int LANGUAGE nothing AS ''"})
			return nil
		}))
		w.sql("INSERT INTO other VALUES (2)")
		w.archive()
		w.snapshot()
		_, err := w.try(w.store, "blurred_refused", func(o *Options) { o.Create, o.AcceptInexact = true, true })
		require.NoError(t, err, "the snapshot lies after it")
		_, err = Restore(t.Context(), Options{Archive: w.view(), Plan: w.plan(Target{Kind: ToLSN, LSN: w.end - 1}), DSN: server.DSN("blurred_accept_in"), Create: true, AcceptInexact: true})
		require.NoError(t, err)
		p := w.plan(Target{Kind: ToLSN, LSN: w.end - 1})
		p.Inexact = nil
		_, err = Restore(t.Context(), Options{Archive: w.view(), Plan: p, DSN: server.DSN("blurred_refused_in"), Create: true})
		require.ErrorContains(t, err, "ALTER TABLE", "the message's own word counts as well")
		server.MustExec(t, "postgres", "DROP DATABASE "+unfinishedName("blurred_refused_in"))
	})
}

// Each is one string, as a client sends it.
var capturedStrings = []string{
	`CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'x'); ALTER TABLE a ADD COLUMN w int DEFAULT 7; UPDATE a SET w = 8`,
	`DO $$ BEGIN FOR i IN 1..3 LOOP EXECUTE format('CREATE TABLE part_%s (id int PRIMARY KEY, v text); INSERT INTO part_%s VALUES (%s, ''y'')', i, i, i); END LOOP; END $$`,
	`CREATE FUNCTION make(name text) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN EXECUTE 'CREATE TABLE ' || name || ' (n numeric(8,2) PRIMARY KEY)'; EXECUTE 'INSERT INTO ' || name || ' VALUES (1.5)'; END $f$`,
	`SELECT make('made_by_function')`,
	`CREATE TABLE copied AS SELECT id, v || '!' AS v FROM a; SELECT * INTO into_it FROM copied; ALTER TABLE copied REPLICA IDENTITY FULL; UPDATE copied SET v = 'c'`,
	`BEGIN; SAVEPOINT s; CREATE TABLE undone (a int); DROP TABLE part_1; ROLLBACK TO s; ALTER TABLE part_1 RENAME TO kept; INSERT INTO kept VALUES (9, 'z'); COMMIT`,
	`CREATE EXTENSION hstore; CREATE TABLE h (id int PRIMARY KEY, h hstore); INSERT INTO h VALUES (1, 'a=>1')`,
	`CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN positive AS int CHECK (value > 0); CREATE TYPE pair AS (x int, y mood); CREATE TYPE span AS RANGE (subtype = float8)`,
	`ALTER TYPE mood ADD VALUE 'c' BEFORE 'b'`,
	`CREATE TABLE typed (id positive PRIMARY KEY, m mood, p pair, s span); INSERT INTO typed VALUES (1, 'c', '(1,a)', '[1,2]')`,
	`ALTER TYPE pair ADD ATTRIBUTE z text; ALTER TYPE mood RENAME VALUE 'a' TO 'aa'; INSERT INTO typed VALUES (2, 'aa', '(1,aa,z)', NULL)`,
	`CREATE TABLE tree (k int, at date, note text, PRIMARY KEY (k, at)) PARTITION BY RANGE (at); CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
		CREATE TABLE tree_2 (note text, at date NOT NULL, k int NOT NULL); INSERT INTO tree_2 VALUES ('before', '2021-03-03', 5); ALTER TABLE tree ATTACH PARTITION tree_2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
		INSERT INTO tree SELECT i, '2020-06-06', 'n' FROM generate_series(1, 20) i; UPDATE tree SET at = '2021-06-06' WHERE k < 4; ALTER TABLE tree DETACH PARTITION tree_1; DELETE FROM tree_1 WHERE k > 15`,
	`CREATE VIEW seen AS SELECT id, v FROM a; CREATE MATERIALIZED VIEW mat AS SELECT count(*) n FROM a; CREATE UNIQUE INDEX mat_n ON mat (n); CREATE MATERIALIZED VIEW empty AS SELECT 1 x WITH NO DATA`,
	`REFRESH MATERIALIZED VIEW CONCURRENTLY mat; CREATE OR REPLACE VIEW seen AS SELECT id, v, w FROM a; COMMENT ON VIEW seen IS 'seen; it''s'`,
	`CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v || '+'; RETURN NEW; END $$; CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION trig(); ALTER TABLE a ENABLE ALWAYS TRIGGER t; INSERT INTO a VALUES (2, 'plus')`,
	`ALTER TRIGGER t ON a RENAME TO t2; INSERT INTO a VALUES (3, 'plus'); CREATE RULE r AS ON DELETE TO a WHERE old.id < 0 DO INSTEAD NOTHING; ALTER TABLE a ENABLE ALWAYS RULE r; DELETE FROM a WHERE id = 2`,
	`CREATE TABLE ident (id bigint GENERATED ALWAYS AS IDENTITY, k int PRIMARY KEY, g int GENERATED ALWAYS AS (k * 2) STORED); INSERT INTO ident (k) SELECT generate_series(1, 9); UPDATE ident SET k = k + 100 WHERE k > 5; ALTER TABLE ident ALTER COLUMN id SET START 50; UPDATE ident SET k = k + 1000 WHERE k = 1`,
	`CREATE SCHEMA "Odd schema" CREATE TABLE "T b" (x int PRIMARY KEY) CREATE VIEW vv AS SELECT x FROM "T b"; INSERT INTO "Odd schema"."T b" VALUES (4); ALTER SCHEMA "Odd schema" RENAME TO odd; ALTER TABLE odd."T b" SET SCHEMA public`,
	`CREATE INDEX CONCURRENTLY a_v ON a (lower(v))`,
	`ALTER TABLE a ADD CONSTRAINT positive CHECK (id > 0) NOT VALID; ALTER TABLE a VALIDATE CONSTRAINT positive; ALTER TABLE h ADD COLUMN a_id int REFERENCES a ON DELETE CASCADE; CREATE STATISTICS st ON id, w FROM a; ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON a USING (id > 0)`,
	`SET search_path = odd, public; CREATE TABLE in_odd (id serial PRIMARY KEY, at timestamptz DEFAULT '2020-01-01 00:00'); INSERT INTO in_odd DEFAULT VALUES; SET search_path = public; SET TimeZone = 'Asia/Tokyo'; ALTER TABLE odd.in_odd ADD COLUMN day date DEFAULT '2020-02-02'; RESET TimeZone`,
	`CREATE TEMP TABLE scratch (a int); ALTER TABLE scratch ADD b int; DROP TABLE scratch; DROP TABLE into_it, part_2; DROP EXTENSION hstore CASCADE; CREATE TABLE into_it (now_different uuid PRIMARY KEY); INSERT INTO into_it VALUES ('00000000-0000-0000-0000-000000000001')`,
	`GRANT SELECT (id), UPDATE ON a TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; CREATE TABLE granted (a int PRIMARY KEY); CREATE SEQUENCE sq START 7 INCREMENT 3; ALTER TABLE granted ALTER a SET DEFAULT nextval('sq'); INSERT INTO granted DEFAULT VALUES`,
	`CREATE TABLE prim (id int PRIMARY KEY); CREATE TABLE refs (id int PRIMARY KEY REFERENCES prim) PARTITION BY RANGE (id); CREATE TABLE refs_1 PARTITION OF refs FOR VALUES FROM (0) TO (10);
	 CREATE TABLE refs_none (id int REFERENCES prim) PARTITION BY RANGE (id); INSERT INTO prim VALUES (1), (2); INSERT INTO refs VALUES (1); TRUNCATE prim, refs, refs_none; INSERT INTO prim VALUES (3)`,
	`CREATE DOMAIN small AS int; CREATE TABLE smalls (v small, w text); ALTER TABLE smalls REPLICA IDENTITY FULL; INSERT INTO smalls VALUES (55), (5), (6);
	 ALTER DOMAIN small ADD CONSTRAINT low CHECK (VALUE < 11) NOT VALID; UPDATE smalls SET v = 10 WHERE v = 55; DELETE FROM smalls WHERE v = 5`,
	`CREATE ROLE captured_super SUPERUSER; SET ROLE captured_super; CREATE SCHEMA captured_super; CREATE TABLE hers (id int PRIMARY KEY); CREATE FOREIGN DATA WRAPPER hers; RESET ROLE`,
	`SET ROLE captured_super; DROP TABLE hers; CREATE SCHEMA others CREATE TABLE theirs (id int PRIMARY KEY); SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC; COMMENT ON LARGE OBJECT 4711 IS 'x';
	 CREATE TEMP TABLE passing (a int); CREATE FUNCTION f_of_passing() RETURNS SETOF passing LANGUAGE sql AS 'SELECT * FROM passing'; CREATE FUNCTION of_passing(passing) RETURNS int LANGUAGE sql AS 'SELECT 1';
	 DROP FUNCTION f_of_passing(); DROP TABLE passing CASCADE;
	 RESET ROLE; ALTER ROLE captured_super NOSUPERUSER`,
}

// TestReplayCapturedChanges replays what the event triggers of the source wrote.
func TestReplayCapturedChanges(t *testing.T) {
	w := newWorld(t, "captured", "CREATE TABLE was_there (id int PRIMARY KEY)")
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	dumped := func(database string) string {
		var kept []string
		for line := range strings.Lines(schemaOf(t, database)) {
			if !strings.Contains(line, "EVENT TRIGGER") && !strings.Contains(line, "WHEN TAG IN") && !strings.Contains(line, "EXECUTE FUNCTION tidemark.") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	type moment struct {
		at     segment.LSN
		want   map[string]string
		schema string
	}
	var moments []moment
	for i, sql := range capturedStrings {
		w.sql(sql)
		if i%6 == 5 || i == len(capturedStrings)-1 {
			moments = append(moments, moment{w.here(), hashes(t, w.db), dumped(w.db)})
		}
	}
	w.archive()
	for i, m := range moments {
		into := "captured_" + string(rune('a'+i))
		rep := w.restore(Target{Kind: ToLSN, LSN: m.at, Exclusive: true}, into, nil)
		require.True(t, rep.Verified)
		got := hashes(t, into)
		for name := range m.want {
			if strings.HasPrefix(name, "tidemark.") || name == "public.mat" {
				delete(m.want, name)
			}
		}
		delete(got, "public.mat")
		require.Equal(t, m.want, got)
		require.Equal(t, m.schema, dumped(into))
	}
}

// TestDetachedPartOfParts: the CHECK that DETACH PARTITION CONCURRENTLY makes itself groups its conditions as no statement does.
func TestDetachedPartOfParts(t *testing.T) {
	w := newWorld(t, "nested_parts", `CREATE TABLE p (id int, b text) PARTITION BY LIST (b); CREATE TABLE px PARTITION OF p FOR VALUES IN ('x', NULL); CREATE TABLE q PARTITION OF p DEFAULT PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF q FOR VALUES FROM (1) TO (20); ALTER TABLE part REPLICA IDENTITY FULL; INSERT INTO p VALUES (7, 'y')`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("ALTER TABLE q DETACH PARTITION part CONCURRENTLY")
	w.sql("COMMENT ON TABLE part IS 'on its own'; INSERT INTO part VALUES (8, 'z')")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "nested_parts_back", nil)
	const def = "select pg_get_constraintdef(oid) from pg_constraint where conname = 'part_check'"
	require.Equal(t, "CHECK ((((b IS NOT NULL) AND (b <> 'x'::text)) AND (id IS NOT NULL) AND (id >= 1) AND (id < 20)))", server.MustQuery(t, "nested_parts", def))
	require.Equal(t, "CHECK (((b IS NOT NULL) AND (b <> 'x'::text) AND (id IS NOT NULL) AND (id >= 1) AND (id < 20)))", server.MustQuery(t, "nested_parts_back", def))
	require.Equal(t, hashes(t, "nested_parts")["public.part"], hashes(t, "nested_parts_back")["public.part"])
}
