package evolve

// Exactness is what an archive owes to a kind of change.
type Exactness int

const (
	// Exact changes come through.
	Exact Exactness = iota
	// Inexact changes may make the archive say that it is not exact until its next base snapshot.
	Inexact
)

// kind is a sort of change.
type kind struct {
	name  string
	owes  Exactness
	forms formSet
	sql   string // see fill

	// solo changes are made while no other session changes anything. They drop what another session's uncommitted
	// statement may have made use of, and PostgreSQL locks nothing against that: it is left with a thing that depends on nothing. Or they
	// change what rows of open transactions are printed as: the replay, in the order of commits, finds no such label any more, and stops there. Or they
	// give privileges on what an extension's script makes.
	solo bool
}

// formSet restricts the forms in which a change can be made.
type formSet int

const (
	anyForm formSet = iota
	noBlock         // not in PL/pgSQL code, whose INTO is another one
	alone           // not in a transaction
)

// weight is how often a group of kinds is drawn.
type group struct {
	weight int
	kinds  []kind
}

func exact(name, sql string) kind   { return kind{name: name, sql: sql} }
func solo(name, sql string) kind    { return kind{name: name, sql: sql, solo: true} }
func single(name, sql string) kind  { return kind{name: name, sql: sql, forms: alone} }
func inexact(name, sql string) kind { return kind{name: name, owes: Inexact, sql: sql} }

var groups = map[string]group{
	"create table": {16, createTable},
	"alter table":  {45, alterTable},
	"partition":    {10, partitions},
	"index":        {10, indexes},
	"view":         {8, views},
	"sequence":     {6, sequences},
	"type":         {10, typeKinds},
	"routine":      {9, routineKinds},
	"trigger":      {8, triggers},
	"access":       {8, access},
	"comment":      {4, comments},
	"schema":       {4, schemas},
	"extension":    {3, extensionKinds},
	"foreign":      {4, foreign},
	"publication":  {2, publications},
	"inexact":      {4, inexactKinds},
}

// The order in which groups are drawn from, since that of a map is none.
var groupOrder = []string{"create table", "alter table", "partition", "index", "view", "sequence", "type", "routine",
	"trigger", "access", "comment", "schema", "extension", "foreign", "publication", "inexact"}

var createTable = []kind{
	exact("plain", `CREATE TABLE {at}{new} (id [[int|bigint|smallint]] PRIMARY KEY, v {type} DEFAULT {const}, "A; b" {type} NOT NULL DEFAULT {const}, b text [[|COLLATE "C"]] DEFAULT {text})`),
	exact("serial", `CREATE TABLE {at}{new} (id [[serial|bigserial|smallserial]] [[PRIMARY KEY|UNIQUE|]], v {type})`),
	exact("identity", `CREATE TABLE [[|IF NOT EXISTS ]]{at}{new} (id bigint GENERATED [[ALWAYS|BY DEFAULT]] AS IDENTITY (START 10 INCREMENT 3) PRIMARY KEY, v {type}, check (id > 0))`),
	exact("generated", `CREATE TABLE {at}{new} (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, b text GENERATED ALWAYS AS (repeat({text}, 2)) STORED)`),
	exact("keyless", `CREATE TABLE {at}{new} (a int, b text, v {type})`),
	exact("no columns", `CREATE TABLE {at}{new} ()`),
	exact("constraints", `CREATE TABLE {at}{new} (id int CONSTRAINT {new#2} PRIMARY KEY [[|DEFERRABLE INITIALLY DEFERRED]], a int CHECK (a <> 13) NOT NULL DEFAULT 1, r int4range, base int REFERENCES play.base [[ON DELETE CASCADE|ON DELETE SET NULL|DEFERRABLE]], UNIQUE (a, id), EXCLUDE USING gist (r WITH &&)) WITH (fillfactor = 70)`),
	exact("like", `CREATE TABLE {at}{new} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`),
	exact("like with all", `CREATE TABLE {at}{new} (LIKE {table} INCLUDING [[ALL|INDEXES INCLUDING COMMENTS]])`),
	exact("inherits", `CREATE TABLE {at}{new} (own_{n} {type}) INHERITS ({plain})`),
	exact("of type", `CREATE TABLE {at}{new} OF play.pair (PRIMARY KEY (x))`),
	exact("again", `DROP TABLE {plain} CASCADE;;CREATE TABLE {plain} (again int PRIMARY KEY, v {type} DEFAULT {const})`),
	exact("unlogged", `CREATE UNLOGGED TABLE {at}{new} (id int PRIMARY KEY, b text)`),
	exact("temporary", `CREATE TEMPORARY TABLE {new} (id int PRIMARY KEY, b text) ON COMMIT [[DROP|DELETE ROWS|PRESERVE ROWS]];;CREATE INDEX ON {new} (b);;ALTER TABLE {new} ADD c int;;INSERT INTO {new} VALUES (1, 'x', 2);;DROP TABLE {new}`),
	exact("temporary by schema", `CREATE TABLE pg_temp.{new} AS SELECT 1 AS x;;COMMENT ON TABLE pg_temp.{new} IS {text};;DROP TABLE pg_temp.{new}`),
	exact("as", `CREATE TABLE [[|IF NOT EXISTS ]]{at}{new} [[|(one, "Two; 2", three)|WITH (fillfactor = 80)]] AS SELECT id AS x, b AS "Y; y", random() AS z FROM play.base WHERE id % 3 = 0 [[|WITH NO DATA]]`),
	exact("as of a table", `CREATE TABLE {at}{new} AS [[TABLE {anytable}|SELECT *, {text} AS extra FROM {anytable}|VALUES (1, {text}), (2, NULL)]]`),
	exact("as executed", `PREPARE {new} AS SELECT i, clock_timestamp() AS at FROM generate_series(1, 5) i;;CREATE TABLE {at}{new#2} AS EXECUTE {new};;DEALLOCATE {new}`),
	{name: "into", forms: noBlock, sql: `SELECT id, a, random() AS r INTO [[|TABLE |UNLOGGED ]]{at}{new} FROM play.base WHERE id < 20`},
	exact("rows at once", `CREATE TABLE {at}{new} (id int PRIMARY KEY, b text);;INSERT INTO {at}{new} SELECT i, 'made ' || i FROM generate_series(1, {n}) i;;ALTER TABLE {at}{new} ADD c int DEFAULT 5;;UPDATE {at}{new} SET c = id`),
	exact("drop", `DROP TABLE {plain}[[| CASCADE| RESTRICT]]`),
	exact("drop several", `DROP TABLE IF EXISTS {plain}, {plain#2}, no_such_table CASCADE`),
	exact("drop nothing", `DROP TABLE IF EXISTS no_such_table`),
	exact("made and dropped", `CREATE TABLE {at}{new} (a int);;INSERT INTO {at}{new} VALUES (1);;DROP TABLE {at}{new}`),
	exact("two parents", `CREATE TABLE {at}{new} (own_{n} int) INHERITS ({plain}, {plain#2})`),
	exact("of a type that grows", `CREATE TYPE {at}{new} AS (a int, b text);;CREATE TABLE {at}{new#2} OF {at}{new} (PRIMARY KEY (a));;INSERT INTO {at}{new#2} VALUES (1, 'x');;ALTER TYPE {at}{new} ADD ATTRIBUTE c int CASCADE;;UPDATE {at}{new#2} SET c = 3`),
}

