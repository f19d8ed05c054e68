-- ddl_relation is the table, view or sequence that an object belongs to; 0 if none.
CREATE FUNCTION tidemark.ddl_relation(class oid, object oid) RETURNS oid LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT coalesce(CASE class
  WHEN 'pg_class'::regclass THEN (SELECT coalesce((SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = c.oid), c.oid) FROM pg_class c WHERE c.oid = object)
  WHEN 'pg_trigger'::regclass THEN (SELECT g.tgrelid FROM pg_trigger g WHERE g.oid = object)
  WHEN 'pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid = object)
  WHEN 'pg_policy'::regclass THEN (SELECT p.polrelid FROM pg_policy p WHERE p.oid = object)
  WHEN 'pg_constraint'::regclass THEN (SELECT o.conrelid FROM pg_constraint o WHERE o.oid = object)
  WHEN 'pg_attrdef'::regclass THEN (SELECT d.adrelid FROM pg_attrdef d WHERE d.oid = object)
  WHEN 'pg_statistic_ext'::regclass THEN (SELECT s.stxrelid FROM pg_statistic_ext s WHERE s.oid = object) END, 0));
END
$tidemark$;

-- ddl_name is an object's own name, unquoted; NULL where that is not enough to name it.
CREATE FUNCTION tidemark.ddl_name(class oid, object oid) RETURNS text LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT CASE class
  WHEN 'pg_class'::regclass THEN (SELECT c.relname FROM pg_class c WHERE c.oid = object)
  WHEN 'pg_type'::regclass THEN (SELECT t.typname FROM pg_type t WHERE t.oid = object)
  WHEN 'pg_namespace'::regclass THEN (SELECT n.nspname FROM pg_namespace n WHERE n.oid = object)
  WHEN 'pg_extension'::regclass THEN (SELECT e.extname FROM pg_extension e WHERE e.oid = object)
  WHEN 'pg_publication'::regclass THEN (SELECT p.pubname FROM pg_publication p WHERE p.oid = object)
  WHEN 'pg_publication_rel'::regclass THEN (SELECT p.pubname FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid WHERE r.oid = object)
  WHEN 'pg_publication_namespace'::regclass THEN (SELECT p.pubname FROM pg_publication p JOIN pg_publication_namespace r ON r.pnpubid = p.oid WHERE r.oid = object) --since 150000
  END::text);
END
$tidemark$;

-- ddl_objects are the objects that the running command made or changed, in order. A function over a temporary type goes
-- with that at the latest when the session ends, and no event trigger says so: it counts as temporary. So does an invalid index,
-- which no message has told of (see ddl_state) and no dump holds: a replay could not rename it.
CREATE FUNCTION tidemark.ddl_objects() RETURNS TABLE (n bigint, class oid, object oid, relation oid, type text, schema text, name text, identity text, temporary boolean, extension boolean, command text)
LANGUAGE plpgsql AS $tidemark$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT c.n, c.classid, c.objid, r.oid, c.object_type, coalesce(c.schema_name, m.nspname), tidemark.ddl_name(c.classid, c.objid), c.object_identity,
  coalesce(c.schema_name = 'pg_temp', false) OR coalesce((SELECT k.relpersistence = 't' FROM pg_class k WHERE k.oid = r.oid), false)
    OR c.classid = 'pg_proc'::regclass AND EXISTS (SELECT FROM pg_depend d JOIN pg_type t ON t.oid = d.refobjid
      WHERE d.classid = c.classid AND d.objid = c.objid AND d.refclassid = 'pg_type'::regclass AND t.typnamespace = pg_my_temp_schema())
    OR c.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indexrelid = c.objid AND x.relkind = 'i' AND NOT i.indisvalid), c.in_extension, c.command_tag
FROM pg_event_trigger_ddl_commands() WITH ORDINALITY AS c(classid, objid, objsubid, command_tag, object_type, schema_name, object_identity, in_extension, command, n)
CROSS JOIN LATERAL (SELECT tidemark.ddl_relation(c.classid, c.objid) AS oid) r
LEFT JOIN pg_class k ON k.oid = r.oid LEFT JOIN pg_namespace m ON m.oid = k.relnamespace;
END
$tidemark$;

