package pipeline

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
	"tidemark/objectstore"
	"tidemark/segment"
)

func (w *world) confirmed() segment.LSN {
	w.t.Helper()
	lsn, err := segment.ParseLSN(w.query("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '" + w.slot() + "'"))
	require.NoError(w.t, err)
	return lsn
}

// TestWatermarkPassesAnOpenTransaction: the slot advances behind an open transaction, which comes whole later.
func TestWatermarkPassesAnOpenTransaction(t *testing.T) {
	w := newWorld(t, nil)
	r := w.start()
	r.protected()
	conn := w.server.Connect(t, w.db)
	ctx := context.Background()
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	var xid string
	require.NoError(t, tx.QueryRow(ctx, "INSERT INTO t VALUES (1, 'early') RETURNING pg_current_xact_id()::text").Scan(&xid))
	other := w.insert(2, 2)
	between := w.flush()
	w.archivedPast(between)
	w.eventually("acknowledged", func() bool { return w.confirmed() >= between })
	r.killed()
	r = w.start()
	r.protected()
	require.NoError(t, tx.Commit(ctx))
	w.archivedPast(w.flush())
	require.NoError(t, r.end())
	w.holdsOnce(1, append(other, xid))
	w.acknowledgedIsDurable()
}

// acknowledgedIsDurable checks invariant 1.
func (w *world) acknowledgedIsDurable() {
	w.t.Helper()
	require.LessOrEqual(w.t, w.confirmed(), w.newest().End)
}

// silentStore does not answer one put of a catalog entry, whose bytes land.
type silentStore struct {
	objectstore.Store
	armed  atomic.Bool
	hit    chan struct{} // closed when the entry has landed
	answer chan struct{} // closed: the answer comes after all; nil: never
}

func (s *silentStore) Put(ctx context.Context, key string, data []byte) error {
	err := s.Store.Put(ctx, key, data)
	if err == nil && strings.HasPrefix(key, "catalog/log/") && s.armed.CompareAndSwap(true, false) {
		close(s.hit)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.answer:
		}
	}
	return err
}

// TestKilledBetweenEntryAndAck: what stands in the catalog and was not acknowledged comes again and is neither
// repeated nor taken for another server's.
func TestKilledBetweenEntryAndAck(t *testing.T) {
	w := newWorld(t, nil)
	store := &silentStore{Store: w.store, hit: make(chan struct{})}
	r := w.start(func(c *Config) { c.Store = store })
	r.protected()
	store.armed.Store(true)
	xids := w.insert(1, 5)
	<-store.hit
	r.killed()
	require.Less(t, w.confirmed(), w.newest().End, "the entry stands, its acknowledgement was never sent")
	w.catchUp()
	w.holdsOnce(1, xids)
	require.Len(t, w.view().Histories(), 1)
	w.acknowledgedIsDurable()
}

// TestCrashedServerSendsAgainWhatIsArchived: what the server forgot that it was told is checked and acknowledged,
// not repeated.
func TestCrashedServerSendsAgainWhatIsArchived(t *testing.T) {
	w := newWorld(t, postgres.Start(t, postgres.Options{}))
	w.catchUp()
	var xids []string
	var end segment.LSN
	// The server also keeps the position at moments of its own, such as when its catalog_xmin moves on: try until
	// a crash finds it behind.
	for attempt := 0; ; attempt++ {
		require.Less(t, attempt, 20, "the server never forgets")
		w.exec("CHECKPOINT")
		w.catchUp() // what the checkpoint logged lets the server keep this position
		xids = append(xids, w.insert(1+5*attempt, 5)...)
		w.catchUp()
		end = w.newest().End
		require.NoError(t, w.server.Kill())
		require.NoError(t, w.server.Run())
		if w.confirmed() < end {
			break
		}
	}
	r := w.start()
	r.protected()
	w.eventually("acknowledged", func() bool { return w.confirmed() >= end })
	require.NoError(t, r.end())
	w.holdsOnce(1, xids)
	require.Len(t, w.view().Histories(), 1)
}

// TestStopDuringAnOutageOfTheStore ends with exit 7 in bounded time, and nothing is lost.
func TestStopDuringAnOutageOfTheStore(t *testing.T) {
	w := newWorld(t, nil)
	w.cfg.SegmentMaxSize, w.cfg.PartSize, w.cfg.closeTimeout = 64<<10, 16<<10, time.Second
	r := w.start()
	r.protected()
	w.store.Hang()
	w.exec("INSERT INTO t SELECT i, md5(i::text) || md5((-i)::text) || md5((i*7)::text) FROM generate_series(1, 40000) i") // more than the pool takes
	xids := w.insert(50001, 2)
	begin := time.Now()
	err := r.end()
	require.Equal(t, fault.Unreachable, fault.CodeOf(err), "%v", err)
	require.Less(t, time.Since(begin), 10*time.Second)
	w.store.Restore()
	w.acknowledgedIsDurable()
	w.catchUp()
	w.holdsOnce(1, xids)
}

