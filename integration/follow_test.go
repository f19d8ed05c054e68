package integration

import (
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// followed is the part of `restorer follow --status -o json` that tests look at.
type followed struct {
	State         string            `json:"state"`
	AppliedLSN    segment.LSN       `json:"applied_lsn"`
	AppliedTime   segment.Timestamp `json:"applied_time"`
	ArchiveEndLSN segment.LSN       `json:"archive_end_lsn"`
	ArchiveRead   bool              `json:"archive_read"`
	LagBytes      int64             `json:"lag_bytes"`
	LagSeconds    float64           `json:"lag_seconds"`
	Transactions  int64             `json:"transactions"`
	Target        string            `json:"target"`
}

func followStatus(t *testing.T, a harness.Archive, into string) (s followed) {
	t.Helper()
	r := harness.Run(t, a.Restorer("follow", "--into", into, "--status", "-o", "json"))
	if r.Code == 0 {
		require.NoError(t, json.Unmarshal([]byte(r.Stdout), &s), r.Stdout)
	}
	return s
}

// waitFollowed waits until a follower has applied all before an LSN.
func waitFollowed(t *testing.T, a harness.Archive, run *harness.Process, into string, lsn segment.LSN) {
	t.Helper()
	run.WaitFor(t, "apply up to "+lsn.String(), 3*time.Minute, func() bool { return followStatus(t, a, into).AppliedLSN >= lsn })
}

// archiveEnd is how far an archive reaches.
func archiveEnd(t *testing.T, a harness.Archive) segment.LSN {
	t.Helper()
	windows := a.List(t).Windows
	require.NotEmpty(t, windows)
	return windows[len(windows)-1].ToLSN
}

// TestKilledFollowerRepeatsAndSkipsNothing kills a follower at random moments of a workload, its first
// restore included, restarts the archiver and the target server under it, and promotes in the end.
func TestKilledFollowerRepeatsAndSkipsNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	source := postgres.Start(t, postgres.Options{})
	target := postgres.Start(t, postgres.Options{})
	dsn, into := source.CreateDatabase(t, "shop"), target.DSN("standby")
	require.NoError(t, workload.Setup(ctx, dsn))
	native := subscribe(t, source, dsn)
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	clients, err := workload.Start(ctx, dsn, workload.Options{
		Seed: newSeed(t), MaxRows: 20_000, Pause: 20 * time.Millisecond, Log: t.Logf})
	require.NoError(t, err)
	defer clients.Stop()
	flags := []string{"--segment-max-age", "300ms", "--segment-max-size", "256KiB"}
	run := archive.StartRun(t, flags...)
	archive.WaitProtected(t, run)

	follow := func() *harness.Process {
		return harness.Start(t, archive.Restorer("follow", "--into", into, "--create"))
	}
	began := segment.LSN(0)
	for i := range 16 {
		f := follow()
		if i == 4 { // the first kills fall into the first restore, the others don't
			f.WaitFor(t, "first restore", 3*time.Minute, func() bool { return followStatus(t, archive, into).State == "following" })
		}
		select {
		case <-time.After(time.Duration(50+rand.IntN(1500)) * time.Millisecond):
		case <-f.Done():
		}
		switch i {
		case 7:
			run.Kill(t)
			run = archive.StartRun(t, flags...)
		case 10:
			require.NoError(t, target.Stop(postgres.Immediate))
			require.NoError(t, target.Run())
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // to be killed anywhere in what follows
		}
		r := f.Kill(t)
		require.Equal(t, -1, r.Code, "follower %d ended by itself:\n%s", i, r.Stderr)
		require.NoError(t, clients.Err())
		if i >= 4 {
			s := followStatus(t, archive, into)
			require.GreaterOrEqual(t, s.AppliedLSN, began)
			began = s.AppliedLSN
		}
	}
	require.NoError(t, clients.Stop())
	require.Zero(t, run.Stop(t).Code, run.Stderr())
	archive.CatchUp(t, flags...)

	end := archiveEnd(t, archive)
	f := follow()
	waitFollowed(t, archive, f, into, end)
	want, err := workload.HashDatabase(ctx, dsn)
	require.NoError(t, err)
	got, err := workload.HashDatabase(ctx, into)
	require.NoError(t, err)
	require.Empty(t, want.Diff(got), "source and standby differ")
	compareNative(t, source, native, got)
	s := followStatus(t, archive, into)
	require.Equal(t, "following", s.State)
	require.Zero(t, s.LagBytes)
	require.Zero(t, s.LagSeconds)
	second := harness.Start(t, archive.Restorer("follow", "--into", into))
	require.Equal(t, 5, second.Wait(t, time.Minute).Code, "a second follower works beside the first:\n%s", second.Stderr())

	testPromotion(t, archive, target, f, into, end)
}

