package apply

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/segment"
)

// TestEmptyStringsAreNoNulls: also where no other value of the buffer has a byte, and none that the buffer held before had.
func TestEmptyStringsAreNoNulls(t *testing.T) {
	d := newTarget(t, "empties")
	server.MustExec(t, "empties", "CREATE TABLE settings (name text PRIMARY KEY, v text, w text); INSERT INTO settings VALUES ('', 'x', 'x')")
	settings := &segment.Relation{ID: 2, Namespace: "public", Name: "settings", Identity: 'd', Columns: []segment.Column{
		{Flags: 1, Name: "name", TypeOID: textOID, Modifier: -1}, {Name: "v", TypeOID: textOID, Modifier: -1}, {Name: "w", TypeOID: textOID, Modifier: -1}}}
	null := segment.Value{Kind: segment.Null}
	row := []segment.Value{value(""), value(""), null}
	step := func(r segment.Record, want string) {
		t.Helper()
		r.Relation = settings
		buffers = sync.Pool{New: buffers.New}
		a := d.applier(Atomic{})
		feed(t, a, []segment.Record{
			{Op: segment.OpBegin, Begin: segment.Begin{CommitLSN: 100, XID: 1}}, r,
			{Op: segment.OpCommit, Commit: segment.Commit{CommitLSN: 100, EndLSN: 150}}})
		require.NoError(t, a.Flush(t.Context()))
		a.Abort()
		require.Equal(t, want, d.value("select coalesce(string_agg(s::text, ' '), 'none') from settings s"))
	}
	step(segment.Record{Op: segment.OpUpdate, New: row}, `("","",)`)
	step(segment.Record{Op: segment.OpDelete, OldRole: segment.OldKey, Old: []segment.Value{value(""), null, null}}, "none")
	step(segment.Record{Op: segment.OpInsert, New: row}, `("","",)`)
}
