package integration

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
)

// Exit codes of the contract.
const (
	codeUsage       = 2
	codeUncovered   = 3
	codeDamage      = 4
	codeConflict    = 5
	codeGap         = 6
	codeUnreachable = 7
	codeFinding     = 8
)

// TestOneWriterManyAppenders: of two archivers on one archive one works and the other leaves; base
// snapshots and marks beside it all land.
func TestOneWriterManyAppenders(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	source := postgres.Start(t, postgres.Options{})
	dsn := source.CreateDatabase(t, "shop")
	require.NoError(t, workload.Setup(ctx, dsn))
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}

	first := archive.StartRun(t, "--segment-max-age", "500ms")
	archive.WaitProtected(t, first)
	clients, err := workload.Start(ctx, dsn, workload.Options{Seed: newSeed(t), MaxRows: 2000, Pause: 30 * time.Millisecond, Log: t.Logf})
	require.NoError(t, err)
	defer clients.Stop()

	second := archive.StartRun(t).Wait(t, time.Minute)
	requireRefusal(t, second, codeConflict)
	require.True(t, first.Running(), first.Stderr())

	var beside []*harness.Process
	for i := range 8 {
		beside = append(beside, harness.Start(t, archive.Archiver("mark", fmt.Sprintf("beside %d", i))))
	}
	for range 2 {
		beside = append(beside, harness.Start(t, archive.Archiver("snapshot")))
	}
	for _, p := range beside {
		r := p.Wait(t, 3*time.Minute)
		require.Zero(t, r.Code, r.Stderr)
	}
	list := archive.List(t)
	require.Len(t, list.Marks, 8)
	require.Len(t, list.Snapshots, 3)

	require.NoError(t, clients.Stop())
	require.Zero(t, first.Stop(t).Code, first.Stderr())
	archive.CatchUp(t)
	// Until the stream has passed it, a snapshot ahead of it is a window of its own.
	require.Len(t, archive.List(t).Windows, 1)
	requireSound(t, archive, source, dsn)
}

// TestTwoArchiversBeginOneArchive: started at the same moment on an empty archive, exactly one stays.
func TestTwoArchiversBeginOneArchive(t *testing.T) {
	t.Parallel()
	source := postgres.Start(t, postgres.Options{})
	dsn := source.CreateDatabase(t, "shop")
	require.NoError(t, workload.Setup(context.Background(), dsn))
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	runs := []*harness.Process{archive.StartRun(t), archive.StartRun(t)}
	select {
	case <-runs[0].Done():
	case <-runs[1].Done():
		runs[0], runs[1] = runs[1], runs[0]
	case <-time.After(time.Minute):
		require.Fail(t, "both archivers stay")
	}
	left := runs[0].Wait(t, time.Second)
	requireRefusal(t, left, codeConflict)
	archive.WaitProtected(t, runs[1])
	require.Zero(t, runs[1].Stop(t).Code, runs[1].Stderr())
	requireSound(t, archive, source, dsn)
}

// TestFrozenArchiverIsFenced: an archiver that was frozen while another took over finds out before
// it writes anything that counts.
func TestFrozenArchiverIsFenced(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	source := postgres.Start(t, postgres.Options{})
	dsn := source.CreateDatabase(t, "shop")
	require.NoError(t, workload.Setup(ctx, dsn))
	archive := harness.Archive{URL: t.TempDir(), Source: dsn}
	frozen := archive.StartRun(t, "--segment-max-age", "1s")
	archive.WaitProtected(t, frozen)
	clients, err := workload.Start(ctx, dsn, workload.Options{Seed: newSeed(t), MaxRows: 2000, Pause: 30 * time.Millisecond, Log: t.Logf})
	require.NoError(t, err)
	defer clients.Stop()
	time.Sleep(500 * time.Millisecond) // let it have an open segment

	frozen.Signal(t, syscall.SIGSTOP)
	source.MustExec(t, "shop", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
	require.Eventually(t, func() bool {
		return source.MustQuery(t, "shop", "SELECT count(*) FROM pg_replication_slots WHERE active") == "0"
	}, 30*time.Second, 50*time.Millisecond)
	next := archive.StartRun(t, "--segment-max-age", "1s")
	waitStreaming(t, source, next)
	archive.Mark(t, "after takeover")
	frozen.Signal(t, syscall.SIGCONT)
	requireRefusal(t, frozen.Wait(t, time.Minute), codeConflict)

	require.NoError(t, clients.Stop())
	require.Zero(t, next.Stop(t).Code, next.Stderr())
	archive.CatchUp(t)
	requireSound(t, archive, source, dsn)
}

// waitStreaming waits until a running archiver reads its slot.
func waitStreaming(t *testing.T, source *postgres.Server, run *harness.Process) {
	t.Helper()
	run.WaitFor(t, "stream", time.Minute, func() bool {
		active, err := source.Query(context.Background(), "postgres", "SELECT count(*) FROM pg_replication_slots WHERE active")
		return err == nil && active == "1"
	})
}

// requireRefusal checks the shape of an error: its exit code, one line that says what failed, one hint.
func requireRefusal(t *testing.T, r harness.Result, code int) {
	t.Helper()
	require.Equal(t, code, r.Code, "exit code\n%s", r.Stderr)
	require.Regexp(t, `(?m)^hint: \S`, r.Stderr)
	require.NotContains(t, r.Stderr, "goroutine ")
}

// requireSound verifies an archive to the last value and restores its newest state.
func requireSound(t *testing.T, archive harness.Archive, source *postgres.Server, dsn string) {
	t.Helper()
	r := harness.Run(t, archive.Restorer("verify", "--level", "decode"))
	require.Zero(t, r.Code, r.Stderr)
	want, err := workload.HashDatabase(context.Background(), dsn)
	require.NoError(t, err)
	checkRestore(t, archive, source, want)
}
