package walstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

func TestEveryKindOfChange(t *testing.T) {
	t.Run("installed", func(t *testing.T) { testEveryKindOfChange(t, sharedSource(t)) })
	t.Run("18", func(t *testing.T) { testEveryKindOfChange(t, ownSource(t, postgres.Options{Version: "18"})) })
}

func testEveryKindOfChange(t *testing.T, s *testSource) {
	toast := strings.Repeat("0123456789abcdef", 4096)
	s.exec(t, `create type mood as enum ('sad', 'ok');
		create table k (id int primary key, v text, big text); alter table k alter big set storage external;
		create table f (a int, b text); alter table f replica identity full;
		create table m (id int primary key, mood mood);
		create table none ();  alter table none replica identity full;
		create table child (id int primary key references k on delete cascade)`)
	s.prepare(t)
	r := s.start(t)
	s.exec(t, "insert into k values (1, 'one', repeat('0123456789abcdef', 4096)), (2, null, '')")
	s.exec(t, "update k set v = 'eins' where id = 1")
	s.exec(t, "update k set id = 3 where id = 2")
	s.exec(t, "delete from k where id = 3")
	s.exec(t, "insert into f values (1, 'x'); update f set b = 'y'; delete from f")
	s.exec(t, "insert into m values (1, 'ok')")
	s.exec(t, "insert into none default values")
	s.exec(t, "truncate k, child restart identity cascade")
	s.exec(t, "begin; insert into f values (1, 'kept'); savepoint a; insert into f values (2, 'gone'); rollback to a; insert into f values (3, 'kept'); commit")
	s.exec(t, "begin; insert into f values (9, 'gone'); rollback")
	s.exec(t, "begin; insert into f values (4, 'p'); prepare transaction 'p1'")
	s.exec(t, "commit prepared 'p1'")
	events := r.waitFor(t, 10)
	require.Equal(t, [][]string{
		{"I k N 1 one " + hashed(toast), "I k N 2 null "},
		{"U k N 1 eins unchanged"},
		{"U k K 2 null null N 3 null "},
		{"D k K 3 null null"},
		{"I f N 1 x", "U f O 1 x N 1 y", "D f O 1 y"},
		{"type mood", "I m N 1 ok"},
		{"I none N"},
		{"truncate k,child options 3"},
		{"I f N 1 kept", "I f N 3 kept"},
		{"I f N 4 p"},
	}, events)
	for i, tx := range r.transactions() {
		require.Equal(t, tx.begin.CommitLSN, tx.commit.CommitLSN)
		require.Greater(t, tx.commit.EndLSN, tx.commit.CommitLSN)
		require.NotZero(t, tx.begin.XID)
		if i > 0 {
			require.Greater(t, tx.commit.CommitLSN, r.transactions()[i-1].commit.CommitLSN)
		}
	}
	r.stop(t)
}

func TestSettingsOfTheStream(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, fmt.Sprintf(`create table v (id int primary key, d date, i interval, f float8, t timestamptz, b bytea, m money, r regclass);
		alter database %[1]s set datestyle = 'German'; alter database %[1]s set intervalstyle = 'iso_8601';
		alter database %[1]s set extra_float_digits = -3; alter database %[1]s set timezone = 'Asia/Tokyo';
		alter database %[1]s set bytea_output = 'escape'; alter database %[1]s set client_min_messages = 'error'`, s.db))
	s.prepare(t)
	r := s.start(t)
	s.exec(t, "insert into v values (1, '2024-05-06', '1 day 2:03', 0.1::float8 + 0.2::float8, '2024-05-06 07:08:09+00', '\\x00ff', 12.5, 'v')")
	require.Equal(t, []string{"I v N 1 2024-05-06 1 day 02:03:00 0.30000000000000004 2024-05-06 07:08:09+00 \\x00ff $12.50 public.v"}, r.waitFor(t, 1)[0])
}

func TestSQLASCIIDatabase(t *testing.T) {
	s := ownSource(t, postgres.Options{InitdbArgs: []string{"--encoding", "SQL_ASCII", "--locale", "C"}})
	s.exec(t, "create table a (id int primary key, v text)")
	s.prepare(t)
	r := s.start(t)
	s.exec(t, "set client_encoding = 'SQL_ASCII'; insert into a values (1, convert_from('\\xff80'::bytea, 'SQL_ASCII'))")
	require.Equal(t, []string{"I a N 1 \xff\x80"}, r.waitFor(t, 1)[0])
	require.Equal(t, "SQL_ASCII", r.Identity().Encoding)
}

