-- ddl_options is a list of reloptions or FDW options as SQL, secrets redacted.
CREATE FUNCTION tidemark.ddl_options(options text[], prefix text, equals text) RETURNS text LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT string_agg(prefix || quote_ident(split_part(o, '=', 1)) || equals || quote_literal(CASE
    WHEN equals = ' ' AND split_part(o, '=', 1) ~* 'passw|passphrase|secret|token|credential|(private|access|api)[_ -]?key|^sslkey$' THEN 'redacted'
    ELSE substr(o, strpos(o, '=') + 1) END), ', ')
FROM unnest(options) o
$tidemark$;

-- ddl_create_table makes a CREATE TABLE or CREATE FOREIGN TABLE of what is in the catalog: enough for tables that CREATE
-- TABLE AS and IMPORT FOREIGN SCHEMA make.
CREATE FUNCTION tidemark.ddl_create_table(relation oid) RETURNS text LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT concat_ws(' ', 'CREATE', CASE WHEN c.relpersistence = 'u' THEN 'UNLOGGED' END, CASE WHEN c.relkind = 'f' THEN 'FOREIGN' END, 'TABLE',
  format('%I.%I (%s)', n.nspname, c.relname, (
    SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
      CASE WHEN a.attcompression = 'p' THEN 'COMPRESSION pglz' WHEN a.attcompression = 'l' THEN 'COMPRESSION lz4' END,
      'OPTIONS (' || tidemark.ddl_options(a.attfdwoptions, '', ' ') || ')',
      CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || (SELECT format('%I.%I', m.nspname, l.collname)
        FROM pg_collation l JOIN pg_namespace m ON m.oid = l.collnamespace WHERE l.oid = a.attcollation) END,
      CASE WHEN a.attgenerated = '' THEN 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)
        ELSE 'GENERATED ALWAYS AS (' || pg_get_expr(d.adbin, d.adrelid) || ') STORED' END,
      CASE WHEN a.attnotnull THEN 'NOT NULL' END), ', ' ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)),
  (SELECT 'SERVER ' || quote_ident(s.srvname) || coalesce(' OPTIONS (' || tidemark.ddl_options(f.ftoptions, '', ' ') || ')', '')
    FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid),
  (SELECT 'USING ' || quote_ident(m.amname) FROM pg_am m WHERE m.oid = c.relam),
  'WITH (' || nullif(concat_ws(', ', tidemark.ddl_options(c.reloptions, '', '='),
    (SELECT tidemark.ddl_options(o.reloptions, 'toast.', '=') FROM pg_class o WHERE o.oid = c.reltoastrelid)), '') || ')',
  (SELECT 'TABLESPACE ' || quote_ident(s.spcname) FROM pg_tablespace s WHERE s.oid = c.reltablespace))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation);
END
$tidemark$;

