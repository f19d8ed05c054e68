-- ddl_account runs as the role that the statement runs as, right before ddl_event, which can't know it any more. Anybody can change
-- the setting, but not in between.
CREATE FUNCTION tidemark.ddl_account() RETURNS event_trigger LANGUAGE plpgsql AS $tidemark$
BEGIN
  PERFORM pg_catalog.set_config('tidemark.account', current_user::pg_catalog.text, true);
END
$tidemark$;

-- ddl_who is what ddl_account left, unless somebody has switched its triggers off.
CREATE FUNCTION tidemark.ddl_who(event text) RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $tidemark$
BEGIN
  RETURN (SELECT nullif(current_setting('tidemark.account', true), '') FROM pg_event_trigger e
    WHERE e.evtname = CASE event WHEN 'sql_drop' THEN '00_tidemark_account_drop' ELSE '00_tidemark_account_end' END AND e.evtenabled = 'A'
    AND e.evtfoid = 'tidemark.ddl_account'::regproc);
END
$tidemark$;

-- ddl_event is what the event triggers call. It runs as the role that installed it, with the settings of the statement: nothing in it
-- may depend on search_path. Only event triggers can call it, so that what it is told of a statement is true. Whatever
-- goes wrong is written as a message that says so: the statement itself must not fail, nor go unseen.
CREATE FUNCTION tidemark.ddl_event() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $tidemark$
DECLARE
  state pg_catalog.text;
  place pg_catalog.text;
BEGIN
  PERFORM tidemark.ddl_capture(tg_event, tg_tag, tidemark.ddl_who(tg_event), tidemark.ddl_settings());
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, place = PG_EXCEPTION_CONTEXT;
  BEGIN
    PERFORM tidemark.ddl_failed(tg_event, tg_tag, tidemark.ddl_who(tg_event), state, place);
  EXCEPTION WHEN OTHERS THEN
    -- Functions are missing: the archiver sees that capture is incomplete.
    RAISE WARNING 'Tidemark could not capture a schema change (%): SQLSTATE %', tg_tag, SQLSTATE;
  END;
END
$tidemark$;

-- ddl_failed writes that a statement could not be captured. Error texts may quote what nobody should read: the
-- code and the place have to do.
CREATE FUNCTION tidemark.ddl_failed(event text, tag text, account text, state text, place text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $tidemark$
BEGIN
  BEGIN
    PERFORM tidemark.ddl_emit(jsonb_build_object('v', 1, 'tag', tag, 'user', account, 'server_version', current_setting('server_version_num')::int,
      'inexact', format('capturing it failed at %s with SQLSTATE %s in %s', event, state, coalesce(substring(place FROM '"?tidemark"?\."?ddl_[a-z_]+"?\([^\n]*line [0-9]+'), 'the trigger'))));
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'Tidemark could not write a schema change (%) into the stream: SQLSTATE %', tag, SQLSTATE;
  END;
  -- A table that was left without an identity would take no UPDATE.
  BEGIN
    IF event IN ('ddl_command_end', 'sql_drop') AND strpos(place, 'ddl_identity(') = 0 AND tidemark.ddl_all_tables() THEN
      PERFORM tidemark.ddl_identity(NULL);
    END IF;
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'Tidemark could not give tables a replica identity (%): SQLSTATE %', tag, SQLSTATE;
  END;
END
$tidemark$;

-- Event triggers fire whoever may execute their functions, and no other function is anybody's business.
DO $tidemark$
DECLARE
  statement text;
BEGIN
  FOR statement IN
    SELECT DISTINCT format('REVOKE ALL ON FUNCTION %s FROM %s', p.oid::regprocedure, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    WHERE n.nspname = 'tidemark' AND p.proname LIKE 'ddl\_%' AND a.grantee <> p.proowner
  LOOP
    EXECUTE statement;
  END LOOP;
END
$tidemark$;

-- ALWAYS: also in sessions with session_replication_role = replica. Of one event, triggers fire in the order of their names.
CREATE EVENT TRIGGER "00_tidemark_account_drop" ON sql_drop EXECUTE FUNCTION tidemark.ddl_account();
CREATE EVENT TRIGGER "00_tidemark_account_end" ON ddl_command_end EXECUTE FUNCTION tidemark.ddl_account();
CREATE EVENT TRIGGER "00_tidemark_start" ON ddl_command_start WHEN TAG IN ('CREATE EXTENSION', 'ALTER EXTENSION', 'ALTER DEFAULT PRIVILEGES', 'ALTER TABLE', 'ALTER TYPE', 'ALTER MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW') EXECUTE FUNCTION tidemark.ddl_event();
CREATE EVENT TRIGGER "00_tidemark_drop" ON sql_drop EXECUTE FUNCTION tidemark.ddl_event();
CREATE EVENT TRIGGER "00_tidemark_rewrite" ON table_rewrite EXECUTE FUNCTION tidemark.ddl_event();
CREATE EVENT TRIGGER "00_tidemark_end" ON ddl_command_end EXECUTE FUNCTION tidemark.ddl_event();
ALTER EVENT TRIGGER "00_tidemark_account_drop" ENABLE ALWAYS;
ALTER EVENT TRIGGER "00_tidemark_account_end" ENABLE ALWAYS;
ALTER EVENT TRIGGER "00_tidemark_start" ENABLE ALWAYS;
ALTER EVENT TRIGGER "00_tidemark_drop" ENABLE ALWAYS;
ALTER EVENT TRIGGER "00_tidemark_rewrite" ENABLE ALWAYS;
ALTER EVENT TRIGGER "00_tidemark_end" ENABLE ALWAYS;
