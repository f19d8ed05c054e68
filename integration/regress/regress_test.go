//go:build linux

package regress

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.RemovePrograms()
	os.Exit(code)
}

// tests is how many tests the schedule has at least: fewer were run, and something is wrong.
const tests = 200

// TestSnapshotOfTheRegressionDatabase: what PostgreSQL's own suite leaves behind comes back from a base snapshot as
// it is, but for what check names.
func TestSnapshotOfTheRegressionDatabase(t *testing.T) {
	t.Parallel()
	source := postgres.Start(t, postgres.Options{})
	suite, err := Find(source.Binaries)
	require.NoError(t, err)
	ran, failed, err := suite.Run(source)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ran, tests)
	require.Zero(t, failed, suite.Differences(source))

	archive := harness.Archive{URL: t.TempDir(), Source: source.DSN(Database)}
	giveIdentities(t, source, archive)
	archive.CatchUp(t)
	compareNewest(t, source, archive)
}

// TestStreamOfTheRegressionDatabase archives the suite's database while the suite runs. Changes that can't be replayed
// exactly have base snapshots taken in between; with TIDEMARK_TEST_REPLAY set, each stretch before one is
// replayed from the base snapshot before it, and has to come to what the next one holds.
func TestStreamOfTheRegressionDatabase(t *testing.T) {
	ctx := context.Background()
	source := postgres.Start(t, postgres.Options{Settings: map[string]string{"max_connections": "100"}})
	suite, err := Find(source.Binaries)
	require.NoError(t, err)
	require.NoError(t, suite.CreateDatabase(ctx, source))
	archive := harness.Archive{URL: filepath.Join(keepDir(t), "archive"), Source: source.DSN(Database)}
	run := archive.StartRun(t, "--segment-max-age", "2s")
	archive.WaitProtected(t, run)
	// Many tests print the publication and the replica identities: their output differs.
	ran, _, err := suite.RunStreamed(source)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ran, tests)
	lsn, err := segment.ParseLSN(source.MustQuery(t, Database, "SELECT pg_current_wal_flush_lsn()"))
	require.NoError(t, err)
	archive.WaitArchived(t, run, lsn)
	archive.WaitProtected(t, run)
	require.Zero(t, run.Stop(t).Code, run.Stderr())
	archive.CatchUp(t)
	compareNewest(t, source, archive)
	if os.Getenv("TIDEMARK_TEST_REPLAY") != "" {
		for _, s := range archive.List(t).Snapshots[1:] {
			t.Run("replay up to "+s.LSN.String(), func(t *testing.T) { compareReplay(t, archive, s.ID, s.LSN, inexactTables(t, archive)) })
		}
	}
}

// keepDir is where the archive lies: in the folder that TIDEMARK_TEST_KEEP names, or in one that goes with the test.
func keepDir(t *testing.T) string {
	if dir := os.Getenv("TIDEMARK_TEST_KEEP"); dir != "" {
		return dir
	}
	return t.TempDir()
}

// inexactTables are the tables whose rows the archive can't give exactly everywhere.
func inexactTables(t *testing.T, archive harness.Archive) map[string]bool {
	var listing struct {
		Inexact []struct{ Tables []string }
	}
	require.NoError(t, json.Unmarshal([]byte(harness.Run(t, archive.Restorer("list", "-o", "json")).Stdout), &listing))
	set := map[string]bool{}
	for _, i := range listing.Inexact {
		require.NotEmpty(t, i.Tables, "something isn't exact, and the archive doesn't say of which tables")
		for _, table := range i.Tables {
			set[table] = true
		}
	}
	return set
}

// compareReplay restores what was before a base snapshot, which needs a replay from the one before it, and the
// snapshot itself, and compares them.
func compareReplay(t *testing.T, archive harness.Archive, snapshot string, lsn segment.LSN, except map[string]bool) {
	asTaken := postgres.Start(t, postgres.Options{})
	replayed := postgres.Start(t, postgres.Options{})
	archive.Restore(t, asTaken.DSN(Database), "--to-snapshot", snapshot)
	report := archive.Restore(t, replayed.DSN(Database), "--to-lsn", (lsn - 1).String(), "--accept-inexact")
	require.NotZero(t, report.Transactions)
	want, err := TakeDump(asTaken.Path("pg_dump"), asTaken.DSN(Database))
	require.NoError(t, err)
	got, err := TakeDump(asTaken.Path("pg_dump"), replayed.DSN(Database))
	require.NoError(t, err)
	require.Empty(t, strings.Join(want.DiffSchema(got), "\n\n"), "schemas differ")
	require.Empty(t, strings.Join(want.DiffRows(got, except), "\n"), "rows differ")
}

