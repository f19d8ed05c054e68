package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
)

// shapesSQL makes tables of every shape, with rows.
const shapesSQL = `
CREATE TABLE empty_row (); ALTER TABLE empty_row REPLICA IDENTITY FULL;
INSERT INTO empty_row DEFAULT VALUES; INSERT INTO empty_row DEFAULT VALUES; INSERT INTO empty_row DEFAULT VALUES;

CREATE TABLE dropped (gone1 int, id int PRIMARY KEY, gone2 text DEFAULT 'x', v text, gone3 int[]);
INSERT INTO dropped VALUES (1, 1, 'a', 'b', '{1}');
ALTER TABLE dropped DROP COLUMN gone1, DROP COLUMN gone2, DROP COLUMN gone3, ADD COLUMN late int DEFAULT 5;
INSERT INTO dropped VALUES (2, 'c');
CREATE TABLE all_dropped (a int, b int); ALTER TABLE all_dropped DROP COLUMN a, DROP COLUMN b, REPLICA IDENTITY FULL;
INSERT INTO all_dropped DEFAULT VALUES;

CREATE SCHEMA "Sch.ema ""q"" 'x'"; CREATE SCHEMA "a.b"; CREATE SCHEMA a; CREATE SCHEMA "ünï 表";
CREATE TABLE "a.b".c (id int PRIMARY KEY, v text); CREATE TABLE a."b.c" (id int PRIMARY KEY, w int, v text);
INSERT INTO "a.b".c VALUES (1, 'one'); INSERT INTO a."b.c" VALUES (1, 2, 'one'), (2, 3, 'two');
CREATE TABLE "Sch.ema ""q"" 'x'"."Ta'ble ""x""; -- $1 %s \ *" ("I d" int, "select" text, "c""o'l; \ $1 %d" text, "tab	and
newline" text, "ctid " int, s int, t int, x int, PRIMARY KEY ("I d", "c""o'l; \ $1 %d"));
INSERT INTO "Sch.ema ""q"" 'x'"."Ta'ble ""x""; -- $1 %s \ *" VALUES (1, 'a', 'b', 'c', 1, 2, 3, 4), (2, 'a', 'b', 'c', 1, 2, 3, 4);
CREATE TABLE "ünï 表"."äääääääääääääääääääääääääääääää" ("äääääääääääääääääääääääääääääää" int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, v text);
INSERT INTO "ünï 表"."äääääääääääääääääääääääääääääää" (v) VALUES ('a'), ('b');
CREATE TABLE "*" (id int PRIMARY KEY); INSERT INTO "*" VALUES (1); CREATE TABLE "[a-z]?" (id int PRIMARY KEY); INSERT INTO "[a-z]?" VALUES (1);

CREATE TYPE region AS ENUM ('eu', 'us', 'as');
CREATE TABLE tree (id int, region region, at date, v text, PRIMARY KEY (id, region, at)) PARTITION BY LIST (region);
CREATE TABLE tree_eu (gone int, v text, at date NOT NULL, id int NOT NULL, region region NOT NULL) PARTITION BY RANGE (at);
ALTER TABLE tree_eu DROP COLUMN gone; ALTER TABLE tree ATTACH PARTITION tree_eu FOR VALUES IN ('eu');
CREATE TABLE a.tree_eu_2020 (at date NOT NULL, region region NOT NULL, v text, id int NOT NULL) PARTITION BY HASH (id);
ALTER TABLE tree_eu ATTACH PARTITION a.tree_eu_2020 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE a.h0 PARTITION OF a.tree_eu_2020 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE a.h1 (id int NOT NULL, v text, at date NOT NULL, region region NOT NULL); ALTER TABLE a.tree_eu_2020 ATTACH PARTITION a.h1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE tree_eu_rest PARTITION OF tree_eu DEFAULT; CREATE TABLE tree_rest PARTITION OF tree DEFAULT;
CREATE INDEX ON tree (v); CREATE UNIQUE INDEX ON tree_rest (id, region, at); ALTER TABLE tree_rest CLUSTER ON tree_rest_pkey;
INSERT INTO tree SELECT i, (ARRAY['eu','us','as']::region[])[i % 3 + 1], date '2019-07-01' + i * 20, 'v' || i FROM generate_series(1, 60) i;
CREATE TABLE keyless_tree (k text, v int) PARTITION BY RANGE (k);
CREATE TABLE keyless_1 PARTITION OF keyless_tree FOR VALUES FROM (MINVALUE) TO ('m'); CREATE TABLE keyless_2 (v int, k text); ALTER TABLE keyless_tree ATTACH PARTITION keyless_2 DEFAULT;
ALTER TABLE keyless_1 REPLICA IDENTITY FULL; ALTER TABLE keyless_2 REPLICA IDENTITY FULL;
INSERT INTO keyless_tree SELECT chr(97 + i % 26), i % 5 FROM generate_series(1, 100) i;

CREATE TABLE animal (id int PRIMARY KEY, name text NOT NULL CHECK (name <> '')); CREATE TABLE pet (owner text);
CREATE TABLE dog (barks bool, id int PRIMARY KEY, CHECK (id > 0)) INHERITS (pet, animal); ALTER TABLE dog ADD COLUMN local int DEFAULT 1;
CREATE TABLE puppy (born date, PRIMARY KEY (id)) INHERITS (dog); ALTER TABLE animal ADD COLUMN legs int DEFAULT 4;
ALTER TABLE pet REPLICA IDENTITY FULL;
INSERT INTO animal VALUES (1, 'cat', 4), (2, 'ant', 6); INSERT INTO pet VALUES ('me'), ('me'); INSERT INTO dog VALUES ('you', 3, 'rex', true, 4, 5);
INSERT INTO puppy (id, name, born) VALUES (3, 'small', '2020-01-01');

CREATE TABLE boss (id int PRIMARY KEY, dept int NOT NULL); CREATE TABLE dept (id int PRIMARY KEY, boss int NOT NULL REFERENCES boss DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE boss ADD FOREIGN KEY (dept) REFERENCES dept ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE self (id int PRIMARY KEY, up int REFERENCES self ON DELETE SET NULL ON UPDATE CASCADE);
INSERT INTO boss VALUES (1, 1), (2, 2); INSERT INTO dept VALUES (1, 1), (2, 2); INSERT INTO self VALUES (1, NULL), (2, 1), (3, 2), (4, 4);

CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, pos int UNIQUE DEFERRABLE, during tstzrange, EXCLUDE USING gist (during WITH &&) DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE deferred REPLICA IDENTITY FULL;
INSERT INTO deferred SELECT i, i, tstzrange('2020-01-01'::timestamptz + i * interval '1 day', '2020-01-02'::timestamptz + i * interval '1 day') FROM generate_series(1, 5) i;

CREATE TABLE audit (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.audit (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME); RETURN coalesce(NEW, OLD); END $$;
CREATE TABLE watched (id int PRIMARY KEY, v text);
CREATE TRIGGER plain AFTER INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION note(); ALTER TABLE watched ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER replica BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION note(); ALTER TABLE watched ENABLE REPLICA TRIGGER replica;
CREATE TRIGGER emptied AFTER TRUNCATE ON watched EXECUTE FUNCTION note();
CREATE TRIGGER off BEFORE DELETE ON watched FOR EACH ROW EXECUTE FUNCTION note(); ALTER TABLE watched DISABLE TRIGGER off;
CREATE RULE copied AS ON INSERT TO watched DO ALSO INSERT INTO public.audit (what) VALUES ('rule'); ALTER TABLE watched ENABLE ALWAYS RULE copied;
INSERT INTO watched VALUES (1, 'a'), (2, 'b');
ALTER TABLE watched ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY nothing ON watched USING (false);

CREATE TABLE by_always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, n int GENERATED ALWAYS AS IDENTITY (START -5 INCREMENT -3 MINVALUE -1000));
CREATE TABLE by_default (id bigint GENERATED BY DEFAULT AS IDENTITY (START 100 CACHE 20) PRIMARY KEY, v text);
INSERT INTO by_always (v) VALUES ('a'), ('b'); INSERT INTO by_default (v) VALUES ('a'), ('b'); INSERT INTO by_always OVERRIDING SYSTEM VALUE VALUES (50, 'c', 7);
CREATE TABLE computed (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, doc text, found tsvector GENERATED ALWAYS AS (to_tsvector('english', doc)) STORED);
INSERT INTO computed (id, a, doc) VALUES (1, 1, 'one dogs'), (2, NULL, NULL);
CREATE TABLE computed_by_row (a int, twice int GENERATED ALWAYS AS (a * 2) STORED, j json); ALTER TABLE computed_by_row REPLICA IDENTITY FULL;
INSERT INTO computed_by_row (a, j) VALUES (1, '{}'), (1, '{ }'), (NULL, NULL), (NULL, NULL);

CREATE SEQUENCE lonely AS smallint START 7; CREATE SEQUENCE down INCREMENT -2 MAXVALUE 100 START 50; CREATE SEQUENCE round MAXVALUE 3 CYCLE; CREATE SEQUENCE fresh;
CREATE TABLE numbered (no text PRIMARY KEY DEFAULT 'INV-' || nextval('lonely'), s smallserial, d bigint DEFAULT nextval('down'), r int DEFAULT nextval('round'));
INSERT INTO numbered DEFAULT VALUES; INSERT INTO numbered DEFAULT VALUES;
CREATE UNLOGGED TABLE not_logged (id serial PRIMARY KEY, v text); INSERT INTO not_logged (v) VALUES ('a'), ('b');
CREATE TABLE part_logged (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE part_logged_1 PARTITION OF part_logged FOR VALUES IN (1); CREATE UNLOGGED TABLE part_logged_2 PARTITION OF part_logged DEFAULT;
INSERT INTO part_logged VALUES (1), (2);

CREATE TABLE no_identity (id int PRIMARY KEY, v text); ALTER TABLE no_identity REPLICA IDENTITY NOTHING; INSERT INTO no_identity VALUES (1, 'a');
CREATE TABLE two_indexes (id int PRIMARY KEY, a text NOT NULL, b numeric NOT NULL, v text); CREATE UNIQUE INDEX by_ab ON two_indexes (b DESC, a) INCLUDE (v); ALTER TABLE two_indexes REPLICA IDENTITY USING INDEX by_ab;
INSERT INTO two_indexes VALUES (1, 'a', 1.0, 'x'), (2, 'a', 2, 'y'), (3, 'b', 1.0, 'z');
CREATE TABLE duplicates (a int, b text, c point, d json, e xml); ALTER TABLE duplicates REPLICA IDENTITY FULL;
INSERT INTO duplicates SELECT i % 2, NULL, '(1,NaN)', '{"a": 1}', '<a/>' FROM generate_series(1, 10) i;

CREATE TABLE checked (id int PRIMARY KEY, v int, w text); INSERT INTO checked VALUES (1, -1, 'orphan'), (2, 2, 'x'); CREATE TABLE words (w text PRIMARY KEY); INSERT INTO words VALUES ('x');
ALTER TABLE checked ADD CONSTRAINT positive CHECK (v > 0) NOT VALID, ADD FOREIGN KEY (w) REFERENCES words NOT VALID;
CREATE FUNCTION unqualified(t text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM lower_of(t); RETURN true; END $$; CREATE FUNCTION lower_of(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)';
CREATE TABLE calls (id int PRIMARY KEY, v text CHECK (unqualified(v)), low text GENERATED ALWAYS AS (lower_of(v)) STORED); INSERT INTO calls VALUES (1, 'A');
CREATE TABLE objects (id int PRIMARY KEY, o regclass, f regprocedure, r regrole); CREATE INDEX named_index ON objects (o); INSERT INTO objects VALUES (1, 'named_index', 'note()', 'postgres'), (2, 'objects', NULL, NULL);
CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM watched WITH NO DATA;
INSERT INTO objects VALUES (3, 'summary', NULL, NULL), (4, 'lonely', NULL, NULL);

CREATE TABLE stored (id int PRIMARY KEY, plain text, ext text, main text, packed text COMPRESSION pglz, n int DEFAULT 0);
ALTER TABLE stored ALTER plain SET STORAGE EXTENDED, ALTER ext SET STORAGE EXTERNAL, ALTER main SET STORAGE MAIN, ALTER n SET STATISTICS 500, SET (fillfactor = 50, toast.autovacuum_enabled = off);
CREATE TABLE long_key (k text PRIMARY KEY, v text, n int); ALTER TABLE long_key ALTER k SET STORAGE EXTERNAL, ALTER v SET STORAGE EXTERNAL;
CREATE TABLE stored_by_row (a text, b text, n int); ALTER TABLE stored_by_row REPLICA IDENTITY FULL; ALTER TABLE stored_by_row ALTER a SET STORAGE EXTERNAL;
INSERT INTO stored SELECT i, repeat(md5(i::text), 300), repeat(md5('x' || i), 300), repeat('m', 3000), repeat('p', 100000) FROM generate_series(1, 6) i;
INSERT INTO long_key SELECT rpad(i::text, 2500, md5(i::text)), repeat(md5(i::text), 200), 0 FROM generate_series(1, 6) i;
INSERT INTO stored_by_row SELECT repeat(md5((i % 3)::text), 300), 'b', i % 3 FROM generate_series(1, 9) i;

CREATE PUBLICATION theirs FOR TABLE watched (id), two_indexes WHERE (b > 1), tree WITH (publish = 'insert', publish_via_partition_root);
CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA a, "ünï 表"; CREATE PUBLICATION of_nothing;
`

