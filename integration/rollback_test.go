package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
	"tidemark/segment"
)

// TestRolledBackVolumeIsNeverArchivedOver: a source whose data folder went back to an older copy keeps
// its system identifier, its timeline and its slot. What it writes then must not be taken for the
// continuation of what it wrote before.
func TestRolledBackVolumeIsNeverArchivedOver(t *testing.T) {
	t.Parallel()
	for name, overtake := range map[string]bool{"behind the archive's end": false, "past the archive's end": true} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			source := postgres.Start(t, postgres.Options{})
			dsn := source.CreateDatabase(t, "shop")
			source.MustExec(t, "shop", "CREATE TABLE account (id int PRIMARY KEY, owner text)")
			archive := harness.Archive{URL: t.TempDir(), Source: dsn}
			insertAccounts(t, source, 1, 10, "both")
			archive.CatchUp(t)
			insertAccounts(t, source, 11, 20, "both")

			require.NoError(t, source.Stop(postgres.Fast))
			older, err := source.CopyDataDir("older")
			require.NoError(t, err)
			require.NoError(t, source.Run())
			insertAccounts(t, source, 21, 30, "first life")
			archive.CatchUp(t)
			firstLife, err := workload.HashDatabase(ctx, dsn)
			require.NoError(t, err)
			end := archive.List(t).Windows[0].ToLSN

			require.NoError(t, source.Stop(postgres.Fast))
			require.NoError(t, source.ReplaceDataDir(older))
			require.NoError(t, source.Run())
			insertAccounts(t, source, 21, 25, "second life")
			for i := 100; overtake && walPosition(t, source) <= end; i += 100 {
				insertAccounts(t, source, i, i+99, "second life")
			}
			r := archive.CatchUp(t)
			require.Regexp(t, `(?i)rolled back|history`, r.Stderr, "it says what it found")
			insertAccounts(t, source, 90, 95, "second life")
			archive.CatchUp(t)

			list := archive.List(t)
			require.Len(t, list.Windows, 2)
			require.NotEqual(t, list.Windows[0].History, list.Windows[1].History)
			secondLife, err := workload.HashDatabase(ctx, dsn)
			require.NoError(t, err)
			checkRestore(t, archive, source, secondLife)
			checkRestore(t, archive, source, firstLife, "--to-lsn", lastBefore(t, archive, end).String(), "--history",
				fmt.Sprint(list.Windows[0].History))
			require.Zero(t, harness.Run(t, archive.Restorer("verify", "--level", "decode")).Code)
		})
	}
}

func insertAccounts(t *testing.T, s *postgres.Server, from, to int, owner string) {
	s.MustExec(t, "shop", fmt.Sprintf("INSERT INTO account SELECT i, '%s' || repeat('x', i %% 50) FROM generate_series(%d, %d) i", owner, from, to))
}

func walPosition(t *testing.T, s *postgres.Server) segment.LSN {
	lsn, err := segment.ParseLSN(s.MustQuery(t, "shop", "SELECT pg_current_wal_flush_lsn()"))
	require.NoError(t, err)
	return lsn
}

// lastBefore returns the commit LSN of the first history's last transaction.
func lastBefore(t *testing.T, archive harness.Archive, end segment.LSN) (last segment.LSN) {
	for _, tx := range archive.Log(t) {
		if tx.History == 1 && tx.LSN < end {
			last = tx.LSN
		}
	}
	require.NotZero(t, last)
	return last
}
