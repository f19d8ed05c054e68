package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// world is a source that was archived while a workload ran on it, and what was true at some moments.
type world struct {
	source  *postgres.Server
	archive harness.Archive
	backup  string // physical base backup, older than the archive
	wal     string // folder of archived WAL files
	commits []workload.Commit

	live  []workload.Moment // taken while clients wrote
	quiet []quietMoment     // taken while clients were held
	last  workload.Hashes
}

// quietMoment is a moment at which nothing was under way, named in every way a target can be named.
type quietMoment struct {
	before workload.Hashes // without the transaction xid
	after  workload.Hashes // with it
	xid    string
	lsn    segment.LSN // after xid's commit
	time   time.Time   // of the server, after xid's commit
	mark   string
}

// oddSettings of a source must not reach its archive.
var oddSettings = map[string]string{
	"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kolkata",
	"bytea_output": "escape", "extra_float_digits": "-3", "default_transaction_isolation": "repeatable read",
	"statement_timeout": "60s", "idle_in_transaction_session_timeout": "60s", "lock_timeout": "20s",
}

// TestArchivedWorkload archives a source under a random workload, and then asks of the one archive
// everything that it must be able to answer.
func TestArchivedWorkload(t *testing.T) {
	t.Parallel()
	w := archiveWorkload(t)
	target := postgres.Start(t, postgres.Options{})
	t.Run("ListsEachCommitOnce", func(t *testing.T) { testListsEachCommitOnce(t, w) })
	t.Run("Latest", func(t *testing.T) { testLatest(t, w, target) })
	t.Run("Moments", func(t *testing.T) { testMoments(t, w, target) })
	t.Run("PhysicalRecovery", func(t *testing.T) { testPhysicalRecovery(t, w, target) })
	t.Run("OtherVersion", func(t *testing.T) { testOtherVersion(t, w) })
	t.Run("Verifies", func(t *testing.T) { testVerifies(t, w) })
}

// startSource runs a server with odd settings that keeps its WAL files, with a database "shop" on it.
func startSource(t *testing.T) (s *postgres.Server, wal string) {
	settings := map[string]string{"archive_mode": "on", "archive_command": "cp %p ../wal/%f"}
	for k, v := range oddSettings {
		settings[k] = v
	}
	s = postgres.Start(t, postgres.Options{Settings: settings})
	wal = filepath.Join(s.Home, "wal")
	require.NoError(t, s.MakeDir(wal))
	s.CreateDatabase(t, "shop")
	return s, wal
}

func archiveWorkload(t *testing.T) *world {
	ctx := context.Background()
	w := &world{}
	w.source, w.wal = startSource(t)
	dsn := w.source.DSN("shop")
	w.archive = harness.Archive{URL: t.TempDir(), Source: dsn}
	require.NoError(t, workload.Setup(ctx, dsn))
	var err error
	w.backup, err = w.source.BaseBackup("backup")
	require.NoError(t, err)

	clients, err := workload.Start(ctx, dsn, workload.Options{
		Seed: newSeed(t), Clients: 4, Pause: 20 * time.Millisecond, Log: t.Logf})
	require.NoError(t, err)
	defer clients.Stop()
	run := w.archive.StartRun(t, "--segment-max-age", "2s", "--segment-max-size", "2MiB")
	w.archive.WaitProtected(t, run)
	for i := range 20 {
		moment, err := workload.TakeMoment(ctx, dsn)
		require.NoError(t, err)
		require.NoError(t, clients.Err())
		w.live = append(w.live, moment)
		switch {
		case i%4 == 1:
			w.quiet = append(w.quiet, takeQuietMoment(t, w, clients))
		case i == 10:
			w.archive.Snapshot(t)
		case i == 14:
			commitInBursts(t, dsn)
		default:
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // moments are random
		}
	}
	require.NoError(t, clients.Stop())
	w.commits = clients.Commits()
	require.Zero(t, run.Stop(t).Code, run.Stderr())
	w.archive.CatchUp(t)
	w.last, err = workload.HashDatabase(ctx, dsn)
	require.NoError(t, err)
	finishWAL(t, w)
	return w
}

// commitInBursts commits so fast, in several sessions, that some commits get their time before and their
// place in the WAL after another one's.
func commitInBursts(t *testing.T, dsn string) {
	var sessions errgroup.Group
	for s := range 4 {
		sessions.Go(func() error {
			conn, err := pgx.Connect(context.Background(), dsn)
			if err != nil {
				return err
			}
			defer conn.Close(context.Background())
			_, err = conn.Exec(context.Background(), fmt.Sprintf(`DO $$ BEGIN
				FOR i IN 1..15000 LOOP INSERT INTO shop.changed (id, a) VALUES (%d000000 + i, i); COMMIT; END LOOP; END $$`, s+1))
			return err
		})
	}
	require.NoError(t, sessions.Wait())
}

func takeQuietMoment(t *testing.T, w *world, clients *workload.Workload) (q quietMoment) {
	ctx := context.Background()
	dsn := w.source.DSN("shop")
	q.mark = fmt.Sprintf("quiet %d", len(w.quiet))
	require.NoError(t, clients.Quiesce(func() (err error) {
		if q.before, err = workload.HashDatabase(ctx, dsn); err != nil {
			return err
		}
		q.xid = w.source.MustQuery(t, "shop", "INSERT INTO shop.ledger VALUES (-1, $1, 'quiet', pg_current_xact_id()::text) RETURNING xid", len(w.quiet))
		conn := w.source.Connect(t, "shop")
		var lsn string
		if err := conn.QueryRow(ctx, "SELECT clock_timestamp(), pg_current_wal_insert_lsn()::text").Scan(&q.time, &lsn); err != nil {
			return err
		}
		if q.lsn, err = segment.ParseLSN(lsn); err != nil {
			return err
		}
		w.archive.Mark(t, q.mark)
		q.after, err = workload.HashDatabase(ctx, dsn)
		return err
	}))
	return q
}

// finishWAL has the source archive its last WAL file.
func finishWAL(t *testing.T, w *world) {
	file := w.source.MustQuery(t, "postgres", "SELECT pg_walfile_name(pg_switch_wal())")
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(w.wal, file))
		return err == nil
	}, time.Minute, 50*time.Millisecond, "WAL file %s is not archived", file)
}

// newSeed draws a seed, or takes that of TIDEMARK_TEST_SEED to repeat a run.
func newSeed(t *testing.T) uint64 {
	if s := os.Getenv("TIDEMARK_TEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return seed
	}
	return rand.Uint64N(1e9)
}

// checkRestore restores to a target into a database of its own, compares, and drops it again.
func checkRestore(t *testing.T, a harness.Archive, server *postgres.Server, want workload.Hashes, target ...string) harness.Restored {
	t.Helper()
	name := fmt.Sprintf("restored_%d", rand.Uint32())
	report := a.Restore(t, server.DSN(name), target...)
	got, err := workload.HashDatabase(context.Background(), server.DSN(name))
	require.NoError(t, err)
	require.Empty(t, want.Diff(got), "source and restored database differ, target %v", target)
	server.MustExec(t, "postgres", "DROP DATABASE "+name)
	return report
}