// shapesStream changes all that.
const shapesStream = `
INSERT INTO empty_row DEFAULT VALUES; DELETE FROM empty_row WHERE ctid IN (SELECT ctid FROM empty_row LIMIT 2); INSERT INTO all_dropped DEFAULT VALUES; DELETE FROM all_dropped WHERE ctid = (SELECT min(ctid) FROM all_dropped);
UPDATE dropped SET v = 'changed' WHERE id = 1; UPDATE dropped SET id = 3 WHERE id = 2; INSERT INTO dropped VALUES (4, 'd', 6); DELETE FROM dropped WHERE id = 1;
UPDATE "a.b".c SET v = 'uno'; INSERT INTO "a.b".c VALUES (2, 'two'), (3, 'three'); UPDATE a."b.c" SET w = 9 WHERE id = 2; DELETE FROM a."b.c" WHERE id = 1;
UPDATE "Sch.ema ""q"" 'x'"."Ta'ble ""x""; -- $1 %s \ *" SET "select" = 'changed', s = 5, "tab	and
newline" = E'\n' WHERE "I d" = 1; UPDATE "Sch.ema ""q"" 'x'"."Ta'ble ""x""; -- $1 %s \ *" SET "c""o'l; \ $1 %d" = 'key' WHERE "I d" = 2;
DELETE FROM "Sch.ema ""q"" 'x'"."Ta'ble ""x""; -- $1 %s \ *" WHERE "I d" = 1;
INSERT INTO "ünï 表"."äääääääääääääääääääääääääääääää" (v) VALUES ('c'); UPDATE "ünï 表"."äääääääääääääääääääääääääääääää" SET v = 'x' WHERE v = 'a'; DELETE FROM "ünï 表"."äääääääääääääääääääääääääääääää" WHERE v = 'b';
INSERT INTO "*" VALUES (2); DELETE FROM "[a-z]?";
UPDATE tree SET v = v || '!' WHERE id % 2 = 0; UPDATE tree SET at = at + 200 WHERE id % 5 = 0; UPDATE tree SET region = 'eu' WHERE id % 7 = 0; UPDATE a.h1 SET v = 'direct' WHERE id < 20; DELETE FROM tree WHERE id % 11 = 0;
INSERT INTO tree VALUES (100, 'us', '2020-01-01', 'new'), (101, 'eu', '2020-05-01', 'new'), (102, 'eu', '2030-05-01', NULL);
UPDATE keyless_tree SET k = chr(ascii(k) + 13) WHERE v = 1 AND k < 'm'; DELETE FROM keyless_tree WHERE v = 2; UPDATE keyless_tree SET v = v + 1 WHERE k > 'p';
UPDATE animal SET name = name || 's'; UPDATE ONLY animal SET legs = 3 WHERE id = 1; DELETE FROM pet WHERE owner = 'you'; DELETE FROM ONLY pet WHERE ctid = '(0,1)'; UPDATE puppy SET id = 9, local = 2; INSERT INTO dog VALUES ('x', 10, 'fido', NULL, 1, 2);
BEGIN; INSERT INTO boss VALUES (3, 3); INSERT INTO dept VALUES (3, 3); COMMIT; BEGIN; DELETE FROM dept WHERE id = 1; DELETE FROM boss WHERE id = 1; COMMIT;
UPDATE self SET id = id + 10 WHERE id < 4; DELETE FROM self WHERE id = 12; UPDATE self SET up = id;
UPDATE deferred SET id = 6 - id; UPDATE deferred SET pos = pos + 1; BEGIN; UPDATE deferred SET during = '[2020-01-03,2020-01-04)' WHERE pos = 2; DELETE FROM deferred WHERE pos = 3; COMMIT;
INSERT INTO watched VALUES (3, 'c'); UPDATE watched SET v = 'changed' WHERE id = 1; DELETE FROM watched WHERE id = 2; UPDATE watched SET id = 4 WHERE id = 3; SET session_replication_role = replica; INSERT INTO watched VALUES (5, 'r'); RESET session_replication_role;
INSERT INTO by_always (v) VALUES ('d'); UPDATE by_always SET v = 'x' WHERE id = 1; UPDATE by_always SET id = DEFAULT, n = DEFAULT WHERE id = 2; DELETE FROM by_always WHERE id = 50; INSERT INTO by_default (v) VALUES ('c'); UPDATE by_default SET id = 5 WHERE v = 'a';
UPDATE computed SET a = 5 WHERE id = 1; UPDATE computed SET doc = 'running cats', id = 3 WHERE id = 2; INSERT INTO computed (id, a) VALUES (4, 4); DELETE FROM computed WHERE id = 1;
UPDATE computed_by_row SET a = 2 WHERE j::text = '{ }'; DELETE FROM computed_by_row WHERE ctid IN (SELECT ctid FROM computed_by_row WHERE a IS NULL LIMIT 1);
INSERT INTO numbered DEFAULT VALUES; BEGIN; INSERT INTO numbered DEFAULT VALUES; INSERT INTO by_always (v) VALUES ('rolled back'); SELECT nextval('fresh'); ROLLBACK; DELETE FROM numbered WHERE no = 'INV-9';
INSERT INTO not_logged (v) VALUES ('c'); INSERT INTO part_logged VALUES (3); INSERT INTO no_identity VALUES (2, 'b');
UPDATE two_indexes SET v = 'changed' WHERE id = 1; UPDATE two_indexes SET id = 20, v = 'v' WHERE id = 2; UPDATE two_indexes SET b = 1.00, a = 'c' WHERE id = 3; DELETE FROM two_indexes WHERE id = 1;
DELETE FROM duplicates WHERE ctid IN (SELECT ctid FROM duplicates WHERE a = 0 LIMIT 2); UPDATE duplicates SET b = 'one' WHERE ctid = (SELECT max(ctid) FROM duplicates); UPDATE duplicates SET d = '{"a":  1}' WHERE a = 1 AND b IS NULL;
UPDATE checked SET v = 3 WHERE id = 2; UPDATE checked SET v = 1, w = NULL WHERE id = 1; INSERT INTO calls VALUES (2, 'B'); UPDATE calls SET v = 'C' WHERE id = 1;
INSERT INTO objects VALUES (5, 'named_index', NULL, NULL); UPDATE objects SET o = 'watched_pkey' WHERE id = 1;
UPDATE stored SET n = 1; UPDATE stored SET plain = 'short' WHERE id = 1; UPDATE stored SET ext = repeat(md5('y'), 500) WHERE id = 2; UPDATE stored SET id = 10, main = NULL WHERE id = 3; DELETE FROM stored WHERE id = 4; INSERT INTO stored SELECT 11, plain, ext, main, packed, 7 FROM stored WHERE id = 5;
UPDATE long_key SET n = 1; UPDATE long_key SET v = 'v' WHERE k ~ '^2'; UPDATE long_key SET k = rpad('7', 2400, md5('7')) WHERE k ~ '^3'; DELETE FROM long_key WHERE k ~ '^4';
UPDATE stored_by_row SET n = 9 WHERE ctid = '(0,1)'; UPDATE stored_by_row SET b = 'c' WHERE n = 1; DELETE FROM stored_by_row WHERE ctid IN (SELECT ctid FROM stored_by_row WHERE n = 2 LIMIT 1); UPDATE stored_by_row SET a = repeat('z', 50000) WHERE n = 9;
INSERT INTO stored_by_row VALUES (repeat('large', 300000), repeat('ä', 1200000), 20), (repeat('large', 300000), repeat('ä', 1200000), 20); UPDATE stored_by_row SET n = 21 WHERE ctid = (SELECT max(ctid) FROM stored_by_row WHERE n = 20); DELETE FROM stored_by_row WHERE n = 20;
CREATE TEMP TABLE scratch (id serial PRIMARY KEY, v text); INSERT INTO scratch (v) VALUES ('x'); UPDATE scratch SET v = 'y';
`

