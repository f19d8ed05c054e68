-- ddl_of_the_moment tells whether a string constant may be one of the words that date and time types replace by the time.
CREATE FUNCTION tidemark.ddl_of_the_moment(raw text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT coalesce(raw ~* '^''\s*(now|today|tomorrow|yesterday)\y', false)
$tidemark$;

-- ddl_repeatable tells whether a function gives the same again, with the settings that a message carries: immutable
-- ones, and those stable ones that depend on nothing but arguments and settings.
CREATE FUNCTION tidemark.ddl_repeatable(p pg_proc) RETURNS boolean LANGUAGE sql STABLE AS $tidemark$
SELECT p.provolatile = 'i' OR p.provolatile = 's' AND p.pronamespace = 'pg_catalog'::regnamespace AND (
  p.proname IN ('timestamptz', 'timestamp', 'date', 'time', 'timetz', 'text', 'to_char', 'to_date', 'to_timestamp', 'date_trunc', 'date_part', 'extract',
    'timezone', 'concat', 'concat_ws', 'format', 'to_json', 'to_jsonb', 'row_to_json', 'json_build_object', 'jsonb_build_object', 'json_build_array',
    'jsonb_build_array', 'array_to_json', 'array_to_string', 'string_to_array', 'quote_literal', 'quote_nullable', 'to_tsvector', 'to_tsquery',
    'plainto_tsquery', 'money', 'numeric', 'generate_series', 'isfinite', 'make_timestamptz')
  OR p.proname ~ '^(timestamp|timestamptz|date|interval|cash)_(eq|ne|lt|le|gt|ge|cmp|pl|mi|out|send)(_|$)')
$tidemark$;

-- ddl_tree_exact tells whether a stored expression (pg_node_tree) is made of nothing but what gives the same again.
CREATE FUNCTION tidemark.ddl_tree_exact(tree text) RETURNS boolean LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT NOT EXISTS (SELECT FROM regexp_matches(tree, '\{([A-Z]+)', 'g') m WHERE m[1] <> ALL (
    '{CONST,FUNCEXPR,NAMEDARGEXPR,OPEXPR,RELABELTYPE,BOOLEXPR,CASEEXPR,CASE,CASEWHEN,WHEN,CASETESTEXPR,NULLTEST,BOOLEANTEST,COALESCEEXPR,COALESCE,ARRAYEXPR,ARRAY,VAR,NULLIFEXPR,DISTINCTEXPR,SCALARARRAYOPEXPR,COLLATEEXPR,COLLATE,COERCEVIAIO,ARRAYCOERCEEXPR,ROWEXPR,ROW,MINMAXEXPR,MINMAX,COERCETODOMAIN,SUBSCRIPTINGREF}'))
  AND NOT EXISTS (SELECT FROM regexp_matches(tree, ':(?:funcid|opfuncid) ([0-9]+)', 'g') m
    WHERE NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = m[1]::oid AND tidemark.ddl_repeatable(p)))
  AND NOT EXISTS (SELECT FROM regexp_matches(tree, '\{COERCEVIAIO .*?:resulttype ([0-9]+)', 'g') m
    WHERE NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = m[1]::oid AND t.typnamespace = 'pg_catalog'::regnamespace AND t.typcategory IN ('S', 'N', 'B', 'U', 'I', 'V') AND t.typname !~ '^reg')));
END
$tidemark$;

