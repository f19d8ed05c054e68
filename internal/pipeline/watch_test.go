package pipeline

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/segment"
)

const (
	narrowed = "ALTER PUBLICATION tidemark SET (publish = 'insert')"
	widened  = "ALTER PUBLICATION tidemark SET (publish = 'insert, update, delete, truncate')"
)

// inexactAt waits for an inexact range of a history that covers a position.
func (r *running) inexactAt(lsn segment.LSN) catalog.InexactPoint {
	r.w.t.Helper()
	var found catalog.InexactPoint
	r.w.eventually("an inexact range that covers "+lsn.String(), func() bool {
		ranges := r.w.view().Inexact()
		i := slices.IndexFunc(ranges, func(p catalog.InexactPoint) bool { return p.From <= lsn && lsn < p.To })
		if i >= 0 {
			found = ranges[i]
		}
		return i >= 0
	})
	return found
}

// recordedBefore checks that the range was in the catalog before any entry that reaches past the position.
func (w *world) recordedBefore(p catalog.InexactPoint, lsn segment.LSN) {
	w.t.Helper()
	for _, e := range w.entries(p.History) {
		require.False(w.t, e.To > lsn && e.Seq < p.Seq, "entry %d [%s, %s) came before inexact entry %d", e.Seq, e.From, e.To, p.Seq)
	}
}

func TestPublicationNarrowedForAMomentIsInexact(t *testing.T) {
	w := newWorld(t, nil)
	w.insert(1, 3)
	w.catchUp()
	r := w.start()
	r.protected()
	w.insert(10, 1)
	w.archivedPast(w.flush())
	before := w.flush()
	w.exec(narrowed)
	w.exec("UPDATE t SET v = 'lost' WHERE id = 1")
	lost := w.flush() - 1
	w.exec(widened)
	p := r.inexactAt(lost)
	require.LessOrEqual(t, p.From, before+1)
	require.Empty(t, p.Tables)
	w.recordedBefore(p, lost)
	s := r.snapshotAfter(p.To - 1)
	require.False(t, p.Touches(s.LSN, s.LSN+1<<20))
	require.NoError(t, r.end())

	w.catchUp()
	require.Len(t, w.view().Inexact(), 1, "what was seen is not found again")
}

func TestPublicationNarrowedWhileNobodyLooksIsInexact(t *testing.T) {
	w := newWorld(t, nil)
	w.insert(1, 3)
	w.catchUp()
	w.exec(narrowed)
	w.exec("UPDATE t SET v = 'lost' WHERE id = 1")
	lost := w.flush() - 1
	w.exec(widened)
	r := w.start()
	p := r.inexactAt(lost)
	w.recordedBefore(p, lost)
	r.snapshotAfter(p.To - 1)
	require.NoError(t, r.end())
}

// TestPublicationThatStaysNarrowEndsTheRun: what is written until it is mended is lost, and known to be.
func TestPublicationThatStaysNarrowEndsTheRun(t *testing.T) {
	w := newWorld(t, nil)
	w.insert(1, 3)
	w.catchUp()
	r := w.start()
	r.protected()
	w.exec(narrowed)
	err := r.wait()
	require.Equal(t, fault.Usage, fault.CodeOf(err), "%v", err)
	require.Contains(t, err.Error(), "update, delete, truncate")
	require.Contains(t, fault.HintOf(err), "SET (publish = 'insert, update, delete, truncate')")
	require.NotEmpty(t, w.view().Inexact())
	require.Equal(t, fault.Usage, fault.CodeOf(w.start().wait()))

	w.exec("UPDATE t SET v = 'lost' WHERE id = 1")
	lost := w.flush() - 1
	w.exec(widened)
	r = w.start()
	p := r.inexactAt(lost)
	w.recordedBefore(p, lost)
	r.snapshotAfter(p.To - 1)
	require.NoError(t, r.end())
}

// TestTableThatJoinsAListIsInexactUntilItsSnapshot: the rows that it had before were never sent.
func TestTableThatJoinsAListIsInexactUntilItsSnapshot(t *testing.T) {
	w := newWorld(t, nil)
	w.exec("CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)")
	w.cfg.Tables = []string{"public.t"}
	w.catchUp()
	r := w.start()
	r.protected()
	w.exec("BEGIN; CREATE TABLE fresh (id int PRIMARY KEY); ALTER PUBLICATION tidemark ADD TABLE fresh; COMMIT; INSERT INTO fresh VALUES (1)")
	w.archivedPast(w.flush())
	w.exec("ALTER PUBLICATION tidemark ADD TABLE other")
	joined := w.flush() - 1
	p := r.inexactAt(joined)
	require.Equal(t, []string{"public.other"}, p.Tables, p.Reason)
	s := r.snapshotAfter(p.To - 1)
	m, err := basesnapshot.ReadManifest(context.Background(), w.store, s.Snapshot)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(m.Tables, func(t basesnapshot.Table) bool { return t.Name == "other" && t.Rows == 1 }))
	for _, p := range w.view().Inexact() {
		require.Equal(t, []string{"public.other"}, p.Tables)
	}
	require.NoError(t, r.end())
}
