package pipeline

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/objectstore"
)

func TestDeadProcessesOfThisHostAreNoRivals(t *testing.T) {
	self := instance{id: "self", host: "here", pid: 1}
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	living := exec.Command("cat") // waits for its standard input
	in, err := living.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, living.Start())
	defer func() { _ = in.Close(); _ = living.Wait() }()

	require.True(t, self.knowsDead(catalog.Writer{Host: "here", PID: gone.Process.Pid}))
	require.False(t, self.knowsDead(catalog.Writer{Host: "here", PID: living.Process.Pid}))
	require.False(t, self.knowsDead(catalog.Writer{Host: "there", PID: gone.Process.Pid}), "another host's processes can't be asked")
	require.True(t, self.knowsDead(catalog.Writer{Host: "here", PID: 1}), "its number is ours now")
}

// TestSilence: a writer is as silent as its own newest entry says, whatever others append and with what clock.
func TestSilence(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	claim := catalog.Entry{Kind: catalog.KindWriter, Epoch: 1, Writer: &catalog.Writer{Instance: "other", Host: "there", PID: 7, Timeline: 1}}
	history := catalog.Entry{Kind: catalog.KindHistory, History: 1, From: 0x1000, Begins: &catalog.History{SystemID: "1", Timeline: 1, ServerVersion: 150000, Database: "d", Slot: "s"}}
	watermark := catalog.Entry{Kind: catalog.KindWatermark, History: 1, Epoch: 1, From: 0x1000, To: 0x1100, Watermark: &catalog.Watermark{}}
	hold := catalog.Entry{Kind: catalog.KindHold, Hold: &catalog.Hold{Name: "h"}}
	type written struct {
		entry catalog.Entry
		ago   time.Duration
	}
	for name, c := range map[string]struct {
		log    []written
		silent time.Duration
		known  bool
	}{
		"a watermark":               {[]written{{history, 2 * time.Hour}, {claim, time.Hour}, {watermark, time.Second}}, time.Second, true},
		"a claim":                   {[]written{{history, 2 * time.Hour}, {claim, time.Second}}, time.Second, true},
		"a clock a little ahead":    {[]written{{history, 2 * time.Hour}, {claim, time.Hour}, {watermark, -3 * time.Second}}, 0, true},
		"another's hold":            {[]written{{history, 2 * time.Hour}, {claim, time.Hour}, {hold, time.Second}}, time.Hour, true},
		"a hold from the future":    {[]written{{history, 2 * time.Hour}, {claim, time.Hour}, {hold, -240 * time.Hour}}, time.Hour, true},
		"a watermark of the future": {[]written{{history, 2 * time.Hour}, {claim, time.Hour}, {watermark, -240 * time.Hour}}, time.Hour, true},
		"nothing but the future":    {[]written{{history, 2 * time.Hour}, {claim, -240 * time.Hour}, {watermark, -240 * time.Hour}}, 0, false},
		"a history not claimed yet": {[]written{{claim, time.Hour}, {history, time.Second}}, time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			log, err := catalog.Create(context.Background(), objectstore.NewMem(), catalog.Identity{ID: uuid.NewString(), Made: now})
			require.NoError(t, err)
			for _, w := range c.log {
				_, err := log.Append(context.Background(), func(*catalog.View) (catalog.Entry, error) { w.entry.At = now.Add(-w.ago); return w.entry, nil })
				require.NoError(t, err)
			}
			silent, known, err := silence(context.Background(), log.View(), now)
			require.NoError(t, err)
			require.Equal(t, c.known, known)
			require.Equal(t, c.silent, silent)
		})
	}
}

// TestEntryFromTheFutureKeepsNobodyOut: another host's archiver is silent for an hour, and a hold was set with a clock that is days
// ahead. Its watermark of just now keeps a new history out.
func TestEntryFromTheFutureKeepsNobodyOut(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	appendAt := func(ago time.Duration, build func(*catalog.View) catalog.Entry) {
		log, err := catalog.Open(context.Background(), w.store)
		require.NoError(t, err)
		_, err = log.Append(context.Background(), func(v *catalog.View) (catalog.Entry, error) {
			e := build(v)
			e.At = time.Now().Add(-ago)
			return e, nil
		})
		require.NoError(t, err)
	}
	appendAt(time.Hour, func(v *catalog.View) catalog.Entry {
		return catalog.Entry{Kind: catalog.KindWriter, Writer: &catalog.Writer{Instance: "other", Host: "there", PID: 7, Timeline: v.Epoch().Writer.Timeline}}
	})
	watermark := func(v *catalog.View) catalog.Entry {
		return catalog.Entry{Kind: catalog.KindWatermark, Epoch: v.Epoch().Epoch, History: 1, From: v.End(1), To: v.End(1) + 1, Watermark: &catalog.Watermark{}}
	}
	hold := func(*catalog.View) catalog.Entry {
		return catalog.Entry{Kind: catalog.KindHold, Hold: &catalog.Hold{Name: "incident"}}
	}
	slot := w.slot()
	w.dropSlots()
	dsn := w.server.CreateDatabase(t, w.db+"_2")
	w.db += "_2" // another source under the same configuration begins a new history
	w.exec("CREATE TABLE t (id int PRIMARY KEY, v text)")
	t.Cleanup(w.dropSlots)
	change := func(c *Config) { c.DSN, c.Slot, c.Until = dsn, slot, "current" }

	appendAt(0, watermark)
	err := w.start(change).wait()
	require.Equal(t, fault.Conflict, fault.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "another archiver (there, process 7) wrote")
	appendAt(time.Hour, watermark)
	appendAt(-240*time.Hour, hold)
	require.NoError(t, w.start(change).wait())
	require.Len(t, w.view().Histories(), 2)
}