var alterTable = []kind{
	exact("add column", `ALTER TABLE {table} ADD COLUMN [[|IF NOT EXISTS ]]{new} {type}`),
	exact("add column with default", `ALTER TABLE {anytable} ADD {new} {type} [[|NOT NULL ]]DEFAULT {const}`),
	exact("add columns", `ALTER TABLE {table} ADD {new} {type}, ADD {new#2} text DEFAULT {text} CHECK ({new#2} <> 'no'), ALTER {new} SET STATISTICS 50`),
	exact("add generated column", `ALTER TABLE {keyed} ADD {new} text GENERATED ALWAYS AS ({anyint}::text || {text}) STORED`),
	exact("add reference", `ALTER TABLE {table} ADD {new} int REFERENCES play.base`),
	exact("drop column", `ALTER TABLE {table} DROP COLUMN {loosecol}[[| CASCADE]]`),
	exact("drop and add column", `ALTER TABLE {table} DROP {loosecol} CASCADE, ADD {loosecol} {type}`),
	exact("widen", `ALTER TABLE {intcolumn.on} ALTER {intcolumn} TYPE bigint`),
	exact("to text", `ALTER TABLE {intcolumn.on} ALTER COLUMN {intcolumn} DROP DEFAULT, ALTER COLUMN {intcolumn} TYPE [[text|numeric]] USING {intcolumn}::[[text|numeric]]`),
	exact("using", `ALTER TABLE {intcolumn.on} ALTER {intcolumn} TYPE int USING {intcolumn} [[+|-|*]] 1`),
	exact("length", `ALTER TABLE {fixedlen.on} ALTER {fixedlen} TYPE [[varchar(500)|text|varchar]]`),
	exact("set default", `ALTER TABLE {table} ALTER {textcol} SET DEFAULT {text}`),
	exact("set volatile default", `ALTER TABLE {anytable} ALTER {textcol} SET DEFAULT md5(random()::text)`),
	exact("drop default", `ALTER TABLE {table} ALTER {column} DROP DEFAULT`),
	exact("set not null", `ALTER TABLE {table} ALTER {column} SET NOT NULL`),
	exact("drop not null", `ALTER TABLE {notnull.on} ALTER {notnull} DROP NOT NULL`),
	exact("drop expression", `ALTER TABLE {generated.on} ALTER {generated} DROP EXPRESSION`),
	exact("add identity", `ALTER TABLE {bareint.on} ALTER {bareint} ADD GENERATED [[ALWAYS|BY DEFAULT]] AS IDENTITY (START 1000000)`),
	exact("set identity", `ALTER TABLE {identity.on} ALTER {identity} [[SET GENERATED ALWAYS|SET GENERATED BY DEFAULT|RESTART WITH 2000000|SET INCREMENT 7|DROP IDENTITY]]`),
	exact("statistics", `ALTER TABLE {table} ALTER {column} SET STATISTICS {n}`),
	exact("storage", `ALTER TABLE {table} ALTER {textcol} SET STORAGE [[EXTERNAL|MAIN|EXTENDED]]`),
	exact("compression", `ALTER TABLE {table} ALTER {textcol} SET COMPRESSION [[pglz|default]]`),
	exact("column options", `ALTER TABLE {table} ALTER {column} [[SET (n_distinct = -0.5)|RESET (n_distinct)]]`),
	exact("rename column", `ALTER TABLE {table} RENAME [[|COLUMN ]]{column} TO {new}`),
	exact("rename", `ALTER TABLE {table} RENAME TO {new}`),
	exact("rename and write", `ALTER TABLE {keyed} RENAME TO {new};;ALTER TABLE IF EXISTS {new} ADD {new#2} int DEFAULT 3`),
	exact("swap names", `ALTER TABLE {table} RENAME {column} TO swapping;;ALTER TABLE {table} RENAME {column#2} TO {column};;ALTER TABLE {table} RENAME swapping TO {column#2}`),
	exact("set schema", `ALTER TABLE {plain} SET SCHEMA {schema}`),
	exact("owner", `ALTER TABLE {anytable} OWNER TO {role}`),
	exact("options", `ALTER TABLE {table} [[SET (fillfactor = 55, autovacuum_enabled = false)|RESET (fillfactor)|SET (autovacuum_vacuum_threshold = 100)]]`),
	exact("check", `ALTER TABLE {keyed} ADD CONSTRAINT {new} CHECK ({anyint} <> -12345)[[| NOT VALID| NO INHERIT]]`),
	exact("unnamed check", `ALTER TABLE {keyed} ADD CHECK ({anyint} <> -{n})`),
	exact("validate", `ALTER TABLE {notvalid.on} VALIDATE CONSTRAINT {notvalid}`),
	exact("unique", `ALTER TABLE {keyed} ADD [[|CONSTRAINT {new} ]]UNIQUE [[({anyint})|({anyint}) DEFERRABLE|({anyint}) INCLUDE ({column})]]`),
	exact("unique using index", `ALTER TABLE {uniqueindex.on} ADD CONSTRAINT {new} UNIQUE USING INDEX {uniqueindex}`),
	exact("foreign key", `ALTER TABLE {intcolumn.on} ADD CONSTRAINT {new} FOREIGN KEY ({intcolumn}) REFERENCES play.base (id) ON UPDATE CASCADE NOT VALID`),
	exact("alter constraint", `ALTER TABLE {foreign.on} ALTER CONSTRAINT {foreign} [[DEFERRABLE|NOT DEFERRABLE|DEFERRABLE INITIALLY DEFERRED]]`),
	exact("drop constraint", `ALTER TABLE {constraint.on} DROP CONSTRAINT {constraint}[[| CASCADE]]`),
	exact("rename constraint", `ALTER TABLE {constraint.on} RENAME CONSTRAINT {constraint} TO {new}`),
	exact("drop primary key", `ALTER TABLE {primary.on} DROP CONSTRAINT {primary} CASCADE`),
	exact("identity full", `ALTER TABLE {table} REPLICA IDENTITY [[FULL|DEFAULT]]`),
	exact("identity by index", `ALTER TABLE {uniqueindex.on} REPLICA IDENTITY USING INDEX {uniqueindex}`),
	exact("inherit", `ALTER TABLE {child} NO INHERIT {child.on}`),
	exact("inherit again", `CREATE TABLE {at}{new} (LIKE {plain} INCLUDING CONSTRAINTS);;ALTER TABLE {at}{new} INHERIT {plain}`),
	exact("row security", `ALTER TABLE {table} [[ENABLE ROW LEVEL SECURITY|DISABLE ROW LEVEL SECURITY|FORCE ROW LEVEL SECURITY|NO FORCE ROW LEVEL SECURITY]]`),
	exact("cluster on", `ALTER TABLE {uniqueindex.on} CLUSTER ON {uniqueindex}`),
	exact("unlogged", `ALTER TABLE {plain} SET UNLOGGED`),
	exact("all at once", `ALTER TABLE {table} ADD {new} int DEFAULT 1, ADD {new#2} text, ALTER {textcol} SET STATISTICS 77, ADD CONSTRAINT {new#3} UNIQUE ({new}, {new#2}) DEFERRABLE, DROP COLUMN IF EXISTS gone_already`),
	exact("absent", `ALTER TABLE IF EXISTS play.no_such ADD a int`),
	exact("primary key", `CREATE TABLE {at}{new} (id int NOT NULL, b text);;INSERT INTO {at}{new} VALUES (1, 'x');;CREATE UNIQUE INDEX {new#2} ON {at}{new} (id);;ALTER TABLE {at}{new} ADD [[CONSTRAINT {new#3} PRIMARY KEY USING INDEX {new#2}|PRIMARY KEY (id)]];;UPDATE {at}{new} SET b = 'y'`),
	exact("exclude", `ALTER TABLE {keyed} ADD [[|CONSTRAINT {new} ]]EXCLUDE USING btree ({anyint} WITH =)`),
	exact("of type", `CREATE TABLE {at}{new} (x int, "Y y" text);;ALTER TABLE {at}{new} OF play.pair[[|;;ALTER TABLE {at}{new} NOT OF]]`),
	exact("collation", `ALTER TABLE {table} ALTER {textcol} TYPE text COLLATE "C"`),
	exact("toast options", `ALTER TABLE {table} SET (toast.autovacuum_enabled = false, toast_tuple_target = 4096)`),
	exact("all triggers", `ALTER TABLE {table} DISABLE TRIGGER ALL;;ALTER TABLE {table} ENABLE TRIGGER ALL`),
	exact("place", `ALTER TABLE {plain} [[SET TABLESPACE pg_default|SET ACCESS METHOD heap]]`),
	exact("only", `ALTER TABLE ONLY {anytable} ALTER {textcol} SET DEFAULT {text}`),
	exact("what is no table", `ALTER TABLE [[{view}|{sequence}|{index}|{matview}]] RENAME TO {new}`),
}