// testShapes: tables of every shape.
func testShapes(t *testing.T, s *postgres.Server) {
	wide := wideTable(1600)
	o := fidelity{
		setup:  []string{publishAll, shapesSQL, wide.setup[0]},
		stream: []string{shapesStream, wide.stream[0], "VACUUM FULL stored", "CLUSTER tree_rest", "TRUNCATE audit RESTART IDENTITY; TRUNCATE tree_eu; TRUNCATE ONLY animal CASCADE; INSERT INTO audit (what) VALUES ('last')"},
	}.archived(t, s, "shapes")
	last := o.check(t)
	t.Run("SequencesGoOn", func(t *testing.T) { testSequencesGoOn(t, s, o.name, last) })
	t.Run("TriggersDoNotFire", func(t *testing.T) {
		s.MustExec(t, "postgres", "CREATE DATABASE shapes_rows TEMPLATE template0")
		must(t, o.archive.Restorer("restore", "--into", s.DSN("shapes_rows"), "--schema-only"))
		s.MustExec(t, "shapes_rows", "ALTER TABLE watched ENABLE TRIGGER always, ENABLE TRIGGER replica; ALTER TABLE watched ENABLE RULE copied; ALTER TABLE checked DROP CONSTRAINT positive")
		must(t, o.archive.Restorer("restore", "--into", s.DSN("shapes_rows"), "--data-only"))
		require.Empty(t, o.after.Diff(o.hashes(t, "shapes_rows")))
	})
	t.Run("AfterSchemaChange", func(t *testing.T) { testAfterSchemaChange(t, o) })
}

