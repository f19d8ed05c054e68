-- ddl_word is the name that a token stands for, as the server folds it; NULL if it is no name.
CREATE FUNCTION tidemark.ddl_word(kind text, raw text) RETURNS text LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT CASE kind WHEN 'w' THEN lower(raw COLLATE "C") WHEN 'q' THEN replace(substr(raw, 2, length(raw) - 2), '""', '"') END
$tidemark$;

-- ddl_relations finds relations by what a statement calls them under a search_path; NULL stands for one that isn't there.
CREATE FUNCTION tidemark.ddl_relations(names text[], path text) RETURNS oid[] LANGUAGE plpgsql AS $tidemark$
DECLARE
  found_ones pg_catalog.oid[];
BEGIN
  -- Under the user's search_path nothing may run that it could find elsewhere: this is not the user's role.
  PERFORM set_config('search_path', path, true);
  SELECT pg_catalog.array_agg(pg_catalog.to_regclass(n.name)::pg_catalog.oid ORDER BY n.i) INTO found_ones FROM pg_catalog.unnest(names) WITH ORDINALITY AS n(name, i);
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  RETURN found_ones;
END
$tidemark$;

-- ddl_xids are the ids of this transaction and its savepoints: what they wrote, and nobody else, has them as xmin.
CREATE FUNCTION tidemark.ddl_xids() RETURNS SETOF xid LANGUAGE sql STABLE AS $tidemark$
SELECT l.transactionid FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.locktype = 'transactionid' AND l.granted
$tidemark$;