var partitions = []kind{
	exact("create", `CREATE TABLE {at}{new} (id int [[PRIMARY KEY|NOT NULL]], at date, b text) PARTITION BY RANGE (id)`),
	exact("create by hash", `CREATE TABLE {at}{new} (id int PRIMARY KEY, b text) PARTITION BY HASH (id);;CREATE TABLE {at}{new#2} PARTITION OF {at}{new} FOR VALUES WITH (MODULUS 2, REMAINDER 0);;CREATE TABLE {at}{new#3} PARTITION OF {at}{new} FOR VALUES WITH (MODULUS 2, REMAINDER 1)`),
	exact("create by list", `CREATE TABLE {at}{new} (id int, b text) PARTITION BY LIST (b);;CREATE TABLE {at}{new#2} PARTITION OF {at}{new} (id DEFAULT 3) FOR VALUES IN ({text}, NULL);;CREATE TABLE {at}{new#3} PARTITION OF {at}{new} DEFAULT PARTITION BY RANGE (id)`),
	exact("add", `CREATE TABLE {at}{new} PARTITION OF {ranged} FOR VALUES {bound}`),
	exact("add default", `CREATE TABLE {at}{new} PARTITION OF {ranged} DEFAULT`),
	exact("add with parts", `CREATE TABLE {at}{new} PARTITION OF {ranged} FOR VALUES {bound} PARTITION BY HASH (id);;CREATE TABLE {at}{new#2} PARTITION OF {at}{new} FOR VALUES WITH (MODULUS 1, REMAINDER 0)`),
	exact("attach", `CREATE TABLE {at}{new} (gone text, LIKE {ranged} INCLUDING ALL);;ALTER TABLE {at}{new} DROP gone;;ALTER TABLE {ranged} ATTACH PARTITION {at}{new} FOR VALUES {bound}`),
	exact("detach", `ALTER TABLE {partition.on} DETACH PARTITION {partition}`),
	single("detach concurrently", `ALTER TABLE {partition.on} DETACH PARTITION {partition} CONCURRENTLY`),
	exact("detach and drop", `ALTER TABLE {partition.on} DETACH PARTITION {partition};;DROP TABLE {partition}`),
	exact("drop", `DROP TABLE {partition}`),
	exact("rename", `ALTER TABLE {partition} RENAME TO {new}`),
	exact("index", `CREATE [[|UNIQUE ]]INDEX {new} ON {ranged} ([[id|id DESC]])`),
	exact("index on parent only", `CREATE INDEX {new} ON ONLY {ranged} (id)`),
	exact("add column", `ALTER TABLE {partitioned} ADD {new} {type} DEFAULT {const}`),
	exact("drop column", `ALTER TABLE {partitioned} DROP {loosecol}`),
	exact("rename column", `ALTER TABLE {partitioned} RENAME {textcol} TO {new}`),
	exact("drop all", `DROP TABLE {partitioned} CASCADE`),
	exact("foreign key", `ALTER TABLE {ranged} ADD FOREIGN KEY (id) REFERENCES play.base`),
	exact("attach default", `CREATE TABLE {at}{new} (id int, b text) PARTITION BY LIST (id);;CREATE TABLE {at}{new#2} (b text, id int);;INSERT INTO {at}{new#2} VALUES ('x', 1);;ALTER TABLE {at}{new} ATTACH PARTITION {at}{new#2} DEFAULT;;INSERT INTO {at}{new} VALUES (2, 'y')`),
	exact("attach parts", `CREATE TABLE {at}{new} (LIKE {ranged} INCLUDING ALL) PARTITION BY RANGE (id);;CREATE TABLE {at}{new#2} PARTITION OF {at}{new} DEFAULT;;ALTER TABLE {ranged} ATTACH PARTITION {at}{new} FOR VALUES {bound}`),
	exact("attach index", `CREATE TABLE {at}{new} (id int, b text) PARTITION BY RANGE (id);;CREATE TABLE {at}{new#2} PARTITION OF {at}{new} FOR VALUES FROM (0) TO (1000000);;CREATE INDEX {new#3} ON ONLY {at}{new} (b);;CREATE INDEX {new#4} ON {at}{new#2} (b);;ALTER INDEX {at}{new#3} ATTACH PARTITION {at}{new#4}`),
	exact("unique", `ALTER TABLE {ranged} ADD UNIQUE (id)`),
}