// TestOddDatabaseName: names only pass through as data.
func TestOddDatabaseName(t *testing.T) {
	sharedUsed.Store(true)
	server, err := shared()
	require.NoError(t, err)
	copied := *server
	w := newWorldNamed(t, &copied, `Ödd "db" 'x' %d\`)
	w.catchUp()
	xids := w.insert(1, 2)
	w.catchUp()
	w.holdsOnce(1, xids)
	require.Equal(t, w.db, w.newest().Begins.Database)
}

// TestIdleArchiveCatchesUpAtOnce also covers the messages that are no transactions, and marks.
func TestIdleArchiveCatchesUpAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	w.catchUp()
	w.exec("SELECT pg_logical_emit_message(false, 'app', repeat('x', 100000)); SELECT pg_logical_emit_message(false, 'tidemark', 'mark:none'); CHECKPOINT")
	at := w.flush()
	w.catchUp()
	require.GreaterOrEqual(t, w.newest().End, at)
	var messages int64
	for _, e := range w.entries(1) {
		if e.Kind == catalog.KindSegment {
			messages += e.Segment.Messages
			require.Empty(t, e.Segment.Marks, "a mark is a transaction")
		}
	}
	require.GreaterOrEqual(t, messages, int64(2))
}

func TestMarkIsDurableWhenItReturns(t *testing.T) {
	w := newWorld(t, nil)
	_, err := Mark(context.Background(), w.cfg.DSN, w.store, "too early")
	require.Error(t, err)
	w.catchUp()
	short, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = Mark(short, w.cfg.DSN, w.store, "nobody listens")
	require.ErrorContains(t, err, "no archiver reads slot")
	require.Equal(t, fault.Failed, fault.CodeOf(err), "the slot is there: no base snapshot is needed")
	require.NotEmpty(t, fault.HintOf(err))
	r := w.start(func(c *Config) { c.SegmentMaxAge = time.Hour })
	r.protected()
	m, err := Mark(context.Background(), w.cfg.DSN, w.store, "here")
	require.NoError(t, err)
	found := w.view().FindMark("here")
	require.Len(t, found, 1)
	require.Equal(t, m.LSN, found[0].LSN)
	require.NoError(t, r.end())
}

// TestRestartCanNotNarrowTheArchive: other flags than those that the archive was begun with are refused.
func TestRestartCanNotNarrowTheArchive(t *testing.T) {
	w := newWorld(t, nil)
	w.exec("CREATE TABLE other (id int PRIMARY KEY)")
	w.catchUp(func(c *Config) { c.Publication = "first" })
	w.exec("CREATE PUBLICATION narrow FOR TABLE t; CREATE PUBLICATION tidemark FOR TABLE t")
	for _, change := range []func(*Config){
		func(c *Config) { c.Publication, c.Tables = "narrow", []string{"public.t"} },
		func(c *Config) { c.Tables = []string{"public.t"} },
		func(c *Config) { c.Slot = "another" },
	} {
		err := w.start(change).wait()
		require.Equal(t, fault.Usage, fault.CodeOf(err), "%v", err)
		require.NotEmpty(t, fault.HintOf(err))
	}
	xid := w.query("INSERT INTO other VALUES (1) RETURNING pg_current_xact_id()::text")
	w.catchUp() // with the recorded publication, not the default one
	w.holdsOnce(1, []string{xid})
}

// TestBlocksOverAUnixSocket: where the server would wait while a block is compressed, blocks are smaller.
func TestBlocksOverAUnixSocket(t *testing.T) {
	w := newWorld(t, nil)
	w.catchUp()
	largest := func(dsn string) (raw int64) {
		before := w.newest().End
		w.exec("TRUNCATE t; INSERT INTO t SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 3000) i")
		w.catchUp(func(c *Config) { c.DSN = dsn })
		for _, e := range w.entries(1) {
			if e.Kind != catalog.KindSegment || e.From < before {
				continue
			}
			index, err := readIndex(t.Context(), w.store, e.Segment)
			require.NoError(t, err)
			for _, b := range index.Blocks {
				for _, f := range b.Frames {
					raw = max(raw, f.Raw)
				}
			}
		}
		return raw
	}
	tcp, unix := largest(w.cfg.DSN), largest(w.server.SocketDSN(w.db))
	require.InDelta(t, 256<<10, tcp, 16<<10)
	require.InDelta(t, 128<<10, unix, 16<<10)
}
