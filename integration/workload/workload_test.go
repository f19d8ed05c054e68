package workload_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
)

func TestWorkloadKeepsItsWord(t *testing.T) {
	ctx := context.Background()
	s := postgres.Start(t, postgres.Options{})
	dsn := s.CreateDatabase(t, "shop")
	require.NoError(t, workload.Setup(ctx, dsn))
	w, err := workload.Start(ctx, dsn, workload.Options{Seed: rand.Uint64() % 1000000, MaxRows: 5000, Log: t.Logf})
	require.NoError(t, err)
	defer w.Stop()

	require.Eventually(t, func() bool { return len(w.Commits()) > 300 || w.Err() != nil }, time.Minute, 10*time.Millisecond)
	require.NoError(t, w.Err())
	moment, err := workload.TakeMoment(ctx, dsn)
	require.NoError(t, err)
	require.NotZero(t, moment.LSN)

	require.NoError(t, w.Quiesce(func() error {
		before, err := workload.HashDatabase(ctx, dsn)
		require.NoError(t, err)
		quiet, err := workload.TakeMoment(ctx, dsn)
		require.NoError(t, err)
		require.Empty(t, before.Diff(quiet.Hashes))
		require.NotEmpty(t, before.Diff(moment.Hashes))
		return nil
	}))

	require.NoError(t, w.Stop())
	kinds := map[string]int{}
	for _, c := range w.Commits() {
		kinds[c.Kind]++
	}
	t.Logf("committed: %v", kinds)
	after, err := workload.HashDatabase(ctx, dsn)
	require.NoError(t, err)
	for table, hash := range after {
		t.Log(table, hash)
	}
	require.Equal(t, len(w.Commits()), count(t, s, "SELECT count(*) FROM shop.ledger"))
	require.Zero(t, count(t, s, "SELECT count(*) FROM pg_prepared_xacts"))
}

func TestSchemaDumpsCompare(t *testing.T) {
	ctx := context.Background()
	s := postgres.Start(t, postgres.Options{})
	a, b := s.CreateDatabase(t, "a"), s.CreateDatabase(t, "b")
	require.NoError(t, workload.Setup(ctx, a))
	require.NoError(t, workload.Setup(ctx, b))
	dump := func(dsn string) string {
		text, err := workload.DumpSchema(s.Path("pg_dump"), dsn)
		require.NoError(t, err)
		return text
	}
	require.Contains(t, dump(a), `CREATE TABLE "Odd Näme"`)
	require.Equal(t, dump(a), dump(b))
	s.MustExec(t, "b", "ALTER TABLE shop.orders ALTER total DROP NOT NULL")
	require.NotEqual(t, dump(a), dump(b))
}

func count(t *testing.T, s *postgres.Server, sql string) (n int) {
	require.NoError(t, s.Connect(t, "shop").QueryRow(context.Background(), sql).Scan(&n))
	return n
}