-- ddl_block runs several statements as one.
CREATE FUNCTION tidemark.ddl_block(statements text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT CASE WHEN cardinality(statements) = 1 THEN statements[1]
  ELSE 'DO ' || quote_literal('BEGIN ' || array_to_string(statements, '; ') || '; END') END
$tidemark$;

-- ddl_catalog_settings are those under which texts from the catalog mean what they say, and under no others.
CREATE FUNCTION tidemark.ddl_catalog_settings() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT '{"search_path": "pg_catalog, pg_temp", "standard_conforming_strings": "on"}'::jsonb
$tidemark$;

-- ddl_create_indexes makes indexes as they are in the catalog, with their comments and statistics targets. Their texts take a lock on
-- the table, which CREATE INDEX CONCURRENTLY has given back: who drops the table may have it, and wait for the index's row. A lock
-- asked for anew again and again never waits long enough to be the one that a deadlock ends: the other session, whose DROP
-- could only fail at that row, is.
CREATE FUNCTION tidemark.ddl_create_indexes(indexes oid[]) RETURNS text LANGUAGE plpgsql STABLE SET lock_timeout = '100ms' AS $tidemark$
DECLARE
  patience int := least(100, extract(epoch FROM current_setting('deadlock_timeout')::interval) * 500);
  since timestamptz := clock_timestamp();
BEGIN
  LOOP
    BEGIN
      -- No deadlock of two sessions lasts ten seconds: then somebody works on the table.
      PERFORM set_config('lock_timeout', CASE WHEN clock_timestamp() < since + interval '10 s' THEN greatest(patience, 1) ELSE 0 END::text, true);
      RETURN tidemark.ddl_block(ARRAY(
        SELECT s.text FROM unnest(indexes) i, LATERAL (VALUES (1, pg_get_indexdef(i)), (2, format('COMMENT ON INDEX %s IS ', i::regclass) || quote_literal(obj_description(i, 'pg_class'))),
          (3, (SELECT string_agg(format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', i::regclass, a.attnum, a.attstattarget), '; ' ORDER BY a.attnum)
            FROM pg_attribute a WHERE a.attrelid = i AND a.attstattarget >= 0))) s(n, text)
        WHERE s.text IS NOT NULL ORDER BY i, s.n));
    EXCEPTION WHEN lock_not_available THEN
      NULL;
    END;
  END LOOP;
END
$tidemark$;

-- ddl_name_index puts the name that the server chose into a CREATE INDEX without one. It had to differ from those that there were, and
-- a replay doesn't have them all: no message tells of an index that CREATE INDEX CONCURRENTLY left invalid.
CREATE FUNCTION tidemark.ddl_name_index(statement text, conforming boolean, name text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $tidemark$
BEGIN
  RETURN (SELECT coalesce((SELECT left(statement, t.pos - 1) || quote_ident(name) || ' ' || substr(statement, t.pos)
  FROM (SELECT k.pos, k.kind, k.raw, lag(k.kind) OVER o AS before, lag(k.raw) OVER o AS before_raw FROM tidemark.ddl_tokens(statement, conforming) k WINDOW o AS (ORDER BY k.pos)) t
  WHERE t.kind = 'w' AND upper(t.raw COLLATE "C") = 'ON' AND t.before = 'w' AND upper(t.before_raw COLLATE "C") = 'INDEX' ORDER BY t.pos LIMIT 1), statement));
END
$tidemark$;

-- ddl_name_constraint does the same for an ALTER TABLE that adds one constraint with an index, where the transaction has made no other of its kind.
CREATE FUNCTION tidemark.ddl_name_constraint(statement text, conforming boolean, relation oid) RETURNS text LANGUAGE plpgsql AS $tidemark$
DECLARE
  added record; -- where, of which kind, and how many
  made record;
BEGIN
  SELECT min(t.pos) AS pos, min(lower(left(t.word, 1))) AS kind, count(*) AS n INTO added
  FROM (SELECT k.pos, upper(k.raw COLLATE "C") AS word, k.kind, lag(k.kind) OVER o AS before, lag(upper(k.raw COLLATE "C")) OVER o AS before_word
    FROM tidemark.ddl_tokens(statement, conforming) k WINDOW o AS (ORDER BY k.pos)) t
  WHERE t.kind = 'w' AND t.word IN ('UNIQUE', 'PRIMARY', 'EXCLUDE') AND t.before = 'w' AND t.before_word = 'ADD';
  SELECT min(o.conname) AS name, count(*) AS n INTO made FROM pg_constraint o
  WHERE o.conrelid = relation AND o.contype = CASE added.kind WHEN 'e' THEN 'x' ELSE added.kind END AND o.xmin IN (SELECT tidemark.ddl_xids());
  IF added.n <> 1 OR made.n <> 1 THEN
    RETURN statement;
  END IF;
  RETURN left(statement, added.pos - 1) || 'CONSTRAINT ' || quote_ident(made.name) || ' ' || substr(statement, added.pos);
END
$tidemark$;

-- ddl_setting is a setting's value as SET takes it: a list as one constant for each name (variable_is_guc_list_quote in
-- src/bin/pg_dump/dumputils.c).
CREATE FUNCTION tidemark.ddl_setting(name text, value text) RETURNS text LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT CASE WHEN name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries', 'shared_preload_libraries', 'unix_socket_directories') THEN
  (SELECT string_agg(quote_literal(coalesce(replace(m[1], '""', '"'), CASE WHEN name IN ('search_path', 'temp_tablespaces') THEN lower(m[2] COLLATE "C") ELSE m[2] END)), ', ')
    FROM regexp_matches(value, '\s*(?:"((?:[^"]|"")*)"|([^\s,"]*))\s*(?:,|$)', 'g') m WHERE value = '' OR m[1] IS NOT NULL OR m[2] <> '')
  ELSE quote_literal(value) END
$tidemark$;

-- ddl_without_current puts the values that a routine has got into its SET ... FROM CURRENT.
CREATE FUNCTION tidemark.ddl_without_current(statement text, conforming boolean, routine oid) RETURNS text LANGUAGE plpgsql AS $tidemark$
DECLARE
  t record;
  name text;      -- what follows SET
  ended boolean := false; -- by FROM
  began int;
  value text;
  result text := '';
  at int := 1;
BEGIN
  FOR t IN SELECT k.kind, k.raw, k.pos, k.len, CASE WHEN k.kind = 'w' THEN upper(k.raw COLLATE "C") ELSE '' END AS word FROM tidemark.ddl_tokens(statement, conforming) k LOOP
    IF ended AND t.word = 'CURRENT' THEN
      SELECT tidemark.ddl_setting(lower(name), substr(c, strpos(c, '=') + 1)) INTO value
      FROM pg_proc p, unnest(p.proconfig) c WHERE p.oid = routine AND lower(split_part(c, '=', 1)) = lower(name);
      IF value IS NOT NULL THEN
        result := result || substr(statement, at, began - at) || 'TO ' || value;
        at := t.pos + t.len;
      END IF;
    END IF;
    ended := t.word = 'FROM' AND name <> '';
    began := t.pos;
    name := CASE WHEN t.word = 'SET' THEN '' WHEN ended THEN name WHEN t.kind IN ('w', 'q') THEN name || tidemark.ddl_word(t.kind, t.raw) WHEN t.raw = '.' THEN name || '.' END;
  END LOOP;
  RETURN result || substr(statement, at);
END
$tidemark$;

-- ddl_detach is DETACH PARTITION as DETACH PARTITION CONCURRENTLY does it, which leaves a CHECK constraint behind
-- where none says the same (DetachAddConstraintIfNeeded in src/backend/commands/tablecmds.c).
CREATE FUNCTION tidemark.ddl_detach(parent oid, statement text, conforming boolean, path text) RETURNS text LANGUAGE plpgsql AS $tidemark$
DECLARE
  child text;
  relation regclass;
BEGIN
  SELECT substr(statement, a.pos + a.len, b.pos - a.pos - a.len) INTO child
  FROM tidemark.ddl_tokens(statement, conforming) a, tidemark.ddl_tokens(statement, conforming) b
  WHERE a.kind = 'w' AND upper(a.raw) = 'PARTITION' AND b.kind = 'w' AND upper(b.raw) IN ('CONCURRENTLY', 'FINALIZE') AND b.pos > a.pos
  ORDER BY a.pos, b.pos DESC LIMIT 1;
  relation := (tidemark.ddl_relations(ARRAY[btrim(child, E' \t\r\n')], path))[1];
  IF relation IS NULL OR parent IS NULL THEN
    RETURN '';
  END IF;
  RETURN tidemark.ddl_block(ARRAY[format('ALTER TABLE %s DETACH PARTITION %s', parent::regclass, relation)] || ARRAY(
    SELECT format('IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = %L::pg_catalog.regclass AND conname = %L) THEN ALTER TABLE %s ADD CONSTRAINT %I %s; END IF',
      relation::text, o.conname, relation, o.conname, pg_get_constraintdef(o.oid))
    FROM pg_constraint o WHERE o.conrelid = relation AND o.contype = 'c' ORDER BY o.conname));
END
$tidemark$;

-- ddl_fixed_bound puts the bound that was evaluated into CREATE TABLE ... PARTITION OF ... FOR VALUES, where it is
-- made of more than constants (current_date, 'today').
CREATE FUNCTION tidemark.ddl_fixed_bound(statement text, conforming boolean, relation oid) RETURNS text LANGUAGE plpgsql AS $tidemark$
DECLARE
  t record;
  bound text;
  word text := '';
  began int;
  ended int;
  depth int := 0;
  constant boolean := true;
  groups int := 0;
BEGIN
  FOR t IN SELECT * FROM tidemark.ddl_tokens(statement, conforming) LOOP
    IF began IS NULL THEN
      IF word = 'FOR' AND t.kind = 'w' AND upper(t.raw) = 'VALUES' THEN
        began := ended;
      END IF;
      ended := t.pos; -- of the word before
      word := CASE WHEN t.kind = 'w' THEN upper(t.raw) ELSE '' END;
      CONTINUE;
    END IF;
    IF depth = 0 AND NOT (t.kind = '(' OR t.kind = 'w' AND upper(t.raw) IN ('FROM', 'TO', 'IN', 'WITH')) THEN
      EXIT;
    END IF;
    IF depth = 0 AND groups > 0 AND t.kind = 'w' AND upper(t.raw) = 'WITH' THEN
      EXIT; -- storage parameters
    END IF;
    depth := depth + CASE t.kind WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
    IF t.kind = ')' AND depth = 0 THEN
      groups := groups + 1;
    END IF;
    ended := t.pos + t.len;
    constant := constant AND NOT (t.kind = 's' AND tidemark.ddl_of_the_moment(t.raw))
      AND NOT (t.kind = 'w' AND upper(t.raw) NOT IN ('FROM', 'TO', 'IN', 'WITH', 'MINVALUE', 'MAXVALUE', 'NULL', 'TRUE', 'FALSE', 'MODULUS', 'REMAINDER'));
  END LOOP;
  IF began IS NULL OR constant THEN
    RETURN statement;
  END IF;
  -- It stands among constants of the user's.
  PERFORM set_config('standard_conforming_strings', CASE WHEN conforming THEN 'on' ELSE 'off' END, true);
  bound := (SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE c.oid = relation AND c.relispartition);
  PERFORM set_config('standard_conforming_strings', 'on', true);
  RETURN left(statement, began - 1) || bound || substr(statement, ended);
END
$tidemark$;

-- ddl_rewrite makes of a statement what can be replayed: in a transaction, without secrets, and not knowing when it ran.
CREATE FUNCTION tidemark.ddl_rewrite(statement text, tag text, conforming boolean, relation oid, path text) RETURNS text LANGUAGE plpgsql AS $tidemark$
DECLARE
  words text := ' ' || upper((tidemark.ddl_split(statement, conforming)).heads[1] COLLATE "C");
BEGIN
  CASE
  WHEN tag ~ '(USER MAPPING|SERVER|FOREIGN DATA WRAPPER|FOREIGN TABLE)$' THEN
    RETURN tidemark.ddl_redact(statement, tag, conforming);
  WHEN tag IN ('DROP INDEX', 'REFRESH MATERIALIZED VIEW') THEN
    RETURN tidemark.ddl_without(statement, 'CONCURRENTLY', conforming);
  WHEN tag = 'ALTER TABLE' AND words ~ ' DETACH PARTITION .*(CONCURRENTLY|FINALIZE) $' THEN
    RETURN tidemark.ddl_detach(relation, statement, conforming, path);
  WHEN tag = 'CREATE TABLE' AND words ~ ' VALUES ' THEN
    RETURN coalesce(tidemark.ddl_fixed_bound(statement, conforming, relation), '');
  ELSE
    RETURN statement;
  END CASE;
END
$tidemark$;
