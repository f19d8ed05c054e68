package walstream

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// counter is a Handler that counts, until a commit that ends above upTo.
type counter struct {
	rows, bytes int
	upTo        segment.LSN
	done        context.CancelFunc
}

func (c *counter) Begin(segment.Begin) error { return nil }
func (c *counter) Commit(m segment.Commit) error {
	if m.EndLSN > c.upTo {
		c.done()
	}
	return nil
}
func (c *counter) Relation(*segment.Relation) error    { return nil }
func (c *counter) Type(segment.TypeDef) error          { return nil }
func (c *counter) Origin(segment.Origin) error         { return nil }
func (c *counter) Message(segment.MessageHeader) error { return nil }
func (c *counter) Truncate(segment.Truncate) error     { return nil }
func (c *counter) Row(segment.Op, uint32) error        { c.rows++; return nil }
func (c *counter) Tuple(segment.TupleRole, int) error  { return nil }
func (c *counter) Null() error                         { return nil }
func (c *counter) Unchanged() error                    { return nil }
func (c *counter) Value(int) error                     { return nil }
func (c *counter) Bytes(b []byte) error                { c.bytes += len(b); return nil }
func (c *counter) EndRow() error                       { return nil }
func (c *counter) Keepalive(Keepalive) error           { return nil }
func (c *counter) Tick(time.Time) error                { return nil }

const benchmarkRows = 300_000

// BenchmarkStream reads the same slot content, nothing acknowledged, with this package and with
// pg_recvlogical writing to /dev/null. cpu-s is what the reader used, walsender-s what it read from.
func BenchmarkStream(b *testing.B) {
	server, err := postgres.Launch(postgres.Options{Settings: map[string]string{"shared_buffers": "256MB"}})
	require.NoError(b, err)
	defer server.Close()
	db := "bench"
	cfg := Config{DSN: server.CreateDatabase(b, db), Slot: "bench", Publication: "tidemark"}
	server.MustExec(b, db, "create table events (id bigint primary key, stream text, version int, at timestamptz, body jsonb)")
	conn, err := Connect(b.Context(), cfg.DSN)
	require.NoError(b, err)
	defer closeQuietly(conn)
	_, err = EnsurePublication(b.Context(), conn, cfg)
	require.NoError(b, err)
	created, err := CreateSlot(b.Context(), cfg)
	require.NoError(b, err)
	require.NoError(b, created.Close(b.Context()))
	for i := range benchmarkRows / 1000 {
		server.MustExec(b, db, fmt.Sprintf(`insert into events select g, 'order-' || g %% 5000, g / 5000, now(),
			jsonb_build_object('type', 'OrderPlaced', 'customer', md5(g::text), 'total', g %% 977, 'items', jsonb_build_array(md5((g+1)::text), md5((g+2)::text), md5((g+3)::text)))
			from generate_series(%d, %d) g`, i*1000+1, (i+1)*1000))
	}
	text := server.MustQuery(b, db, "select pg_current_wal_flush_lsn()::text")
	server.MustExec(b, db, "insert into events values (0)")
	end, err := segment.ParseLSN(text)
	require.NoError(b, err)

	ours := func(dsn string) func(b *testing.B) {
		return func(b *testing.B) {
			cfg := cfg
			cfg.DSN = dsn
			b.ReportAllocs()
			for b.Loop() {
				stream, err := Start(b.Context(), cfg)
				require.NoError(b, err)
				pid := int(stream.Identity().BackendPID)
				ctx, cancel := context.WithCancel(b.Context())
				c := &counter{upTo: end, done: cancel}
				before, walsender := usage(b, syscall.RUSAGE_SELF), time.Duration(0)
				_ = stream.Receive(ctx, c)
				walsender = processTime(b, pid)
				report(b, usage(b, syscall.RUSAGE_SELF)-before, walsender)
				require.Equal(b, benchmarkRows+1, c.rows)
				require.NoError(b, stream.Close(b.Context()))
			}
		}
	}
	b.Run("tcp", ours(cfg.DSN))
	b.Run("unix", ours(server.SocketDSN(db)))
	b.Run("pg_recvlogical", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer() // it acknowledges what it read, so it gets a copy of the slot
			server.MustExec(b, db, "select pg_copy_logical_replication_slot('bench', 'copy')")
			b.StartTimer()
			before := usage(b, syscall.RUSAGE_CHILDREN)
			cmd := exec.Command(server.Path("pg_recvlogical"), "--dbname", cfg.DSN, "--slot", "copy", "--start", "--no-loop",
				"--file", os.DevNull, "--endpos", text, "-o", "proto_version=1", "-o", "publication_names=tidemark")
			out, err := cmd.CombinedOutput()
			require.NoError(b, err, string(out))
			report(b, usage(b, syscall.RUSAGE_CHILDREN)-before, 0)
			b.StopTimer()
			require.Eventually(b, func() bool {
				return server.Exec(b.Context(), db, "select pg_drop_replication_slot('copy')") == nil
			}, patience, 10*time.Millisecond)
			b.StartTimer()
		}
	})
}

func report(b *testing.B, cpu, walsender time.Duration) {
	b.ReportMetric(cpu.Seconds(), "cpu-s")
	b.ReportMetric(walsender.Seconds(), "walsender-s")
}

func usage(b *testing.B, who int) time.Duration {
	var r syscall.Rusage
	require.NoError(b, syscall.Getrusage(who, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// processTime reads the CPU time of a process from /proc (proc(5)), 0 where there is none.
func processTime(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	require.NoError(b, err1)
	require.NoError(b, err2)
	return time.Duration(user+system) * 10 * time.Millisecond
}
