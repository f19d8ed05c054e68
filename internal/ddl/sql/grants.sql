-- ddl_acl has the privileges on an object: what the owner, everybody and each role may, with * what it may grant; what is default is called that.
CREATE FUNCTION tidemark.ddl_acl(class oid, object oid) RETURNS jsonb LANGUAGE plpgsql STABLE AS $tidemark$
#variable_conflict use_column
BEGIN
  RETURN (SELECT CASE WHEN g.list[1] = g.list[2] THEN '{"default": []}' ELSE g.list[1] END %RIGHTS% ddl_acl.class AND o.oid = ddl_acl.object);
END
$tidemark$;

-- ddl_granted makes of GRANT ... ON ALL TABLES IN SCHEMA one that names what it was about: another transaction may make more
-- there, and commit first. NULL: about nothing. Any other statement stays as it is, without objects. Each that a GRANT is about has
-- its row in the catalog written, whether or not it changes.
CREATE FUNCTION tidemark.ddl_granted(statement text, conforming boolean, OUT listed text, OUT about jsonb) LANGUAGE plpgsql STABLE AS $tidemark$
DECLARE
  t record;
  words text[] := '{}';  -- the last five
  kind text;
  began int;
  last_on int;
  behind int;            -- the token before
  ended int;
  schemas text[] := '{}';
BEGIN
  listed := statement;
  FOR t IN SELECT k.pos, k.len, k.kind, upper(k.raw COLLATE "C") AS word, tidemark.ddl_word(k.kind, k.raw) AS name FROM tidemark.ddl_tokens(statement, conforming) k ORDER BY k.pos LOOP
    IF kind IS NULL THEN
      IF t.kind = 'w' AND t.word = 'ON' THEN
        last_on := t.pos;
      END IF;
      words := (words || CASE WHEN t.kind = 'w' THEN t.word ELSE '' END)[greatest(cardinality(words) - 3, 1):];
      IF words[1:2] = '{ON,ALL}' AND words[4:5] = '{IN,SCHEMA}' AND words[3] IN ('TABLES', 'SEQUENCES', 'FUNCTIONS', 'PROCEDURES', 'ROUTINES') THEN
        kind := left(words[3], -1);
        began := last_on;
      END IF;
    ELSIF t.kind = 'w' AND t.word IN ('TO', 'FROM') THEN
      ended := t.pos;
      EXIT;
    ELSIF t.kind = 'q' AND t.pos = behind THEN -- a doubled quote
      schemas[cardinality(schemas)] := schemas[cardinality(schemas)] || '"' || t.name;
    ELSIF t.kind IN ('w', 'q') THEN
      schemas := schemas || t.name;
    END IF;
    behind := t.pos + t.len;
  END LOOP;
  IF ended IS NULL OR EXISTS (SELECT FROM unnest(schemas) s WHERE NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = s)) THEN
    RETURN;
  END IF;
  SELECT left(statement, began - 1) || 'ON ' || kind || ' ' || string_agg(x.identity, ', ' ORDER BY x.oid) || ' ' || substr(statement, ended),
    jsonb_agg(jsonb_strip_nulls(jsonb_build_object('type', x.type, 'schema', x.schema, 'name', x.name, 'identity', x.identity, 'oid', x.oid::bigint)) ORDER BY x.oid)
  INTO listed, about
  FROM (
    SELECT c.oid, n.nspname AS schema, c.relname AS name, i.type, i.identity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_identify_object('pg_class'::regclass, c.oid, 0) i
    WHERE n.nspname = ANY (schemas) AND (kind = 'TABLE' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') OR kind = 'SEQUENCE' AND c.relkind = 'S')
      AND c.xmin IN (SELECT tidemark.ddl_xids())
    UNION ALL
    SELECT p.oid, n.nspname, NULL, i.type, i.identity
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, pg_identify_object('pg_proc'::regclass, p.oid, 0) i
    WHERE n.nspname = ANY (schemas) AND (kind = 'ROUTINE' OR kind = 'PROCEDURE' AND p.prokind = 'p' OR kind = 'FUNCTION' AND p.prokind <> 'p')
      AND p.xmin IN (SELECT tidemark.ddl_xids())
  ) x;
END
$tidemark$;

-- ddl_takes_nothing tells whether a REVOKE (or GRANT) about columns had no effect: none of its tables' rows in the catalogs was written.
-- Then nothing keeps another session from dropping what it names, and from committing first. About whole tables their rows
-- are always written.
CREATE FUNCTION tidemark.ddl_takes_nothing(statement text, conforming boolean, path text) RETURNS boolean LANGUAGE plpgsql AS $tidemark$
DECLARE
  t record;
  columns boolean := false;
  depth int := 0;
  began int;
  names text[] := '{}';
  tables oid[];
BEGIN
  FOR t IN SELECT k.pos, k.len, k.kind, k.raw, upper(k.raw COLLATE "C") AS word FROM tidemark.ddl_tokens(statement, conforming) k ORDER BY k.pos LOOP
    depth := depth + CASE t.kind WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
    IF began IS NULL THEN
      columns := columns OR depth > 0;
      IF depth = 0 AND t.kind = 'w' AND t.word = 'ON' THEN
        began := t.pos + t.len;
      END IF;
    ELSIF t.kind = 'w' AND t.word = 'TABLE' AND names = '{}' AND btrim(substr(statement, began, t.pos - began), E' \t\r\n') = '' THEN
      began := t.pos + t.len;
    ELSIF t.kind = 'o' AND t.raw = ',' OR t.kind = 'w' AND t.word IN ('FROM', 'TO') THEN
      names := names || btrim(substr(statement, began, t.pos - began), E' \t\r\n');
      began := t.pos + t.len;
      EXIT WHEN t.kind = 'w';
    END IF;
  END LOOP;
  IF NOT columns OR names = '{}' THEN
    RETURN false;
  END IF;
  tables := tidemark.ddl_relations(names, path);
  RETURN array_position(tables, NULL) IS NULL AND NOT EXISTS (
    SELECT FROM (SELECT c.xmin FROM pg_class c WHERE c.oid = ANY (tables) UNION ALL SELECT a.xmin FROM pg_attribute a WHERE a.attrelid = ANY (tables)) x
    WHERE x.xmin IN (SELECT tidemark.ddl_xids()));
EXCEPTION WHEN syntax_error OR invalid_name OR feature_not_supported THEN
  RETURN false; -- not what to_regclass takes for a name
END
$tidemark$;
