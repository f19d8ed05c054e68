package pipeline

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
)

// listed makes a world whose archive holds the tables of schema app.
func listed(t *testing.T) (*world, *running) {
	w := newWorld(t, nil)
	w.exec("CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY)")
	w.cfg.Tables = []string{"app.*"}
	w.catchUp()
	r := w.start()
	r.protected()
	return w, r
}

// inserted returns how many rows of a table the archive's segments hold.
func (w *world) inserted(namespace, name string) (n int64) {
	for _, e := range w.entries(1) {
		if e.Kind != catalog.KindSegment {
			continue
		}
		for _, c := range e.Segment.Tables {
			if c.Table == namespace+"."+name {
				n += c.Inserts
			}
		}
	}
	return n
}

// TestNewTableThatMatchesTheListJoins: it is complete from its base snapshot on, and not exact until then.
func TestNewTableThatMatchesTheListJoins(t *testing.T) {
	w, r := listed(t)
	w.exec("CREATE TABLE app.fresh (id int); INSERT INTO app.fresh VALUES (1); CREATE TABLE other (id int); INSERT INTO other VALUES (1)")
	lost := w.flush() - 1
	p := r.inexactAt(lost)
	require.Equal(t, []string{"app.fresh"}, p.Tables, p.Reason)
	w.recordedBefore(p, lost)
	s := r.snapshotAfter(p.To - 1)
	m, err := basesnapshot.ReadManifest(t.Context(), w.store, s.Snapshot)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(m.Tables, func(t basesnapshot.Table) bool { return t.Name == "fresh" && t.Rows == 1 }))

	w.exec("INSERT INTO app.fresh VALUES (2), (3); UPDATE app.fresh SET id = 4 WHERE id = 3; UPDATE other SET id = 2")
	w.archivedPast(w.flush())
	require.EqualValues(t, 2, w.inserted("app", "fresh"))
	require.Zero(t, w.inserted("public", "other"))
	require.NoError(t, r.end())

	w.exec("CREATE TABLE app.unseen (id int PRIMARY KEY, part int) PARTITION BY LIST (id); CREATE TABLE app.unseen1 PARTITION OF app.unseen DEFAULT; INSERT INTO app.unseen VALUES (1)")
	lost = w.flush() - 1
	r = w.start()
	p = r.inexactAt(lost)
	require.Equal(t, []string{"app.unseen1"}, p.Tables, p.Reason)
	w.recordedBefore(p, lost)
	r.snapshotAfter(p.To - 1)
	require.NoError(t, r.end())
	require.Len(t, w.view().Inexact(), 2)
}

// TestPatternsInAnotherOrderAreTheSame list.
func TestPatternsInAnotherOrderAreTheSame(t *testing.T) {
	w := newWorld(t, nil)
	w.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
	tables := func(list ...string) func(*Config) { return func(c *Config) { c.Until, c.Tables = "current", list } }
	w.catchUp(tables("b", "a"))
	w.catchUp(tables("a", "b"))
	w.catchUp(tables("a", "b", "a"))
	require.Equal(t, []string{"b", "a"}, w.newest().Begins.Tables)
	err := w.start(tables("a")).wait()
	require.Equal(t, fault.Usage, fault.CodeOf(err))
	require.ErrorContains(t, err, "this archive holds b, a, not a")
}

// TestNewTableThatCannotJoinIsTold once: in the log, as an inexact range, and by the base snapshot that follows.
func TestNewTableThatCannotJoinIsTold(t *testing.T) {
	w, r := listed(t)
	w.exec("BEGIN; CREATE TABLE app.keyless (id int); ALTER TABLE app.keyless REPLICA IDENTITY NOTHING; INSERT INTO app.keyless VALUES (1); COMMIT")
	lost := w.flush() - 1
	p := r.inexactAt(lost)
	require.Equal(t, []string{"app.keyless"}, p.Tables, p.Reason)
	require.Contains(t, p.Reason, "REPLICA IDENTITY NOTHING")
	w.recordedBefore(p, lost)
	require.Contains(t, r.log.String(), "ALTER TABLE app.keyless REPLICA IDENTITY FULL; ALTER PUBLICATION")
	s := r.snapshotAfter(p.To - 1)
	m, err := basesnapshot.ReadManifest(t.Context(), w.store, s.Snapshot)
	require.NoError(t, err)
	require.Contains(t, m.Omitted, basesnapshot.Omission{Kind: "unpublished table", Namespace: "app", Name: "keyless"})
	w.exec("UPDATE app.keyless SET id = 2")
	require.NoError(t, r.end())

	w.catchUp()
	require.Len(t, w.view().Inexact(), 1, "what was told is not told again")
}

// TestTableThatWasTakenOutOfTheListStaysOut: whoever did it meant it.
func TestTableThatWasTakenOutOfTheListStaysOut(t *testing.T) {
	w, r := listed(t)
	w.exec("ALTER PUBLICATION tidemark DROP TABLE app.a")
	p := r.inexactAt(w.flush() - 1)
	require.Equal(t, []string{"app.a"}, p.Tables, p.Reason)
	r.snapshotAfter(p.To - 1)
	w.exec("CREATE TABLE app.b (id int PRIMARY KEY)")
	require.Equal(t, []string{"app.b"}, r.inexactAt(w.flush()-1).Tables)
	require.NoError(t, r.end())
	w.catchUp()
	require.Equal(t, "b", w.query("SELECT string_agg(tablename, ' ') FROM pg_publication_tables WHERE pubname = 'tidemark'"))
	require.Equal(t, 2, len(w.view().Inexact()), "%v", w.view().Inexact())
	require.False(t, strings.Contains(r.log.String(), "app.a is to be archived"))
}