-- ddl_dropped are the objects that the running command dropped and that a replay has to know.
CREATE FUNCTION tidemark.ddl_dropped() RETURNS TABLE (n bigint, object oid, class oid, original boolean, type text, schema text, name text, identity text, temporary boolean)
LANGUAGE plpgsql AS $tidemark$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT d.n, d.objid, d.classid, d.original, d.object_type, d.schema_name, d.address_names[array_upper(d.address_names, 1)], d.object_identity, d.is_temporary
FROM pg_event_trigger_dropped_objects() WITH ORDINALITY AS d(classid, objid, objsubid, original, normal, is_temporary, object_type, schema_name, object_name, object_identity, address_names, address_args, n)
WHERE d.original OR d.object_type IN ('table', 'foreign table', 'materialized view', 'view', 'sequence', 'table column', 'schema', 'extension');
END
$tidemark$;

-- ddl_drop makes a DROP of what was dropped and is not temporary.
CREATE FUNCTION tidemark.ddl_drop(originals jsonb, cascade boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT format('DROP %s %s%s', upper(min(o ->> 'type')), string_agg(o ->> 'identity', ', '), CASE WHEN cascade THEN ' CASCADE' ELSE '' END)
FROM jsonb_array_elements(originals) o
$tidemark$;

-- ddl_state has the fingerprints of relations and of those that inherit from them. Texts of views and rules lock what they
-- are about: it must not wait for long, nor hold such a lock, or the statements of two sessions would deadlock that otherwise didn't. A table with
-- an invalid index is left out: CREATE or DROP INDEX CONCURRENTLY is under way, or has failed, and has no message yet.
CREATE FUNCTION tidemark.ddl_state(relations oid[]) RETURNS jsonb LANGUAGE plpgsql STABLE SET lock_timeout = '100ms' AS $tidemark$
BEGIN
  RETURN (WITH RECURSIVE f AS (
  SELECT r AS oid FROM unnest(relations) r UNION SELECT i.inhrelid FROM f JOIN pg_inherits i ON i.inhparent = f.oid
), few AS (SELECT f.oid FROM f ORDER BY f.oid <> ALL (relations), f.oid DESC LIMIT 64)
SELECT jsonb_agg(jsonb_build_object('oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'fp', tidemark.ddl_fingerprint(c.oid)) ORDER BY c.oid)
FROM few JOIN pg_class c ON c.oid = few.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND x.relkind = 'i' AND NOT i.indisvalid));
END
$tidemark$;

-- ddl_emit writes a message in UTF-8, behind what authenticates it: any role may write logical messages. The transaction's
-- id keeps it from being written again by another; with those of the savepoints that it is in it tells which rows of the catalogs
-- the statement may have written. In an SQL_ASCII database whose bytes aren't, each byte is written as the character of
-- that number, and "bytes" says so.
CREATE FUNCTION tidemark.ddl_emit(message jsonb) RETURNS void LANGUAGE plpgsql AS $tidemark$
DECLARE
  content bytea;
BEGIN
  message := message || jsonb_build_object('xid', pg_current_xact_id()::text::numeric % 4294967296,
    'xids', (SELECT jsonb_agg(DISTINCT x.xid) FROM (
      SELECT w.xid::text::bigint AS xid FROM tidemark.ddl_xids() w(xid)
      UNION ALL SELECT e::text::bigint FROM jsonb_array_elements(coalesce(message -> 'xids', '[]')) e) x));
  IF getdatabaseencoding() = 'UTF8' THEN -- no savepoint then: many of them are slow where a transaction makes many tables
    content := textsend(message::text);
  ELSE
    BEGIN
      content := convert_to(message::text, 'UTF8');
    EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
      content := convert(textsend((message || '{"bytes": true}')::text), 'LATIN1', 'UTF8');
    END;
  END IF;
  PERFORM pg_logical_emit_message(true, 'tidemark', textsend('ddl:' || tidemark.ddl_mac(content) || ':') || content);
  -- Decoding places a message at its record's end. A row of the transaction around the trigger's subtransaction that
  -- began right there would be sent first: another record keeps them apart.
  PERFORM setval('tidemark.ddl_space', 1, false);
END
$tidemark$;

-- ddl_identity gives tables without a usable replica identity one: an UPDATE of theirs would fail under a publication for
-- all tables. A deferrable primary key is none. The statement is written like any other. No list: the tables that this
-- transaction has locked to change them, one of which has lost its key. Others may be in the middle of another session's
-- statement, as DROP INDEX CONCURRENTLY: theirs to mend, and not to be waited for. A GRANT takes no lock, and writes the
-- same row of pg_class: who waited for one fails (XX000, "tuple concurrently updated"), and does it again. So does who waited while the one
-- who granted came to wait for a lock of ours, until that one gives up: a table that was left without would be of no use.
CREATE FUNCTION tidemark.ddl_identity(relations oid[]) RETURNS void LANGUAGE plpgsql SET lock_timeout = '3s' AS $tidemark$
DECLARE
  r oid;
  attempt int;
BEGIN
  FOR r IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (c.oid = ANY (relations) OR relations IS NULL AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AND l.relation = c.oid AND l.mode IN ('AccessExclusiveLock', 'ShareUpdateExclusiveLock')))
    AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384 AND n.nspname <> 'tidemark'
    AND (c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
      OR c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid)) LOOP
    attempt := 1;
    LOOP
      BEGIN
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', r::regclass);
        EXIT;
      EXCEPTION WHEN internal_error OR deadlock_detected OR lock_not_available THEN
        IF attempt = 20 THEN
          RAISE;
        END IF;
        attempt := attempt + 1;
      END;
    END LOOP;
  END LOOP;