// testAfterSchemaChange: with a schema change in the range, all that came before it is replayed into the full
// schema, with triggers, rules and constraints in place.
func testAfterSchemaChange(t *testing.T, o *outcome) {
	execLines(t, o.server, o.name, []string{"ALTER TABLE watched ADD COLUMN more int DEFAULT 7;\nUPDATE watched SET more = id; INSERT INTO watched VALUES (77, 'new', 77)"})
	o.after = o.hashes(t, o.name)
	o.archive.CatchUp(t)
	require.Len(t, o.archive.List(t).Snapshots, 1, "the change is replayed, not snapshotted")
	o.checkLast(t, "_changed")
}

// wideTable has as many columns as a table can have, and is found by its rows.
func wideTable(columns int) (f fidelity) {
	var names, sums []string
	for i := range columns {
		typ := "bool"
		if i == 700 || i == 1500 {
			typ = "text"
		}
		names = append(names, fmt.Sprintf("c%d %s", i, typ))
		if i < 1000 && typ == "bool" {
			sums = append(sums, fmt.Sprintf("c%d = true", i))
		}
	}
	f.setup = []string{"CREATE TABLE wide (" + strings.Join(names, ", ") + "); ALTER TABLE wide REPLICA IDENTITY FULL; INSERT INTO wide DEFAULT VALUES; INSERT INTO wide (c0, c1599) VALUES (true, false)"}
	f.stream = []string{"INSERT INTO wide (c3) VALUES (true); UPDATE wide SET " + strings.Join(sums, ", ") + " WHERE c1599 = false; DELETE FROM wide WHERE c3 IS NULL;" +
		"INSERT INTO wide (c700, c1500) VALUES (repeat('w', 1500000), 'x'); UPDATE wide SET c1500 = repeat('v', 1500000), c9 = true WHERE c700 ~ '^w';"}
	return f
}

// testSequencesGoOn: the next values are none that the source gave, not even to a transaction rolled back.
func testSequencesGoOn(t *testing.T, s *postgres.Server, source, restored string) {
	for _, sequence := range strings.Fields(`lonely fresh numbered_s_seq by_always_id_seq by_default_id_seq audit_n_seq not_logged_id_seq`) {
		used := s.MustQuery(t, source, "SELECT coalesce(pg_sequence_last_value($1::regclass), -1000)::text", sequence)
		require.Equal(t, "true", s.MustQuery(t, restored, "SELECT (nextval($1::regclass) > $2::bigint)::text", sequence, used), sequence)
	}
	for _, sequence := range []string{"down", "by_always_n_seq"} {
		used := s.MustQuery(t, source, "SELECT pg_sequence_last_value($1::regclass)::text", sequence)
		require.Equal(t, "true", s.MustQuery(t, restored, "SELECT (nextval($1::regclass) < $2::bigint)::text", sequence, used), sequence)
	}
	require.Equal(t, s.MustQuery(t, source, "SELECT nextval('round')"), s.MustQuery(t, restored, "SELECT nextval('round')"))
}
