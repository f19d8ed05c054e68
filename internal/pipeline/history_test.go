package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
)

// TestSourceRolledBack: a data folder that goes back to an older copy begins a new history, whether its slot
// is in the copy or not, and whether or not its WAL has overtaken the archive's end.
func TestSourceRolledBack(t *testing.T) {
	server := postgres.Start(t, postgres.Options{})
	w := newWorld(t, server)
	require.NoError(t, server.Stop(postgres.Fast))
	withoutSlot, err := server.CopyDataDir("without-slot")
	require.NoError(t, err)
	require.NoError(t, server.Run())
	w.catchUp()
	require.NoError(t, server.Stop(postgres.Fast))
	withSlot, err := server.CopyDataDir("with-slot")
	require.NoError(t, err)
	require.NoError(t, server.Run())
	first := w.insert(1, 20)
	w.catchUp()
	end := w.newest().End

	rollBack := func(to string) {
		require.NoError(t, server.Stop(postgres.Fast))
		require.NoError(t, server.ReplaceDataDir(to))
		require.NoError(t, server.Run())
	}
	rollBack(withSlot)
	second := w.insert(1, 3)
	_, err = TakeSnapshot(context.Background(), w.cfg, nil)
	require.Error(t, err, "its rows are not the first history's")
	w.catchUp()
	w.holdsOnce(1, first)
	w.holdsOnce(2, second)
	require.Equal(t, end, w.view().End(1), "the first history ended where it was")
	_, ok := newestSnapshot(w.view())
	require.True(t, ok, "what --until archived can be restored")

	rollBack(withSlot)
	w.insert(100, 2)
	for i := 1000; w.flush() <= w.newest().End; i += 20 {
		w.insert(i, 20)
	}
	w.catchUp()
	require.Len(t, w.view().Histories(), 3, "its WAL has overtaken the archive's end, but holds other commits")

	rollBack(withoutSlot)
	require.Less(t, w.flush(), w.newest().End)
	w.catchUp()
	require.Len(t, w.view().Histories(), 4)
	require.Empty(t, w.view().Gaps())
	w.acknowledgedIsDurable()
}

// TestPromotion: an archive that was not ahead of the promotion goes on; one that was begins a new history.
func TestPromotion(t *testing.T) {
	primary := postgres.Start(t, postgres.Options{})
	w := newWorld(t, primary)
	w.catchUp()
	// A copy of the stopped server promoted is a standby with a synchronised slot.
	require.NoError(t, primary.Stop(postgres.Fast))
	standby, err := primary.CopyDataDir("standby")
	require.NoError(t, err)
	require.NoError(t, primary.Run())
	lost := w.insert(1, 3)
	w.catchUp()
	archived := w.newest().End

	fail := func() {
		require.NoError(t, primary.Stop(postgres.Fast))
		require.NoError(t, primary.ReplaceDataDir(standby))
		require.NoError(t, os.WriteFile(filepath.Join(primary.DataDir, "standby.signal"), nil, 0o666))
		require.NoError(t, primary.Run())
		w.eventually("the standby answers", func() bool { _, err := primary.Query(context.Background(), w.db, "SELECT 1"); return err == nil })
		err := w.start().wait()
		require.Equal(t, fault.Usage, fault.CodeOf(err), "a standby is no source: %v", err)
		w.query("SELECT pg_promote()")
	}
	fail()
	other := w.insert(10, 3)
	w.catchUp()
	h := w.newest()
	require.EqualValues(t, 2, h.Number)
	require.EqualValues(t, 2, h.Begins.Timeline)
	require.NotZero(t, h.Begins.Fork)
	require.LessOrEqual(t, h.Begins.Fork, archived)
	w.holdsOnce(1, lost)
	w.holdsOnce(2, other)

	require.NoError(t, primary.Stop(postgres.Fast))
	standby, err = primary.CopyDataDir("standby-2")
	require.NoError(t, err)
	require.NoError(t, primary.Run())
	fail()
	more := w.insert(20, 3)
	w.catchUp()
	require.EqualValues(t, 2, w.newest().Number, "the archive was not ahead: %s", w.newest().Begins.Reason)
	w.holdsOnce(2, append(other, more...))
	require.EqualValues(t, 3, w.view().Epoch().Writer.Timeline)
}

