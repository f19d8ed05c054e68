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