// finding is one of check's.
type finding struct {
	ID     string `json:"id"`
	Object string `json:"object"`
	Fix    string `json:"fix"`
}

func check(t *testing.T, archive harness.Archive) []finding {
	var answer struct{ Findings []finding }
	require.NoError(t, json.Unmarshal([]byte(harness.Run(t, archive.Archiver("check", "-o", "json")).Stdout), &answer))
	return answer.Findings
}

// giveIdentities runs the statements that check wants for tables without a key.
func giveIdentities(t *testing.T, source *postgres.Server, archive harness.Archive) {
	var sql strings.Builder
	for _, f := range check(t, archive) {
		if strings.HasSuffix(f.Fix, "REPLICA IDENTITY FULL") {
			sql.WriteString(f.Fix + ";\n")
		}
	}
	source.MustExec(t, Database, sql.String())
}

// compareNewest restores the newest state on another server and compares, after the archiver has been taken off the source.
func compareNewest(t *testing.T, source *postgres.Server, archive harness.Archive) {
	unlogged := map[string]bool{}
	for _, f := range check(t, archive) {
		if f.ID == "unlogged_table" {
			unlogged[f.Object] = true
		}
	}
	target := postgres.Start(t, postgres.Options{})
	report := archive.Restore(t, target.DSN(Database))
	t.Logf("restored from %s: %d transactions replayed", report.SnapshotLSN, report.Transactions)
	require.Zero(t, harness.Run(t, archive.Archiver("detach", "--apply")).Code)

	want, err := TakeDump(source.Path("pg_dump"), source.DSN(Database))
	require.NoError(t, err)
	got, err := TakeDump(source.Path("pg_dump"), target.DSN(Database))
	require.NoError(t, err)
	require.Empty(t, strings.Join(want.DiffSchema(got), "\n\n"), "schemas differ")
	require.Empty(t, strings.Join(want.DiffRows(got, unlogged), "\n"), "rows differ")
	for table := range unlogged {
		require.Empty(t, got.Tables[table].Lines, "%s is unlogged: its rows can't be in the archive", table)
	}
	require.Empty(t, strings.Join(diffSequences(t, want, got, target), "\n"), "sequences differ")
}

// diffSequences compares the sequences. One that stood behind its column's greatest value, because rows were
// inserted with numbers of their own, stands past it after a restore (docs/coverage.md); nothing else may differ.
func diffSequences(t *testing.T, want, got *Dump, target *postgres.Server) (found []string) {
	conn := target.Connect(t, Database)
	for name, state := range want.Sequences {
		if got.Sequences[name] == state {
			continue
		}
		var column string
		err := conn.QueryRow(context.Background(), `
			SELECT format('SELECT max(%I)::bigint FROM %s', a.attname, d.refobjid::regclass) FROM pg_depend d
			JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE d.classid = 'pg_class'::regclass AND d.objid = $1::regclass AND d.deptype IN ('a', 'i')`, name).Scan(&column)
		var last, greatest int64
		if err == nil {
			err = conn.QueryRow(context.Background(), column).Scan(&greatest)
		}
		if _, scanErr := fmt.Sscanf(state, "%d", &last); err != nil || scanErr != nil || last > greatest || got.Sequences[name] != fmt.Sprintf("%d, true", greatest) {
			found = append(found, fmt.Sprintf("%s: (%s), the other (%s); greatest %d: %v", name, state, got.Sequences[name], greatest, err))
		}
	}
	for name := range got.Sequences {
		if _, ok := want.Sequences[name]; !ok {
			found = append(found, name+": only the other has it")
		}
	}
	return found
}