END
$tidemark$;

-- ddl_meet makes those wait for each other who end CREATE INDEX CONCURRENTLY, whose message has the index as the catalog has it, and who
-- change that index: before it is valid their statements have no message (see ddl_objects). Without, one that was not committed
-- when the catalog was read and began before the index was valid would be in no message. Returns why it can't tell.
CREATE FUNCTION tidemark.ddl_meet(tag text) RETURNS text LANGUAGE plpgsql SET lock_timeout = '500ms' AS $tidemark$
DECLARE
  reason text := 'another session changed the index that CREATE INDEX CONCURRENTLY made, at the same moment';
  fixed boolean := current_setting('transaction_isolation') NOT LIKE 'read %'; -- it reads the catalog as of a moment before the wait
  space int := hashtext('tidemark index');
  met boolean; -- others may have changed it since that moment
  o record;
BEGIN
  -- CREATE INDEX was CONCURRENTLY if an earlier transaction wrote the index's row.
  FOR o IN SELECT (x.oid::bigint - 2147483648)::int AS key FROM pg_event_trigger_ddl_commands() c JOIN pg_class x ON x.oid = c.objid JOIN pg_index i ON i.indexrelid = x.oid
    WHERE c.classid = 'pg_class'::regclass AND x.relkind = 'i' AND CASE tag WHEN 'CREATE INDEX' THEN x.xmin NOT IN (SELECT tidemark.ddl_xids()) ELSE NOT i.indisvalid END LOOP
    IF tag <> 'CREATE INDEX' THEN
      met := true;
      PERFORM pg_advisory_xact_lock_shared(space, o.key);
    ELSE
      met := NOT pg_try_advisory_xact_lock(space, o.key);
      IF met THEN
        PERFORM pg_advisory_xact_lock(space, o.key);
      END IF;
    END IF;
    IF met AND fixed THEN
      RETURN reason;
    END IF;
  END LOOP;
  RETURN NULL;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
  RETURN reason;
END
$tidemark$;

-- ddl_invalid are the indexes that CREATE INDEX CONCURRENTLY makes at the moment, or has left.
CREATE FUNCTION tidemark.ddl_invalid() RETURNS jsonb LANGUAGE plpgsql AS $tidemark$
BEGIN
  RETURN (SELECT jsonb_agg(jsonb_build_object('oid', i.indexrelid::bigint, 'table', i.indrelid::bigint, 'name', c.relname))
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid AND c.relkind = 'i');
END
$tidemark$;

-- ddl_revived are the indexes that were invalid before the command and that it has built: anew with its table, or another one in their place
-- for a column's new type. What others have built meanwhile is theirs.
CREATE FUNCTION tidemark.ddl_revived(tag text) RETURNS oid[] LANGUAGE plpgsql AS $tidemark$
DECLARE
  rewritten text := tidemark.ddl_recall('rewritten');
  invalid text := tidemark.ddl_recall('invalid');
BEGIN
  IF invalid = '' THEN
    RETURN '{}'; -- looking for the ids of a transaction with many locks takes long
  END IF;
  RETURN ARRAY(SELECT i.indexrelid FROM jsonb_to_recordset(invalid::jsonb) b(oid oid, "table" oid, name name)
    JOIN pg_index i ON i.indrelid = b."table" JOIN pg_class c ON c.oid = i.indexrelid AND c.relname = b.name
    WHERE i.indisvalid AND i.xmin IN (SELECT tidemark.ddl_xids())
      AND (i.indexrelid <> b.oid OR tag = 'REFRESH MATERIALIZED VIEW' OR strpos(' ' || rewritten, format(' %s:', b."table")) > 0)
    ORDER BY i.indexrelid);
END
$tidemark$;

-- ddl_emit_revived writes a message that makes such indexes, of which no message has told. Who may alter a table need not be one who may make an index.
CREATE FUNCTION tidemark.ddl_emit_revived(indexes oid[], account text, settings jsonb, state jsonb, snapshot text) RETURNS void LANGUAGE plpgsql AS $tidemark$
DECLARE
  made record;
  role text := account;