var errCrash = errors.New("crash")

// TestCrashesWhileAnArchiveBegins: after each, a plain start goes on.
func TestCrashesWhileAnArchiveBegins(t *testing.T) {
	for name, at := range map[string]string{"before the archive": "archive.json", "before the history": "catalog/log/", "before the snapshot": "snapshots/"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.store.OnPut(func(key string) error {
				if strings.HasPrefix(key, at) {
					return errCrash
				}
				return nil
			})
			r := w.start()
			if at == "snapshots/" {
				w.eventually("the snapshot fails", func() bool { return strings.Contains(r.log.String(), "base snapshot failed") })
				r.killed()
			} else {
				require.ErrorIs(t, r.wait(), errCrash)
			}
			w.store.OnPut(nil)
			xids := w.insert(1, 2)
			w.catchUp()
			if at == "archive.json" {
				xids = nil // there was no slot then: the base snapshot has these rows
			}
			xids = append(xids, w.insert(3, 2)...)
			w.catchUp()
			w.holdsOnce(1, xids)
			_, ok := newestSnapshot(w.view())
			require.True(t, ok)
			require.Len(t, w.view().Histories(), 1)
		})
	}
}

// TestLostCatalogIsNotBegunAnew: an archive without a single entry whose objects are there is no first start that was
// killed. The slot stays where it is.
func TestLostCatalogIsNotBegunAnew(t *testing.T) {
	w := newWorld(t, nil)
	w.insert(1, 2)
	w.catchUp()
	for info, err := range w.store.List(context.Background(), "catalog/", "") {
		require.NoError(t, err)
		require.NoError(t, w.store.Delete(context.Background(), info.Key))
	}
	w.insert(10, 2)
	confirmed := w.query("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '" + w.slot() + "'")
	for _, unasked := range []bool{true, false} {
		err := w.start(func(c *Config) { c.Until, c.NewArchive = "current", !unasked }).wait()
		require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
		require.ErrorContains(t, err, "catalog/log/")
		require.Contains(t, fault.HintOf(err), "--new-archive")
	}
	require.Equal(t, confirmed, w.query("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '"+w.slot()+"'"))
}

// TestSlotInUseIsNotAdopted: another archiver reads it, into another archive.
func TestSlotInUseIsNotAdopted(t *testing.T) {
	w := newWorld(t, nil)
	r := w.start()
	r.protected()
	theirs := w.store
	w.store = faulty.New(objectstore.NewMem())
	err := w.start(func(c *Config) { c.Store, c.NewArchive = w.store, true }).wait()
	require.Equal(t, fault.Conflict, fault.CodeOf(err), "%v", err)
	require.Contains(t, err.Error(), "is in use by process")
	require.Nil(t, w.view(), "the new archive")
	w.store = theirs
	w.archivedPast(w.flush())
	require.NoError(t, r.end())
}

// TestSlotOfAnEmptyArchiveIsNotAdoptedUnasked.
func TestSlotOfAnEmptyArchiveIsNotAdoptedUnasked(t *testing.T) {
	w := newWorld(t, nil)
	w.exec("CREATE PUBLICATION tidemark FOR ALL TABLES")
	w.query("SELECT pg_create_logical_replication_slot('" + w.slot() + "', 'pgoutput')::text")
	xids := w.insert(1, 2)
	err := w.start().wait()
	require.Equal(t, fault.Gap, fault.CodeOf(err), "%v", err)
	require.Nil(t, w.view())
	w.catchUp(func(c *Config) { c.NewArchive = true })
	w.holdsOnce(1, xids)
}
