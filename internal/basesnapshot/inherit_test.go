package basesnapshot

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const inheritedState = `SELECT string_agg(x, '; ' ORDER BY x COLLATE "C") FROM (
	SELECT format('%s %s %s %s', attrelid::regclass, row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attname, concat_ws(' ', attislocal, attinhcount, attnotnull, attgenerated::text, attcollation::regcollation)) AS x
	FROM pg_attribute WHERE attrelid IN ('g'::regclass, 'p'::regclass, 'c'::regclass, 'd'::regclass, 'e'::regclass) AND attnum > 0 AND NOT attisdropped
	UNION ALL SELECT format('%s %s %s %s', conrelid::regclass, conname, conislocal, coninhcount) FROM pg_constraint WHERE conrelid IN ('p'::regclass, 'c'::regclass, 'd'::regclass, 'e'::regclass)) s`

// TestInheritanceKeepsItsColumnOrder: a child's columns come back in their order, and what it merely inherits stays so.
func TestInheritanceKeepsItsColumnOrder(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, `CREATE TABLE g (x int, gone int);
		CREATE TABLE p (a int NOT NULL, CONSTRAINT positive CHECK (a > 0)) INHERITS (g);
		CREATE TABLE c (own text DEFAULT 'with, comma (and ''quote''', "Odd, name" int) INHERITS (p);
		CREATE TABLE d (z int, a int NOT NULL, x int, CONSTRAINT positive CHECK (a > 0), CONSTRAINT mine CHECK (z <> 0)); ALTER TABLE g DROP COLUMN gone; ALTER TABLE d INHERIT p;
		ALTER TABLE p ADD COLUMN late text COLLATE "C" NOT NULL DEFAULT 'l', ADD COLUMN twice int GENERATED ALWAYS AS (a * 2) STORED, ADD CONSTRAINT later CHECK (late <> '');
		CREATE TABLE e (f int) INHERITS (c); ALTER TABLE c ALTER COLUMN late SET DEFAULT 'other'`)
	_, m := take(t, options(dsn, newStore(t)))
	into, _ := newDatabase(t)
	rewritten := 0
	for _, it := range m.Schema {
		if it.Section == "pre-data" && !it.OfDatabase {
			testServer().MustExec(t, into, it.SQL+it.InheritedSQL())
		}
		if it.Inherited != nil {
			rewritten++
		}
	}
	require.Equal(t, 2, rewritten, "c and d; e follows c")
	require.Equal(t, testServer().MustQuery(t, name, inheritedState), testServer().MustQuery(t, into, inheritedState))
}

// TestParentsThatStoreAColumnInDifferentWays: they came to that after their child was made.
func TestParentsThatStoreAColumnInDifferentWays(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, `CREATE TABLE g (b text, v text); CREATE TABLE p (b text, v text); CREATE TABLE c (own int, v text DEFAULT 'x') INHERITS (g, p);
		ALTER TABLE ONLY g ALTER b SET STORAGE PLAIN; ALTER TABLE ONLY p ALTER v SET COMPRESSION pglz; ALTER TABLE ONLY c ALTER b SET STORAGE MAIN;
		CREATE TABLE d () INHERITS (c); CREATE TABLE e (x int) INHERITS (c)`)
	_, m := take(t, options(dsn, newStore(t)))
	into, _ := newDatabase(t)
	for _, it := range m.Schema {
		if it.Section == "pre-data" && !it.OfDatabase {
			testServer().MustExec(t, into, it.SQL+it.InheritedSQL())
		}
	}
	const state = `SELECT string_agg(format('%s %s %s', attrelid::regclass, attname, concat_ws(' ', attislocal, attinhcount, attstorage, attcompression)), '; ' ORDER BY attrelid::regclass::text, attnum)
		FROM pg_attribute WHERE attrelid IN ('g'::regclass, 'p'::regclass, 'c'::regclass, 'd'::regclass, 'e'::regclass) AND attnum > 0`
	require.Contains(t, testServer().MustQuery(t, name, state), "c b f 2 m ")
	require.Equal(t, testServer().MustQuery(t, name, state), testServer().MustQuery(t, into, state))
}

// TestParentsWithDifferentDefaults: they came to that after their child was made, which has a default of its own, none, or follows one of them.
func TestParentsWithDifferentDefaults(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, `CREATE TABLE g (b text DEFAULT 'one', n int, v int); CREATE TABLE p (b text DEFAULT 'one', n int DEFAULT 1, v int);
		CREATE TABLE c (own int, v int DEFAULT 7) INHERITS (g, p); CREATE TABLE d () INHERITS (g, p); CREATE TABLE e (b text) INHERITS (g, p);
		ALTER TABLE p ALTER b SET DEFAULT md5('other'); ALTER TABLE ONLY d ALTER b DROP DEFAULT; ALTER TABLE ONLY g ALTER v SET DEFAULT 1; ALTER TABLE ONLY p ALTER v SET DEFAULT 2`)
	_, m := take(t, options(dsn, newStore(t)))
	into, _ := newDatabase(t)
	for _, it := range m.Schema {
		if it.Section == "pre-data" && !it.OfDatabase {
			testServer().MustExec(t, into, it.SQL+it.InheritedSQL())
		}
	}
	const state = `SELECT string_agg(concat_ws(' ', attrelid::regclass, attname, attislocal, attinhcount, pg_get_expr(adbin, adrelid)), '; ' ORDER BY attrelid::regclass::text, attnum)
		FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid IN ('g'::regclass, 'p'::regclass, 'c'::regclass, 'd'::regclass, 'e'::regclass) AND attnum > 0`
	require.Contains(t, testServer().MustQuery(t, name, state), "c b f 2 md5('other'::text)")
	require.Equal(t, testServer().MustQuery(t, name, state), testServer().MustQuery(t, into, state))
}
