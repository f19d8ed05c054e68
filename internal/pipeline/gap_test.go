package pipeline

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
)

func acceptGap(c *Config) { c.AcceptGap = true }

// requireGap checks that the archiver leaves with exit 6, and then that it goes on with --accept-gap: the
// hole is recorded, a base snapshot stands behind it, and what is committed then is archived.
func requireGap(t *testing.T, w *world) {
	t.Helper()
	err := w.start().wait()
	require.Equal(t, fault.Gap, fault.CodeOf(err), "%v", err)
	require.NotEmpty(t, fault.HintOf(err))
	require.Empty(t, w.view().Gaps(), "nothing is stepped over unasked")
	end := w.newest().End

	r := w.start(acceptGap)
	w.eventually("the gap", func() bool { r.lives(); return len(w.view().Gaps()) == 1 })
	r.protected()
	require.Equal(t, end, w.view().Gaps()[0].From)
	after := w.insert(900, 3)
	w.archivedPast(w.flush())
	w.holdsOnce(1, after)
	require.NoError(t, r.end())
}

func TestSlotAdvancedByAnotherIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.insert(1, 3)
	w.query("SELECT pg_replication_slot_advance('" + w.slot() + "', pg_current_wal_flush_lsn())::text")
	requireGap(t, w)
}

func TestDroppedSlotIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.insert(1, 3)
	w.query("SELECT pg_drop_replication_slot('" + w.slot() + "')::text")
	requireGap(t, w)
}

func TestDroppedPublicationIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.exec("DROP PUBLICATION tidemark")
	w.insert(1, 3)
	requireGap(t, w)
}

// TestPublicationMadeAgainIsAGap: what was written without the publication can't be decoded, although there
// is one again.
func TestPublicationMadeAgainIsAGap(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.exec("DROP PUBLICATION tidemark")
	w.insert(1, 3)
	w.exec("CREATE PUBLICATION tidemark FOR ALL TABLES")
	requireGap(t, w)
}

// TestPublicationDroppedWhileStreaming ends the run, and the run that accepts the gap mends it by itself.
func TestPublicationDroppedWhileStreaming(t *testing.T) {
	w := newWorld(t, nil)
	r := w.start()
	r.protected()
	w.exec("DROP PUBLICATION tidemark")
	w.insert(1, 3)
	err := r.wait()
	require.Equal(t, fault.Gap, fault.CodeOf(err), "%v", err)
	require.Contains(t, fault.HintOf(err), "--accept-gap")
	requireGap(t, w)
}