// notNative are tables that a native subscription can't take: one with a type that has no equality, and no key; one without
// columns.
var notNative = []string{"shop.audit", "shop.nothing"}

// subscribe sets up a server with a native subscription to the workload's tables. Its triggers don't fire.
func subscribe(t *testing.T, source *postgres.Server, dsn string) *postgres.Server {
	t.Helper()
	s := postgres.Start(t, postgres.Options{})
	require.NoError(t, workload.Setup(context.Background(), s.CreateDatabase(t, "shop")))
	s.MustExec(t, "shop", "ALTER TABLE shop.tagged DISABLE TRIGGER stamp")
	tables := source.MustQuery(t, "shop", `SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' AND n.nspname IN ('shop', 'events', 'Odd Näme') AND c.oid NOT IN ('`+strings.Join(notNative, "'::regclass, '")+`'::regclass)`)
	source.MustExec(t, "shop", "CREATE PUBLICATION native FOR TABLE "+tables)
	s.MustExec(t, "shop", "CREATE SUBSCRIPTION native CONNECTION '"+dsn+"' PUBLICATION native WITH (copy_data = false)")
	return s
}

// compareNative compares a standby with what a native subscription to the same commits gives.
func compareNative(t *testing.T, source, native *postgres.Server, standby workload.Hashes) {
	t.Helper()
	end := source.MustQuery(t, "shop", "SELECT pg_current_wal_insert_lsn()")
	require.Eventually(t, func() bool {
		return source.MustQuery(t, "shop", "SELECT confirmed_flush_lsn >= '"+end+"' FROM pg_replication_slots WHERE slot_name = 'native'") == "t"
	}, 2*time.Minute, 50*time.Millisecond, "the native subscription: %s", native.LogTail(1000))
	taken, err := workload.HashDatabase(context.Background(), native.DSN("shop"))
	require.NoError(t, err)
	same := maps.Clone(standby)
	for _, name := range notNative {
		delete(taken, name)
		delete(same, name)
	}
	require.Empty(t, same.Diff(taken), "standby and native subscription differ")
	native.MustExec(t, "shop", "DROP SUBSCRIPTION native")
}

