package pipeline

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/internal/fault"
	"tidemark/objectstore"
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

// TestVerifiedBeforeGoesBackAMinute: what a killed archiver appended in its last minute it may not have looked at.
func TestVerifiedBeforeGoesBackAMinute(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	log, err := catalog.Create(t.Context(), objectstore.NewMem(), catalog.Identity{ID: uuid.NewString(), Made: at, SystemID: "1", Database: "d", Slot: "s"},
		catalog.WithClock(func() time.Time { return at }))
	require.NoError(t, err)
	put := func(e catalog.Entry) {
		_, err := log.Append(t.Context(), func(*catalog.View) (catalog.Entry, error) { return e, nil })
		require.NoError(t, err)
	}
	good := func() segment.LSN {
		h, _ := log.View().Newest()
		lsn, err := verifiedBefore(t.Context(), log.View(), h)
		require.NoError(t, err)
		return lsn
	}
	put(catalog.Entry{Kind: catalog.KindWriter, Writer: &catalog.Writer{Instance: "i", Timeline: 1}})
	put(catalog.Entry{Kind: catalog.KindHistory, History: 1, From: 0x1000, Begins: &catalog.History{SystemID: "1", Timeline: 1, Reason: "it begins"}})
	require.EqualValues(t, 0x1000, good())
	const step = 40 << 20 // larger than the first part that is read
	end := segment.LSN(0x1000)
	for range 10 {
		at = at.Add(25 * time.Second)
		put(catalog.Entry{Kind: catalog.KindWatermark, Epoch: 1, History: 1, From: end, To: end + step, Watermark: &catalog.Watermark{}})
		end += step
	}
	require.Equal(t, end-3*step, good(), "the last three entries are less than a minute older than the newest")
	at = at.Add(time.Hour)
	put(catalog.Entry{Kind: catalog.KindWatermark, Epoch: 1, History: 1, From: end, To: end + 1, Watermark: &catalog.Watermark{}})
	require.Equal(t, end, good())
	put(catalog.Entry{Kind: catalog.KindWriter, Epoch: 1, Writer: &catalog.Writer{Instance: "i", Timeline: 1, Stopped: true}})
	require.Equal(t, end, good())
}
