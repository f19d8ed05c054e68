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

// TestDeadProcessesAreNoRivals: who is dead is told by boot, PID namespace and start, never by an equal PID alone.
func TestDeadProcessesAreNoRivals(t *testing.T) {
	self := newInstance()
	require.NotEmpty(t, self.boot)
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	living := exec.Command("cat") // waits for its standard input
	in, err := living.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, living.Start())
	defer func() { _ = in.Close(); _ = living.Wait() }()
	started, err := startOf(living.Process.Pid)
	require.NoError(t, err)
	require.GreaterOrEqual(t, started, self.started)

	writer := func(pid int, started uint64, change ...func(*catalog.Writer)) catalog.Writer {
		w := catalog.Writer{Instance: "other", Host: self.host, PID: pid, Boot: self.boot, PIDNamespace: self.namespace, Started: started}
		for _, c := range change {
			c(&w)
		}
		return w
	}
	require.True(t, self.knowsDead(writer(gone.Process.Pid, started)))
	require.False(t, self.knowsDead(writer(living.Process.Pid, started)))
	require.True(t, self.knowsDead(writer(living.Process.Pid, started-1)), "its PID is another's now")
	require.True(t, self.knowsDead(writer(self.pid, self.started-1)), "a container that was restarted with the same PID")
	for name, other := range map[string]func(*catalog.Writer){
		"host":      func(w *catalog.Writer) { w.Host = "there" },
		"boot":      func(w *catalog.Writer) { w.Boot = "11111111-2222-3333-4444-555555555555" },
		"namespace": func(w *catalog.Writer) { w.PIDNamespace = "pid:[1]" },
		"version":   func(w *catalog.Writer) { w.Boot, w.PIDNamespace, w.Started = "", "", 0 },
	} {
		for _, pid := range []int{gone.Process.Pid, living.Process.Pid, self.pid} {
			require.False(t, self.knowsDead(writer(pid, started-1, other)), "of another %s", name)
		}
	}
	silent := instance{host: self.host, pid: self.pid}
	require.False(t, silent.knowsDead(catalog.Writer{Host: self.host, PID: self.pid}), "the system says nothing")
	require.False(t, silent.knowsDead(writer(gone.Process.Pid, started)))
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

// rivalry is an archive whose newest claim is another archiver's, and another source under the same configuration, which has to
// begin a new history.
func rivalry(t *testing.T, writer func(*catalog.Writer)) (w *world, source func(*Config)) {
	w = newWorld(t, nil)
	w.catchUp()
	w.appendAt(time.Hour, func(v *catalog.View) catalog.Entry {
		other := v.Epoch().Writer
		other.Instance, other.Stopped = "other", false
		writer(&other)
		return catalog.Entry{Kind: catalog.KindWriter, Writer: &other}
	})
	slot := w.slot()
	w.dropSlots()
	w.db += "_2"
	dsn := w.server.CreateDatabase(t, w.db)
	w.exec("CREATE TABLE t (id int PRIMARY KEY, v text)")
	t.Cleanup(w.dropSlots)
	return w, func(c *Config) { c.DSN, c.Slot, c.Until = dsn, slot, "current" }
}

// appendAt appends an entry by a clock that stood so long ago.
func (w *world) appendAt(ago time.Duration, build func(*catalog.View) catalog.Entry) {
	log, err := catalog.Open(context.Background(), w.store)
	require.NoError(w.t, err)
	_, err = log.Append(context.Background(), func(v *catalog.View) (catalog.Entry, error) {
		e := build(v)
		e.At = time.Now().Add(-ago)
		return e, nil
	})
	require.NoError(w.t, err)
}

// nextWatermark is what the newest claim's writer appends next.
func nextWatermark(v *catalog.View) catalog.Entry {
	return catalog.Entry{Kind: catalog.KindWatermark, Epoch: v.Epoch().Epoch, History: 1, From: v.End(1), To: v.End(1) + 1, Watermark: &catalog.Watermark{}}
}

// TestEntryFromTheFutureKeepsNobodyOut: another host's archiver is silent for an hour, and a hold was set with a clock that is days
// ahead. Its watermark of just now keeps a new history out.
func TestEntryFromTheFutureKeepsNobodyOut(t *testing.T) {
	w, source := rivalry(t, func(other *catalog.Writer) { other.Host, other.PID = "there", 7 })
	w.appendAt(0, nextWatermark)
	err := w.start(source).wait()
	require.Equal(t, fault.Conflict, fault.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "another archiver (there, process 7) wrote")
	w.appendAt(time.Hour, nextWatermark)
	w.appendAt(-240*time.Hour, func(*catalog.View) catalog.Entry {
		return catalog.Entry{Kind: catalog.KindHold, Hold: &catalog.Hold{Name: "incident"}}
	})
	require.NoError(t, w.start(source).wait())
	require.Len(t, w.view().Histories(), 2)
}

// TestEqualHostAndPIDMakeNoPredecessor: containers of two clusters have one host name, and PID 1 each; only one that was
// restarted in the other's place takes the archive over.
func TestEqualHostAndPIDMakeNoPredecessor(t *testing.T) {
	w, source := rivalry(t, func(other *catalog.Writer) { other.PIDNamespace = "pid:[1]" })
	w.appendAt(0, nextWatermark)
	err := w.start(source).wait()
	require.Equal(t, fault.Conflict, fault.CodeOf(err), "%v", err)
	w.appendAt(0, func(v *catalog.View) catalog.Entry {
		other := v.Epoch().Writer
		other.PIDNamespace, other.Started = newInstance().namespace, 1
		return catalog.Entry{Kind: catalog.KindWriter, Writer: &other}
	})
	require.NoError(t, w.start(source).wait())
	require.Len(t, w.view().Histories(), 2)
}
