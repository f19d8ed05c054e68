package apply

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/segment"
)

// TestTableThatNothingFindsRowsOfIsNamedOnce: a table without a key, whose every change reads all of it, and not one that has an index.
func TestTableThatNothingFindsRowsOfIsNamedOnce(t *testing.T) {
	d := newTarget(t, "keyless")
	server.MustExec(t, "keyless", `CREATE TABLE bare (a int, b int); CREATE TABLE found (a int, b int); CREATE INDEX ON found (b)`)
	var notes []string
	a, err := New(t.Context(), Options{Connect: d.connect, Atomic: &Atomic{Progress: note}, Schema: &Schema{Note: func(s string) { notes = append(notes, s) }}})
	require.NoError(t, err)
	changes := []segment.Record{{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: 100, XID: 1}}}
	for id, name := range []string{"bare", "found"} {
		rel := &segment.Relation{ID: uint32(10 + id), Namespace: "public", Name: name, Identity: 'f', Columns: []segment.Column{
			{Flags: 1, Name: "a", TypeOID: int4OID, Modifier: -1}, {Flags: 1, Name: "b", TypeOID: int4OID, Modifier: -1}}}
		for i := range 3 {
			changes = append(changes, segment.Record{Op: segment.OpInsert, Relation: rel, New: []segment.Value{text(i), text(i)}})
			changes = append(changes, segment.Record{Op: segment.OpUpdate, Relation: rel, OldRole: segment.OldFull, Old: []segment.Value{text(i), text(i)}, New: []segment.Value{text(i), text(i + 10)}})
		}
	}
	feed(t, a, append(changes, segment.Record{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: 100, EndLSN: 150}}))
	_, err = a.Finish(t.Context())
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "public.bare reads the whole table")
	require.Equal(t, "33 33", d.value("select (select sum(b) from bare) || ' ' || (select sum(b) from found)"))
}