var indexes = []kind{
	exact("create", `CREATE INDEX [[|IF NOT EXISTS {new} ]]ON {table} ({column}[[| DESC NULLS LAST]])`),
	exact("create unique", `CREATE UNIQUE INDEX {new} ON {keyed} ({anyint}) [[|INCLUDE ({column})|WHERE {anyint} > 5|WITH (fillfactor = 60)]]`),
	exact("create by method", `CREATE INDEX {new} ON {table} USING [[hash|brin|btree]] ({column})`),
	exact("create on expression", `CREATE INDEX {new} ON {table} (lower({textcol}), ({textcol} || {text})) WHERE {textcol} <> 'a;b'`),
	single("create concurrently", `CREATE [[|UNIQUE ]]INDEX CONCURRENTLY [[{new}|IF NOT EXISTS {new}|"Concurrently {n}"]] ON {keyed} ({anyint})`),
	single("create concurrently unnamed", `create index /* ; */ concurrently on {table} ({textcol})`),
	single("drop concurrently", `DROP INDEX CONCURRENTLY [[|IF EXISTS ]]{index}`),
	single("reindex", `REINDEX [[INDEX|INDEX CONCURRENTLY]] {anyindex}`),
	exact("rename", `ALTER INDEX {index} RENAME TO {new}`),
	exact("options", `ALTER INDEX {index} SET (fillfactor = 90)`),
	exact("drop", `DROP INDEX {index}[[| CASCADE]]`),
	exact("drop several", `DROP INDEX IF EXISTS {index}, no_such_index`),
	exact("reindex table", `REINDEX TABLE {table}`),
	exact("statistics", `{table.silent}CREATE STATISTICS {at}{new} [[|(ndistinct)|(dependencies, mcv)]] ON {column}, {column#2} FROM {table}`),
	exact("alter statistics", `ALTER STATISTICS {statistics} [[SET STATISTICS 300|RENAME TO {new}]]`),
	exact("drop statistics", `DROP STATISTICS {statistics}`),
	exact("cluster", `CLUSTER {clusterable.on} USING {clusterable};;ALTER TABLE {clusterable.on} SET WITHOUT CLUSTER`),
	exact("of other methods", `CREATE TABLE {at}{new} (id int PRIMARY KEY, r int4range, j jsonb, t text);;CREATE INDEX ON {at}{new} USING gist (r);;CREATE INDEX ON {at}{new} USING gin (j jsonb_path_ops);;CREATE INDEX ON {at}{new} USING spgist (t);;INSERT INTO {at}{new} VALUES (1, '[1,2)', '[1, null]', 'x')`),
	exact("nulls not distinct", `CREATE UNIQUE INDEX {new} ON {keyed} ({anyint}) NULLS NOT DISTINCT`),
	exact("expression's statistics", `CREATE INDEX {new} ON {table} (upper({textcol}));;ALTER INDEX {table.schema}.{new} ALTER COLUMN 1 SET STATISTICS 500`),
	exact("move statistics", `ALTER STATISTICS {statistics} [[SET SCHEMA {schema}|OWNER TO {role}]]`),
}