func TestMessages(t *testing.T) {
	s := sharedSource(t)
	s.prepare(t)
	r := s.start(t)
	s.exec(t, "select pg_logical_emit_message(false, 'loose', 'now')")
	marked := s.lsn(t, "select pg_logical_emit_message(true, 'tidemark', 'mark:a')::text")
	s.exec(t, "begin; select pg_logical_emit_message(true, 'gone', 'x'); rollback")
	s.exec(t, "begin; select pg_logical_emit_message(false, 'stays', 'x'); rollback")
	s.exec(t, "select pg_logical_emit_message(true, 'big', repeat('z', 3000000))")
	require.Equal(t, [][]string{{"message true tidemark mark:a"}, {"message true big " + hashed(strings.Repeat("z", 3000000))}}, r.waitFor(t, 2))
	require.Less(t, r.transactions()[0].begin.CommitLSN-marked, segment.LSN(1<<20))
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, []string{"message false loose now", "message false stays x"}, r.loose)
}

// A transaction acknowledged by its end is not sent again, one that is not is, and an acknowledgement
// above what was sent waits.
func TestAcknowledging(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "create table a (id int primary key)")
	s.prepare(t)
	r := s.start(t)
	confirmed := r.Identity().Slot.ConfirmedFlush
	s.exec(t, "insert into a values (1)")
	s.exec(t, "insert into a values (2)")
	r.waitFor(t, 2)
	time.Sleep(300 * time.Millisecond) // several statuses could have gone out
	require.Equal(t, confirmed, s.slot(t).ConfirmedFlush, "nothing was acknowledged")

	end := r.transactions()[0].commit.EndLSN
	r.Ack(end)
	eventually(t, "the first commit is confirmed", func() bool { return s.slot(t).ConfirmedFlush == end })
	r.Ack(confirmed) // going back does nothing
	r.stop(t)
	require.Equal(t, end, s.slot(t).ConfirmedFlush)

	r = s.start(t)
	require.Equal(t, end, r.Identity().Slot.ConfirmedFlush)
	require.Equal(t, [][]string{{"I a N 2"}}, r.waitFor(t, 1))
	r.Ack(end + 10<<30)
	s.exec(t, "insert into a values (3)")
	r.waitFor(t, 2)
	eventually(t, "all that was sent is confirmed", func() bool {
		return s.slot(t).ConfirmedFlush >= r.transactions()[1].commit.EndLSN
	})
	require.LessOrEqual(t, s.slot(t).ConfirmedFlush, s.lsn(t, "select pg_current_wal_insert_lsn()::text"))
	r.stop(t)
	require.False(t, s.slot(t).Active, "Close waits until the slot is free")

	r = s.start(t)
	s.exec(t, "insert into a values (4)")
	require.Equal(t, [][]string{{"I a N 4"}}, r.waitFor(t, 1))
}

// The last position that was acknowledged arrives even if Close comes at once and data is on its way.
func TestCloseDeliversThePosition(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "create table a (id int primary key, v text)")
	s.prepare(t)
	for i := range 5 {
		r := s.start(t)
		have := len(r.transactions())
		s.exec(t, fmt.Sprintf("insert into a values (%d)", i))
		eventually(t, "the row", func() bool { return len(r.transactions()) > have })
		s.exec(t, fmt.Sprintf("insert into a select g, repeat('x', 1000) from generate_series(%d, %[1]d + 3000) g", 10000*(i+1)))
		end := r.transactions()[len(r.transactions())-1].commit.EndLSN
		r.Ack(end)
		r.stop(t)
		require.GreaterOrEqual(t, s.slot(t).ConfirmedFlush, end)
	}
}

// Other databases' WAL moves keepalives on, so an idle slot can be advanced.
func TestIdleStreamAdvances(t *testing.T) {
	s := sharedSource(t)
	s.prepare(t)
	r := s.start(t)
	s.MustExec(t, "postgres", "create table if not exists noise (v text); insert into noise select repeat('x', 100) from generate_series(1, 1000)")
	flushed := s.lsn(t, "select pg_current_wal_flush_lsn()::text")
	eventually(t, "a keepalive past the noise", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.alive) > 0 && r.alive[len(r.alive)-1].WALEnd >= flushed
	})
	require.Less(t, s.slot(t).ConfirmedFlush, flushed)
	r.Ack(flushed)
	eventually(t, "the slot is advanced", func() bool { return s.slot(t).ConfirmedFlush >= flushed })
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(t, r.txs)
	require.Greater(t, r.ticks, 0)
}

