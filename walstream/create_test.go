package walstream

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
)

// What commits below the consistent point is in the snapshot, the rest in the stream.
func TestCreatedSlotSplitsHistory(t *testing.T) {
	for _, version := range []string{"", "18"} {
		t.Run("version "+version, func(t *testing.T) {
			s := ownSource(t, postgres.Options{Version: version})
			s.exec(t, "create table a (id int primary key); insert into a values (1)")
			_, err := EnsurePublication(t.Context(), s.conn, s.cfg)
			require.NoError(t, err)
			created, err := CreateSlot(t.Context(), s.cfg)
			require.NoError(t, err)
			s.exec(t, "insert into a values (2)")
			conn := s.Connect(t, s.db)
			_, err = conn.Exec(t.Context(), "begin isolation level repeatable read; set transaction snapshot '"+created.SnapshotName+"'")
			require.NoError(t, err)
			var n int
			require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from a").Scan(&n))
			require.Equal(t, 1, n)
			require.NoError(t, created.Close(t.Context()))
			r := s.start(t)
			require.Equal(t, created.ConsistentPoint, r.Identity().Slot.ConfirmedFlush)
			require.Equal(t, version == "18", r.Identity().Slot.Failover)
			require.Equal(t, [][]string{{"I a N 2"}}, r.waitFor(t, 1))
			require.GreaterOrEqual(t, r.transactions()[0].begin.CommitLSN, created.ConsistentPoint)
		})
	}
}

// logBuffer collects log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Creation waits for older transactions, prepared ones and other databases' too: they are named, the
// wait is limited, and nothing is left on the server.
func TestCreationNamesBlockers(t *testing.T) {
	s := ownSource(t, postgres.Options{})
	_, err := EnsurePublication(t.Context(), s.conn, s.cfg)
	require.NoError(t, err)
	s.MustExec(t, "postgres", "create table x (id int)")
	s.MustExec(t, "postgres", "begin; insert into x values (1); prepare transaction 'forgotten'")
	blocker := s.Connect(t, "postgres")
	_, err = blocker.Exec(t.Context(), "set application_name = 'dreamer'; begin; insert into x values (2)")
	require.NoError(t, err)

	log := &logBuffer{}
	s.cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	s.cfg.CreateTimeout = 2500 * time.Millisecond
	_, err = CreateSlot(t.Context(), s.cfg)
	wantFault(t, err, fault.Failed, `prepared transaction "forgotten" (database postgres`, fmt.Sprintf("pid %d", blocker.PgConn().PID()), "application dreamer, idle in transaction")
	require.Contains(t, log.String(), "dreamer")
	require.Contains(t, log.String(), "forgotten")
	requireNothingLeft(t, s)

	// Cancelling ends it on the server too.
	s.cfg.CreateTimeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { _, err := CreateSlot(ctx, s.cfg); result <- err }()
	eventually(t, "the walsender waits", func() bool {
		return s.MustQuery(t, "postgres", "select count(*) from pg_stat_activity where backend_type = 'walsender' and wait_event_type = 'Lock'") == "1"
	})
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	requireNothingLeft(t, s)

	// And when the blockers end, it goes on.
	go func() { _, err := CreateSlot(t.Context(), s.cfg); result <- err }()
	eventually(t, "the walsender waits", func() bool {
		return s.MustQuery(t, "postgres", "select count(*) from pg_stat_activity where backend_type = 'walsender' and wait_event_type = 'Lock'") == "1"
	})
	_, err = blocker.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	s.MustExec(t, "postgres", "rollback prepared 'forgotten'")
	require.NoError(t, <-result)
	require.NotZero(t, s.slot(t).ConfirmedFlush)
}

func requireNothingLeft(t *testing.T, s *testSource) {
	t.Helper()
	state, err := ReadSlot(t.Context(), s.conn, s.cfg.Slot)
	require.NoError(t, err)
	require.Nil(t, state)
	require.Equal(t, "0", s.MustQuery(t, "postgres", "select count(*) from pg_stat_activity where backend_type = 'walsender'"))
}

func TestCreateCommand(t *testing.T) {
	require.Equal(t, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput EXPORT_SNAPSHOT`, createCommand("s", 14))
	require.Equal(t, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'export')`, createCommand("s", 16))
	require.Equal(t, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER true)`, createCommand("s", 17))
}
