-- ddl_tokens reads SQL as src/backend/parser/scan.l does, as far as matters for telling statements apart. Kinds:
-- w word, q quoted identifier, s string constant, d dollar-quoted string, ( ) ; and o anything else.
-- pos is the position of the first character, from 1; raw the token's text where it is short. A
-- regular expression cuts the text into pieces in one pass, so the time is linear; the state decides what
-- they mean. A last token of kind ! says that a quote, comment or parenthesis is not closed.
CREATE FUNCTION tidemark.ddl_tokens(q text, conforming boolean)
RETURNS TABLE (kind text, raw text, pos int, len int) LANGUAGE plpgsql IMMUTABLE AS $tidemark$
DECLARE
  gap text;
  tok text;
  state text := '';           -- '' plain, s string, e string with escapes, q identifier, - and / comments, $ dollar quote
  at int := 1;                -- position of gap
  began int;                  -- of the token under way
  body text;                  -- of the token under way, while short
  depth int := 0;             -- of nested comments
  parens int := 0;
  tag text;
  before text := '';          -- the piece right before this one, where it may form a pair with it
  held text := '';            -- kind of a token that the next piece may change: w, or o for - / * $ and \
  held_raw text;
  held_pos int;
  escapes boolean;
  continues text := '';       -- the kind of string that may go on after a line feed
  newline boolean := false;
  closed int := 0;            -- where the last string ended
