-- ddl_settings is what a statement's meaning depends on, as the session has it.
CREATE FUNCTION tidemark.ddl_settings() RETURNS jsonb LANGUAGE sql STABLE AS $tidemark$
SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
  'search_path', pg_catalog.current_setting('search_path'), 'TimeZone', pg_catalog.current_setting('TimeZone'),
  'timezone_abbreviations', pg_catalog.current_setting('timezone_abbreviations'), 'DateStyle', pg_catalog.current_setting('DateStyle'), 'IntervalStyle', pg_catalog.current_setting('IntervalStyle'),
  'standard_conforming_strings', pg_catalog.current_setting('standard_conforming_strings'),
  'backslash_quote', pg_catalog.current_setting('backslash_quote'),
  'check_function_bodies', pg_catalog.current_setting('check_function_bodies'),
  'default_tablespace', pg_catalog.current_setting('default_tablespace'),
  'default_table_access_method', pg_catalog.current_setting('default_table_access_method'),
  'default_toast_compression', pg_catalog.current_setting('default_toast_compression', true),
  'default_text_search_config', pg_catalog.current_setting('default_text_search_config'),
  'xmloption', pg_catalog.current_setting('xmloption'), 'xmlbinary', pg_catalog.current_setting('xmlbinary'),
  'bytea_output', pg_catalog.current_setting('bytea_output'), 'extra_float_digits', pg_catalog.current_setting('extra_float_digits'),
  'array_nulls', pg_catalog.current_setting('array_nulls'), 'transform_null_equals', pg_catalog.current_setting('transform_null_equals'),
  'lc_monetary', pg_catalog.current_setting('lc_monetary'), 'lc_numeric', pg_catalog.current_setting('lc_numeric'),
  'lc_time', pg_catalog.current_setting('lc_time')))
$tidemark$;

-- ddl_frame reads the innermost frame of a call stack (PG_CONTEXT in the language of lc_messages = C): the
-- text that was being run, and for a function in SQL which of its statements (0: not known). No text: not known.
CREATE FUNCTION tidemark.ddl_frame(stack text, conforming boolean, tag text, OUT query text, OUT ordinal int)
LANGUAGE plpgsql STABLE AS $tidemark$
DECLARE
  m text[];
  f record;
  s record;
  rest text;
BEGIN
  ordinal := 0;
  IF starts_with(stack, 'SQL statement "') THEN
    -- The text is not escaped: its end is a quote before the next frame, at which it is complete.
    rest := substr(stack, 16);
    m := regexp_split_to_array(rest, '"\n(?=PL/|SQL |extension script|COPY |while |automatic |referential |unnamed |portal |remote |event trigger )|"$');
    FOR i IN 1..least(array_length(m, 1), 20) LOOP
      query := CASE WHEN i = 1 THEN m[1] ELSE query || E'"\n' || m[i] END;
      SELECT d.complete INTO s FROM tidemark.ddl_split(query, conforming) d;
      EXIT WHEN s.complete;
      IF i = least(array_length(m, 1), 20) THEN
        query := NULL;
      END IF;
    END LOOP;
    RETURN;
  END IF;
  m := regexp_match(stack, '^SQL function "([^\n]*)" statement ([0-9]+)(?:\n|$)');
  IF m IS NULL THEN
    RETURN;
  END IF;
  -- Only the name is known: functions of that name whose k-th statement fits must agree on it.
  FOR f IN SELECT p.prosrc FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.proname = m[1] AND l.lanname = 'sql' LOOP
    SELECT d.complete AND tidemark.ddl_fits(d.heads[m[2]::int], tag) AS fits,
      substr(f.prosrc, d.starts[m[2]::int], d.lens[m[2]::int]) AS body INTO s FROM tidemark.ddl_split(f.prosrc, conforming) d;
    IF s.fits AND query IS NOT NULL AND query <> s.body THEN
      query := NULL;
      RETURN;
    ELSIF s.fits THEN
      query := s.body;
      ordinal := 1;
    END IF;
  END LOOP;
END
$tidemark$;