BEGIN
  SELECT jsonb_agg(jsonb_build_object('type', 'index', 'schema', n.nspname, 'name', c.relname, 'identity', format('%I.%I', n.nspname, c.relname), 'oid', c.oid::bigint) ORDER BY c.oid) AS objects,
    bool_and(has_schema_privilege(account, n.oid, 'CREATE')) AS allowed
  INTO made FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (indexes);
  IF NOT made.allowed THEN
    role := current_user;
  END IF;
  PERFORM tidemark.ddl_emit(jsonb_strip_nulls(jsonb_build_object('v', 1, 'tag', 'CREATE INDEX', 'sql', tidemark.ddl_create_indexes(indexes),
    'user', role, 'super', (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = role), 'set', settings || tidemark.ddl_catalog_settings(),
    'objects', made.objects, 'state', state, 'snapshot', snapshot, 'server_version', current_setting('server_version_num')::int)));
END
$tidemark$;

-- ddl_chosen are the names of indexes and sequences of these tables that the server chose differently from what a replay may choose. They end
-- with a number: the first choice was another's, which no message has told of. That one was not committed yet (from 15.18 on and in its
-- contemporaries the choice takes heed of such), or was an index that CREATE INDEX CONCURRENTLY had left invalid. A partition's index is known by
-- the one of the parent that it belongs to (parents come first), another of a new table by its place among those, a sequence by its column.
CREATE FUNCTION tidemark.ddl_chosen(tag text, relations oid[]) RETURNS jsonb LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (WITH RECURSIVE f AS (
  SELECT r AS oid FROM unnest(relations) r UNION SELECT h.inhrelid FROM f JOIN pg_inherits h ON h.inhparent = f.oid
), t AS (
  SELECT f.oid, format('%I.%I', n.nspname, c.relname) AS identity FROM f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
), chosen AS (
  SELECT t.identity, CASE WHEN h.inhparent IS NOT NULL THEN (SELECT format('%I.%I', n.nspname, p.relname) FROM pg_class p JOIN pg_namespace n ON n.oid = p.relnamespace WHERE p.oid = h.inhparent) END AS parent,
    CASE WHEN h.inhparent IS NULL THEN (SELECT count(*) FROM pg_index o WHERE o.indrelid = t.oid AND o.indexrelid <= i.indexrelid) END AS place,
    NULL AS attname, c.relname, i.xmin, CASE WHEN h.inhparent IS NULL THEN 0 ELSE (SELECT count(*) FROM pg_partition_ancestors(i.indexrelid)) END AS depth
  FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
  WHERE h.inhparent IS NOT NULL OR tag = 'CREATE TABLE' AND t.oid = ANY (relations)
  UNION ALL
  SELECT t.identity, NULL, NULL, a.attname, c.relname, s.xmin, 0
  FROM t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN pg_sequence s ON s.seqrelid = d.objid JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
  WHERE tag <> 'CREATE INDEX' AND t.oid = ANY (relations)
)
SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('table', x.identity, 'parent', x.parent, 'place', x.place, 'column', x.attname, 'name', x.relname)) ORDER BY x.depth, x.identity, x.relname)
FROM chosen x WHERE x.relname ~ '[0-9]$' AND x.xmin IN (SELECT tidemark.ddl_xids()));
END
$tidemark$;

-- ddl_message writes the message of the command that ends (ending) or has just dropped something.
CREATE FUNCTION tidemark.ddl_message(tag text, account text, settings jsonb, stack text, dropping boolean, ending boolean) RETURNS void LANGUAGE plpgsql AS $tidemark$
DECLARE
  conforming boolean := settings ->> 'standard_conforming_strings' = 'on';
  path text := replace(settings ->> 'search_path', '"$user"', quote_ident(account)); -- the user's, whoever looks
  objects jsonb := '[]';
  dropped jsonb := '[]';
  originals jsonb := '[]';
  relations oid[] := '{}';
  names text[] := '{}';
  anonymous int := 0;       -- objects without identity: those of GRANT and the like
  temporary int := 0;
  dependents int := 0;
  keyless boolean := false; -- a table may have lost its key
  main oid;                 -- the first relation
  state jsonb;
  unmet text := CASE WHEN ending AND tag IN ('CREATE INDEX', 'ALTER INDEX', 'ALTER TABLE', 'COMMENT') THEN tidemark.ddl_meet(tag) END; -- why the message may miss what another session did
  -- The texts of expressions come from caches: a server process hears what others have changed when it takes a lock on a table that it
  -- doesn't hold yet. This takes one, and gives it back.
  heard bigint := pg_relation_size('tidemark.ddl_space'::regclass);
  snapshot text := pg_current_snapshot()::text; -- taken before state and privileges are
  why text;
  touched oid[];
  script jsonb;             -- transaction ids
  caught text;
  statement text;
  made boolean := false;    -- the statement is the catalog's text, not the user's
  first_rows boolean := tag IN ('CREATE TABLE AS', 'SELECT INTO');
  revived oid[] := tidemark.ddl_revived(tag); -- state then holds after the message that makes these
  o record;