// testPromotion promotes while a follower runs.
func testPromotion(t *testing.T, archive harness.Archive, target *postgres.Server, f *harness.Process, into string, end segment.LSN) {
	r := harness.Run(t, archive.Restorer("promote", "--into", into, "-o", "json"))
	require.Zero(t, r.Code, r.Stderr)
	var promoted struct {
		LSN      segment.LSN       `json:"lsn"`
		Time     segment.Timestamp `json:"time"`
		Complete bool              `json:"complete"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.Stdout), &promoted))
	require.True(t, promoted.Complete)
	require.GreaterOrEqual(t, promoted.LSN, end)
	require.Zero(t, f.Wait(t, time.Minute).Code, f.Stderr())

	again := harness.Run(t, archive.Restorer("follow", "--into", into))
	require.Equal(t, 2, again.Code)
	require.Contains(t, again.Stderr, "was promoted")
	require.Equal(t, "A", target.MustQuery(t, "standby", "SELECT tgenabled FROM pg_trigger WHERE tgname = 'stamp'"), "a trigger is not switched on again")
	require.Equal(t, "a", target.MustQuery(t, "standby", "SELECT attidentity FROM pg_attribute WHERE attrelid = 'shop.orders'::regclass AND attname = 'id'"))
	// A value of a sequence that a row has must not come again. The last belongs to no column: it is as its
	// newest sample.
	for sequence, used := range map[string]string{
		"shop.customer_id_seq": "SELECT max(id) FROM shop.customer", "shop.orders_id_seq": "SELECT max(id) FROM shop.orders",
		"events.event_position_seq": "SELECT max(position) FROM events.event", "shop.metric_n": "SELECT max(n) FROM shop.metric",
	} {
		require.Equal(t, "true", target.MustQuery(t, "standby", "SELECT (nextval('"+sequence+"') > coalesce(("+used+"), 0))::text"), sequence)
	}
}

// TestFollowEndsAtTarget follows to targets that lie ahead, with a delay, and until it is told to stop.
func TestFollowEndsAtTarget(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	dsn := server.CreateDatabase(t, "source")
	server.MustExec(t, "source", "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (0, 'before')")
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	run := archive.StartRun(t, "--segment-max-age", "200ms")
	archive.WaitProtected(t, run)
	insert := func(id int) {
		server.MustExec(t, "source", "INSERT INTO t SELECT "+strconv.Itoa(id)+", 'row'")
	}
	ids := func(database string) string {
		return server.MustQuery(t, database, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t")
	}

	t.Run("a mark that comes later", func(t *testing.T) {
		f := harness.Start(t, archive.Restorer("follow", "--into", server.DSN("marked"), "--create", "--to-mark", "now"))
		f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, server.DSN("marked")).State == "following" })
		insert(1)
		archive.Mark(t, "now")
		insert(2)
		require.Zero(t, f.Wait(t, time.Minute).Code, f.Stderr())
		require.Equal(t, "0 1", ids("marked"))
		require.Equal(t, "reached", followStatus(t, archive, server.DSN("marked")).State)
		past := harness.Run(t, archive.Restorer("follow", "--into", server.DSN("marked"), "--to-snapshot", archive.List(t).Snapshots[0].ID))
		require.Equal(t, 3, past.Code, past.Stderr)
		r := harness.Run(t, archive.Restorer("promote", "--into", server.DSN("marked")))
		require.Zero(t, r.Code, r.Stderr)
		require.Equal(t, "0 1", ids("marked"), "a promotion goes past the target")
	})
	t.Run("SIGTERM and on to a transaction", func(t *testing.T) {
		f := harness.Start(t, archive.Restorer("follow", "--into", server.DSN("stopped"), "--create", "--listen", "127.0.0.1:0"))
		f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, server.DSN("stopped")).State == "following" })
		f.Signal(t, syscall.SIGTERM)
		require.Zero(t, f.Wait(t, time.Minute).Code, f.Stderr())
		require.Equal(t, "stopped", followStatus(t, archive, server.DSN("stopped")).State)
		xid := server.MustQuery(t, "source", "INSERT INTO t VALUES (3, 'row') RETURNING pg_current_xact_id()::text")
		insert(4)
		f = harness.Start(t, archive.Restorer("follow", "--into", server.DSN("stopped"), "--to-xid", xid))
		require.Zero(t, f.Wait(t, time.Minute).Code, f.Stderr())
		require.Equal(t, "0 1 2 3", ids("stopped"))
	})
	t.Run("a delay", func(t *testing.T) {
		f := harness.Start(t, archive.Restorer("follow", "--into", server.DSN("delayed"), "--create", "--delay", "8s"))
		f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, server.DSN("delayed")).State == "following" })
		insert(5)
		began := time.Now()
		f.WaitFor(t, "apply the row", time.Minute, func() bool { return ids("delayed") == "0 1 2 3 4 5" })
		require.Greater(t, time.Since(began), 7*time.Second, "the delay is not kept")
		insert(6)
		archive.Mark(t, "archived") // and all before it
		r := harness.Run(t, archive.Restorer("promote", "--into", server.DSN("delayed")))
		require.Zero(t, r.Code, r.Stderr)
		require.Zero(t, f.Wait(t, time.Minute).Code, f.Stderr())
		require.Equal(t, "0 1 2 3 4 5 6", ids("delayed"), "a promotion leaves archived transactions out")
	})
}

// TestFollowRefuses: what a follower can't apply ends it with the right exit code, and with all before it applied.
func TestFollowRefuses(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	dsn := server.CreateDatabase(t, "source")
	server.MustExec(t, "source", "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (0, 'before')")
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	archive.CatchUp(t)
	into := func(name string) string {
		f := harness.Start(t, archive.Restorer("follow", "--into", server.DSN(name), "--create"))
		f.WaitFor(t, "first restore", time.Minute, func() bool { return followStatus(t, archive, server.DSN(name)).State == "following" })
		f.Stop(t)
		return server.DSN(name)
	}

	t.Run("a row that does not fit", func(t *testing.T) {
		dsn := into("misfit")
		server.MustExec(t, "misfit", "INSERT INTO t VALUES (12, 'of somebody else')")
		for id := 10; id < 15; id++ {
			server.MustExec(t, "source", "INSERT INTO t VALUES ("+strconv.Itoa(id)+", 'row')")
		}
		archive.CatchUp(t)
		r := harness.Run(t, archive.Restorer("follow", "--into", dsn))
		require.Equal(t, 1, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "public.t (id) = (12)")
		require.Contains(t, r.Stderr, "LSN")
		require.Equal(t, "0 10 11 12", server.MustQuery(t, "misfit", "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"), "what came before is not applied")
		server.MustExec(t, "misfit", "DELETE FROM t WHERE id = 12")
		f := harness.Start(t, archive.Restorer("follow", "--into", dsn))
		waitFollowed(t, archive, f, dsn, archiveEnd(t, archive))
		require.Equal(t, "0 10 11 12 13 14", server.MustQuery(t, "misfit", "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"))
		f.Stop(t)
	})
	t.Run("a database that holds something else", func(t *testing.T) {
		r := harness.Run(t, archive.Restorer("follow", "--into", server.DSN("source")))
		require.Equal(t, 2, r.Code, r.Stderr)
		r = harness.Run(t, archive.Restorer("promote", "--into", server.DSN("source")))
		require.Equal(t, 2, r.Code, r.Stderr)
	})
	t.Run("a copy that comes bit by bit", func(t *testing.T) {
		into("copied")
		before := files(t, archive.URL)
		server.MustExec(t, "source", "INSERT INTO t VALUES (16, 'row')")
		archive.CatchUp(t)
		late := harness.Archive{URL: t.TempDir()}
		copyFiles(t, archive.URL, late.URL, files(t, archive.URL), func(key string) bool {
			return slices.Contains(before, key) || !strings.HasPrefix(key, "segments/")
		})
		r := harness.Run(t, late.Restorer("follow", "--into", server.DSN("copied"), "--copy-lag", "100ms"))
		require.Equal(t, 4, r.Code, "an object never came:\n%s", r.Stderr)
		f := harness.Start(t, late.Restorer("follow", "--into", server.DSN("copied")))
		f.WaitFor(t, "warning", time.Minute, func() bool { return strings.Contains(f.Stderr(), "waiting for it") })
		copyFiles(t, archive.URL, late.URL, files(t, archive.URL), func(key string) bool { return !slices.Contains(before, key) })
		waitFollowed(t, archive, f, server.DSN("copied"), archiveEnd(t, archive))
		require.Equal(t, "16", server.MustQuery(t, "copied", "SELECT max(id)::text FROM t"))
		f.Stop(t)
	})
	t.Run("damage", func(t *testing.T) {
		dsn := into("damaged")
		server.MustExec(t, "source", "INSERT INTO t VALUES (17, 'good')")
		archive.CatchUp(t)
		before := files(t, archive.URL)
		server.MustExec(t, "source", "INSERT INTO t VALUES (18, 'bad')")
		archive.CatchUp(t)
		damaged := harness.Archive{URL: t.TempDir()}
		copyFiles(t, archive.URL, damaged.URL, files(t, archive.URL), func(string) bool { return true })
		for _, key := range files(t, damaged.URL) {
			if strings.HasPrefix(key, "segments/") && !slices.Contains(before, key) {
				path := filepath.Join(damaged.URL, key)
				data, err := os.ReadFile(path)
				require.NoError(t, err)
				data[len(data)/2] ^= 1
				require.NoError(t, os.Remove(path))
				require.NoError(t, os.WriteFile(path, data, 0o600))
			}
		}
		r := harness.Run(t, damaged.Restorer("follow", "--into", dsn))
		require.Equal(t, 4, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "segments/")
		require.Equal(t, "17", server.MustQuery(t, "damaged", "SELECT max(id)::text FROM t"), "what came before is not applied")
		r = harness.Run(t, damaged.Restorer("promote", "--into", dsn, "--accept-loss"))
		require.Zero(t, r.Code, r.Stderr)
	})
	t.Run("a gap", func(t *testing.T) {
		dsn := into("gap")
		slot := server.MustQuery(t, "source", "SELECT slot_name FROM pg_replication_slots")
		server.MustExec(t, "source", "SELECT pg_drop_replication_slot('"+slot+"'); INSERT INTO t VALUES (20, 'lost')")
		archive.CatchUp(t, "--accept-gap")
		r := harness.Run(t, archive.Restorer("follow", "--into", dsn))
		require.Equal(t, 6, r.Code, r.Stderr)
		r = harness.Run(t, archive.Restorer("promote", "--into", dsn))
		require.Equal(t, 6, r.Code, r.Stderr)
		require.Equal(t, "stopped", followStatus(t, archive, dsn).State)
		r = harness.Run(t, archive.Restorer("promote", "--into", dsn, "--accept-loss"))
		require.Zero(t, r.Code, r.Stderr)
		require.Contains(t, r.Stdout, "are missing")
	})
}

// files lists the keys of an archive in a folder.
func files(t *testing.T, dir string) (keys []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			key, _ := filepath.Rel(dir, path)
			keys = append(keys, key)
		}
		return err
	}))
	return keys
}

// copyFiles copies the wanted objects of an archive in a folder to another.
func copyFiles(t *testing.T, from, to string, keys []string, want func(string) bool) {
	t.Helper()
	for _, key := range keys {
		if !want(key) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, key))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(to, key)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(to, key), data, 0o600))
	}
}
