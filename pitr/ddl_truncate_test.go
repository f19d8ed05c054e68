package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/ddl"
)

// TestTruncateReachesWhatIsNotArchived: CASCADE also empties tables that are not in the stream, unlogged ones and unpublished ones.
func TestTruncateReachesWhatIsNotArchived(t *testing.T) {
	w := newWorld(t, "reached", `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE c (x int PRIMARY KEY); INSERT INTO a VALUES (1, 'x');
CREATE UNLOGGED TABLE b (id int PRIMARY KEY REFERENCES a); CREATE UNLOGGED TABLE "b 2" (id int REFERENCES b); INSERT INTO b VALUES (1); INSERT INTO "b 2" VALUES (1);
CREATE TABLE ref (id int PRIMARY KEY REFERENCES a); INSERT INTO ref VALUES (1);
CREATE TABLE parts (id int REFERENCES a) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10); INSERT INTO parts VALUES (1)`)
	w.sql("DROP PUBLICATION " + testPublication + "; CREATE PUBLICATION " + testPublication + " FOR TABLE a, c")
	w.snapshot()
	require.NoError(t, ddl.Install(t.Context(), w.conn, ddl.Options{Publication: testPublication}))
	w.sql("ALTER TABLE c ADD COLUMN y int")
	w.sql("TRUNCATE a CASCADE; INSERT INTO a VALUES (2, 'y')")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "reached_back", nil)
	require.Equal(t, hashes(t, "reached")["public.a"], hashes(t, "reached_back")["public.a"])

}