BEGIN
  FOR o IN SELECT * FROM tidemark.ddl_objects() x ORDER BY x.n LOOP
    CONTINUE WHEN o.schema = 'tidemark' OR o.type = 'schema' AND o.name = 'tidemark';
    CONTINUE WHEN o.type IN ('publication', 'publication relation', 'publication namespace') AND o.name = tidemark.ddl_publication();
    IF o.temporary THEN
      temporary := temporary + 1;
    ELSIF o.identity IS NULL THEN
      anonymous := anonymous + 1;
    ELSE
      objects := objects || jsonb_strip_nulls(jsonb_build_object('type', o.type, 'schema', o.schema, 'name', o.name, 'identity', o.identity,
        'oid', o.object::bigint, 'ext', nullif(o.extension, false),
        'acl', CASE WHEN o.command ~ '^(CREATE|SELECT INTO)' AND NOT o.extension THEN tidemark.ddl_acl(o.class, o.object) END));
      IF o.relation <> 0 AND o.relation <> ALL (relations) THEN
        relations := relations || o.relation;
      END IF;
      IF o.name IS NOT NULL AND o.type NOT IN ('index', 'sequence') THEN
        names := names || o.name;
      END IF;
      IF o.class = 'pg_type'::regclass THEN
        touched := touched || o.object;
      END IF;
    END IF;
  END LOOP;
  IF dropping THEN
    keyless := EXISTS (SELECT FROM pg_event_trigger_dropped_objects() d WHERE d.object_type IN ('index', 'table constraint', 'table column'));
    FOR o IN SELECT * FROM tidemark.ddl_dropped() x ORDER BY x.n LOOP
      CONTINUE WHEN o.schema = 'tidemark';
      CONTINUE WHEN o.type LIKE 'publication%' AND split_part(o.identity, ' in publication ', 2) = quote_ident(tidemark.ddl_publication())
        OR o.type = 'publication' AND o.name = tidemark.ddl_publication();
      IF o.temporary OR o.schema = 'pg_temp' OR o.type IN ('rule', 'trigger', 'policy', 'table constraint') AND o.identity ~ ' on pg_temp\.' THEN
        temporary := temporary + 1;
        CONTINUE;
      END IF;
      dropped := dropped || jsonb_strip_nulls(jsonb_build_object('type', o.type, 'schema', o.schema, 'name', o.name, 'identity', o.identity, 'oid', o.object::bigint));
      IF o.original THEN
        originals := originals || jsonb_build_object('type', o.type, 'identity', o.identity);
        IF o.class = 'pg_class'::regclass AND o.type <> 'table column' THEN
          names := names || o.name;
        END IF;
      ELSE
        dependents := dependents + 1;
      END IF;
    END LOOP;
  END IF;
  main := relations[1];
  statement := tidemark.ddl_statement(stack, conforming, tag, names, ending);
  -- Texts in the stack are not escaped: a name with a quote and a line feed in it could make one seem to end there.
  IF stack <> '' AND strpos(objects::text || dropped::text, '"\n') > 0 THEN
    statement := '';
  END IF;
  IF objects = '[]' AND dropped = '[]' AND anonymous = 0 AND unmet IS NULL AND tag <> 'DROP OWNED' OR tag ~ 'SUBSCRIPTION$|^REINDEX$' THEN
    RETURN; -- temporary things only, or nothing was done (IF EXISTS)
  END IF;
  IF anonymous > 0 AND tag IN ('GRANT', 'REVOKE') AND statement <> ''
    AND (tidemark.ddl_on_temporary(statement, conforming) OR tidemark.ddl_takes_nothing(statement, conforming, path)) THEN
    RETURN;
  END IF;
  IF anonymous > 0 AND tag IN ('GRANT', 'REVOKE') AND statement <> '' THEN
    SELECT g.listed, coalesce(g.about, objects) INTO statement, objects FROM tidemark.ddl_granted(statement, conforming) g;
    IF statement IS NULL THEN
      RETURN;
    END IF;
  END IF;

  IF first_rows THEN
    statement := tidemark.ddl_create_table(main);
  ELSIF tag = 'IMPORT FOREIGN SCHEMA' THEN
    statement := tidemark.ddl_block(ARRAY(SELECT tidemark.ddl_create_table(r) FROM unnest(relations) WITH ORDINALITY u(r, n) ORDER BY n));
  ELSIF tag = 'CREATE INDEX' AND tidemark.ddl_without(statement, 'CONCURRENTLY', conforming) <> statement THEN
    -- It was there to be given another name, a comment or parameters before it became valid.
    statement := tidemark.ddl_create_indexes(ARRAY(SELECT (x ->> 'oid')::oid FROM jsonb_array_elements(objects) x WHERE x ->> 'type' = 'index'));
    made := true;
  ELSIF tag = 'CREATE INDEX' AND statement <> '' THEN
    statement := tidemark.ddl_name_index(statement, conforming, (SELECT x ->> 'name' FROM jsonb_array_elements(objects) x WHERE x ->> 'type' = 'index' LIMIT 1));
  ELSIF tag ~ '^(CREATE|ALTER) (FUNCTION|PROCEDURE|ROUTINE)$' AND statement ~* '\mfrom\M.*\mcurrent\M' THEN
    statement := tidemark.ddl_without_current(statement, conforming, (objects -> 0 ->> 'oid')::oid);
  ELSIF temporary > 0 AND objects = '[]' AND originals <> '[]' THEN
    statement := tidemark.ddl_drop(originals, dependents > 0);
  ELSIF tag = 'ALTER TABLE' AND statement ~* '\madd\M.*\m(unique|primary|exclude)\M' THEN
    statement := tidemark.ddl_name_constraint(statement, conforming, main);
  ELSIF statement <> '' THEN
    statement := tidemark.ddl_rewrite(statement, tag, conforming, main, path);
    made := tag = 'ALTER TABLE' AND statement LIKE 'DO %'; -- by ddl_detach
  END IF;
  IF made OR first_rows OR tag = 'IMPORT FOREIGN SCHEMA' THEN
    settings := settings || tidemark.ddl_catalog_settings();
  END IF;
  IF coalesce(statement, '') = '' THEN
    why := 'the statement could not be told apart from what it ran in';
    touched := relations;
  ELSIF NOT first_rows THEN
    SELECT i.reason, i.tables INTO why, touched
    FROM tidemark.ddl_inexact(statement, tag, conforming, relations || touched, tidemark.ddl_recall('rewritten')) i;
  END IF;
  IF unmet IS NOT NULL THEN
    why := unmet;
    touched := relations || touched;
  END IF;
  IF tag = 'CREATE EXTENSION' OR tag = 'ALTER EXTENSION' AND upper(statement) ~ '\yUPDATE\y' THEN
    SELECT objects || coalesce(jsonb_agg(jsonb_build_object('type', CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, 'schema', n.nspname, 'name', c.relname,
      'identity', c.oid::regclass::text, 'oid', c.oid::bigint, 'ext', true) ORDER BY c.oid), '[]'), coalesce(bool_or(c.relkind <> 'S'), false),
      relations || array_agg(c.oid)
    INTO objects, first_rows, relations
    FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND c.relkind IN ('r', 'p', 'S')
      AND d.refobjid IN (SELECT (x ->> 'oid')::oid FROM jsonb_array_elements(objects) x WHERE x ->> 'type' = 'extension');
  END IF;
  IF tag = 'ALTER EXTENSION' AND first_rows AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'
    AND l.relation = ANY (relations)) THEN
    why := 'its script may have written rows';
    touched := relations;
  END IF;
  IF tag ~ 'EXTENSION$' THEN -- its script may have had savepoints
    SELECT jsonb_agg(DISTINCT x.xmin::text::bigint) INTO script
    FROM (SELECT d.objid, p.xmin FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      UNION ALL SELECT d.objid, t.xmin FROM pg_depend d JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      UNION ALL SELECT d.objid, t.xmin FROM pg_depend d JOIN pg_type t ON d.classid = 'pg_class'::regclass AND t.typrelid = d.objid WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') x
    WHERE age(x.xmin) <= age(pg_current_xact_id()::xid);
  ELSE
    BEGIN
      -- As an error it comes out of its savepoint without the locks of that, which would be held until the transaction's end.
      RAISE EXCEPTION USING ERRCODE = 'TSTAT', MESSAGE = 'state', DETAIL = coalesce(tidemark.ddl_state(relations || ARRAY(SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = ANY (revived)))::text, '');
    EXCEPTION WHEN SQLSTATE 'TSTAT' THEN
      GET STACKED DIAGNOSTICS caught = PG_EXCEPTION_DETAIL;
      state := nullif(caught, '')::jsonb;
    WHEN lock_not_available OR deadlock_detected THEN
      state := NULL; -- the replay compares nothing
    END;
  END IF;
  PERFORM tidemark.ddl_emit(jsonb_strip_nulls(jsonb_build_object('v', 1, 'tag', tag, 'sql', nullif(statement, ''), 'user', account,
    'super', (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = account), 'set', settings,
    'objects', nullif(objects, '[]'), 'dropped', nullif(dropped, '[]'), 'rows_first', nullif(first_rows, false), 'inexact', why,
    'tables', (SELECT jsonb_agg(CASE WHEN n.nspname ~ '[."]' THEN quote_ident(n.nspname) ELSE n.nspname END || '.' ||
      CASE WHEN c.relname ~ '[."]' THEN quote_ident(c.relname) ELSE c.relname END ORDER BY n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE why IS NOT NULL AND c.oid = ANY (touched) AND c.relkind IN ('r', 'p', 'f', 'm')),
    'copied', CASE WHEN tag = 'CREATE TABLE' AND statement ~* '\mlike\M' AND statement ~* '\mincluding\M' THEN tidemark.ddl_copied(
      (SELECT (x ->> 'oid')::oid FROM jsonb_array_elements(objects) x WHERE x ->> 'type' = 'table' LIMIT 1)) END,
    'chosen', CASE WHEN tag IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE INDEX') THEN tidemark.ddl_chosen(tag, relations) END,
    'state', CASE WHEN revived = '{}' THEN state END, 'snapshot', snapshot, 'xids', script, 'server_version', current_setting('server_version_num')::int)));
  IF revived <> '{}' THEN
    PERFORM tidemark.ddl_emit_revived(revived, account, settings, state, snapshot);
    PERFORM tidemark.ddl_remember('invalid', '');
  END IF;
  IF tidemark.ddl_all_tables() AND keyless THEN
    PERFORM tidemark.ddl_identity(NULL);
  ELSIF tidemark.ddl_all_tables() AND tag ~ ' (TABLE|TABLE AS|INTO|SCHEMA|EXTENSION)$' THEN
    PERFORM tidemark.ddl_identity(relations);
  END IF;
END
$tidemark$;

-- ddl_copied is what LIKE may have copied into a table without a lock on it, with what the table has of that kind itself.
CREATE FUNCTION tidemark.ddl_copied(relation oid) RETURNS jsonb LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('type', o.type, 'name', o.name, 'sql', o.sql, 'comment', o.comment) ORDER BY o.type, o.name), '[]')
  FROM pg_class c CROSS JOIN LATERAL (%COPIED%) o WHERE c.oid = relation);