-- ddl_text_exact tells the same of the expressions in a statement, which no catalog keeps (ALTER COLUMN TYPE ... USING): every
-- word before a parenthesis that is a function's name must be that of repeatable ones only, and so every word behind a point
-- (t.f is f(t)) and every operator, also those that words stand for. Other places where such characters stand, names and
-- constants, say nothing. A function's name that is not one plain token could be any.
CREATE FUNCTION tidemark.ddl_text_exact(statement text, conforming boolean) RETURNS boolean LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (WITH t AS (
  SELECT k.pos, k.kind, k.raw, tidemark.ddl_word(k.kind, k.raw) AS word, lead(k.kind) OVER o AS next, lag(k.kind) OVER o AS before, lag(k.raw) OVER o AS before_raw
  FROM tidemark.ddl_tokens(statement, conforming) k WINDOW o AS (ORDER BY k.pos)
), symbols AS ( -- an operator may be several tokens
  SELECT coalesce(string_agg(t.raw, '' ORDER BY t.pos) FILTER (WHERE t.kind = 'o'), '') AS written,
    coalesce(bool_or(t.kind = 'w' AND t.word IN ('in', 'between', 'like', 'ilike', 'similar', 'case', 'nullif', 'distinct')), false) AS in_words FROM t
)
SELECT NOT EXISTS (SELECT FROM t WHERE t.kind = 's' AND tidemark.ddl_of_the_moment(t.raw))
  AND NOT EXISTS (SELECT FROM t WHERE t.kind = 'w' AND t.word IN ('current_date', 'current_time', 'current_timestamp', 'localtime', 'localtimestamp',
    'current_user', 'session_user', 'current_role', 'user', 'system_user', 'current_catalog', 'current_schema', 'serial', 'bigserial', 'smallserial',
    'serial2', 'serial4', 'serial8', 'identity'))
  AND NOT EXISTS (SELECT FROM t JOIN pg_proc p ON p.proname = t.word WHERE t.next = '(' AND NOT tidemark.ddl_repeatable(p))
  AND NOT EXISTS (SELECT FROM t WHERE t.next = '(' AND (t.kind = 'q' AND (t.before = 'q' OR t.before = 'o' AND t.before_raw LIKE '%&') OR octet_length(t.word) > 62))
  AND NOT EXISTS (SELECT FROM t JOIN pg_proc p ON p.proname = t.word JOIN pg_type y ON y.oid = p.proargtypes[0]
    WHERE t.before = 'o' AND t.before_raw LIKE '%.' AND y.typtype IN ('c', 'd', 'p') AND NOT tidemark.ddl_repeatable(p))
  AND NOT EXISTS (SELECT FROM symbols s, pg_operator o JOIN pg_proc p ON p.oid = o.oprcode WHERE o.oid >= 16384 AND p.provolatile <> 'i'
    AND (strpos(s.written, o.oprname) > 0 OR s.in_words AND o.oprname IN ('=', '<>', '<', '<=', '>', '>=', '~', '!~', '~~', '!~~', '~~*', '!~~*')))
  AND NOT EXISTS (SELECT FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc WHERE c.oid >= 16384 AND p.provolatile <> 'i'));
END
$tidemark$;

-- ddl_empty tells whether a table certainly has no rows at all. A transaction that keeps its first snapshot may not see those that others
-- have written since, which a statement changes all the same.
CREATE FUNCTION tidemark.ddl_empty(relation oid) RETURNS boolean LANGUAGE plpgsql AS $tidemark$
DECLARE
  found_one boolean;
BEGIN
  EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s)', relation::regclass) INTO found_one;
  RETURN NOT found_one AND (current_setting('transaction_isolation') LIKE 'read %' OR pg_relation_size(relation) = 0);
END
$tidemark$;

-- ddl_new_columns_exact tells whether replaying a statement gives the same values to the columns that it added to a
-- table with rows: those that this transaction wrote and the statement names, and, where the table was not
-- rewritten (not stored), that have a value for the rows that were there.
CREATE FUNCTION tidemark.ddl_new_columns_exact(relation oid, statement text, conforming boolean, stored boolean) RETURNS boolean LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT coalesce(bool_and(a.attidentity = '' AND a.attgenerated <> '' OR a.attidentity = '' AND CASE
    WHEN d.adbin IS NOT NULL THEN tidemark.ddl_tree_exact(d.adbin::text)
    WHEN t.typdefaultbin IS NOT NULL THEN tidemark.ddl_tree_exact(t.typdefaultbin::text)
    ELSE tidemark.ddl_text_exact(statement, conforming) END), true) -- it may have had a default
  -- The default that gave the values may be another by now: ADD COLUMN c int DEFAULT f(), ALTER COLUMN c DROP DEFAULT.
  AND (count(*) = 0 OR statement !~* '(set|drop)\s+default' OR tidemark.ddl_text_exact(statement, conforming))
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND (stored OR a.attmissingval IS NOT NULL)
  AND a.xmin IN (SELECT tidemark.ddl_xids()) -- written by this transaction
  AND tidemark.ddl_names(statement, conforming, ARRAY[a.attname::text]));
END
$tidemark$;

