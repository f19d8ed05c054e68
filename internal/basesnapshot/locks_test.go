package basesnapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCatalogsCanBeRewrittenWhileTheSchemaIsDumped: whoever wants a catalog for itself while pg_dump runs doesn't wait for
// the snapshot, or pg_dump's next connection would wait behind it and the snapshot for pg_dump, for ever.
func TestCatalogsCanBeRewrittenWhileTheSchemaIsDumped(t *testing.T) {
	name, dsn := newDatabase(t)
	testServer().MustExec(t, name, "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1)")
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
if [ "$1" != --version ]; then
	PGOPTIONS='-c lock_timeout=10s' %[1]s --no-psqlrc --command 'VACUUM FULL pg_am' --command 'VACUUM FULL pg_class' >%[2]s/said 2>&1 || exit 1
fi
exec %[3]s "$@"
`, testServer().Path("psql"), dir, testServer().Path("pg_dump"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg_dump"), []byte(script), 0o755))
	opt := options(dsn, newStore(t))
	opt.PgDump, opt.Attempts = filepath.Join(dir, "pg_dump"), 1
	_, err := Take(context.Background(), opt)
	said, readErr := os.ReadFile(filepath.Join(dir, "said"))
	require.NoError(t, readErr)
	require.NotContains(t, string(said), "ERROR")
	if err != nil {
		require.True(t, isChanged(err), "%v", err)
	}
}