var views = []kind{
	exact("create", `CREATE VIEW {at}{new} [[|WITH (security_barrier)]] AS SELECT *, {text} AS extra FROM {anytable}`),
	exact("create or replace", `CREATE OR REPLACE VIEW {at}{new} ("One; 1", two) AS SELECT id, b FROM play.base WHERE b <> {text} [[|WITH CHECK OPTION|WITH LOCAL CHECK OPTION]];;CREATE OR REPLACE VIEW {at}{new} ("One; 1", two, three) AS SELECT id, b, a FROM play.base`),
	exact("recursive", `CREATE RECURSIVE VIEW {at}{new} (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM {new} WHERE n < 5`),
	exact("temporary", `CREATE TEMPORARY VIEW {new} AS SELECT 1 AS one;;DROP VIEW {new}`),
	exact("rename", `ALTER VIEW {view} RENAME TO {new}`),
	exact("rename column", `ALTER VIEW {view} RENAME {column} TO {new}`),
	exact("default", `ALTER VIEW {view} ALTER {column} SET DEFAULT NULL`),
	exact("set schema", `ALTER VIEW {view} SET SCHEMA {schema}`),
	exact("owner", `ALTER VIEW {view} OWNER TO {role}`),
	exact("option", `ALTER VIEW {view} [[SET (security_barrier = true)|RESET (security_barrier)]]`),
	exact("drop", `DROP VIEW {view} CASCADE`),
	exact("materialize", `CREATE MATERIALIZED VIEW {at}{new} AS SELECT count(*) AS n, {text} AS t FROM {anytable} [[|WITH NO DATA|WITH DATA]]`),
	exact("materialize view", `CREATE MATERIALIZED VIEW {at}{new} AS SELECT id, b FROM play.base;;CREATE UNIQUE INDEX ON {at}{new} (id);;REFRESH MATERIALIZED VIEW CONCURRENTLY {at}{new}`),
	exact("refresh", `REFRESH MATERIALIZED VIEW {matview}[[| WITH NO DATA]]`),
	exact("alter materialized", `ALTER MATERIALIZED VIEW {matview} [[RENAME TO {new}|SET SCHEMA {schema}|SET (fillfactor = 50)|RENAME COLUMN {column} TO {new}|OWNER TO {role}]]`),
	exact("drop materialized", `DROP MATERIALIZED VIEW {matview}[[| CASCADE]]`),
	exact("instead of trigger", `CREATE VIEW {at}{new} AS SELECT id, b FROM play.base;;CREATE TRIGGER {new#2} INSTEAD OF INSERT OR DELETE ON {at}{new} FOR EACH ROW EXECUTE FUNCTION play.touch()`),
	exact("instead rule", `CREATE VIEW {at}{new} AS SELECT a, b FROM play.loose;;CREATE RULE {new#2} AS ON INSERT TO {at}{new} DO INSTEAD INSERT INTO play.loose (a, b) VALUES (NEW.a, NEW.b);;INSERT INTO {at}{new} VALUES (3, 'through a rule')`),
	exact("of a function", `CREATE FUNCTION {at}{new}() RETURNS SETOF play.base LANGUAGE sql STABLE AS 'SELECT * FROM play.base';;CREATE VIEW {at}{new#2} AS SELECT f.id, f.b FROM {at}{new}() f`),
	exact("materialize materialized", `CREATE MATERIALIZED VIEW {at}{new} AS TABLE {matview}`),
}

var sequences = []kind{
	exact("create", `CREATE SEQUENCE {at}{new} [[|AS smallint|INCREMENT -3 MAXVALUE 50 START 50 MINVALUE -1000 CYCLE|START 100 CACHE 20]]`),
	exact("use as default", `CREATE SEQUENCE {keyed.schema}.{new};;ALTER TABLE {keyed} ADD {new#2} bigint;;ALTER TABLE {keyed} ALTER {new#2} SET DEFAULT nextval('play.counter');;ALTER SEQUENCE {keyed.schema}.{new} OWNED BY {keyed}.{new#2}`),
	exact("alter", `ALTER SEQUENCE {sequence} [[INCREMENT 2|MAXVALUE 9999999|NO CYCLE|RESTART WITH 500|AS bigint|CACHE 1]]`),
	exact("rename", `ALTER SEQUENCE {sequence} RENAME TO {new}`),
	exact("rename owned", `ALTER SEQUENCE {anysequence} RENAME TO {new}`),
	exact("set schema", `ALTER SEQUENCE {sequence} SET SCHEMA {schema}`),
	exact("owner", `ALTER SEQUENCE {sequence} OWNER TO {role}`),
	exact("drop", `DROP SEQUENCE {sequence}[[| CASCADE]]`),
	exact("temporary", `CREATE TEMP SEQUENCE {new};;DROP SEQUENCE {new}`),
	exact("own and disown", `CREATE SEQUENCE {keyed.schema}.{new};;ALTER SEQUENCE {keyed.schema}.{new} OWNED BY {keyed}.{anyint};;ALTER SEQUENCE {keyed.schema}.{new} OWNED BY NONE`),
}

