package pipeline

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/walstream"
)

// TestSecondWriterIsFenced: who takes the slot over while the first is cut off from it voids what the first has
// on its way; the first leaves with exit 5.
func TestSecondWriterIsFenced(t *testing.T) {
	w := newWorld(t, nil)
	store := &silentStore{Store: w.store, hit: make(chan struct{}), answer: make(chan struct{})}
	first := w.start(func(c *Config) { c.Store = store })
	first.protected()
	err := w.start().wait()
	require.Equal(t, fault.Conflict, fault.CodeOf(err), "the slot is in use: %v", err)

	store.armed.Store(true)
	xids := w.insert(1, 3)
	<-store.hit
	// Whoever gets the slot first is the archive's writer, the other one leaves.
	second := w.start()
	w.query("SELECT pg_terminate_backend(active_pid)::text FROM pg_replication_slots WHERE slot_name = '" + w.slot() + "'")
	close(store.answer)
	xids = append(xids, w.insert(10, 3)...)
	w.archivedPast(w.flush())
	select {
	case <-first.done:
		require.Equal(t, fault.Conflict, fault.CodeOf(first.err), "%v", first.err)
		require.NoError(t, second.end())
	case <-second.done:
		require.Equal(t, fault.Conflict, fault.CodeOf(second.err), "%v", second.err)
		require.NoError(t, first.end())
	case <-time.After(time.Minute):
		require.FailNow(t, "two archivers on one archive")
	}
	w.holdsOnce(1, xids)
	require.Len(t, w.view().Histories(), 1)
}

// TestStandbyIsQuiet: while it waits for the slot it writes nothing into the source.
func TestStandbyIsQuiet(t *testing.T) {
	w := newWorld(t, nil)
	quiet := func(c *Config) { c.HeartbeatInterval = time.Hour }
	first := w.start(quiet)
	first.protected()
	standby := w.start(quiet, func(c *Config) { c.Standby = true })
	w.eventually("the standby waits", func() bool {
		standby.lives()
		return strings.Contains(standby.log.String(), "waiting for it")
	})
	require.LessOrEqual(t, len(w.archived(1)), 2, "the first one's heartbeats, and no others")
	xids := w.insert(1, 2)
	require.NoError(t, first.end())
	xids = append(xids, w.insert(10, 2)...)
	w.archivedPast(w.flush())
	w.holdsOnce(1, xids)
	require.NoError(t, standby.end())
}

// TestStopInTheMiddleOfALargeTransaction gives it up: it was not acknowledged and comes again, whole.
func TestStopInTheMiddleOfALargeTransaction(t *testing.T) {
	w := newWorld(t, nil)
	w.cfg.SegmentMaxSize, w.cfg.PartSize, w.cfg.stopPatience = 64<<10, 16<<10, 50*time.Millisecond
	r := w.start()
	r.protected()
	before := w.newest().End
	w.store.Slow(20 * time.Millisecond)
	xid := w.query(`WITH big AS (INSERT INTO t SELECT i, md5(i::text) || md5((-i)::text) FROM generate_series(1, 60000) i RETURNING 1)
		SELECT pg_current_xact_id()::text FROM big LIMIT 1`)
	large := w.flush()
	w.eventually("parts arrive", func() bool { r.lives(); return w.parts() > 10 })
	require.NoError(t, r.end())
	require.GreaterOrEqual(t, w.newest().End, before)
	require.True(t, w.view().Epoch().Writer.Stopped)
	w.acknowledgedIsDurable()
	w.store.Slow(0)
	w.catchUp()
	require.GreaterOrEqual(t, w.newest().End, large)
	w.holdsOnce(1, []string{xid})
}

// parts counts the parts of segments in the store.
func (w *world) parts() (n int) {
	for _, err := range w.store.List(context.Background(), "segments/", "") {
		require.NoError(w.t, err)
		n++
	}
	return n
}

// TestSequencesAreArchivedEvenByAShortRun: the newest segment says where sequences that no column owns stand.
func TestSequencesAreArchivedEvenByAShortRun(t *testing.T) {
	w := newWorld(t, nil)
	w.exec("CREATE SEQUENCE free")
	w.catchUp()
	for i := range 2 {
		w.exec("INSERT INTO t SELECT nextval('free'), 'x'")
		at := w.flush()
		w.catchUp()
		found := false
		for _, e := range w.entries(1) {
			found = found || e.Segment != nil && e.Segment.Sequences != nil && e.Segment.Sequences.LSN >= at
		}
		require.True(t, found, "run %d", i)
	}
}

// TestSegmentsEndWithASampleOfTheSequences: a restore to the end of any segment that was closed for its age, or when
// the archiver was stopped, has a reading that no commit of it is ahead of.
func TestSegmentsEndWithASampleOfTheSequences(t *testing.T) {
	w := newWorld(t, nil)
	w.exec("CREATE SEQUENCE free")
	r := w.start()
	r.protected()
	for i := range 8 {
		w.exec("INSERT INTO t SELECT nextval('free'), 'x'")
		if i%2 == 1 {
			w.archivedPast(w.flush())
		}
	}
	require.NoError(t, r.end())
	sampled := 0
	for _, e := range w.entries(1) {
		if e.Segment != nil {
			require.NotNil(t, e.Segment.Sequences, "entry %d", e.Seq)
			require.GreaterOrEqual(t, e.Segment.Sequences.LSN, e.To, "entry %d", e.Seq)
			sampled++
		}
	}
	require.Greater(t, sampled, 1)
}

func TestErrorsShowNoPassword(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:s3cr3t/x@127.0.0.1:1/db", "postgres://u:s3cr3t@127.0.0.1:notaport/db", "postgres://u:s3cr3t%zz@127.0.0.1:1/db", "postgres://u:s3cr3t#x@127.0.0.1:1/db",
		"host=127.0.0.1 port=1 password=s3cr3t user=u bad", `host=127.0.0.1 port=x password='a\'s3cr3t b' user=u`, "postgres://u:s3cr3t@127.0.0.1:1/db?sslmode=nonsense",
	} {
		_, err := walstream.Connect(context.Background(), dsn)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cr3t", dsn)
	}
}
