package walstream

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/internal/testserver/postgres"
)

// wantFault checks code and text, and that people can use the error: one line, a hint, no password.
func wantFault(t *testing.T, err error, code fault.Code, parts ...string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.CodeOf(err), "%v", err)
	require.NotContains(t, err.Error(), "\n")
	require.NotContains(t, err.Error(), "secret")
	require.NotContains(t, fault.HintOf(err), "secret")
	require.NotEmpty(t, fault.HintOf(err), "%v", err)
	for _, part := range parts {
		require.ErrorContains(t, err, part)
	}
}

func TestSlotInUse(t *testing.T) {
	s := sharedSource(t)
	s.prepare(t)
	r := s.start(t)
	other := s.cfg
	other.SlotWait = -1
	_, err := Start(t.Context(), other)
	wantFault(t, err, fault.Conflict, s.cfg.Slot, "in use by pid", "(tidemark)")
	wantFault(t, DropSlot(t.Context(), s.conn, s.cfg.Slot), fault.Conflict, "in use")

	// A reader that waits gets the slot once it is free.
	other.SlotWait = patience
	type result struct {
		stream *Stream
		err    error
	}
	started := make(chan result, 1)
	go func() {
		stream, err := Start(t.Context(), other)
		started <- result{stream, err}
	}()
	select {
	case got := <-started:
		require.Fail(t, "it did not wait", "%v", got.err)
	case <-time.After(300 * time.Millisecond):
	}
	r.stop(t)
	got := <-started
	require.NoError(t, got.err)
	require.NoError(t, got.stream.Close(t.Context()))
}

func TestSlotMissing(t *testing.T) {
	s := sharedSource(t)
	_, err := Start(t.Context(), s.cfg)
	wantFault(t, err, fault.Gap, s.cfg.Slot, "does not exist")
	require.NoError(t, DropSlot(t.Context(), s.conn, s.cfg.Slot))
	state, err := ReadSlot(t.Context(), s.conn, s.cfg.Slot)
	require.NoError(t, err)
	require.Nil(t, state)
}

func TestSlotOfSomebodyElse(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "select pg_create_logical_replication_slot('"+s.cfg.Slot+"', 'test_decoding')")
	t.Cleanup(func() { dropSlotForGood(s) })
	_, err := Start(t.Context(), s.cfg)
	wantFault(t, err, fault.Usage, "test_decoding")
	dropSlotForGood(s)

	s.prepare(t)
	other := sharedSource(t)
	other.cfg.Slot = s.cfg.Slot
	_, err = Start(t.Context(), other.cfg)
	wantFault(t, err, fault.Usage, "belongs to database "+s.db)
	_, err = CreateSlot(t.Context(), s.cfg)
	wantFault(t, err, fault.Conflict, "already exists")
	require.NotNil(t, s.slot(t), "a failed creation never drops what was there")
}

// TestTwoPhaseSlotIsRefused: it sends what is prepared, which may be rolled back.
func TestTwoPhaseSlotIsRefused(t *testing.T) {
	s := sharedSource(t)
	s.exec(t, "select pg_create_logical_replication_slot('"+s.cfg.Slot+"', 'pgoutput', false, true)")
	t.Cleanup(func() { dropSlotForGood(s) })
	_, err := Start(t.Context(), s.cfg)
	wantFault(t, err, fault.Usage, "two_phase = true")
	require.Contains(t, fault.HintOf(err), "SELECT pg_drop_replication_slot('"+s.cfg.Slot+"')")
	f := s.check(t)["slot_two_phase "+s.cfg.Slot]
	require.True(t, f.Fatal)
	require.Contains(t, f.Problem, "SELECT pg_drop_replication_slot('"+s.cfg.Slot+"')")
	s.exec(t, "select pg_drop_replication_slot('"+s.cfg.Slot+"')")
	s.prepare(t)
	require.NotContains(t, s.check(t), "slot_two_phase "+s.cfg.Slot)
}

func TestSlotLost(t *testing.T) {
	for _, version := range []string{"", "18"} {
		t.Run("version "+version, func(t *testing.T) {
			s := ownSource(t, postgres.Options{Version: version, Settings: map[string]string{
				"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "48MB",
			}})
			s.prepare(t)
			s.exec(t, "create table noise (id int primary key, v text)")
			for range 4 {
				s.exec(t, "insert into noise select g, repeat('x', 1000) from generate_series(1, 20000) g; truncate noise")
				s.exec(t, "select pg_switch_wal()")
				s.exec(t, "checkpoint")
			}
			require.True(t, s.slot(t).Lost())
			_, err := Start(t.Context(), s.cfg)
			wantFault(t, err, fault.Gap, "is lost")
			list, err := Check(t.Context(), s.conn, s.cfg)
			require.NoError(t, err)
			require.Contains(t, ids(list), "slot_lost")
			require.Contains(t, ids(list), "max_slot_wal_keep_size")
		})
	}
}

