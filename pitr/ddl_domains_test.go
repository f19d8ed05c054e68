package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestRowsOlderThanTheirDomainsConstraint: a constraint of a domain that is NOT VALID lets older rows be, and updates of their
// other columns.
func TestRowsOlderThanTheirDomainsConstraint(t *testing.T) {
	w := newWorld(t, "domains", `CREATE SCHEMA "S;"; CREATE DOMAIN "S;".word AS varchar(9); CREATE DOMAIN "S;"."Word 2" AS "S;".word; CREATE TYPE pair AS (a int, b text); CREATE DOMAIN paired AS pair;
CREATE TABLE keyed (id int PRIMARY KEY, w "S;"."Word 2", p paired, n int); CREATE TABLE full_row (id int, w "S;".word, n int); ALTER TABLE full_row REPLICA IDENTITY FULL;
CREATE TABLE key_too (w "S;".word PRIMARY KEY, n int); INSERT INTO key_too VALUES ('old', 1);
INSERT INTO keyed SELECT i, CASE WHEN i % 2 = 0 THEN 'old' END, (i, 'x')::pair, 1 FROM generate_series(1, 40) i; INSERT INTO full_row SELECT i, NULL, 1 FROM generate_series(1, 40) i;
ALTER DOMAIN "S;".word ADD CHECK (VALUE IS NOT NULL AND VALUE <> 'old') NOT VALID; ALTER DOMAIN paired ADD CHECK ((VALUE).b = 'y') NOT VALID`)
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	update := func(word string) {
		w.sql(`UPDATE keyed SET n = n + 1; UPDATE full_row SET n = n + 1; UPDATE key_too SET n = n + 1; UPDATE keyed SET w = '` + word + ` ' || id, p = (id, 'y')::pair WHERE id = 7`)
		w.sql("UPDATE full_row SET w = 'x', n = 7 WHERE id = 3; INSERT INTO keyed VALUES ((SELECT max(id) + 1 FROM keyed), 'fresh', (1, 'y')::pair, 1); UPDATE keyed SET id = id + 100 WHERE id = 4")
	}
	update("new")
	w.archive()
	same := func(into string, change func(*Options)) {
		w.restore(Target{Kind: ToLatest}, into, change)
		w.sameRows(into)
	}
	same("domains_folded", nil)
	same("domains_in_order", func(o *Options) { o.NoFold = true })
	w.sql(`ALTER DOMAIN "S;".word ADD CONSTRAINT later CHECK (VALUE <> 'new 7') NOT VALID`)
	update("next")
	w.archive()
	same("domains_changed", nil)
}

// TestLargeRowsOlderThanTheirDomainsConstraint has such rows with values that go through temporary tables.
func TestLargeRowsOlderThanTheirDomainsConstraint(t *testing.T) {
	w := newWorld(t, "domains_large", `CREATE DOMAIN word AS varchar(9); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN paired AS pair; CREATE DOMAIN bits AS bit(3) NOT NULL;
CREATE TABLE keyed (id int PRIMARY KEY, w word, p paired, b bits, big text, n int); CREATE TABLE full_row (id int, w word, p paired, b bits, big text, n int); ALTER TABLE full_row REPLICA IDENTITY FULL;
CREATE TABLE key_too (w word PRIMARY KEY, big text); INSERT INTO key_too VALUES ('old', 'x'), ('other', 'x');
INSERT INTO keyed SELECT i, 'old', (i, 'x')::pair, B'101', 'x', 1 FROM generate_series(1, 4) i; INSERT INTO full_row SELECT * FROM keyed;
ALTER DOMAIN word ADD CHECK (VALUE <> 'old') NOT VALID; ALTER DOMAIN paired ADD CHECK ((VALUE).b = 'y') NOT VALID`)
	w.sql("UPDATE keyed SET n = n + 1, big = repeat(md5('x'), 40000); UPDATE full_row SET n = n + 1, big = repeat(md5('x'), 40000); UPDATE key_too SET big = repeat(md5('x'), 40000)")
	w.sql("UPDATE keyed SET n = n + 1; UPDATE full_row SET n = n + 1; UPDATE key_too SET w = w || '2' WHERE w = 'other'")
	w.sql("UPDATE keyed SET w = 'new', b = B'011', big = repeat(md5('y'), 40000) WHERE id < 3; UPDATE full_row SET w = 'new', p = (1, 'y')::pair, big = 'small' WHERE id < 3; UPDATE keyed SET id = id + 10, big = repeat(md5('z'), 40000) WHERE id > 2")
	w.sql("DELETE FROM full_row WHERE id = 3")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "domains_large_back", func(o *Options) { o.NoFold = true })
	w.sameRows("domains_large_back")
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("ALTER DOMAIN word ADD CONSTRAINT later CHECK (VALUE <> 'new') NOT VALID")
	w.sql("UPDATE keyed SET n = n + 1, big = repeat(md5('q'), 40000)")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "domains_large_changed", nil)
	w.sameRows("domains_large_changed")
}