END
$tidemark$;

-- ddl_on_temporary tells whether a GRANT or REVOKE is about temporary tables only.
CREATE FUNCTION tidemark.ddl_on_temporary(statement text, conforming boolean) RETURNS boolean LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (WITH t AS (
  SELECT k.pos, k.kind, tidemark.ddl_word(k.kind, k.raw) AS word, lead(k.raw) OVER (ORDER BY k.pos) AS next FROM tidemark.ddl_tokens(statement, conforming) k
), edges AS (
  SELECT min(t.pos) FILTER (WHERE t.kind = 'w' AND t.word = 'on') AS begins, max(t.pos) FILTER (WHERE t.kind = 'w' AND t.word IN ('to', 'from')) AS ends FROM t
)
SELECT coalesce(bool_and(EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = pg_my_temp_schema() AND c.relname = t.word)), false)
FROM t, edges WHERE t.pos > edges.begins AND t.pos < edges.ends AND t.kind IN ('w', 'q') AND t.word NOT IN ('table', 'sequence', 'pg_temp'));
END
$tidemark$;

-- ddl_defaults are the rows of all default privileges: each change of one moves it.
CREATE FUNCTION tidemark.ddl_defaults() RETURNS text LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT coalesce(string_agg(d.oid::text || ':' || d.ctid::text || ':' || d.xmin::text, ' '), '') FROM pg_default_acl d);
END
$tidemark$;

