package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/testserver/postgres"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
	"tidemark/segment"
)

// shared is the server of all tests that only need a database of their own.
var shared = sync.OnceValues(func() (*postgres.Server, error) { return postgres.Launch(postgres.Options{}) })

var sharedUsed atomic.Bool

func TestMain(m *testing.M) {
	code := m.Run()
	if sharedUsed.Load() {
		if s, err := shared(); err == nil {
			_ = s.Close() // it is the end of the process: what can't be stopped is killed with it
		}
	}
	os.Exit(code)
}

// world is a source database, an archive whose store can be cut off, and what is needed to run on them.
type world struct {
	t      *testing.T
	server *postgres.Server
	db     string
	store  *faulty.Store
	cfg    Config
}

// newWorld makes an empty database on a server (nil: the shared one) and an empty archive.
func newWorld(t *testing.T, server *postgres.Server) *world {
	t.Helper()
	t.Parallel()
	if server == nil {
		sharedUsed.Store(true)
		s, err := shared()
		require.NoError(t, err)
		copied := *s // its methods that change it are not called here
		server = &copied
	}
	name := "db_" + strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name()))
	return newWorldNamed(t, server, name[:min(len(name), 50)])
}

func newWorldNamed(t *testing.T, server *postgres.Server, db string) *world {
	t.Helper()
	w := &world{t: t, server: server, db: db, store: faulty.New(objectstore.NewMem())}
	w.cfg = Config{DSN: server.CreateDatabase(t, db), Store: w.store, SegmentMaxAge: 200 * time.Millisecond, PartSize: 1 << 20}
	w.exec("CREATE TABLE t (id int PRIMARY KEY, v text)")
	t.Cleanup(w.dropSlots)
	return w
}

// dropSlots frees the shared server of this world's slots once nothing runs any more.
func (w *world) dropSlots() {
	if !w.server.Running() {
		return
	}
	_ = w.server.Exec(context.Background(), "postgres", fmt.Sprintf(
		`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '%s' AND NOT active`, strings.ReplaceAll(w.db, "'", "''")))
}

func (w *world) exec(sql string) { w.t.Helper(); w.server.MustExec(w.t, w.db, sql) }

func (w *world) query(sql string) string { w.t.Helper(); return w.server.MustQuery(w.t, w.db, sql) }

func (w *world) slot() string { return DefaultSlot(w.db) }

// insert commits n rows, each in its own transaction, and returns their xids.
func (w *world) insert(from, n int) (xids []string) {
	w.t.Helper()
	conn := w.server.Connect(w.t, w.db)
	defer conn.Close(context.Background())
	for i := from; i < from+n; i++ {
		var xid string
		require.NoError(w.t, conn.QueryRow(context.Background(),
			"INSERT INTO t VALUES ($1, 'row') RETURNING pg_current_xact_id()::text", i).Scan(&xid))
		xids = append(xids, xid)
	}
	return xids
}

// running is a Run in this process.
type running struct {
	w    *world
	stop chan struct{}
	kill context.CancelFunc
	done chan struct{}
	err  error
	log  *logBuffer
}

// start runs the archiver until the test ends.
func (w *world) start(change ...func(*Config)) *running {
	w.t.Helper()
	cfg := w.cfg
	log := &logBuffer{}
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{w: w, stop: make(chan struct{}), kill: cancel, done: make(chan struct{}), log: log}
	go func() {
		defer close(r.done)
		r.err = Run(ctx, r.stop, cfg)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-r.done
		if w.t.Failed() {
			w.t.Logf("archiver said:\n%s", log)
		}
	})
	return r
}

// holdSnapshots keeps the store from taking anything of a base snapshot until release is called. held is closed when the
// first thing has come.
func (w *world) holdSnapshots() (held <-chan struct{}, release func()) {
	came, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.store.OnPut(func(key string) error {
		if strings.HasPrefix(key, "snapshots/") {
			once.Do(func() { close(came) })
			<-released
		}
		return nil
	})
	return came, func() { close(released) }
}

// catchUp runs --until current.
func (w *world) catchUp(change ...func(*Config)) {
	w.t.Helper()
	r := w.start(append([]func(*Config){func(c *Config) { c.Until = "current" }}, change...)...)
	require.NoError(w.t, r.wait())
}

