package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestRowsOlderThanAnAttribute: a value of a composite type that got another attribute has one text and two images, the one
// that was stored before and the one that is made of the text now.
func TestRowsOlderThanAnAttribute(t *testing.T) {
	w := newWorld(t, "attributes", `CREATE TYPE pair AS (a int, b text); CREATE DOMAIN paired AS pair;
CREATE TABLE t (id int, p pair, ps pair[], d paired, big text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i % 7, (i % 5, 'x')::pair, array[(i, NULL)::pair], (1, '')::pair FROM generate_series(1, 30) i;
CREATE TABLE by_index (id int, p pair); CREATE INDEX ON by_index (p); ALTER TABLE by_index REPLICA IDENTITY FULL; INSERT INTO by_index SELECT i, (i, 'x')::pair FROM generate_series(1, 30) i;
CREATE TABLE parts (id int, p pair) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100); CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
ALTER TABLE parts REPLICA IDENTITY FULL; ALTER TABLE parts_1 REPLICA IDENTITY FULL; ALTER TABLE parts_2 REPLICA IDENTITY FULL; INSERT INTO parts SELECT i, (i, 'x')::pair FROM generate_series(1, 10) i`)
	w.sql("DROP PUBLICATION " + testPublication + "; CREATE PUBLICATION " + testPublication + " FOR ALL TABLES WITH (publish_via_partition_root)")
	w.snapshot()
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("UPDATE t SET id = id + 10 WHERE id < 3; UPDATE by_index SET id = id + 10 WHERE id < 3")
	w.sql("ALTER DOMAIN paired ADD CHECK ((VALUE).a > 0); DROP INDEX by_index_p_idx")
	w.sql("ALTER TABLE t ALTER d TYPE pair; ALTER TYPE pair ADD ATTRIBUTE c int; CREATE INDEX ON by_index (p)")
	w.sql("INSERT INTO t SELECT id, p, ps, d FROM t WHERE id > 4; UPDATE t SET id = id + 100 WHERE ctid IN (SELECT min(ctid) FROM t GROUP BY id, p); DELETE FROM t WHERE id % 10 = 3")
	w.sql("UPDATE by_index SET id = id + 100; DELETE FROM by_index WHERE id % 3 = 0; UPDATE parts SET id = id + 100 WHERE id > 5; DELETE FROM parts WHERE id % 3 = 0")
	w.sql("UPDATE t SET big = repeat(md5('x'), 40000) WHERE ctid IN (SELECT ctid FROM t WHERE big IS NULL LIMIT 3)")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "attributes_back", nil)
	w.sameRows("attributes_back")
}
