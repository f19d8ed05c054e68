package walstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// One server is shared by the tests that don't stop or configure it; each has a database and a slot.
var shared struct {
	once   sync.Once
	server *postgres.Server
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// source is a database for one test.
type testSource struct {
	*postgres.Server
	db   string
	cfg  Config
	conn *pgx.Conn
}

func sharedSource(t *testing.T) *testSource {
	t.Helper()
	shared.once.Do(func() {
		shared.server, shared.err = postgres.Launch(postgres.Options{Settings: map[string]string{"max_replication_slots": "40", "max_wal_senders": "40"}})
	})
	require.NoError(t, shared.err)
	return newSource(t, shared.server)
}

func ownSource(t *testing.T, o postgres.Options) *testSource {
	t.Helper()
	return newSource(t, postgres.Start(t, o))
}

var databases int

func newSource(t *testing.T, server *postgres.Server) *testSource {
	t.Helper()
	databases++
	s := &testSource{Server: server, db: fmt.Sprintf("db%d", databases)}
	s.cfg = Config{
		DSN: server.CreateDatabase(t, s.db), Slot: "slot_" + s.db, Publication: "tidemark",
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	var err error
	s.conn, err = Connect(t.Context(), s.cfg.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.conn.Close(context.Background()) })
	return s
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (s *testSource) exec(t *testing.T, sql string) {
	t.Helper()
	s.MustExec(t, s.db, sql)
}

// prepare makes publication and slot, the slot without its snapshot.
func (s *testSource) prepare(t *testing.T) *CreatedSlot {
	t.Helper()
	_, err := EnsurePublication(t.Context(), s.conn, s.cfg)
	require.NoError(t, err)
	created, err := CreateSlot(t.Context(), s.cfg)
	require.NoError(t, err)
	require.NoError(t, created.Close(t.Context()))
	t.Cleanup(func() { dropSlotForGood(s) })
	return created
}

// dropSlotForGood drops what a test left, so that the shared server has room for the next.
func dropSlotForGood(s *testSource) {
	if s.Running() {
		_ = s.Exec(context.Background(), s.db, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '"+s.cfg.Slot+"' and not active")
	}
}

// running is a stream whose Receive runs in the background.
type running struct {
	*Stream
	*recorder
	result chan error
	cancel context.CancelFunc
}

func (s *testSource) start(t *testing.T) *running {
	t.Helper()
	return s.startWith(t, newRecorder())
}

func (s *testSource) startWith(t *testing.T, rec *recorder) *running {
	t.Helper()
	stream, err := Start(t.Context(), s.cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Stream: stream, recorder: rec, result: make(chan error, 1), cancel: cancel}
	go func() { r.result <- stream.Receive(ctx, rec) }()
	t.Cleanup(func() { cancel(); _ = stream.Close(context.Background()) })
	return r
}

// stop ends receiving and closes the stream in good order.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	require.ErrorIs(t, r.end(t), context.Canceled)
	require.NoError(t, r.Close(context.Background()))
}

// end waits until Receive returns.
func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.result:
		return err
	case <-time.After(30 * time.Second):
		require.Fail(t, "Receive does not return")
		return nil
	}
}

const patience = 20 * time.Second

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, patience, 10*time.Millisecond, what)
}

// recorder is a Handler that writes down what it is told. Values above 64 bytes are kept as their
// length and hash.
type recorder struct {
	mu      sync.Mutex
	txs     []*transaction
	current *transaction
	loose   []string // non-transactional messages
	alive   []Keepalive
	ticks   int
	names   map[uint32]*segment.Relation

	line    strings.Builder
	value   []byte
	size    int
	left    int
	hash    hash.Hash
	wrap    string
	largest int // the largest piece of a value

	hook func(event string) error // called with the lock not held
}

type transaction struct {
	begin  segment.Begin
	commit segment.Commit
	events []string
}

func newRecorder() *recorder { return &recorder{names: map[uint32]*segment.Relation{}} }

func (r *recorder) event(s string) error {
	r.mu.Lock()
	if r.current != nil {
		r.current.events = append(r.current.events, s)
	} else {
		r.loose = append(r.loose, s)
	}
	hook := r.hook
	r.mu.Unlock()
	if hook != nil {
		return hook(s)
	}
	return nil
}

func (r *recorder) Begin(b segment.Begin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = &transaction{begin: b}
	return nil
}

