// Package matrix archives databases of each major version of PostgreSQL and restores them on the same and on each
// newer one. TIDEMARK_TEST_VERSIONS lists the versions; without it, the oldest and the newest.
package matrix

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.RemovePrograms()
	os.Exit(code)
}

// versions to test, oldest first.
func versions(t *testing.T) []int {
	list := []int{14, 18}
	if s := os.Getenv("TIDEMARK_TEST_VERSIONS"); s != "" {
		list = nil
		for word := range strings.FieldsSeq(s) {
			v, err := strconv.Atoi(word)
			require.NoError(t, err)
			list = append(list, v)
		}
	}
	slices.Sort(list)
	return list
}

// archived is what is known of a source that was archived.
type archived struct {
	version int
	archive harness.Archive
	middle  workload.Moment
	marked  state // at the mark "end"
}

// state is a database's rows and schema.
type state struct {
	rows   workload.Hashes
	schema string
}

func TestEachVersionRestoresOnItsOwnAndNewerOnes(t *testing.T) {
	list := versions(t)
	dump, err := postgres.FindProgram("pg_dump", list[len(list)-1])
	require.NoError(t, err)
	targets := map[int]*postgres.Server{}
	for _, v := range list {
		targets[v] = postgres.Start(t, postgres.Options{Version: strconv.Itoa(v)})
	}
	for _, v := range list {
		t.Run(fmt.Sprintf("from %d", v), func(t *testing.T) {
			a := archiveOn(t, v, dump)
			for _, target := range list {
				if target >= v {
					t.Run(fmt.Sprintf("to %d", target), func(t *testing.T) { restoreOn(t, a, targets[target], target == v, dump) })
				}
			}
		})
	}
}

// archiveOn archives a workload, with schema changes, on a server of a version.
func archiveOn(t *testing.T, version int, dump string) archived {
	ctx := context.Background()
	source := postgres.Start(t, postgres.Options{Version: strconv.Itoa(version)})
	dsn := source.CreateDatabase(t, "shop")
	require.NoError(t, workload.Setup(ctx, dsn))
	source.MustExec(t, "shop", features(version, before))
	own, err := postgres.FindProgram("pg_dump", version)
	require.NoError(t, err)
	a := archived{version: version, archive: harness.Archive{URL: t.TempDir(), Source: dsn}}
	run := a.archive.StartRun(t, "--segment-max-age", "1s", "--pg-dump", own)
	a.archive.WaitProtected(t, run)

	clients, err := workload.Start(ctx, dsn, workload.Options{Seed: uint64(version), Clients: 3, MaxRows: 2000, Log: t.Logf})
	require.NoError(t, err)
	defer clients.Stop()
	work(t, clients, 200)
	a.middle, err = workload.TakeMoment(ctx, dsn)
	require.NoError(t, err)
	source.MustExec(t, "shop", features(version, during))
	work(t, clients, 200)
	require.NoError(t, clients.Stop())
	source.MustExec(t, "shop", features(version, after))
	a.archive.Mark(t, "end")
	lsn, err := segment.ParseLSN(source.MustQuery(t, "shop", "SELECT pg_current_wal_flush_lsn()"))
	require.NoError(t, err)
	a.archive.WaitArchived(t, run, lsn)
	require.Zero(t, run.Stop(t).Code, run.Stderr())
	require.Zero(t, harness.Run(t, a.archive.Archiver("detach", "--apply")).Code)
	a.marked = stateOf(t, dump, dsn)
	require.NoError(t, source.Stop(postgres.Fast))
	return a
}

// work waits until the clients have committed n transactions more.
func work(t *testing.T, clients *workload.Workload, n int) {
	until := len(clients.Commits()) + n
	require.Eventually(t, func() bool { return clients.Err() != nil || len(clients.Commits()) >= until }, time.Minute, 10*time.Millisecond)
	require.NoError(t, clients.Err())
}

func stateOf(t *testing.T, dump, dsn string) (s state) {
	var err error
	s.rows, err = workload.HashDatabase(context.Background(), dsn)
	require.NoError(t, err)
	s.schema, err = workload.DumpSchema(dump, dsn)
	require.NoError(t, err)
	return s
}

// restoreOn restores to both moments. On the same version the schema has to be the same text.
func restoreOn(t *testing.T, a archived, target *postgres.Server, same bool, dump string) {
	middle, end := fmt.Sprintf("middle_%d", a.version), fmt.Sprintf("end_%d", a.version)
	a.archive.Restore(t, target.DSN(middle), "--to-lsn", a.middle.LSN.String(), "--exclusive")
	rows, err := workload.HashDatabase(context.Background(), target.DSN(middle))
	require.NoError(t, err)
	require.Empty(t, a.middle.Hashes.Diff(rows), "rows differ in the middle")

	a.archive.Restore(t, target.DSN(end), "--to-mark", "end")
	got := stateOf(t, dump, target.DSN(end))
	require.Empty(t, a.marked.rows.Diff(got.rows), "rows differ at the end")
	if same {
		require.Equal(t, strings.Split(a.marked.schema, "\n\n"), strings.Split(got.schema, "\n\n"), "schemas differ")
	}
}