-- ddl_defined has the text of everything in the catalog that constants of a statement may have gone into.
CREATE FUNCTION tidemark.ddl_defined(relations oid[]) RETURNS text LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT concat_ws(E'\n',
  (SELECT string_agg(pg_get_expr(d.adbin, d.adrelid), E'\n') FROM pg_attrdef d WHERE d.adrelid = ANY (relations)),
  (SELECT string_agg(pg_get_constraintdef(o.oid), E'\n') FROM pg_constraint o WHERE o.conrelid = ANY (relations) OR o.contypid = ANY (relations)),
  (SELECT string_agg(pg_get_indexdef(i.indexrelid), E'\n') FROM pg_index i WHERE i.indrelid = ANY (relations)),
  (SELECT string_agg(concat_ws(' ', pg_get_expr(c.relpartbound, c.oid), pg_get_viewdef(c.oid)), E'\n') FROM pg_class c WHERE c.oid = ANY (relations)),
  (SELECT string_agg(t.typdefault, E'\n') FROM pg_type t WHERE t.oid = ANY (relations))));
END
$tidemark$;

-- ddl_inexact says why replaying a statement would not give what the source has, and for which of its tables; NULL if it would.
-- rewritten has the tables that were rewritten, as oid:reason (AT_REWRITE_* in src/include/commands/event_trigger.h).
CREATE FUNCTION tidemark.ddl_inexact(statement text, tag text, conforming boolean, relations oid[], rewritten text, OUT reason text, OUT tables oid[])
LANGUAGE plpgsql AS $tidemark$
DECLARE
  r record;
  family oid[];
  why text;
  moments text[];
BEGIN
  tables := '{}';
  IF tag = 'ALTER TABLE' THEN
    FOR r IN SELECT c.oid, c.relpersistence, split_part(w, ':', 2)::int AS bits FROM regexp_split_to_table(rewritten, ' ') w JOIN pg_class c ON c.oid = split_part(w, ':', 1)::oid
      WHERE w <> '' AND c.relkind IN ('r', 'm') LOOP
      CONTINUE WHEN r.relpersistence <> 'p' OR tidemark.ddl_empty(r.oid);
      why := CASE
        WHEN r.bits & 1 <> 0 THEN 'its rows were never in the stream before SET LOGGED'
        WHEN r.bits & 2 <> 0 AND NOT tidemark.ddl_new_columns_exact(r.oid, statement, conforming, true) THEN 'a new column''s values are made by a default that gives others each time'
        WHEN r.bits & 4 <> 0 AND NOT tidemark.ddl_text_exact(statement, conforming) THEN 'a column''s values are changed by an expression that may give others each time' END;
      IF why IS NOT NULL THEN
        reason := why;
        tables := tables || r.oid;
      END IF;
    END LOOP;
  END IF;
  IF tag IN ('ALTER TABLE', 'ALTER FOREIGN TABLE') AND statement ~* '\yadd\y' THEN
    WITH RECURSIVE f AS (SELECT unnest(relations) AS oid UNION SELECT i.inhrelid FROM f JOIN pg_inherits i ON i.inhparent = f.oid)
    SELECT array_agg(f.oid) INTO family FROM f;
    FOR r IN SELECT c.oid FROM pg_class c WHERE c.oid = ANY (family) AND c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid <> ALL (tables) LOOP
      IF NOT tidemark.ddl_new_columns_exact(r.oid, statement, conforming, false) AND NOT tidemark.ddl_empty(r.oid) THEN
        reason := 'a new column''s values are made by a default that gives others at another time';
        tables := tables || r.oid;
      END IF;
    END LOOP;
  END IF;
  IF tag ~ ' (TABLE|VIEW|INDEX|DOMAIN|MATERIALIZED VIEW)$' THEN
    SELECT array_agg(t.raw) INTO moments FROM tidemark.ddl_tokens(statement, conforming) t WHERE t.kind = 's' AND tidemark.ddl_of_the_moment(t.raw);
    IF EXISTS (SELECT FROM unnest(moments) m WHERE strpos(tidemark.ddl_defined(relations), m) = 0) THEN
      reason := 'it holds a time that was fixed when it ran';
      tables := tables || relations;
    END IF;
  END IF;
  IF tag = 'CREATE TABLE' AND EXISTS (
    SELECT FROM (SELECT t.kind, t.raw, upper(lag(t.raw, 1) OVER o) AS before, upper(lag(t.raw, 3) OVER o) AS before_schema FROM tidemark.ddl_tokens(statement, conforming) t WINDOW o AS (ORDER BY t.pos)) w
    WHERE w.kind IN ('w', 'q') AND 'LIKE' IN (w.before, w.before_schema)
      AND EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = pg_my_temp_schema() AND c.relname = tidemark.ddl_word(w.kind, w.raw))) THEN
    reason := 'it is like a temporary table';
    tables := tables || relations;
  END IF;
END
$tidemark$;