var typeKinds = []kind{
	exact("enum", `CREATE TYPE {at}{new} AS ENUM ('a', 'b; c', {text})`),
	exact("enum used", `CREATE TYPE {at}{new} AS ENUM ('new', 'old');;CREATE TABLE {at}{new#2} (id int PRIMARY KEY, e {at}{new} DEFAULT 'old');;INSERT INTO {at}{new#2} VALUES (1, 'new')`),
	exact("enum add", `ALTER TYPE {enum} ADD VALUE [[|IF NOT EXISTS ]]'v{n}'`),
	exact("enum add at", `ALTER TYPE {enum} ADD VALUE 'w{n}' [[BEFORE|AFTER]] {enum.on}`),
	exact("enum add to used", `ALTER TYPE play.mood ADD VALUE IF NOT EXISTS 'm{n}' BEFORE 'ok'`),
	solo("enum rename value", `ALTER TYPE {enum} RENAME VALUE {enum.on} TO 'r{n}'`),
	exact("composite", `CREATE TYPE {at}{new} AS (a int, "B; b" text COLLATE "C", c play.pair)`),
	exact("composite alter", `ALTER TYPE {composite} [[ADD ATTRIBUTE {new} {type}|DROP ATTRIBUTE {composite.on}|ALTER ATTRIBUTE {composite.on} TYPE text|RENAME ATTRIBUTE {composite.on} TO {new}]]`),
	exact("domain", `CREATE DOMAIN {at}{new} AS [[int CHECK (VALUE > 0)|text COLLATE "C" DEFAULT 'd; d' NOT NULL|numeric(10,2) CONSTRAINT small CHECK (VALUE < 1000)]]`),
	exact("domain used", `CREATE DOMAIN {at}{new} AS int CHECK (VALUE > 0);;ALTER TABLE {table} ADD {new#2} {at}{new} DEFAULT 1`),
	exact("domain alter", `ALTER DOMAIN {domain} [[SET DEFAULT NULL|DROP DEFAULT|ADD CONSTRAINT {new} CHECK (VALUE IS NOT NULL) NOT VALID|DROP NOT NULL|SET NOT NULL]]`),
	exact("domain drop constraint", `ALTER DOMAIN {constrained} [[DROP CONSTRAINT|VALIDATE CONSTRAINT]] {constrained.on}`),
	exact("range", `CREATE TYPE {at}{new} AS RANGE (subtype = [[date|numeric|text]])`),
	exact("rename", `ALTER TYPE {anytype} RENAME TO {new}`),
	exact("set schema", `ALTER TYPE {anytype} SET SCHEMA {schema}`),
	exact("owner", `ALTER TYPE {anytype} OWNER TO {role}`),
	exact("shell", `CREATE TYPE {at}{new}`),
	solo("drop", `DROP TYPE {anytype}[[| CASCADE]]`),
	exact("collation", `CREATE COLLATION {at}{new} (locale = 'C');;ALTER COLLATION {at}{new} RENAME TO {new#2}`),
	exact("text search", `CREATE TEXT SEARCH CONFIGURATION {at}{new} (COPY = simple);;ALTER TEXT SEARCH CONFIGURATION {at}{new} ALTER MAPPING FOR asciiword WITH simple`),
	exact("composite used", `CREATE TYPE {at}{new} AS (a int, b text);;CREATE TABLE {at}{new#2} (id int PRIMARY KEY, c {at}{new}, cs {at}{new}[]);;INSERT INTO {at}{new#2} VALUES (1, (1, 'x'), ARRAY[(2, 'y')::{at}{new}])`),
	exact("multirange", `CREATE TYPE {at}{new} AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = {at}{new#2});;CREATE TABLE {at}{new#3} (id int PRIMARY KEY, r {at}{new});;INSERT INTO {at}{new#3} VALUES (1, '[1,5)'), (2, 'empty')`),
	exact("domain over an array", `CREATE DOMAIN {at}{new} AS int[] CHECK (cardinality(VALUE) < 5);;CREATE TABLE {at}{new#2} (id int PRIMARY KEY, d {at}{new} DEFAULT ARRAY[1]);;INSERT INTO {at}{new#2} VALUES (1), (2)`),
	exact("text search dictionary", `CREATE TEXT SEARCH DICTIONARY {at}{new} (TEMPLATE = simple, STOPWORDS = english);;ALTER TEXT SEARCH DICTIONARY {at}{new} (ACCEPT = false);;COMMENT ON TEXT SEARCH DICTIONARY {at}{new} IS {text}`),
}

var routineKinds = []kind{
	exact("sql function", `CREATE [[|OR REPLACE ]]FUNCTION {at}{new}(v int DEFAULT {n}, t text DEFAULT {text}) RETURNS text LANGUAGE sql [[|IMMUTABLE|STRICT]] AS $f$ SELECT 'a; ' || v; -- ; no end
		$f$`),
	exact("atomic function", `CREATE FUNCTION {at}{new}(v int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT v; SELECT count(*) FROM play.base WHERE id > v; END`),
	exact("atomic case", `CREATE FUNCTION {at}{new}(v int) RETURNS text LANGUAGE sql BEGIN ATOMIC; SELECT CASE WHEN v > 1 THEN 'end;' ELSE CASE v WHEN 0 THEN 'x' END END; END`),
	exact("return function", `CREATE FUNCTION {at}{new}(v int) RETURNS int LANGUAGE sql RETURN v + {n}`),
	exact("plpgsql function", `CREATE FUNCTION {at}{new}(INOUT a int, OUT b text) LANGUAGE plpgsql SET search_path = play, pg_catalog AS $f$
		BEGIN b := {text}; IF a > 1 THEN a := a - 1; END IF; END; $f$`),
	exact("set function", `CREATE FUNCTION {at}{new}() RETURNS TABLE (id int, b text) LANGUAGE sql STABLE ROWS 10 AS 'SELECT id, b FROM play.base; /* ; */'`),
	exact("trigger function", `CREATE FUNCTION {at}{new}() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN coalesce(NEW, OLD); END $f$`),
	exact("procedure", `CREATE PROCEDURE {at}{new}(INOUT x int) LANGUAGE plpgsql AS 'BEGIN x := x + 1; END'`),
	exact("alter", `ALTER FUNCTION {function} [[STABLE|VOLATILE COST 500|SECURITY DEFINER|SET work_mem = '8MB'|RESET ALL|PARALLEL SAFE|LEAKPROOF]]`),
	exact("rename", `ALTER FUNCTION {function} RENAME TO {new}`),
	exact("set schema", `ALTER FUNCTION {function} SET SCHEMA {schema}`),
	exact("owner", `ALTER [[FUNCTION {function}|PROCEDURE {procedure}]] OWNER TO {role}`),
	solo("drop", `DROP FUNCTION {function}[[| CASCADE]]`),
	solo("drop procedure", `DROP PROCEDURE {procedure}`),
	exact("aggregate", `CREATE AGGREGATE {at}{new} (int) (sfunc = int4pl, stype = int, initcond = '0')`),
	solo("drop aggregate", `DROP AGGREGATE {aggregate}`),
	exact("operator", `CREATE OPERATOR {at}[[<%>|%%%|<=#|~~>]] (rightarg = int, function = play.twice)`),
	exact("operator function", `CREATE FUNCTION {at}{new}(a play.pair, b play.pair) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN (a).x = (b).x;;CREATE OPERATOR {at}[[==|=#=|<<~]] (leftarg = play.pair, rightarg = play.pair, function = {at}{new})`),
	exact("cast", `CREATE FUNCTION {at}{new}(a play.positive) RETURNS play.pair LANGUAGE sql IMMUTABLE RETURN ROW(1, 'x')::play.pair`),
	exact("replace function", `CREATE FUNCTION {at}{new}(a int) RETURNS int LANGUAGE sql AS 'SELECT 1';;CREATE OR REPLACE FUNCTION {at}{new}(a int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2; /* ; */'`),
	exact("overloads", `CREATE FUNCTION {at}{new}(a int) RETURNS int LANGUAGE sql AS 'SELECT 1';;CREATE FUNCTION {at}{new}(a text) RETURNS int LANGUAGE sql AS 'SELECT 2';;ALTER FUNCTION {at}{new}(text) STRICT;;DROP FUNCTION {at}{new}(int)`),
	exact("variadic", `CREATE FUNCTION {at}{new}(VARIADIC a anyarray) RETURNS anyelement LANGUAGE sql AS 'SELECT $1[1]'`),
	exact("alter procedure", `ALTER [[PROCEDURE|ROUTINE]] {procedure} [[SECURITY DEFINER|SET search_path = play|RESET ALL]]`),
	exact("event trigger function", `CREATE FUNCTION {at}{new}() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN RAISE DEBUG 'x; y'; END $f$`),
	exact("cast of a type", `CREATE TYPE {at}{new} AS (a int);;CREATE CAST ({at}{new} AS text) WITH INOUT [[|AS ASSIGNMENT]];;COMMENT ON CAST ({at}{new} AS text) IS {text}[[|;;DROP CAST ({at}{new} AS text)]]`),
	exact("operator class", `CREATE OPERATOR FAMILY {at}{new} USING btree;;CREATE OPERATOR CLASS {at}{new#2} FOR TYPE int USING btree FAMILY {at}{new} AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int);;ALTER OPERATOR FAMILY {at}{new} USING btree ADD OPERATOR 3 = (int, bigint)`),
	exact("drop operator", `CREATE OPERATOR {at}#%# (leftarg = int, rightarg = int, function = int4pl);;ALTER OPERATOR {at}#%# (int, int) OWNER TO {role};;DROP OPERATOR {at}#%# (int, int)`),
	exact("conversion", `CREATE CONVERSION {at}{new} FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;;ALTER CONVERSION {at}{new} RENAME TO {new#2}`),
}