-- ddl_defaulted tells whether the running ALTER DEFAULT PRIVILEGES has changed any: a row that this transaction wrote and that wasn't so
-- when it began, or one that is gone. What others have committed meanwhile is theirs.
CREATE FUNCTION tidemark.ddl_defaulted(before text) RETURNS boolean LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN EXISTS (SELECT FROM pg_default_acl d WHERE d.xmin IN (SELECT tidemark.ddl_xids())
      AND d.oid::text || ':' || d.ctid::text || ':' || d.xmin::text <> ALL (string_to_array(before, ' ')))
    OR EXISTS (SELECT FROM unnest(string_to_array(before, ' ')) b WHERE NOT EXISTS (SELECT FROM pg_default_acl d WHERE d.oid = split_part(b, ':', 1)::oid));
END
$tidemark$;

-- ddl_capture is called at each event. It knows the caller's name and settings; it runs as the role that
-- installed it, with settings of its own.
CREATE FUNCTION tidemark.ddl_capture(event text, tag text, account text, settings jsonb) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' SET IntervalStyle = postgres SET TimeZone = 'UTC' SET extra_float_digits = 1
SET bytea_output = hex SET quote_all_identifiers = off SET standard_conforming_strings = on SET row_security = off
SET lc_messages = 'C' SET lc_monetary = 'C' SET jit = off SET plan_cache_mode = force_generic_plan AS $tidemark$
DECLARE
  stack text;
  key text;
  done text := tidemark.ddl_recall('done');
  depth int := coalesce(nullif(tidemark.ddl_recall('extension'), ''), '0')::int;