BEGIN
  FOR gap, tok IN
    SELECT m[1], m[2] FROM regexp_matches((q || E'\n') COLLATE "C",
      '([\u0001-\u0009\u000b-\u0020!#%&+,.0-9:<=>?@[\]^`{|}~\u007f]*)'
      '([^\u0001-\u0040\u005b-\u005e\u0060\u007b-\u007f][^\u0001-\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]*'
      '|\$[^\u0001-\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]*|\\[\\'']|[''"\\/*;()\n-])', 'g') AS m
  LOOP
    IF gap <> '' THEN
      before := '';
    END IF;
    IF held <> '' AND (gap <> '' OR NOT (held = 'w' AND tok LIKE '$%' OR held = 'o' AND (held_raw LIKE '$%' AND tok LIKE '$%' OR held_raw || tok IN ('--', '/*')))
      AND NOT (held = 'w' AND tok = '''' AND upper(held_raw) IN ('E', 'B', 'X', 'N'))) THEN
      kind := held; raw := held_raw; pos := held_pos; len := length(raw);
      RETURN NEXT;
      held := '';
    END IF;
    CASE state
    WHEN '' THEN
      IF gap <> '' AND btrim(gap, E' \t\r\f\v') <> '' THEN
        kind := 'o'; raw := btrim(gap, E' \t\r\f\v'); pos := at + length(gap) - length(ltrim(gap, E' \t\r\f\v')); len := length(raw);
        RETURN NEXT;
        continues := '';
      END IF;
      began := at + length(gap);
      CASE
      WHEN tok = '''' OR tok = '\''' THEN
        escapes := NOT conforming;
        IF held = 'w' THEN
          escapes := upper(held_raw) = 'E' OR upper(held_raw) = 'N' AND NOT conforming;
          kind := 'w'; raw := held_raw; pos := held_pos; len := length(raw);
          RETURN NEXT;
          held := '';
        ELSIF continues <> '' AND (newline OR closed = began) THEN
          escapes := continues = 'e'; -- a doubled quote, or a string that goes on in the next line
        END IF;
        state := CASE WHEN escapes THEN 'e' ELSE 's' END;
        body := tok;
      WHEN tok = '"' THEN
        state := 'q'; body := tok;
      WHEN left(tok, 1) = '$' THEN
        IF held = 'w' THEN
          held_raw := held_raw || tok; -- a dollar inside an identifier
        ELSIF held = 'o' AND held_raw !~ '^\$[0-9]' THEN
          state := '$'; tag := held_raw; body := tag || tok; began := held_pos; held := '';
        ELSE
          IF held = 'o' THEN
            kind := 'o'; raw := held_raw; pos := held_pos; len := length(raw);
            RETURN NEXT;
          END IF;
          held := 'o'; held_raw := tok; held_pos := began;
        END IF;
      WHEN tok = '-' AND held_raw = '-' AND held <> '' THEN
        state := '-'; held := '';
      WHEN tok = '*' AND held_raw = '/' AND held <> '' THEN
        state := '/'; depth := 1; held := '';
      WHEN tok = E'\n' THEN
        newline := true;
      WHEN tok IN ('-', '/', '*', '\', '\\') THEN
        held := 'o'; held_raw := tok; held_pos := began; continues := '';
      WHEN tok IN ('(', ')', ';') THEN
        parens := parens + CASE tok WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
        kind := tok; raw := tok; pos := began; len := 1;
        RETURN NEXT;
        continues := '';
      ELSE
        held := 'w'; held_raw := tok; held_pos := began; continues := '';
      END CASE;
      before := '';
    WHEN 's', 'e', 'q' THEN
      IF length(body) < 2000 THEN body := body || gap || tok; END IF;
      IF state = 'q' AND tok = '"' OR state = 's' AND tok IN ('''', '\''') OR state = 'e' AND tok = '''' THEN
        kind := CASE WHEN state = 'q' THEN 'q' ELSE 's' END;
        raw := body; pos := began; len := at + length(gap) + length(tok) - began;
        RETURN NEXT;
        continues := CASE WHEN state = 'q' THEN '' ELSE state END; newline := false; closed := pos + len;
        state := ''; before := '';
      END IF;
    WHEN '-' THEN
      IF tok = E'\n' THEN
        state := ''; newline := true; before := '';
      END IF;
    WHEN '/' THEN
      IF tok = '/' AND before = '*' THEN
        depth := depth - 1; before := '';
        IF depth = 0 THEN state := ''; END IF;
      ELSIF tok = '*' AND before = '/' THEN
        depth := depth + 1; before := '';
      ELSE
        before := tok;
      END IF;
    WHEN '$' THEN
      IF left(tok, 1) = '$' AND before = tag THEN
        kind := 'd'; raw := NULL; pos := began; len := at + length(gap) + 1 - began;
        RETURN NEXT;
        state := ''; before := ''; continues := '';
        IF length(tok) > 1 THEN -- what follows the closing delimiter at once
          held := 'w'; held_raw := substr(tok, 2); held_pos := at + length(gap) + 1;
        END IF;
      ELSE
        before := tok;
      END IF;
    END CASE;
    at := at + length(gap) + length(tok);
  END LOOP;
  IF state NOT IN ('', '-') OR parens <> 0 THEN
    kind := '!'; raw := NULL; pos := length(q) + 1; len := 0;
    RETURN NEXT;
  END IF;
END
$tidemark$;

-- ddl_split cuts a string into its statements. heads has the leading words of each, in upper case.
CREATE FUNCTION tidemark.ddl_split(q text, conforming boolean, OUT starts int[], OUT lens int[], OUT heads text[], OUT complete boolean)
LANGUAGE plpgsql IMMUTABLE AS $tidemark$
DECLARE
  t record;
  parens int := 0;
  blocks int := 0;   -- BEGIN ATOMIC ... END, and CASE ... END inside
  first int;         -- where the statement under way begins
  last int;          -- and where its last token ends
  head text := '';
  words int := 0;
  word text;
  previous text := '';
BEGIN
  starts := '{}'; lens := '{}'; heads := '{}'; complete := true;
  FOR t IN SELECT * FROM tidemark.ddl_tokens(q, conforming) LOOP
    IF t.kind = '!' THEN
      complete := false;
      EXIT;
    END IF;
    IF t.kind = ';' AND parens = 0 AND blocks = 0 THEN
      IF first IS NOT NULL THEN
        starts := starts || first; lens := lens || last - first; heads := heads || head;
      END IF;
      first := NULL; head := ''; words := 0; previous := '';
      CONTINUE;
    END IF;
    IF first IS NULL THEN
      first := t.pos;
      IF t.kind = '(' THEN
        head := '( ';
      END IF;
    END IF;
    last := t.pos + t.len;
    IF t.kind = '(' THEN
      parens := parens + 1;
    ELSIF t.kind = ')' THEN
      parens := parens - 1;
    ELSIF t.kind = 'w' AND (parens = 0 OR head LIKE '(%') THEN
      word := upper(t.raw COLLATE "C");
      IF word = 'INTO' AND previous NOT IN ('INSERT', 'MERGE', 'AS') AND head ~ '^(\( )*(SELECT|WITH|VALUES|TABLE) ' AND head NOT LIKE '% >INTO%' THEN
        head := head || '>INTO '; -- SELECT INTO, however far behind
      ELSIF words < 40 THEN
        head := head || word || ' ';
        words := words + 1;
      END IF;
      IF word IN ('BEGIN', 'CASE', 'END') AND head ~ '^CREATE (OR REPLACE )?(FUNCTION|PROCEDURE) ' THEN
        blocks := CASE WHEN word = 'BEGIN' OR word = 'CASE' AND blocks > 0 THEN blocks + 1 WHEN word = 'END' AND blocks > 0 THEN blocks - 1 ELSE blocks END;
      END IF;
      previous := word;
    END IF;
  END LOOP;
  IF first IS NOT NULL THEN
    starts := starts || first; lens := lens || last - first; heads := heads || head;
  END IF;
END
$tidemark$;

-- ddl_head takes the words out of a head that don't show in a command tag.
CREATE FUNCTION tidemark.ddl_head(head text) RETURNS text LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT regexp_replace(regexp_replace(head, '^(CREATE )(OR REPLACE )?((GLOBAL|LOCAL|TEMPORARY|TEMP|UNLOGGED|UNIQUE|TRUSTED|PROCEDURAL|RECURSIVE|CONSTRAINT|DEFAULT) )*', '\1'),
  '^(ALTER|DROP) PROCEDURAL ', '\1 ')
$tidemark$;

-- ddl_fires tells whether a statement with this head makes event triggers fire (event_trigger_ok in
-- src/include/tcop/cmdtaglist.h, EventTriggerSupportsObjectType in src/backend/commands/event_trigger.c).
CREATE FUNCTION tidemark.ddl_fires(head text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT CASE
  WHEN head ~ '^(CREATE|ALTER|DROP) USER MAPPING (IF|FOR) ' THEN true
  WHEN tidemark.ddl_head(head) ~ '^(CREATE|ALTER|DROP) (DATABASE|EVENT TRIGGER|ROLE|GROUP|USER|TABLESPACE|SYSTEM) ' THEN false
  WHEN head ~ '^(CREATE|ALTER|DROP) ' THEN true
  WHEN head ~ '^COMMENT ON ' THEN head !~ '^COMMENT ON (DATABASE|ROLE|TABLESPACE|EVENT TRIGGER) '
  WHEN head ~ '^SECURITY LABEL ' THEN head !~ '^SECURITY LABEL (FOR [^ ]+ )?ON (DATABASE|ROLE|TABLESPACE|EVENT TRIGGER) '
  WHEN head ~ '^(GRANT|REVOKE) ' THEN head ~ ' ON ' AND head !~ ' ON (DATABASE|TABLESPACE|PARAMETER) '
  WHEN head ~ '^REINDEX ' THEN false --before 170000
  WHEN head ~ '^REINDEX ' THEN true --since 170000
  WHEN head ~ '^(REFRESH MATERIALIZED VIEW|IMPORT FOREIGN SCHEMA) ' THEN true
  ELSE head ~ '>INTO ' END
$tidemark$;

CREATE FUNCTION tidemark.ddl_fits(head text, tag text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $tidemark$
SELECT CASE tag WHEN 'SELECT INTO' THEN head ~ '>INTO '
  WHEN 'CREATE TABLE AS' THEN starts_with(tidemark.ddl_head(head), 'CREATE TABLE ')
  ELSE starts_with(tidemark.ddl_head(head), tag || ' ') END
$tidemark$;
