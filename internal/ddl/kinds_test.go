package ddl_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
	"tidemark/internal/testserver/postgres"
)

// testKinds runs every kind of statement, three ways: alone, together in one string, and each in an EXECUTE.
// Each is written once, as it was.
func testKinds(t *testing.T, server *postgres.Server, ways ...string) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			s := newSource(t, server, "kinds_"+way, "", ddl.Options{})
			var got []*ddl.Message
			switch way {
			case "alone":
				for _, k := range kinds {
					s.must(k)
				}
			case "string":
				text := ""
				for _, k := range kinds {
					text += k + ";\n"
				}
				s.must(text)
			case "execute":
				for _, k := range kinds {
					s.must("DO $outer$ BEGIN EXECUTE $inner$" + k + "$inner$; END $outer$")
				}
			}
			got = s.messages()
			want := slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return strings.HasPrefix(k, "SET ") })
			require.Equal(t, want, sqls(got))
			s.sameAfterReplay(got, "")
		})
	}
}

var kinds = []string{
	"CREATE SCHEMA app",
	"CREATE SCHEMA made CREATE TABLE inner_t (a int PRIMARY KEY) CREATE VIEW inner_v AS SELECT a FROM inner_t CREATE INDEX inner_i ON inner_t (a)",
	"SET search_path = app, public",
	"CREATE SEQUENCE app.seq START 5 INCREMENT 2 CACHE 3",
	"CREATE TYPE mood AS ENUM ('sad', 'ok')",
	"ALTER TYPE mood ADD VALUE 'happy' AFTER 'ok'",
	"ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'",
	"CREATE TYPE pair AS (a int, b text)",
	"ALTER TYPE pair ADD ATTRIBUTE c numeric(10,2)",
	"CREATE TYPE span AS RANGE (subtype = float8)",
	"CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
	"ALTER DOMAIN positive SET DEFAULT 3",
	"ALTER DOMAIN positive ADD CONSTRAINT small CHECK (VALUE < 1000) NOT VALID",
	"CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, m mood, p pair, n positive, \"Odd Name\" int DEFAULT nextval('seq'))",
	"CREATE TABLE orders (id serial PRIMARY KEY, person bigint REFERENCES people ON DELETE CASCADE, at timestamptz DEFAULT now(), total numeric(12,2) CHECK (total >= 0))",
	"ALTER TABLE orders ALTER total TYPE numeric(14,3) USING round(total, 3)",
	"ALTER TABLE orders ADD COLUMN doubled numeric GENERATED ALWAYS AS (total * 2) STORED, ADD COLUMN note text DEFAULT 'none; at all' COLLATE \"C\"",
	"ALTER TABLE orders ALTER COLUMN note SET STORAGE EXTERNAL, ALTER COLUMN total SET STATISTICS 100",
	"ALTER TABLE orders RENAME COLUMN note TO remark",
	"ALTER TABLE orders SET (fillfactor = 70)",
	"CREATE UNIQUE INDEX orders_remark ON orders (lower(remark)) WHERE total > 0",
	"CREATE INDEX orders_person_idx ON orders USING hash (person)",
	"ALTER INDEX orders_remark RENAME TO orders_remark_lower",
	"ALTER TABLE orders CLUSTER ON orders_pkey",
	"ALTER TABLE orders REPLICA IDENTITY FULL",
	"CREATE TABLE parent (a int, b text)",
	"CREATE TABLE child (c int) INHERITS (parent)",
	"ALTER TABLE parent ADD COLUMN d int DEFAULT 4",
	"CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k)",
	"CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10)",
	"CREATE TABLE parts_2 (v text, k int)",
	"ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20)",
	"CREATE INDEX parts_v ON parts (v)",
	"CREATE TABLE parts_d PARTITION OF parts DEFAULT",
	"ALTER TABLE parts DETACH PARTITION parts_1",
	"CREATE UNLOGGED TABLE fast (a int)",
	"CREATE TABLE typed OF pair",
	"CREATE TABLE liked (LIKE orders INCLUDING ALL)",
	"CREATE VIEW v_orders AS SELECT id, total FROM orders WHERE at > current_date - 7",
	"CREATE OR REPLACE VIEW v_orders AS SELECT id, total, 'x;y' AS s FROM orders",
	"CREATE MATERIALIZED VIEW mv AS SELECT count(*) AS n FROM orders",
	"CREATE UNIQUE INDEX mv_n ON mv (n)",
	"REFRESH MATERIALIZED VIEW mv",
	"CREATE FUNCTION total(bigint) RETURNS numeric LANGUAGE sql STABLE AS $$ SELECT sum(o.total) FROM app.orders o WHERE o.person = $1; $$",
	"CREATE FUNCTION atomic(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN x > 0 THEN 1 ELSE 2 END; SELECT x; END",
	"CREATE PROCEDURE proc(INOUT a int) LANGUAGE plpgsql AS $body$ BEGIN a := a + 1; END $body$",
	"ALTER FUNCTION total(bigint) COST 50",
	"CREATE AGGREGATE sum_up(int) (sfunc = int4pl, stype = int, initcond = '0')",
	"CREATE OPERATOR @@@ (leftarg = int, rightarg = int, function = int4pl)",
	"CREATE CAST (pair AS text) WITH INOUT",
	"CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
	"CREATE TRIGGER t1 BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION trig()",
	"CREATE CONSTRAINT TRIGGER t2 AFTER UPDATE ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trig()",
	"ALTER TABLE orders DISABLE TRIGGER t1",
	"CREATE RULE r1 AS ON DELETE TO people DO ALSO (DELETE FROM orders WHERE person = OLD.id; SELECT 1)",
	"ALTER TABLE people ENABLE ROW LEVEL SECURITY",
	"CREATE POLICY pol ON people FOR SELECT TO PUBLIC USING (id > 0)",
	"ALTER POLICY pol ON people USING (id > 1)",
	"COMMENT ON TABLE people IS 'those; who ''are'''",
	"COMMENT ON COLUMN people.name IS E'back\\'slash;'",
	"CREATE STATISTICS st ON k, v FROM parts",
	"CREATE COLLATION coll FROM \"C\"",
	"CREATE TEXT SEARCH CONFIGURATION conf (COPY = simple)",
	"ALTER TEXT SEARCH CONFIGURATION conf DROP MAPPING FOR email",
	"CREATE EXTENSION hstore",
	"CREATE TABLE with_hstore (h hstore)",
	"ALTER EXTENSION hstore SET SCHEMA public",
	"GRANT SELECT (id, name), UPDATE ON people TO PUBLIC",
	"REVOKE UPDATE ON people FROM PUBLIC",
	"GRANT USAGE ON SCHEMA app TO PUBLIC",
	"ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC",
	"ALTER TABLE liked SET SCHEMA public",
	"ALTER SCHEMA made RENAME TO renamed",
	"CREATE PUBLICATION pub FOR TABLE people",
	"ALTER PUBLICATION pub ADD TABLE orders",
	"ALTER SEQUENCE seq RESTART WITH 100 OWNED BY people.\"Odd Name\"",
	"ALTER TABLE people ADD CONSTRAINT named UNIQUE (name) DEFERRABLE",
	"ALTER TABLE people DROP CONSTRAINT named",
	"ALTER TABLE orders DROP COLUMN remark CASCADE",
	"DROP VIEW v_orders",
	"DROP FUNCTION atomic(int)",
	"DROP TABLE child, typed",
	"DROP INDEX parts_v",
	"DROP TYPE span",
	"DROP SCHEMA renamed CASCADE",
	"CREATE FOREIGN DATA WRAPPER fdw OPTIONS (a 'b')",
	"CREATE SERVER srv FOREIGN DATA WRAPPER fdw OPTIONS (host 'x')",
	"CREATE FOREIGN TABLE ft (a int) SERVER srv",
	"CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE plx HANDLER plpgsql_call_handler",
}
