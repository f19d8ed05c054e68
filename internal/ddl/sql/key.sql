-- The key that messages are authenticated with, which only its owner reads. It is a materialized view: pg_dump does not read
-- those, no publication has them, and a restored dump makes a key of its own. It stays as it is when the rest is made anew. WITH
-- NO DATA and REFRESH: rows that REFRESH writes are seen by transactions that began before it.
DO $tidemark$
DECLARE
  statement text;
BEGIN
  IF to_regclass('tidemark.ddl_key') IS NULL THEN
    CREATE MATERIALIZED VIEW tidemark.ddl_key AS
      SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) AS key WITH NO DATA;
    FOR statement IN -- what default privileges gave
      SELECT DISTINCT format('REVOKE ALL ON tidemark.ddl_key FROM %s', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
      FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = 'tidemark.ddl_key'::regclass AND a.grantee <> c.relowner
    LOOP
      EXECUTE statement;
    END LOOP;
  END IF;
  IF NOT (SELECT c.relispopulated FROM pg_class c WHERE c.oid = 'tidemark.ddl_key'::regclass) THEN
    REFRESH MATERIALIZED VIEW tidemark.ddl_key;
  END IF;
END
$tidemark$;

-- ddl_mac authenticates bytes (HMAC without its padding: both hashes begin with the key).
CREATE FUNCTION tidemark.ddl_mac(content bytea) RETURNS text LANGUAGE plpgsql AS $tidemark$
DECLARE
  secret bytea := (SELECT k.key FROM tidemark.ddl_key k);
BEGIN
  IF secret IS NULL THEN
    RAISE EXCEPTION 'tidemark.ddl_key is empty';
  END IF;
  RETURN encode(sha256(secret || sha256(secret || content)), 'hex');
END
$tidemark$;

-- ddl_remember keeps a value until the end of the transaction or of the savepoint that is rolled back, in a setting. Anybody can
-- change settings: ddl_recall returns what ddl_remember kept in this transaction, and '' for everything else.
CREATE FUNCTION tidemark.ddl_remember(name text, value text) RETURNS void LANGUAGE plpgsql AS $tidemark$
BEGIN
  PERFORM set_config('tidemark.' || name, CASE WHEN value <> '' THEN tidemark.ddl_memory_mac(name, value) || value ELSE '' END, true);
END
$tidemark$;

CREATE FUNCTION tidemark.ddl_recall(name text) RETURNS text LANGUAGE plpgsql AS $tidemark$
DECLARE
  kept text := coalesce(current_setting('tidemark.' || name, true), '');
  value text := substr(kept, 65);
BEGIN
  RETURN CASE WHEN kept = '' OR left(kept, 64) <> tidemark.ddl_memory_mac(name, value) THEN '' ELSE value END;
END
$tidemark$;

-- ddl_memory_mac is that of a setting of this transaction. Messages begin with a brace: it is none's.
CREATE FUNCTION tidemark.ddl_memory_mac(name text, value text) RETURNS text LANGUAGE plpgsql AS $tidemark$
BEGIN
  RETURN tidemark.ddl_mac(textsend(format('%s %s %s', name, pg_current_xact_id(), value)));
END
$tidemark$;
