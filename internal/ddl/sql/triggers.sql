-- ddl_event is what the event triggers call, as the role and with the settings of the statement. Whatever goes
-- wrong is written as a message that says so: the statement itself must not fail, nor go unseen.
CREATE FUNCTION tidemark.ddl_event() RETURNS event_trigger LANGUAGE plpgsql AS $tidemark$
DECLARE
  state text;
  place text;
BEGIN
  PERFORM tidemark.ddl_capture(tg_event, tg_tag, current_user::pg_catalog.text, tidemark.ddl_settings());
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, place = PG_EXCEPTION_CONTEXT;
  PERFORM tidemark.ddl_failed(tg_event, tg_tag, current_user::pg_catalog.text, state, place);
END
$tidemark$;

-- ddl_failed writes that a statement could not be captured. Error texts may quote what nobody should read: the
-- code and the place have to do.
CREATE FUNCTION tidemark.ddl_failed(event text, tag text, account text, state text, place text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $tidemark$
BEGIN
  PERFORM tidemark.ddl_emit(jsonb_build_object('v', 1, 'tag', tag, 'user', account, 'server_version', current_setting('server_version_num')::int,
    'inexact', format('capturing it failed at %s with SQLSTATE %s in %s', event, state, coalesce(substring(place FROM 'tidemark\.ddl_[a-z_]+\([^\n]*line [0-9]+'), 'the trigger'))));
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'Tidemark could not write a schema change (%) into the stream: SQLSTATE %', tag, SQLSTATE;
END
$tidemark$;

-- Whoever runs a statement runs the trigger.
GRANT EXECUTE ON FUNCTION tidemark.ddl_event(), tidemark.ddl_settings(), tidemark.ddl_capture(text, text, text, jsonb),
  tidemark.ddl_failed(text, text, text, text, text) TO PUBLIC;

-- ALWAYS: also in sessions with session_replication_role = replica. Of one event, triggers fire in the order of their names.
CREATE EVENT TRIGGER "00_tidemark_start" ON ddl_command_start WHEN TAG IN ('CREATE EXTENSION', 'ALTER EXTENSION') EXECUTE FUNCTION tidemark.ddl_event();
CREATE EVENT TRIGGER "00_tidemark_drop" ON sql_drop EXECUTE FUNCTION tidemark.ddl_event();
CREATE EVENT TRIGGER "00_tidemark_rewrite" ON table_rewrite EXECUTE FUNCTION tidemark.ddl_event();
CREATE EVENT TRIGGER "00_tidemark_end" ON ddl_command_end EXECUTE FUNCTION tidemark.ddl_event();
ALTER EVENT TRIGGER "00_tidemark_start" ENABLE ALWAYS;
ALTER EVENT TRIGGER "00_tidemark_drop" ENABLE ALWAYS;
ALTER EVENT TRIGGER "00_tidemark_rewrite" ENABLE ALWAYS;
ALTER EVENT TRIGGER "00_tidemark_end" ENABLE ALWAYS;