// lives checks that it has not ended.
func (r *running) lives() {
	r.w.t.Helper()
	select {
	case <-r.done:
		require.FailNow(r.w.t, "the archiver has ended", "%v", r.err)
	default:
	}
}

// wait returns the run's error once it has ended by itself.
func (r *running) wait() error {
	r.w.t.Helper()
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		require.FailNow(r.w.t, "the archiver does not end")
	}
	return r.err
}

// end stops it in good order.
func (r *running) end() error {
	r.w.t.Helper()
	close(r.stop)
	return r.wait()
}

// killed ends it at once, like kill -9 as far as the archive can tell.
func (r *running) killed() {
	r.kill()
	<-r.done
	r.w.eventually("the slot is free", func() bool { return !r.w.active() })
}

func (w *world) active() bool {
	return w.query("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '"+w.slot()+"'") == "1"
}

// eventually waits for a condition.
func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			require.FailNow(w.t, "in vain: "+what)
		}
	}
}

// view reads the archive's catalog; nil while there is no archive.
func (w *world) view() *catalog.View {
	w.t.Helper()
	log, err := catalog.Open(context.Background(), w.store)
	if IsNoArchive(err) {
		return nil
	}
	require.NoError(w.t, err)
	return log.View()
}

// protected waits until the newest history streams and has a base snapshot.
func (r *running) protected() {
	w := r.w
	w.t.Helper()
	w.eventually("protected", func() bool {
		r.lives()
		v := w.view()
		if v == nil {
			return false
		}
		_, ok := newestSnapshot(v)
		return ok && w.active()
	})
}

func (w *world) newest() catalog.HistoryPoint {
	w.t.Helper()
	h, ok := w.view().Newest()
	require.True(w.t, ok)
	return h
}

// flush is the end of what the server has flushed. Where that is the end of a page it may be in the middle of a record whose rest nothing
// flushes before the next commit, and no stream comes to its end.
func (w *world) flush() segment.LSN {
	w.t.Helper()
	const page = 8192
	for {
		lsn, err := segment.ParseLSN(w.query("SELECT pg_current_wal_flush_lsn()"))
		require.NoError(w.t, err)
		if lsn%page != 0 {
			return lsn
		}
		w.query("SELECT pg_current_xact_id()")
	}
}

// archivedPast waits until the newest history reaches lsn.
func (w *world) archivedPast(lsn segment.LSN) {
	w.t.Helper()
	w.eventually("archived past "+lsn.String(), func() bool { return w.newest().End >= lsn })
}

// entries returns a history's stream entries; that they tile was checked by the catalog.
func (w *world) entries(history uint32) (all []catalog.Entry) {
	w.t.Helper()
	v := w.view()
	for e, err := range v.Entries(context.Background(), catalog.Range{History: history, To: v.End(history)}) {
		require.NoError(w.t, err)
		all = append(all, e)
	}
	return all
}

// archived returns a history's xids in commit order, after checking that order and range of each commit.
func (w *world) archived(history uint32) (xids []string) {
	w.t.Helper()
	var last segment.LSN
	for _, e := range w.entries(history) {
		if e.Kind != catalog.KindSegment {
			continue
		}
		index, err := readIndex(context.Background(), w.store, e.Segment)
		require.NoError(w.t, err)
		for _, tx := range index.Transactions {
			require.Greater(w.t, tx.CommitLSN, last, "commits rise")
			require.GreaterOrEqual(w.t, tx.CommitLSN, e.From)
			require.LessOrEqual(w.t, tx.EndLSN, e.To)
			last = tx.CommitLSN
			xids = append(xids, fmt.Sprint(tx.XID))
		}
	}
	return xids
}

// holdsOnce checks that a history holds each xid exactly once, in this order.
func (w *world) holdsOnce(history uint32, want []string) {
	w.t.Helper()
	wanted := map[string]bool{}
	for _, x := range want {
		wanted[x] = true
	}
	var got []string
	for _, x := range w.archived(history) {
		if wanted[x] {
			got = append(got, x)
		}
	}
	require.Equal(w.t, want, got)
}

// logBuffer gathers log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
