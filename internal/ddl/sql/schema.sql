-- What an earlier version left goes first, triggers before functions, so that nothing here is captured.
DO $tidemark$
DECLARE
  statement text;
BEGIN
  FOR statement IN
    SELECT s.sql FROM (
      SELECT 1 AS step, format('DROP EVENT TRIGGER %I', e.evtname) AS sql FROM pg_event_trigger e WHERE e.evtname ~ '^00_tidemark_(account_drop|account_end|start|drop|rewrite|end)$'
      UNION ALL
      SELECT 2, format('DROP FUNCTION %s', p.oid::regprocedure) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname = 'tidemark' AND p.proname LIKE 'ddl\_%'
    ) s ORDER BY s.step
  LOOP
    EXECUTE statement;
  END LOOP;
END
$tidemark$;

CREATE SCHEMA IF NOT EXISTS tidemark;

-- Nobody else makes anything in this schema, nor had made what the functions rely on before it was ours.
DO $tidemark$
DECLARE
  statement text;
BEGIN
  FOR statement IN
    SELECT format('REVOKE %s ON SCHEMA tidemark FROM %s', CASE a.grantee WHEN 0 THEN 'ALL' ELSE 'CREATE' END, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
    FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'tidemark' AND a.grantee <> n.nspowner AND (a.grantee = 0 OR a.privilege_type = 'CREATE')
    UNION
    SELECT format('DROP %s %s CASCADE', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, c.oid::regclass)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'tidemark' AND (c.relname = 'ddl_key' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') OR c.relname IN ('ddl_memory', 'ddl_space') AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S'))
      AND (c.relkind <> CASE c.relname WHEN 'ddl_key' THEN 'm' ELSE 'S' END
        OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = c.relowner AND (r.rolsuper OR r.rolname = current_user)))
  LOOP
    EXECUTE statement;
  END LOOP;
END
$tidemark$;

-- Nothing in it may be called or written by others; but whoever runs pg_dump reads every sequence.
GRANT USAGE ON SCHEMA tidemark TO PUBLIC;

-- A memory that is the session's own and survives ROLLBACK TO: setval is not undone, and currval is what
-- this session set last. It counts the statements of a string that have run.
CREATE SEQUENCE IF NOT EXISTS tidemark.ddl_memory;
-- Setting this one writes a record to the WAL and means nothing (ddl_emit).
CREATE SEQUENCE IF NOT EXISTS tidemark.ddl_space;
GRANT SELECT ON SEQUENCE tidemark.ddl_memory, tidemark.ddl_space TO PUBLIC;

CREATE FUNCTION tidemark.ddl_version() RETURNS int LANGUAGE sql IMMUTABLE AS
$tidemark$SELECT %VERSION% /* all_tables=%ALL_TABLES% publication=%PUBLICATION% */$tidemark$;

CREATE FUNCTION tidemark.ddl_publication() RETURNS text LANGUAGE sql IMMUTABLE AS $tidemark$SELECT %PUBLICATION%::text$tidemark$;
CREATE FUNCTION tidemark.ddl_all_tables() RETURNS boolean LANGUAGE sql IMMUTABLE AS $tidemark$SELECT %ALL_TABLES%$tidemark$;

CREATE FUNCTION tidemark.ddl_fingerprint(relation oid) RETURNS text LANGUAGE plpgsql STABLE AS $tidemark$
BEGIN
  RETURN (SELECT %FINGERPRINT%
WHERE c.oid = relation);
END
$tidemark$;
