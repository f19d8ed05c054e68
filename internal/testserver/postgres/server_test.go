package postgres_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
)

func TestServerKeepsItsDataAcrossStopsAndKills(t *testing.T) {
	s := postgres.Start(t, postgres.Options{})
	s.MustExec(t, "postgres", "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	port := s.Port
	require.NoError(t, s.Restart(postgres.Fast))
	require.Equal(t, port, s.Port)
	require.NoError(t, s.Kill())
	require.False(t, s.Running())
	require.NoError(t, s.Run())
	require.Equal(t, "1", s.MustQuery(t, "postgres", "SELECT count(*) FROM t"))
	require.Equal(t, "logical", s.MustQuery(t, "postgres", "SHOW wal_level"))
}

// A backend that computes does not see its postmaster die: the next start has to wait for it.
func TestServerStartsOverOrphans(t *testing.T) {
	s := postgres.Start(t, postgres.Options{})
	began := make(chan error, 1)
	conn, err := pgx.Connect(context.Background(), s.DSN("postgres"))
	require.NoError(t, err)
	pid := conn.PgConn().PID()
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 10000000)")
		began <- err
	}()
	require.Eventually(t, func() bool {
		return s.MustQuery(t, "postgres", fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND state = 'active'", pid)) == "1"
	}, time.Minute, time.Millisecond)
	require.NoError(t, s.Kill())
	require.NoError(t, s.Run())
	<-began
	require.Equal(t, "1", s.MustQuery(t, "postgres", "SELECT 1"))
}

func TestServerAsksForItsPassword(t *testing.T) {
	s := postgres.Start(t, postgres.Options{Password: "geheim", Settings: map[string]string{"work_mem": "5MB"}})
	require.Equal(t, "5MB", s.MustQuery(t, "postgres", "SHOW work_mem"))
	require.NoError(t, ping(s.DSN("postgres")))
	require.Error(t, ping(s.DSNFor("postgres", "falsch", "postgres")))
}

func TestDataFolderCanBeRolledBackAndCloned(t *testing.T) {
	s := postgres.Start(t, postgres.Options{})
	s.MustExec(t, "postgres", "CREATE TABLE t (a int)")
	require.NoError(t, s.Stop(postgres.Fast))
	old, err := s.CopyDataDir("old")
	require.NoError(t, err)
	require.NoError(t, s.Run())
	s.MustExec(t, "postgres", "INSERT INTO t VALUES (1)")
	backup, err := s.BaseBackup("backup")
	require.NoError(t, err)

	clone := postgres.Start(t, postgres.Options{Populate: postgres.CopyTree(backup)})
	require.Equal(t, "1", clone.MustQuery(t, "postgres", "SELECT count(*) FROM t"))

	require.NoError(t, s.Stop(postgres.Fast))
	require.NoError(t, s.ReplaceDataDir(old))
	require.NoError(t, s.Run())
	require.Equal(t, "0", s.MustQuery(t, "postgres", "SELECT count(*) FROM t"))
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	s, err := postgres.Launch(postgres.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoFileExists(t, filepath.Join(s.DataDir, "PG_VERSION"))
	_, err = os.Stat(s.Home)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Error(t, ping(s.DSN("postgres")))
}

func TestOtherVersionsRun(t *testing.T) {
	for _, version := range []string{"14", "15", "16", "17", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := postgres.Start(t, postgres.Options{Version: version})
			require.Equal(t, version, s.MustQuery(t, "postgres", "SELECT current_setting('server_version_num')::int / 10000"))
			major, err := strconv.Atoi(version)
			require.NoError(t, err)
			dump, err := postgres.FindProgram("pg_dump", major)
			require.NoError(t, err)
			out, err := exec.Command(dump, "--dbname", s.DSN("postgres"), "--schema-only").CombinedOutput()
			require.NoError(t, err, string(out))
		})
	}
}

func TestDownloadedServerRuns(t *testing.T) {
	b, err := postgres.Download(18)
	require.NoError(t, err)
	require.Equal(t, 18, b.Major)
}

func TestStartSaysWhyTheServerDidNotRun(t *testing.T) {
	_, err := postgres.Launch(postgres.Options{Settings: map[string]string{"max_connections": "many"}})
	require.ErrorContains(t, err, `"max_connections"`)
	_, err = postgres.Launch(postgres.Options{Version: "newest"})
	require.ErrorContains(t, err, "not a major version")
}

func ping(dsn string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return postgres.Ping(ctx, dsn)
}
