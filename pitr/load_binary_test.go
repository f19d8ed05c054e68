package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Tables whose rows all have a binary format are loaded in it, from the base snapshot and from segments, in inserts and in runs of updates and deletes;
// rows that are longer than what is dealt out at a time go as text, and so do those of other types.
func TestRowsOfEveryForm(t *testing.T) {
	const make = `CREATE TYPE mood AS ENUM ('fine', E'it''s\t so'); CREATE DOMAIN small AS numeric(9,3) CHECK (VALUE < 1000); CREATE DOMAIN smaller AS small;
CREATE TABLE known (id int PRIMARY KEY, b bool, i2 int2, i8 int8, o oid, f4 float4, f8 float8, n numeric, s smaller, t text, v varchar(40), c char(7), j json, jb jsonb, u uuid, y bytea,
  d date, ti time, ts timestamp, tz timestamptz, m mood, twice int GENERATED ALWAYS AS (i2 * 2) STORED);
CREATE TABLE other (id int PRIMARY KEY, a int[], t text);
CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE sql AS $$
INSERT INTO known SELECT i, i % 2 = 0, i % 9999, hashint8(i)::bigint * 4294967296, i, 1.0 / i, sqrt(i), hashint8(i) / 1000.0, i / 1000.0, CASE WHEN i % 5 > 0 THEN repeat(E'\t\\\n', i % 7) END,
  md5(i::text), left(md5(i::text), i % 7), json_build_object('n', i), jsonb_build_object('n', i), md5(i::text)::uuid, decode(md5(i::text), 'hex'),
  date '2000-01-01' + hashint4(i) / 10000, time '00:00' + i * interval '1.0001 s', timestamp '2026-01-01' - i * interval '1 day 1.001 s', timestamptz '2026-01-01' + i * interval '1.000001 s',
  CASE i % 3 WHEN 0 THEN 'fine' WHEN 1 THEN E'it''s\t so' END::mood FROM generate_series(first, last) i;
INSERT INTO other SELECT i, ARRAY[i, NULL], md5(i::text) FROM generate_series(first, last) i;
UPDATE known SET t = repeat('long', 100000) WHERE id % 1000 = 47 AND id BETWEEN first AND last $$;`
	w := newWorld(t, "every_form", make+"SELECT fill(1, 3000)")
	for name, size := range map[string]string{"known": "select pg_size_bytes('64 kB') < sum(length(known::text)) from known", "other": "select 65536 < sum(length(other::text)) from other"} {
		require.Equal(t, "t", server.MustQuery(t, w.db, size), name)
	}
	w.sql("SELECT fill(3001, 3500)")
	w.sql("UPDATE known SET s = s + 1, m = 'fine', y = '', tz = 'infinity', f8 = 'NaN', t = NULL WHERE id % 50 < 20; UPDATE other SET a = NULL WHERE id % 50 < 20")
	w.sql("DELETE FROM known WHERE id % 50 = 30; DELETE FROM other WHERE id % 50 = 30")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "every_form_1", nil)
	w.sameRows("every_form_1")
	require.Equal(t, server.MustQuery(t, w.db, "select count(*) || ' ' || sum(twice) from known"), server.MustQuery(t, "every_form_1", "select count(*) || ' ' || sum(twice) from known"))
}

// TestOperatorsOfTheSourceAreNotOurs: a restore's sessions for rows have the source's search_path. What the restore itself asks there must
// not run the source's operators, with the rights of who restores.
func TestOperatorsOfTheSourceAreNotOurs(t *testing.T) {
	const schema = `CREATE FUNCTION public.strange(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'an operator of the source'; END $$;
CREATE FUNCTION public.strange(oid, regclass) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'an operator of the source'; END $$;
CREATE FUNCTION public.strange("char", "char") RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'an operator of the source'; END $$;
CREATE TABLE wide (id int PRIMARY KEY, t text); INSERT INTO wide SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i;
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.strange);
ALTER DATABASE strange SET search_path = public, pg_catalog;
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = public.strange);
CREATE OPERATOR public.= (LEFTARG = "char", RIGHTARG = "char", FUNCTION = public.strange)`
	w := newWorld(t, "strange", schema)
	w.sql("SET search_path = ''; INSERT INTO public.wide SELECT i, 'y' FROM generate_series(1001, 1100) i; UPDATE public.wide SET t = 'z' WHERE id OPERATOR(pg_catalog.%) 10 OPERATOR(pg_catalog.=) 0")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "strange_1", nil)
	const rows = "select md5(string_agg(id || ' ' || t, ',' order by id)) from public.wide"
	require.Equal(t, server.MustQuery(t, w.db, rows), server.MustQuery(t, "strange_1", rows))
}