var triggers = []kind{
	exact("create", `CREATE TRIGGER {new} [[BEFORE INSERT|BEFORE UPDATE|AFTER DELETE|AFTER INSERT OR UPDATE]] ON {table} FOR EACH [[ROW|STATEMENT]] EXECUTE FUNCTION play.touch()`),
	exact("create with condition", `CREATE OR REPLACE TRIGGER {new} BEFORE INSERT ON {keyed} FOR EACH ROW WHEN (NEW.{anyint} > 5) EXECUTE FUNCTION play.touch('a; b', {text})`),
	exact("create constraint", `CREATE CONSTRAINT TRIGGER {new} AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION play.touch()`),
	exact("create on partitioned", `CREATE TRIGGER {new} AFTER INSERT ON {partitioned} FOR EACH ROW EXECUTE FUNCTION play.touch()`),
	exact("writes", `CREATE FUNCTION {at}{new}() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO play.loose (a, b) VALUES (1, TG_OP || '; by trigger'); RETURN NULL; END $f$;;CREATE TRIGGER {new#2} AFTER INSERT OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {at}{new}()`),
	exact("fires always", `ALTER TABLE {trigger.on} ENABLE [[ALWAYS|REPLICA]] TRIGGER {trigger}`),
	exact("switch", `ALTER TABLE {trigger.on} [[ENABLE|DISABLE]] TRIGGER [[{trigger}|USER]]`),
	exact("rename", `ALTER TRIGGER {trigger} ON {trigger.on} RENAME TO {new}`),
	exact("drop", `DROP TRIGGER [[|IF EXISTS ]]{trigger} ON {trigger.on}`),
	exact("rule", `CREATE [[|OR REPLACE ]]RULE {new} AS ON [[DELETE|UPDATE]] TO {table} WHERE OLD.{column} IS NULL DO ALSO (SELECT 1; SELECT {text})`),
	exact("rule switch", `ALTER TABLE {rule.on} [[DISABLE|ENABLE|ENABLE ALWAYS]] RULE {rule}`),
	exact("rule rename", `ALTER RULE {rule} ON {rule.on} RENAME TO {new}`),
	exact("rule drop", `DROP RULE {rule} ON {rule.on}`),
	exact("create with tables", `CREATE TRIGGER {new} AFTER UPDATE ON {table} REFERENCING OLD TABLE AS "Old; t" NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION play.touch()`),
	exact("create of columns", `{table.silent}CREATE TRIGGER {new} AFTER UPDATE OF {column} ON {table} FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION play.touch()`),
	exact("create on truncate", `CREATE TRIGGER {new} AFTER TRUNCATE ON {table} EXECUTE FUNCTION play.touch()`),
	exact("rule writes", `CREATE RULE {new} AS ON INSERT TO {table} DO ALSO INSERT INTO play.loose (a, b) VALUES (2, 'by rule; too')`),
}

var access = []kind{
	exact("policy", `CREATE POLICY {new} ON {table} [[|AS RESTRICTIVE]] [[|FOR SELECT|FOR ALL]] TO {role} USING ({column} IS NOT NULL)`),
	exact("policy alter", `ALTER POLICY {policy} ON {policy.on} [[RENAME TO {new}|TO PUBLIC|USING (true)]]`),
	exact("policy drop", `DROP POLICY {policy} ON {policy.on}`),
	exact("grant", `GRANT [[SELECT|INSERT, UPDATE|ALL]] ON {anytable} TO {role}[[| WITH GRANT OPTION]]`),
	exact("grant columns", `{table.silent}GRANT SELECT ({column}), UPDATE ({column}) ON {table} TO {role}, PUBLIC`),
	exact("grant all", `GRANT [[SELECT ON ALL TABLES|EXECUTE ON ALL ROUTINES|USAGE ON ALL SEQUENCES]] IN SCHEMA {schema} TO {role}`),
	exact("grant others", `GRANT [[USAGE ON SCHEMA {schema}|USAGE ON SEQUENCE {sequence}|EXECUTE ON FUNCTION {function}|USAGE ON TYPE {anytype}]] TO {role}`),
	exact("revoke", `REVOKE [[SELECT|ALL|UPDATE]] ON {anytable} FROM {role} CASCADE`),
	exact("revoke from all", `REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC`),
	exact("default privileges", `ALTER DEFAULT PRIVILEGES [[|FOR ROLE evolve_alice]] [[|IN SCHEMA play]] [[GRANT SELECT ON TABLES TO|REVOKE SELECT ON TABLES FROM]] {role}`),
	exact("revoke columns", `{table.silent}REVOKE SELECT ({column}) ON {table} FROM {role}`),
	exact("default privileges of others", `ALTER DEFAULT PRIVILEGES [[|IN SCHEMA play]] [[GRANT USAGE ON SEQUENCES TO|REVOKE USAGE ON SEQUENCES FROM]] {role}`),
	solo("default privileges of members", `ALTER DEFAULT PRIVILEGES [[|IN SCHEMA play]] [[GRANT EXECUTE ON FUNCTIONS TO|GRANT USAGE ON TYPES TO]] {role}`),
	solo("drop owned", `DROP OWNED BY evolve_bob CASCADE`),
}

