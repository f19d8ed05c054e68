package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
)

// TestMemoryStaysFlat archives and restores one transaction of more than 2 GiB, with one value in it
// that is larger than all the memory the archiver may take.
func TestMemoryStaysFlat(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	ctx := context.Background()
	source := postgres.Start(t, postgres.Options{Settings: map[string]string{
		"max_wal_size": "4GB", "logical_decoding_work_mem": "16MB"}})
	dsn := source.CreateDatabase(t, "large")
	source.MustExec(t, "large", `
		CREATE TABLE row (id int PRIMARY KEY, body text);
		CREATE TABLE value (id int PRIMARY KEY, body text);
		ALTER TABLE value ALTER body SET STORAGE EXTERNAL`)
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	archive.CatchUp(t)
	run := archive.StartRun(t)
	archive.WaitProtected(t, run)

	source.MustExec(t, "large", `
		BEGIN;
		INSERT INTO row SELECT i, repeat(md5(i::text), 58) FROM generate_series(1, 1050000) i;
		INSERT INTO value SELECT 1, repeat(md5('x'), 300 * 1024 * 32);
		INSERT INTO row SELECT -i, 'last ' || i FROM generate_series(1, 10) i;
		COMMIT`)
	raw := source.MustQuery(t, "large", "SELECT sum(octet_length(body)) > 2147483648 FROM (TABLE row UNION ALL TABLE value) x")
	require.Equal(t, "t", raw)
	archive.Mark(t, "done")
	stopped := run.Stop(t)
	require.Zero(t, stopped.Code, stopped.Stderr)
	t.Logf("archiver: %d MiB at most", stopped.PeakMemory/mib)
	require.Less(t, stopped.PeakMemory, int64(256*mib))

	want, err := workload.HashDatabase(ctx, dsn)
	require.NoError(t, err)
	source.MustExec(t, "large", "DROP TABLE row, value") // room on the disk
	restored := harness.Run(t, archive.Restorer("restore", "--into", source.DSN("again"), "--create", "--to-mark", "done"))
	require.Zero(t, restored.Code, restored.Stderr)
	t.Logf("restorer: %d MiB at most, %.0f s", restored.PeakMemory/mib, restored.Seconds)
	require.Less(t, restored.PeakMemory, int64(512*mib))
	got, err := workload.HashDatabase(ctx, source.DSN("again"))
	require.NoError(t, err)
	require.Empty(t, want.Diff(got))
}
