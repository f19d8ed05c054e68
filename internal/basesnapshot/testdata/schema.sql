-- A schema with one of nearly everything that a dump can hold.
CREATE ROLE "Odd ""Owner""" NOLOGIN;
CREATE ROLE reader NOLOGIN;
CREATE ROLE grp NOLOGIN;
CREATE ROLE member LOGIN PASSWORD 'role-secret' CONNECTION LIMIT 3 VALID UNTIL '2031-01-01';
CREATE ROLE unrelated;
GRANT grp TO member WITH ADMIN OPTION;
ALTER ROLE reader SET work_mem = '5MB';

COMMENT ON SCHEMA public IS 'nothing ''special''';
CREATE SCHEMA "Shop ""x""";
ALTER SCHEMA "Shop ""x""" OWNER TO "Odd ""Owner""";
GRANT USAGE ON SCHEMA "Shop ""x""" TO reader;
CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA public;

CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0) DEFAULT 1;
CREATE TYPE pair AS (a integer, b text);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk');

CREATE FUNCTION double_it(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT i * 2 /* ';' */ $$;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$;
CREATE PROCEDURE nothing(IN x text DEFAULT 'a;b') LANGUAGE sql AS $$ SELECT 1 $$;
ALTER FUNCTION double_it(integer) OWNER TO grp;
ALTER PROCEDURE nothing(text) OWNER TO grp;
CREATE FUNCTION add_state(s integer, v integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT coalesce(s, 0) + v $$;
CREATE AGGREGATE total(integer) (sfunc = add_state, stype = integer);
CREATE OPERATOR === (leftarg = integer, rightarg = integer, function = int4eq);
CREATE CAST (pair AS text) WITH INOUT;

CREATE TABLE item (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE german NOT NULL,
  mood mood DEFAULT 'happy',
  amount positive,
  twice integer GENERATED ALWAYS AS (amount * 2) STORED,
  extra pair,
  doc jsonb, raw bytea, at timestamptz DEFAULT now(), took interval, price money, span span, note text
);
CREATE INDEX item_name ON item (name) INCLUDE (amount);
CREATE UNIQUE INDEX item_upper ON item (upper(name), id);
ALTER TABLE item CLUSTER ON item_pkey;
CREATE TRIGGER touch BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch();
CREATE STATISTICS item_stats ON name, amount FROM item;
COMMENT ON COLUMN item.name IS 'its name';
GRANT SELECT ON item TO reader;
GRANT UPDATE (note) ON item TO reader;

CREATE TABLE serial_one (id serial PRIMARY KEY, item_id bigint REFERENCES item ON DELETE CASCADE, v integer DEFAULT double_it(4));
CREATE SEQUENCE shared START 100 INCREMENT 10;
CREATE TABLE uses_shared (n bigint DEFAULT nextval('shared'), m bigint DEFAULT nextval('shared'));
CREATE TABLE circle_a (id integer PRIMARY KEY, b integer);
CREATE TABLE circle_b (id integer PRIMARY KEY, a integer REFERENCES circle_a);
ALTER TABLE circle_a ADD FOREIGN KEY (b) REFERENCES circle_b DEFERRABLE;

CREATE TABLE "Shop ""x"""."Order's; DROP" ("Select" integer, "a ""b"" 'c'" text, "tab	tab" text, PRIMARY KEY ("Select"));
ALTER TABLE "Shop ""x"""."Order's; DROP" OWNER TO "Odd ""Owner""";
CREATE TABLE nothing_at_all ();
CREATE TABLE parent (id integer, v text);
CREATE TABLE child (w text) INHERITS (parent);
CREATE TABLE part (id integer, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_eu PARTITION OF part FOR VALUES IN ('eu');
CREATE TABLE part_us (v text, region text NOT NULL, id integer NOT NULL);
ALTER TABLE part ATTACH PARTITION part_us FOR VALUES IN ('us');
CREATE TABLE part_rest PARTITION OF part DEFAULT PARTITION BY HASH (id);
CREATE TABLE part_rest_0 PARTITION OF part_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE part_rest_1 PARTITION OF part_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE secured (who name, v text);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
ALTER TABLE secured FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON secured TO reader USING (who = current_user);
CREATE UNLOGGED TABLE scratch (id integer);
CREATE TABLE dropped_column (a integer, gone text, b text);
ALTER TABLE dropped_column DROP COLUMN gone;
CREATE TABLE identity_index (k text NOT NULL, v text);
CREATE UNIQUE INDEX identity_index_k ON identity_index (k);
ALTER TABLE identity_index REPLICA IDENTITY USING INDEX identity_index_k;
CREATE TABLE identity_full (a integer, b integer GENERATED ALWAYS AS (a + 1) STORED, c text);
ALTER TABLE identity_full REPLICA IDENTITY FULL;

CREATE VIEW cheap AS SELECT id, name FROM item WHERE amount < 10 WITH CHECK OPTION;
ALTER VIEW cheap OWNER TO grp;
CREATE MATERIALIZED VIEW counted AS SELECT mood, count(*) FROM item GROUP BY 1;
CREATE MATERIALIZED VIEW never AS SELECT 1 AS one WITH NO DATA;
CREATE INDEX counted_mood ON counted (mood);
CREATE RULE no_delete AS ON DELETE TO parent DO INSTEAD NOTHING;
CREATE TEXT SEARCH CONFIGURATION plain (COPY = pg_catalog.simple);
CREATE FUNCTION watch_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE CAST') EXECUTE FUNCTION watch_ddl();
COMMENT ON EVENT TRIGGER watch IS 'watches';
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader;

CREATE FOREIGN DATA WRAPPER wrap;
CREATE SERVER far FOREIGN DATA WRAPPER wrap OPTIONS (host 'db.example', api_key 'server-secret');
CREATE USER MAPPING FOR member SERVER far OPTIONS ("user" 'bob', password 'mapping-secret''s', weird E'back\\slash-secret');
CREATE FOREIGN TABLE far_table (id integer) SERVER far OPTIONS (token 'table-secret', name 'n');
CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 user=u password=''sub-secret x'' sslpassword=other-secret dbname=d' PUBLICATION p WITH (connect = false);
CREATE SUBSCRIPTION suburi CONNECTION 'postgresql://u:uri-secret@127.0.0.1:1/d?sslmode=disable' PUBLICATION p WITH (connect = false);
CREATE PUBLICATION "Pub lished" FOR TABLE item;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET "app.api_token" = %L', current_database(), 'setting-secret');
  EXECUTE format('ALTER DATABASE %I SET work_mem = %L', current_database(), '7MB');
  EXECUTE format('ALTER ROLE member IN DATABASE %I SET work_mem = %L', current_database(), '8MB'); 
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO reader', current_database()); END $$;

INSERT INTO item (name, mood, amount, extra, doc, raw, took, price, span) SELECT E'n\t\\' || i || chr(10) || 'é', (ARRAY['sad', 'it''s ok', NULL])[1 + i % 3]::mood, i,
  ROW(i, 'x"y')::pair, jsonb_build_object('i', i), decode(md5(i::text), 'hex'), make_interval(days => i, secs => 0.25), i::money, span(0.1 * i, i) FROM generate_series(1, 1000) i;
INSERT INTO serial_one (item_id) SELECT id FROM item WHERE id % 10 = 0;
INSERT INTO uses_shared SELECT FROM generate_series(1, 5);
INSERT INTO circle_a VALUES (1, NULL); INSERT INTO circle_b VALUES (1, 1); UPDATE circle_a SET b = 1;
INSERT INTO "Shop ""x"""."Order's; DROP" SELECT i, 'v' || i, NULL FROM generate_series(1, 50) i;
INSERT INTO nothing_at_all SELECT FROM generate_series(1, 7);
INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 10) i;
INSERT INTO child SELECT i, 'c', 'w' FROM generate_series(1, 20) i;
INSERT INTO part SELECT i, (ARRAY['eu', 'us', 'mars'])[1 + i % 3], 'v' || i FROM generate_series(1, 300) i;
INSERT INTO secured SELECT 'somebody', 'v' || i FROM generate_series(1, 30) i;
INSERT INTO scratch VALUES (1);
INSERT INTO dropped_column VALUES (1, 'b'), (2, '\N'), (3, NULL), (4, '\.');
INSERT INTO identity_index VALUES ('k', 'v');
INSERT INTO identity_full (a, c) VALUES (1, ''), (2, NULL);
CREATE TABLE toasted (id integer, v text, b bytea);
ALTER TABLE toasted ALTER v SET STORAGE EXTERNAL;
INSERT INTO toasted SELECT i, repeat(md5(i::text), 20000 * i), NULL FROM generate_series(1, 5) i;
SELECT setval('shared', 500, false);
REFRESH MATERIALIZED VIEW counted;
SELECT lo_create(0);