func (r *recorder) Commit(c segment.Commit) error {
	r.mu.Lock()
	r.current.commit = c
	r.txs = append(r.txs, r.current)
	r.current = nil
	hook := r.hook
	r.mu.Unlock()
	if hook != nil {
		return hook("commit")
	}
	return nil
}

func (r *recorder) Relation(rel *segment.Relation) error { r.names[rel.ID] = rel; return nil }
func (r *recorder) Type(d segment.TypeDef) error         { return r.event("type " + d.Name) }
func (r *recorder) Origin(o segment.Origin) error        { return r.event("origin " + o.Name) }
func (r *recorder) Message(m segment.MessageHeader) error {
	r.line.Reset()
	fmt.Fprintf(&r.line, "message %v %s ", m.Transactional, m.Prefix)
	return r.announce(int(m.Size), "end")
}

func (r *recorder) Truncate(t segment.Truncate) error {
	var names []string
	for _, id := range t.Relations {
		names = append(names, r.names[id].Name)
	}
	return r.event(fmt.Sprintf("truncate %s options %d", strings.Join(names, ","), t.Options))
}

func (r *recorder) Row(op segment.Op, rel uint32) error {
	r.line.Reset()
	fmt.Fprintf(&r.line, "%c %s", op, r.names[rel].Name)
	return nil
}

func (r *recorder) Tuple(role segment.TupleRole, _ int) error {
	fmt.Fprintf(&r.line, " %c", role)
	return nil
}
func (r *recorder) Null() error          { r.line.WriteString(" null"); return nil }
func (r *recorder) Unchanged() error     { r.line.WriteString(" unchanged"); return nil }
func (r *recorder) Value(n int) error    { r.line.WriteString(" "); return r.announce(n, "") }
func (r *recorder) EndRow() error        { return r.event(r.line.String()) }
func (r *recorder) Tick(time.Time) error { r.mu.Lock(); r.ticks++; r.mu.Unlock(); return nil }

func (r *recorder) announce(n int, wrap string) error {
	r.size, r.left, r.wrap, r.value, r.hash = n, n, wrap, r.value[:0], nil
	if n > 64 {
		r.hash = sha256.New()
	}
	return r.finish()
}

func (r *recorder) Bytes(b []byte) error {
	r.left -= len(b)
	r.largest = max(r.largest, len(b))
	if r.hash != nil {
		r.hash.Write(b)
	} else {
		r.value = append(r.value, b...)
	}
	return r.finish()
}

func (r *recorder) finish() error {
	if r.left > 0 {
		return nil
	}
	if r.hash != nil {
		fmt.Fprintf(&r.line, "<%d %s>", r.size, hex.EncodeToString(r.hash.Sum(nil)[:4]))
	} else {
		r.line.Write(r.value)
	}
	if r.wrap == "" {
		return nil
	}
	return r.event(r.line.String())
}

func (r *recorder) Keepalive(k Keepalive) error {
	r.mu.Lock()
	r.alive = append(r.alive, k)
	hook := r.hook
	r.mu.Unlock()
	if hook != nil {
		return hook("keepalive")
	}
	return nil
}

// transactions returns what was committed so far.
func (r *recorder) transactions() []*transaction {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*transaction(nil), r.txs...)
}

// waitFor waits for n transactions and returns the events of each.
func (r *recorder) waitFor(t *testing.T, n int) [][]string {
	t.Helper()
	eventually(t, fmt.Sprintf("%d transactions", n), func() bool { return len(r.transactions()) >= n })
	var out [][]string
	for _, tx := range r.transactions() {
		out = append(out, tx.events)
	}
	require.Len(t, out, n)
	return out
}

// hashed is how the recorder writes a value above 64 bytes.
func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("<%d %s>", len(s), hex.EncodeToString(sum[:4]))
}

// slot reads the test's slot, which must exist.
func (s *testSource) slot(t *testing.T) *SlotState {
	t.Helper()
	state, err := ReadSlot(t.Context(), s.conn, s.cfg.Slot)
	require.NoError(t, err)
	require.NotNil(t, state)
	return state
}

func (s *testSource) lsn(t *testing.T, query string) segment.LSN {
	t.Helper()
	lsn, err := segment.ParseLSN(s.MustQuery(t, s.db, query))
	require.NoError(t, err)
	return lsn
}