-- ddl_without takes the first unquoted occurrence of a word out of a statement, with the space before it.
CREATE FUNCTION tidemark.ddl_without(statement text, word text, conforming boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $tidemark$
BEGIN
  RETURN (SELECT coalesce((SELECT rtrim(left(statement, t.pos - 1)) || substr(statement, t.pos + t.len)
  FROM tidemark.ddl_tokens(statement, conforming) t WHERE t.kind = 'w' AND upper(t.raw COLLATE "C") = word ORDER BY t.pos LIMIT 1), statement));
END
$tidemark$;

-- ddl_redact puts 'redacted' in place of the values of options that hold secrets: every option of a user mapping
-- but the user's name, elsewhere those with telling names. Base snapshots do the same.
CREATE FUNCTION tidemark.ddl_redact(statement text, tag text, conforming boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $tidemark$
DECLARE
  t record;
  option text := '';
  result text := '';
  at int := 1;
BEGIN
  FOR t IN SELECT * FROM tidemark.ddl_tokens(statement, conforming) LOOP
    CONTINUE WHEN t.kind = 'w' AND upper(t.raw COLLATE "C") IN ('E', 'U', 'N'); -- of E'...'
    IF t.kind IN ('w', 'q') THEN
      option := tidemark.ddl_word(t.kind, t.raw);
    ELSIF t.kind IN ('s', 'd') AND option <> '' THEN
      IF tag LIKE '%USER MAPPING' AND option NOT IN ('user', 'username', 'password_required')
        OR option ~* 'passw|passphrase|secret|token|credential|(private|access|api)[_ -]?key|passfile|^sslkey$' AND option <> 'password_required' THEN
        -- With the letter of E'' in front the constant is still one.
        result := result || substr(statement, at, t.pos - at) || '''redacted''';
        at := t.pos + t.len;
      END IF;
      -- A doubled quote makes two tokens of one constant: the name stays for what follows at once.
    ELSIF t.kind <> 'o' THEN
      option := '';
    END IF;
  END LOOP;
  RETURN result || substr(statement, at);
END
$tidemark$;

-- ddl_firing is ddl_split for those statements of a string that make event triggers fire.
CREATE FUNCTION tidemark.ddl_firing(q text, conforming boolean, OUT starts int[], OUT lens int[], OUT heads text[], OUT complete boolean) LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT array_agg(u.s ORDER BY u.n), array_agg(u.l ORDER BY u.n), array_agg(u.h ORDER BY u.n),
  -- DISCARD may have emptied the memory that statements are counted in, and those that ran while event_triggers was off are not in it.
  bool_and(d.complete) AND (count(*) < 2 OR 'DISCARD' <> ALL (SELECT split_part(x, ' ', 1) FROM unnest(min(d.heads)) x)
    AND q !~* '\m(re)?set(_config)?\W+((local|session)\W+)?event_triggers\M')
FROM tidemark.ddl_split(q, conforming) d, unnest(d.starts, d.lens, d.heads) WITH ORDINALITY AS u(s, l, h, n) WHERE tidemark.ddl_fires(u.h)
$tidemark$;

-- ddl_pick returns the n-th of the statements of a string that make event triggers fire, n from 1, if it fits
-- the command tag, and how many fire (NULL: the string can't be read). Each statement of a long string comes by here: the string
-- is cut once, and what is kept of all its pieces is read once for 64 of them, which are kept apart.
CREATE FUNCTION tidemark.ddl_pick(q text, conforming boolean, n int, tag text, OUT statement text, OUT firing int) LANGUAGE plpgsql AS $tidemark$
DECLARE
  few int := 64;
  before int := (n - 1) / few * few;
  key text := md5(q) || conforming::text || ' ';
  kept text := tidemark.ddl_recall('pieces'); -- key, how many come before them, how many fire, and the pieces
  list text[];
  piece text[];                               -- start, length and the words of the head
BEGIN
  IF NOT starts_with(kept, key || before || ' ') THEN
    kept := tidemark.ddl_recall('split');     -- key, how many fire, and all pieces
    IF NOT starts_with(kept, key) THEN
      SELECT key || array_length(f.starts, 1) || ' ' || (SELECT string_agg(concat_ws(',', u.s, u.l, replace(u.h, ' ', ',')), ' ' ORDER BY u.i)
        FROM unnest(f.starts, f.lens, f.heads) WITH ORDINALITY AS u(s, l, h, i))
      INTO kept FROM tidemark.ddl_firing(q, conforming) f WHERE f.complete;
      IF kept IS NULL THEN
        RETURN;
      END IF;
      IF split_part(kept, ' ', 2)::int > 10 THEN
        PERFORM tidemark.ddl_remember('split', kept);
      END IF;
    END IF;
    list := string_to_array(kept, ' ');
    kept := key || concat_ws(' ', before, list[2], array_to_string(list[3 + before:2 + before + few], ' '));
    IF list[2]::int > 10 THEN
      PERFORM tidemark.ddl_remember('pieces', kept);
    END IF;
  END IF;
  list := string_to_array(kept, ' ');
  firing := list[3];
  piece := string_to_array(list[3 + n - before], ',');
  IF tidemark.ddl_fits(array_to_string(piece[3:], ' '), tag) THEN
    statement := substr(q, piece[1]::int, piece[2]::int);
  END IF;
END
$tidemark$;

-- ddl_names reports whether a statement names one of the objects that it is said to have changed. Names with quotes
-- in them are two tokens, long ones are cut at 63 bytes, and those with escapes (U&"") could be any.
CREATE FUNCTION tidemark.ddl_names(statement text, conforming boolean, names text[]) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $tidemark$
BEGIN
  RETURN (SELECT cardinality(names) = 0 OR statement ~* 'u&"'
  OR EXISTS (SELECT FROM tidemark.ddl_tokens(statement, conforming) t WHERE t.kind IN ('w', 'q') AND tidemark.ddl_word(t.kind, t.raw) = ANY (names))
  OR EXISTS (SELECT FROM unnest(names) n WHERE strpos(n, '"') > 0 AND strpos(statement, quote_ident(n)) > 0
    OR octet_length(n) > 59 AND (strpos(lower(statement COLLATE "C"), n) > 0 OR strpos(statement, n) > 0)));
END
$tidemark$;

-- ddl_statement returns the one statement that is running, '' if it can't be told apart. ending says that this is its
-- last event: the count goes on to the next statement of its string.
CREATE FUNCTION tidemark.ddl_statement(stack text, conforming boolean, tag text, names text[], ending boolean) RETURNS text LANGUAGE plpgsql AS $tidemark$
DECLARE
  q text;
  at int;
  n int;
  key bigint;
  memory bigint := 0;
  inner_memory jsonb;
  picked record;
  frame record;
BEGIN
  IF stack = '' THEN
    q := current_query();
    IF q IS NULL THEN
      RETURN '';
    END IF;
    at := strpos(q, ';');
    IF at = 0 OR ltrim(substr(q, at, 100), E'; \t\r\n') = '' AND ltrim(substr(q, at), E'; \t\r\n') = '' THEN
      n := 1; -- the only one
    ELSIF strpos(q, '\') > 0 AND q ~* 'standard_conforming_strings' THEN
      RETURN ''; -- the whole string was read before its SET ran
    ELSE
      key := hashtextextended(q || statement_timestamp()::text || pg_backend_pid()::text, 0) & 1099511627775; -- 40 bits
      BEGIN
        memory := currval('tidemark.ddl_memory');
      EXCEPTION WHEN object_not_in_prerequisite_state THEN
        memory := 0; -- not set in this session
      END;
      n := 1 + CASE WHEN memory >> 22 = key THEN memory & 4194303 ELSE 0 END;
      IF ending THEN
        PERFORM setval('tidemark.ddl_memory', greatest(key << 22 | least(n, 4194303), 1));
      END IF;
    END IF;
    IF octet_length(q) > 1048576 THEN
      RETURN '';
    END IF;
    picked := tidemark.ddl_pick(q, conforming, n, tag);
  ELSE
    frame := tidemark.ddl_frame(stack, conforming, tag);
    IF frame.query IS NULL OR octet_length(frame.query) > 1048576 THEN
      RETURN '';
    ELSIF frame.ordinal = 1 THEN
      RETURN frame.query;
    END IF;
    q := frame.query;
    -- EXECUTE of several statements: no rollback can come between them, so the count is kept in a setting, which a
    -- rollback of the whole takes back.
    inner_memory := coalesce(nullif(tidemark.ddl_recall('inner'), ''), '{}')::jsonb;
    n := 1 + coalesce((inner_memory ->> md5(stack))::int, 0);
    picked := tidemark.ddl_pick(q, conforming, n, tag);
    IF ending AND picked.firing > 1 THEN
      PERFORM tidemark.ddl_remember('inner', (CASE WHEN n = picked.firing THEN inner_memory - md5(stack)
        ELSE jsonb_set(inner_memory, ARRAY[md5(stack)], to_jsonb(n)) END)::text);
    END IF;
  END IF;
  -- DROP OWNED names roles, not what it drops.
  IF picked.statement IS NULL OR picked.firing > 1 AND tag <> 'DROP OWNED' AND NOT tidemark.ddl_names(picked.statement, conforming, names) THEN
    RETURN '';
  END IF;
  RETURN picked.statement;
END
$tidemark$;
