package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/integration/workload/evolve"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// exitNotCovered is the exit code of a restore whose target the archive does not cover, or not exactly.
const exitNotCovered = 3

// enoughSeeds are so many that nearly every kind of change occurs among them, and every form. What concurrent sessions have taken
// back or refused in all of them must occur in some of moreSeeds.
const enoughSeeds, moreSeeds = 20, 20

// schemaMoment is what a database was at a position: its rows and its schema.
type schemaMoment struct {
	workload.Moment
	schema string
	after  int // entries of the journal that came before
}

// TestSchemaChangesComeThrough archives databases whose schema changes in every way, one for each seed, and
// asks for what they were at random moments. TIDEMARK_TEST_SEEDS says how many seeds (20), TIDEMARK_TEST_SEED
// which is the first (1), and TIDEMARK_TEST_KEEP a folder for the archive and the journal of each failure.
func TestSchemaChangesComeThrough(t *testing.T) {
	t.Parallel()
	// Many databases are made and dropped: their catalogs fit into the buffers.
	source := postgres.Start(t, postgres.Options{Settings: map[string]string{"max_connections": "100", "shared_buffers": "256MB"}})
	target := postgres.Start(t, postgres.Options{Settings: map[string]string{"shared_buffers": "256MB"}})
	first, seeds := number(t, "TIDEMARK_TEST_SEED", 1), number(t, "TIDEMARK_TEST_SEEDS", 20)
	if os.Getenv("TIDEMARK_TEST_SEED") != "" && os.Getenv("TIDEMARK_TEST_SEEDS") == "" {
		seeds = 1
	}
	var mu sync.Mutex
	var failed []string
	coverage := new(evolve.Coverage)
	prove := func(t *testing.T, seed uint64) {
		defer func() {
			if t.Failed() {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, strconv.FormatUint(seed, 10))
			}
		}()
		proveSeed(t, source, target, seed, coverage)
	}
	t.Run("seeds", func(t *testing.T) {
		for seed := first; seed < first+seeds; seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				prove(t, seed)
			})
		}
	})
	for more := uint64(0); seeds >= enoughSeeds && more < moreSeeds && len(coverage.Missing()) > 0; more++ {
		t.Run("another", func(t *testing.T) { prove(t, first+seeds+more) })
	}
	if len(failed) > 0 {
		t.Logf("%d of %d seeds failed: %s; repeat one with TIDEMARK_TEST_SEED", len(failed), seeds, strings.Join(failed, " "))
	}
	if missing := coverage.Missing(); seeds >= enoughSeeds {
		require.Empty(t, missing, "kinds and forms of changes that no seed has committed")
	}
}

// proveSeed archives one database under a workload and restores it to each moment. Every fourth seed has
// changes that no stream carries exactly.
func proveSeed(t *testing.T, source, target *postgres.Server, seed uint64, coverage *evolve.Coverage) {
	ctx := context.Background()
	name := fmt.Sprintf("seed_%d", seed)
	dsn := source.CreateDatabase(t, name)
	defer func() { _ = source.Exec(ctx, "postgres", "DROP DATABASE "+name+" WITH (FORCE)") }()
	require.NoError(t, evolve.Setup(ctx, dsn))
	dir := keepDir(t, seed)
	archive := harness.Archive{URL: filepath.Join(dir, "archive"), Source: dsn}
	inexact := seed%4 == 0
	w, err := evolve.Start(ctx, dsn, evolve.Options{Seed: seed, Inexact: inexact, Coverage: coverage})
	require.NoError(t, err)
	defer w.Stop()
	defer writeJournal(t, w, filepath.Join(dir, "journal"))

	run := archive.StartRun(t, "--segment-max-age", "1s", "--accept-gap")
	archive.WaitProtected(t, run)
	var moments []schemaMoment
	for range 3 {
		require.NoError(t, w.Change(ctx, 12))
		moments = append(moments, takeSchemaMoment(t, source, name, w))
	}
	if inexact {
		waitExact(t, archive, run, changeEventTriggers(t, source, name))
		moments = append(moments, takeSchemaMoment(t, source, name, w))
	}
	require.NoError(t, w.Stop())
	stopped := run.Stop(t)
	require.Zero(t, stopped.Code, stopped.Stderr)
	archive.CatchUp(t, "--accept-gap")
	dropSlots(t, source, name)
	listed := archive.List(t)
	for _, g := range listed.Gaps {
		require.Contains(t, g.Reason, undecodable)
		t.Logf("a gap: %s", g.Reason)
	}
	for i, m := range moments {
		if len(listed.Gaps) > 0 && !covered(listed, m.LSN) {
			r := harness.Run(t, archive.Restorer("plan", "--to-lsn", m.LSN.String(), "--exclusive"))
			require.Equal(t, exitNotCovered, r.Code, r.Stderr)
			continue
		}
		checkSchemaMoment(t, archive, target, fmt.Sprintf("seed_%d_%d", seed, i), m, inexact && i < 3)
	}
}

// undecodable is what PostgreSQL (15 and 18 at least) says of some transactions that took schema changes back to savepoints and rewrote a
// table afterwards: no reader of a slot gets past one. It is the only hole that an archive may have.
const undecodable = "unexpected duplicate for tablespace"

// covered reports whether an archive says that it can be restored to a position.
func covered(l harness.Listing, at segment.LSN) bool {
	for _, w := range l.Windows {
		if w.FromLSN <= at && at <= w.ToLSN {
			return true
		}
	}
	return false
}