// A handler that is stuck for longer than wal_sender_timeout doesn't lose the connection.
func TestStalledHandler(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, fmt.Sprintf("create table a (id int primary key, v text); alter database %s set wal_sender_timeout = '900ms'", s.db))
	s.prepare(t)
	rec := newRecorder()
	released := make(chan struct{})
	rec.hook = func(event string) error {
		if event == "commit" {
			<-released
		}
		return nil
	}
	r := s.startWith(t, rec)
	require.Equal(t, 900*time.Millisecond, r.Identity().SenderTimeout)
	s.exec(t, "insert into a values (0)")
	s.exec(t, "insert into a select g, repeat('x', 1000) from generate_series(1, 20000) g") // fills every buffer on the way
	r.waitFor(t, 1)
	time.Sleep(4 * time.Second)
	require.True(t, s.slot(t).Active)
	close(released)
	events := r.waitFor(t, 2)
	require.Len(t, events[1], 20000)
}

// A value of 200 MB passes in pieces of the buffer's size.
func TestHugeValue(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "create table a (id int primary key, v text); alter table a alter v set storage external")
	s.prepare(t)
	rec := newRecorder()
	r := s.startWith(t, rec)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.exec(t, "insert into a select 1, repeat('0123456789', 20000000)")
	eventually(t, "the huge row", func() bool { return len(r.transactions()) == 1 })
	s.exec(t, "insert into a values (2, 'after')")
	events := r.waitFor(t, 2)
	require.True(t, strings.HasPrefix(events[0][0], "I a N 1 <200000000 "), events[0][0])
	require.Equal(t, []string{"I a N 2 after"}, events[1])
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
	require.LessOrEqual(t, rec.largest, bufferSize)
	s.exec(t, "truncate a")
}

func TestCancelReturnsPromptly(t *testing.T) {
	s := sharedSource(t)
	s.prepare(t)
	r := s.start(t)
	begun := time.Now()
	r.cancel()
	require.ErrorIs(t, r.end(t), context.Canceled)
	require.Less(t, time.Since(begun), 500*time.Millisecond)
}

func TestCloseEndsReceive(t *testing.T) {
	s := sharedSource(t)
	s.prepare(t)
	r := s.start(t)
	require.NoError(t, r.Close(context.Background()))
	require.ErrorIs(t, r.end(t), ErrClosed)
	require.NoError(t, r.Close(context.Background()), "closing twice is fine")
	require.False(t, s.slot(t).Active)
	require.ErrorIs(t, r.Receive(context.Background(), newRecorder()), ErrClosed)
}

func TestHandlerErrorIsReturned(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "create table a (id int primary key)")
	s.prepare(t)
	full := errors.New("the store is full")
	rec := newRecorder()
	rec.hook = func(event string) error {
		if strings.HasPrefix(event, "I ") {
			return full
		}
		return nil
	}
	r := s.startWith(t, rec)
	s.exec(t, "insert into a values (1)")
	require.ErrorIs(t, r.end(t), full)
}

// A fast shutdown waits for a walsender whose client doesn't acknowledge, and asks without pause:
// that must be seen, and answered with measure.
func TestUrgentAtShutdown(t *testing.T) {
	s := ownSource(t, postgres.Options{})
	s.exec(t, "create table a (id int primary key)")
	s.prepare(t)
	r := s.start(t)
	s.exec(t, "insert into a values (1)")
	r.waitFor(t, 1)
	require.NoError(t, s.Signal(postgres.Fast))
	eventually(t, "an urgent keepalive", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.alive) > 0 && r.alive[len(r.alive)-1].Urgent
	})
	r.mu.Lock()
	first := len(r.alive)
	end := r.alive[first-1].WALEnd
	r.mu.Unlock()
	time.Sleep(time.Second)
	require.True(t, s.Running(), "the server waits for us")
	r.mu.Lock()
	require.Less(t, len(r.alive)-first, 15, "answers are rate-limited")
	r.mu.Unlock()
	r.Ack(end)
	err := r.end(t)
	require.Equal(t, fault.Unreachable, fault.CodeOf(err), "%v", err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.NoError(t, s.Wait(ctx))
}