// A publication that is missing at a point of the WAL: 18 skips changes with a warning, older versions
// stop. Both are a gap.
func TestPublicationMissing(t *testing.T) {
	for _, version := range []string{"", "18"} {
		t.Run("version "+version, func(t *testing.T) {
			s := ownSource(t, postgres.Options{Version: version})
			s.exec(t, "create table a (id int primary key)")
			s.prepare(t)
			require.NoError(t, DropPublication(t.Context(), s.conn, s.cfg.Publication))
			s.exec(t, "insert into a values (1)")
			_, err := EnsurePublication(t.Context(), s.conn, s.cfg)
			require.NoError(t, err)
			rec := newRecorder()
			stream, err := Start(t.Context(), s.cfg)
			if err == nil { // the server may find out while Start is still at work
				err = stream.Receive(t.Context(), rec)
				require.NoError(t, stream.Close(t.Context()))
			}
			wantFault(t, err, fault.Gap, `publication "tidemark"`)
			require.Empty(t, rec.transactions())
		})
	}
}

func TestCredentials(t *testing.T) {
	s := ownSource(t, postgres.Options{Password: "secret1"})
	s.MustExec(t, "postgres", "create role plain login password 'secret2'; create role off nologin password 'secret3'")
	for name, c := range map[string]struct{ dsn, part string }{
		"wrong password": {s.DSNFor("postgres", "secretx", s.db), "password authentication failed"},
		"no such role":   {s.DSNFor("nobody", "secretx", s.db), "nobody"},
		"no login":       {s.DSNFor("off", "secret3", s.db), "not permitted to log in"},
		"no database":    {s.DSN("missing"), `"missing" does not exist`},
		"no replication": {s.DSNFor("plain", "secret2", s.db), "replication"},
		"bad dsn":        {"postgres://u:secret@127.0.0.1:port/db", "DSN"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.cfg
			cfg.DSN = c.dsn
			_, err := Start(t.Context(), cfg)
			wantFault(t, err, fault.Usage, c.part)
			_, err = CreateSlot(t.Context(), cfg)
			wantFault(t, err, fault.Usage, c.part)
		})
	}
}

func TestUnreachable(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := closed.Addr().String()
	require.NoError(t, closed.Close())
	cfg := Config{DSN: "postgres://u:secret@" + addr + "/db", Slot: "s", Publication: "p"}
	_, err = Start(t.Context(), cfg)
	wantFault(t, err, fault.Unreachable, "can't connect to db on "+addr)
}

func TestWALLevel(t *testing.T) {
	s := ownSource(t, postgres.Options{Settings: map[string]string{"wal_level": "replica"}})
	_, err := Start(t.Context(), s.cfg)
	wantFault(t, err, fault.Usage, "wal_level = replica")
	_, err = CreateSlot(t.Context(), s.cfg)
	wantFault(t, err, fault.Usage, "wal_level")
	list, err := Check(t.Context(), s.conn, s.cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"wal_level"}, ids(list))
	require.True(t, list[0].Fatal)
	require.Equal(t, "ALTER SYSTEM SET wal_level = logical", list[0].Fix)
}

func TestNames(t *testing.T) {
	for _, slot := range []string{"", "Upper", "a-b", `a"b`, strings.Repeat("a", 64)} {
		_, err := Start(t.Context(), Config{Slot: slot, Publication: "p"})
		wantFault(t, err, fault.Usage, "slot")
	}
	_, err := Start(t.Context(), Config{Slot: "s"})
	wantFault(t, err, fault.Usage, "publication")
}

// Names that need quoting in SQL, in the list of publications and in the replication command.
func TestStrangeNames(t *testing.T) {
	s := sharedSource(t)
	s.cfg.Publication, s.cfg.Slot = `o'dd "name", x`, "1_logical"
	s.exec(t, `create table "Od'd "".t" (id int primary key)`)
	s.prepare(t)
	r := s.start(t)
	s.exec(t, `insert into "Od'd "".t" values (1)`)
	require.Equal(t, []string{`I Od'd ".t N 1`}, r.waitFor(t, 1)[0])
	require.NoError(t, DropPublication(t.Context(), s.conn, s.cfg.Publication))
}

func ids(list []Finding) []string {
	var out []string
	for _, f := range list {
		out = append(out, f.ID)
	}
	return out
}