// changeEventTriggers changes what no event trigger sees: the archiver looks for it. It returns the position right before
// the commit: a base snapshot may be taken as soon as that is there.
func changeEventTriggers(t *testing.T, s *postgres.Server, database string) (lsn segment.LSN) {
	ctx := context.Background()
	require.NoError(t, pgx.BeginFunc(ctx, s.Connect(t, database), func(tx pgx.Tx) error {
		for _, sql := range []string{
			"CREATE EVENT TRIGGER dropped ON sql_drop WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION play.comment()",
			"COMMENT ON EVENT TRIGGER dropped IS 'it''s; new'", "ALTER EVENT TRIGGER dropped DISABLE", "DROP EVENT TRIGGER comment",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var text string
		err := tx.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text)
		if err == nil {
			lsn, err = segment.ParseLSN(text)
		}
		return err
	}))
	return lsn
}

// waitExact waits until the archiver has taken a base snapshot after a position, which changes up to it call for: not before
// ten times as long has passed as the last one took.
func waitExact(t *testing.T, a harness.Archive, run *harness.Process, lsn segment.LSN) {
	a.WaitArchived(t, run, lsn)
	run.WaitFor(t, "base snapshot after an inexact change", 10*time.Minute, func() bool {
		r := harness.Run(t, a.Restorer("plan", "-o", "json"))
		var plan struct {
			Snapshot struct{ LSN segment.LSN }
		}
		return r.Code == 0 && json.Unmarshal([]byte(r.Stdout), &plan) == nil && plan.Snapshot.LSN >= lsn
	})
}

func takeSchemaMoment(t *testing.T, source *postgres.Server, database string, w *evolve.Workload) (m schemaMoment) {
	dsn := source.DSN(database)
	m.after = len(w.Journal())
	var err error
	m.Moment, err = workload.TakeMomentAnd(context.Background(), dsn, func(snapshot string) (err error) {
		m.schema, err = workload.DumpSchema(source.Path("pg_dump"), dsn, "--snapshot", snapshot)
		return err
	})
	require.NoError(t, err)
	require.NoError(t, w.Err())
	return m
}

// checkSchemaMoment restores to a moment and compares rows and schema. Where changes were allowed that can't be
// replayed exactly, a refusal that says so is an answer too.
func checkSchemaMoment(t *testing.T, a harness.Archive, server *postgres.Server, name string, m schemaMoment, inexact bool) {
	t.Helper()
	dsn := server.DSN(name)
	begin := time.Now()
	r := harness.Run(t, a.Restorer("restore", "--into", dsn, "--create", "-o", "json", "--to-lsn", m.LSN.String(), "--exclusive"))
	if r.Code == exitNotCovered && inexact {
		require.Contains(t, r.Stderr, "exact", "a refusal says why")
		t.Logf("%s: refused: %.300s", m.LSN, r.Stderr)
		return
	}
	require.Zero(t, r.Code, "restore to %s: %s", m.LSN, r.Stderr)
	defer server.MustExec(t, "postgres", "DROP DATABASE "+name)
	hashes, err := workload.HashDatabase(context.Background(), dsn)
	require.NoError(t, err)
	schema, err := workload.DumpSchema(server.Path("pg_dump"), dsn)
	require.NoError(t, err)
	if m.schema != schema {
		t.Errorf("the schema at %s is another one (- source, + restored):\n%s", m.LSN, difference(m.schema, schema))
	}
	if diff := m.Hashes.Diff(hashes); diff != "" {
		t.Errorf("the rows at %s differ:\n%s", m.LSN, diff)
	}
	t.Logf("%s: %d tables restored and compared in %.1fs", m.LSN, len(hashes), time.Since(begin).Seconds())
}

// difference returns the objects that only one of two dumps has.
func difference(source, restored string) string {
	count := map[string]int{}
	for _, object := range strings.Split(source, "\n\n") {
		count[object]++
	}
	for _, object := range strings.Split(restored, "\n\n") {
		count[object]--
	}
	var b strings.Builder
	for _, object := range strings.Split(source+"\n\n"+restored, "\n\n") {
		switch n := count[object]; {
		case n > 0:
			b.WriteString("- " + strings.ReplaceAll(object, "\n", "\n- ") + "\n")
		case n < 0:
			b.WriteString("+ " + strings.ReplaceAll(object, "\n", "\n+ ") + "\n")
		}
		delete(count, object)
	}
	return b.String()
}

// dropSlots removes a database's slots, so that they don't hold the server's WAL.
func dropSlots(t *testing.T, s *postgres.Server, database string) {
	s.MustExec(t, database, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active")
}

// keepDir is where a seed's archive goes: the test's own folder, unless it is to be kept.
func keepDir(t *testing.T, seed uint64) string {
	keep := os.Getenv("TIDEMARK_TEST_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	dir := filepath.Join(keep, strconv.FormatUint(seed, 10))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	t.Cleanup(func() {
		if !t.Failed() {
			require.NoError(t, os.RemoveAll(dir))
		}
	})
	return dir
}

// writeJournal leaves what a failed seed's changers ran.
func writeJournal(t *testing.T, w *evolve.Workload, file string) {
	if !t.Failed() {
		return
	}
	var b strings.Builder
	for i, e := range w.Journal() {
		fmt.Fprintf(&b, "%d %s\n", i, e)
	}
	require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	s := os.Getenv(variable)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	require.NoError(t, err)
	return n
}