func TestClosingLetsTheServerStop(t *testing.T) {
	s := ownSource(t, postgres.Options{})
	s.exec(t, "create table a (id int primary key)")
	s.prepare(t)
	r := s.start(t)
	s.exec(t, "insert into a values (1)")
	r.waitFor(t, 1)
	require.NoError(t, s.Signal(postgres.Fast))
	eventually(t, "an urgent keepalive", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.alive) > 0 && r.alive[len(r.alive)-1].Urgent
	})
	require.NoError(t, r.Close(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.NoError(t, s.Wait(ctx))
	require.NoError(t, s.Run())
	s.conn, _ = Connect(t.Context(), s.cfg.DSN)
	require.Equal(t, [][]string{{"I a N 1"}}, s.start(t).waitFor(t, 1), "nothing was acknowledged, so it comes again")
}

func TestServerCrash(t *testing.T) {
	s := ownSource(t, postgres.Options{})
	s.prepare(t)
	r := s.start(t)
	require.NoError(t, s.Stop(postgres.Immediate))
	err := r.end(t)
	require.Equal(t, fault.Unreachable, fault.CodeOf(err), "%v", err)
	_, err = Start(t.Context(), s.cfg)
	require.Equal(t, fault.Unreachable, fault.CodeOf(err), "%v", err)
	require.NotEmpty(t, fault.HintOf(err))
}

// With many small transactions wake-ups are batched; with few, nothing is held back.
func TestLatency(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "create table a (id serial primary key, v text)")
	s.prepare(t)
	for name, dsn := range map[string]string{"tcp": s.DSN(s.db), "unix": s.SocketDSN(s.db)} {
		t.Run(name, func(t *testing.T) {
			s.cfg.DSN = dsn
			r := s.start(t)
			require.Equal(t, name == "unix", r.Shallow())
			s.exec(t, "do $$ begin for i in 1..3000 loop insert into a (v) values ('x'); commit; end loop; end $$")
			r.waitFor(t, 3000)
			for i := range 5 {
				time.Sleep(100 * time.Millisecond) // the stream falls idle
				s.exec(t, "insert into a (v) values ('x')")
				begun := time.Now()
				r.waitFor(t, 3001+i)
				require.Less(t, time.Since(begun), 200*time.Millisecond)
			}
			r.Ack(r.transactions()[len(r.transactions())-1].commit.EndLSN)
			r.stop(t)
		})
	}
}

func TestPublicationFingerprint(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "create table a (id int primary key); create table b (id int primary key); create publication p for table a")
	read := func() *Publication {
		p, err := ReadPublication(t.Context(), s.conn, "p")
		require.NoError(t, err)
		return p
	}
	first := read()
	require.Equal(t, first, read())
	require.Equal(t, "a", first.Tables[0].Name)
	for _, sql := range []string{
		"alter publication p set (publish = 'insert')", "alter publication p set (publish = 'insert, update, delete, truncate')",
		"alter publication p add table b", "alter publication p drop table b",
		"drop publication p; create publication p for table a",
	} {
		before := read()
		s.exec(t, sql)
		require.NotEqual(t, before.Fingerprint, read().Fingerprint, sql)
	}
	s.exec(t, "drop publication p")
	require.Nil(t, read())
}

func TestIdentityAfterPromotion(t *testing.T) {
	s := ownSource(t, postgres.Options{})
	s.prepare(t)
	r := s.start(t)
	id := r.Identity()
	require.Equal(t, int32(1), id.Timeline)
	require.Equal(t, s.db, id.Database)
	require.Equal(t, "UTF8", id.Encoding)
	require.NotEmpty(t, id.SystemID)
	require.Equal(t, s.slot(t).ActivePID, id.BackendPID)
	require.Equal(t, id.Slot.ConfirmedFlush, r.Acked())
	require.GreaterOrEqual(t, id.FlushLSN, id.Slot.ConfirmedFlush)
	require.NotNil(t, id.Publication)
	require.True(t, id.Publication.AllTables)
	r.stop(t)

	// A server that ends its recovery begins a new timeline. A backup carries no slots: make a new one.
	backup, err := s.BaseBackup("copy")
	require.NoError(t, err)
	require.NoError(t, s.Stop(postgres.Fast))
	require.NoError(t, s.ReplaceDataDir(backup))
	require.NoError(t, os.WriteFile(s.DataDir+"/recovery.signal", nil, 0o644))
	require.NoError(t, s.Configure(map[string]string{"restore_command": "false"}))
	require.NoError(t, s.Run())
	s.conn, err = Connect(t.Context(), s.cfg.DSN)
	require.NoError(t, err)
	eventually(t, "the end of recovery", func() bool { return s.MustQuery(t, s.db, "select pg_is_in_recovery()::text") == "false" })
	created, err := CreateSlot(t.Context(), s.cfg)
	require.NoError(t, err)
	require.NoError(t, created.Close(t.Context()))
	s.cfg.KnownTimeline = 1
	id = s.start(t).Identity()
	require.Equal(t, int32(2), id.Timeline)
	require.Len(t, id.Switches, 1)
	require.Equal(t, int32(1), id.Switches[0].Timeline)
	require.NotZero(t, id.Switches[0].SwitchPoint)
}

func TestParseHistory(t *testing.T) {
	got, err := parseHistory("1\t0/3000060\tno recovery target specified\n\n2\tA/1\tbefore 2024\n")
	require.NoError(t, err)
	require.Equal(t, []TimelineSwitch{{1, 0x3000060}, {2, 0xA00000001}}, got)
	for _, bad := range []string{"1", "x\t0/1\tz", "1\tzz\tz"} {
		_, err := parseHistory(bad)
		require.Error(t, err, bad)
	}
}