BEGIN
  IF event = 'ddl_command_start' AND tag = 'ALTER DEFAULT PRIVILEGES' THEN
    PERFORM tidemark.ddl_remember('defaults', tidemark.ddl_defaults());
    RETURN;
  ELSIF event = 'ddl_command_start' AND tag !~ 'EXTENSION$' THEN
    PERFORM tidemark.ddl_remember('invalid', coalesce(tidemark.ddl_invalid()::text, ''));
    RETURN;
  ELSIF event = 'ddl_command_start' THEN -- of an extension: what its script does, also to extensions, is part of the one statement
    PERFORM tidemark.ddl_remember('extension', (depth + 1)::text);
    RETURN;
  ELSIF depth > 0 THEN
    IF tag IN ('CREATE EXTENSION', 'ALTER EXTENSION') AND event = 'ddl_command_end' THEN
      PERFORM tidemark.ddl_remember('extension', (depth - 1)::text);
    END IF;
    IF tag NOT IN ('CREATE EXTENSION', 'ALTER EXTENSION') OR depth > 1 THEN
      RETURN;
    END IF;
  END IF;
  IF event = 'table_rewrite' THEN
    PERFORM tidemark.ddl_remember('rewritten', concat_ws(' ', nullif(tidemark.ddl_recall('rewritten'), ''),
      pg_event_trigger_table_rewrite_oid()::text || ':' || pg_event_trigger_table_rewrite_reason()::text));
    RETURN;
  END IF;
  IF account IS NULL THEN
    RAISE EXCEPTION 'who ran it is not known';
  END IF;
  GET DIAGNOSTICS stack = PG_CONTEXT;
  -- Ours are the innermost frames, up to the event trigger's.
  stack := regexp_replace(stack, '^.*?PL/pgSQL function ("?tidemark"?\.)?"?ddl_event"?\(\) line [0-9]+ at [A-Z ]+(\n|$)', ''); -- with quote_all_identifiers names have quotes
  -- Where there was nothing to revoke no row of the catalog keeps another's GRANT apart, which may be committed first and would be
  -- revoked by the replay. The statement counts among those of its text all the same.
  IF tag = 'ALTER DEFAULT PRIVILEGES' AND event = 'ddl_command_end' AND NOT tidemark.ddl_defaulted(tidemark.ddl_recall('defaults')) THEN
    PERFORM tidemark.ddl_statement(stack, settings ->> 'standard_conforming_strings' = 'on', tag, '{}', true);
    RETURN;
  END IF;
  -- A statement that drops something has its message written at that event, before what users' event triggers do after it.
  key := md5(stack || tag) || ' ';
  IF event = 'sql_drop' THEN
    PERFORM tidemark.ddl_message(tag, account, settings, stack, true, false);
    PERFORM tidemark.ddl_remember('done', key || done);
  ELSIF starts_with(done, key) THEN
    PERFORM tidemark.ddl_remember('done', substr(done, length(key) + 1));
    PERFORM tidemark.ddl_statement(stack, settings ->> 'standard_conforming_strings' = 'on', tag, '{}', true);
  ELSE
    PERFORM tidemark.ddl_message(tag, account, settings, stack, false, true);
  END IF;
  IF event = 'ddl_command_end' THEN
    PERFORM tidemark.ddl_remember('invalid', '');
    PERFORM tidemark.ddl_remember('rewritten', '');
  END IF;
END
$tidemark$;
