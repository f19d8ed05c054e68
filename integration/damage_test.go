package integration

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
)

// TestDamageIsFound: any one byte flipped in any object, or an object gone, is found by verify, which
// names the object, and by a restore that would read it, which leaves no database behind.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	archive := smallArchive(t, server)
	keys := objects(t, archive.URL)
	t.Logf("%d objects", len(keys))
	for i, key := range keys {
		path := filepath.Join(archive.URL, key)
		sound, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotEmpty(t, sound, key)
		for _, at := range []int{0, rand.IntN(len(sound)), rand.IntN(len(sound)), len(sound) - 1} {
			damaged := append([]byte(nil), sound...)
			damaged[at] ^= 1 << rand.IntN(8)
			replace(t, path, damaged)
			requireFound(t, archive, key, fmt.Sprintf("byte %d of %d flipped", at, len(sound)))
		}
		if restoreReads(key) {
			requireNotRestored(t, archive, server, fmt.Sprintf("damaged_%d", i), key)
		}
		require.NoError(t, os.Remove(path))
		if key != "archive.json" { // without it there is no archive to verify
			requireFound(t, archive, key, "missing")
		}
		if restoreReads(key) {
			requireNotRestored(t, archive, server, fmt.Sprintf("missing_%d", i), key)
		}
		replace(t, path, sound)
	}
	require.Zero(t, harness.Run(t, archive.Restorer("verify", "--level", "decode")).Code)
}

// smallArchive makes an archive with a few objects of every kind.
func smallArchive(t *testing.T, server *postgres.Server) harness.Archive {
	ctx := context.Background()
	dsn := server.CreateDatabase(t, "shop")
	require.NoError(t, workload.Setup(ctx, dsn))
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	archive.CatchUp(t)
	for i := range 3 {
		server.MustExec(t, "shop", fmt.Sprintf(`INSERT INTO shop.metric SELECT '2024-01-01', i, %d, random(), md5(random()::text)
			FROM generate_series(1, 3000) i`, i))
		archive.CatchUp(t)
	}
	return archive
}

// objects lists the keys of an archive in a folder.
func objects(t *testing.T, dir string) (keys []string) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(dir, path)
		keys = append(keys, filepath.ToSlash(key))
		return err
	}))
	require.NotEmpty(t, keys)
	return keys
}

// restoreReads tells whether a restore of the newest state has to read an object. It may do with less
// than the whole of catalog, whose objects repeat each other.
func restoreReads(key string) bool {
	return strings.HasPrefix(key, "segments/") || strings.HasPrefix(key, "snapshots/")
}

// replace puts other bytes in an object's place, past the protection against just that.
func replace(t *testing.T, path string, data []byte) {
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.WriteFile(path, data, 0o644))
}

func requireFound(t *testing.T, archive harness.Archive, key, how string) {
	t.Helper()
	r := harness.Run(t, archive.Restorer("verify", "--level", "checksum"))
	require.Equal(t, codeDamage, r.Code, "%s, %s\n%s%s", key, how, r.Stdout, r.Stderr)
	require.Contains(t, r.Stdout+r.Stderr, key, how)
}

// requireNotRestored checks that a restore stops, and that what it leaves bears an unfinished name.
func requireNotRestored(t *testing.T, archive harness.Archive, server *postgres.Server, database, key string) {
	t.Helper()
	r := harness.Run(t, archive.Restorer("restore", "--into", server.DSN(database), "--create"))
	require.Equal(t, codeDamage, r.Code, "%s\n%s", key, r.Stderr)
	require.Contains(t, r.Stderr, key)
	require.Equal(t, "0", server.MustQuery(t, "postgres", "SELECT count(*) FROM pg_database WHERE datname = $1", database))
}