var comments = []kind{
	exact("table", `COMMENT ON TABLE {table} IS [[{text}|NULL]]`),
	exact("column", `COMMENT ON COLUMN {table}.{column} IS {text}`),
	exact("constraint", `COMMENT ON CONSTRAINT {constraint} ON {constraint.on} IS {text}`),
	exact("others", `COMMENT ON [[INDEX {index}|VIEW {view}|SEQUENCE {sequence}|TYPE {anytype}|FUNCTION {function}|SCHEMA {schema}|TRIGGER {trigger} ON {trigger.on}|POLICY {policy} ON {policy.on}|EXTENSION {extension}]] IS {text}`),
	exact("more", `COMMENT ON [[DOMAIN {domain}|MATERIALIZED VIEW {matview}|PROCEDURE {procedure}|AGGREGATE {aggregate}|STATISTICS {statistics}|RULE {rule} ON {rule.on}|SERVER {server}|FOREIGN TABLE {foreigntable}|CONSTRAINT {constrained.on} ON DOMAIN {constrained}]] IS {text}`),
}

var schemas = []kind{
	exact("create", `CREATE SCHEMA [[|IF NOT EXISTS ]]extra{n} [[|AUTHORIZATION {role}]]`),
	exact("create with elements", `CREATE SCHEMA extra{n} [[|AUTHORIZATION evolve_alice]] CREATE TABLE one (id int PRIMARY KEY, b text DEFAULT 'x; y') CREATE VIEW two AS SELECT b FROM one CREATE INDEX three ON one (b) CREATE SEQUENCE four GRANT SELECT ON one TO evolve_bob`),
	exact("rename", `ALTER SCHEMA {extraschema} RENAME TO extra{n}_r`),
	exact("owner", `ALTER SCHEMA {extraschema} OWNER TO {role}`),
	solo("drop", `DROP SCHEMA {extraschema}[[| CASCADE]]`),
	exact("by its owner", `CREATE SCHEMA [[|IF NOT EXISTS ]]AUTHORIZATION evolve_bob`),
}

var extensionKinds = []kind{
	exact("create", `CREATE EXTENSION [[|IF NOT EXISTS ]]{contrib} SCHEMA {schema}`),
	exact("create and use", `CREATE EXTENSION hstore SCHEMA play;;CREATE TABLE {at}{new} (id int PRIMARY KEY, h play.hstore);;INSERT INTO {at}{new} VALUES (1, 'a=>1'), (2, NULL)`),
	exact("cascade", `CREATE EXTENSION earthdistance SCHEMA public CASCADE`),
	solo("set schema", `ALTER EXTENSION {extension} SET SCHEMA {schema}`),
	exact("update", `ALTER EXTENSION {extension} UPDATE`),
	solo("add member", `ALTER EXTENSION {extension} ADD FUNCTION {function}`),
	solo("drop", `DROP EXTENSION {extension}[[| CASCADE]]`),
	exact("old version", `CREATE EXTENSION pg_trgm VERSION '1.3' SCHEMA {schema};;ALTER EXTENSION pg_trgm UPDATE`),
	exact("add and drop member", `CREATE FUNCTION {at}{new}() RETURNS int LANGUAGE sql AS 'SELECT 1';;ALTER EXTENSION {extension} ADD FUNCTION {at}{new}();;ALTER EXTENSION {extension} DROP FUNCTION {at}{new}()`),
}

var foreign = []kind{
	exact("wrapper", `CREATE FOREIGN DATA WRAPPER fdw_{n};;CREATE SERVER server_{n} FOREIGN DATA WRAPPER fdw_{n} OPTIONS (host 'a; b');;CREATE USER MAPPING FOR PUBLIC SERVER server_{n}`),
	exact("table", `CREATE FOREIGN TABLE {at}{new} (id int OPTIONS (name 'x; y'), b text) SERVER {server} OPTIONS (t 'u')`),
	exact("alter", `ALTER FOREIGN TABLE {foreigntable} ADD {new} int`),
	exact("server", `ALTER SERVER {server} OPTIONS (ADD o{n} 'v')`),
	solo("drop", `DROP SERVER {server} CASCADE`),
	exact("user mapping", `CREATE USER MAPPING FOR {role} SERVER {server}[[|;;DROP USER MAPPING FOR {role} SERVER {server}]]`),
	exact("drop table", `DROP FOREIGN TABLE {foreigntable}`),
	exact("grant", `GRANT USAGE ON FOREIGN SERVER {server} TO {role}`),
}

// A publication of deletes would want a replica identity of every table.
var publications = []kind{
	exact("create", `CREATE PUBLICATION {new} [[FOR TABLE {table} |FOR TABLES IN SCHEMA {schema} |]]WITH (publish = 'insert')`),
	exact("alter", `ALTER PUBLICATION {publication} [[ADD TABLE {anytable}|SET TABLE {table}|SET (publish = 'insert, truncate')|RENAME TO {new}]]`),
	exact("drop", `DROP PUBLICATION {publication}`),
}

// inexactKinds change rows in ways that the stream does not carry.
var inexactKinds = []kind{
	inexact("volatile default", `ALTER TABLE {table} ADD {new} {type} DEFAULT {volatile}`),
	inexact("serial column", `ALTER TABLE {table} ADD {new} [[serial|bigserial|int GENERATED ALWAYS AS IDENTITY]]`),
	inexact("volatile using", `ALTER TABLE {intcolumn.on} ALTER {intcolumn} TYPE bigint USING (random() * 100)::bigint`),
	inexact("new column beside a new default", `ALTER TABLE {table} ADD {new} int DEFAULT 1, ALTER {textcol} SET DEFAULT {text}`),
	inexact("logged", `ALTER TABLE {unlogged} SET LOGGED`),
}
