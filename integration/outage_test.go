package integration

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/integration/harness"
	"tidemark/integration/workload"
	"tidemark/internal/testserver/postgres"
	"tidemark/internal/testserver/s3"
)

// TestStoreOutageNeitherLosesNorHoldsUpThePrimary cuts the store off in two ways while clients write,
// and stops the primary meanwhile.
func TestStoreOutageNeitherLosesNorHoldsUpThePrimary(t *testing.T) {
	t.Parallel()
	const grace = 5 * time.Second
	outages := map[string]struct {
		cut, mend func(*harness.Proxy, *testing.T)
	}{
		"refused":   {func(p *harness.Proxy, _ *testing.T) { p.Refuse() }, func(p *harness.Proxy, t *testing.T) { p.Accept(t) }},
		"blackhole": {func(p *harness.Proxy, t *testing.T) { p.Blackhole(t) }, func(p *harness.Proxy, _ *testing.T) { p.Heal() }},
	}
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			source := postgres.Start(t, postgres.Options{})
			dsn := source.CreateDatabase(t, "shop")
			require.NoError(t, workload.Setup(ctx, dsn))
			store := s3.Start(t)
			proxy := harness.StartProxy(t, store.Address)
			archive := harness.Archive{Source: dsn, Env: store.Environ(), URL: "s3://" + s3.Bucket + "/" + name +
				"?region=" + s3.Region + "&endpoint=" + url.QueryEscape("http://"+proxy.Address)}
			run := archive.StartRun(t, "--segment-max-age", "500ms", "--shutdown-grace", grace.String())
			archive.WaitProtected(t, run)

			clients, err := workload.Start(ctx, dsn, workload.Options{Seed: newSeed(t), MaxRows: 2000, Pause: 20 * time.Millisecond, Log: t.Logf})
			require.NoError(t, err)
			defer clients.Stop()
			waitCommits(t, clients, 50)
			outage.cut(proxy, t)
			waitCommits(t, clients, 100) // commits that the store will not take
			require.NoError(t, clients.Stop())

			begin := time.Now()
			require.NoError(t, source.Stop(postgres.Fast))
			took := time.Since(begin)
			t.Logf("the primary stopped after %s", took.Round(time.Millisecond))
			require.Less(t, took, grace+10*time.Second)
			require.True(t, run.Running(), run.Stderr())

			outage.mend(proxy, t)
			require.NoError(t, source.Run())
			waitStreaming(t, source, run)
			archive.Mark(t, "all is back")
			require.Zero(t, run.Stop(t).Code, run.Stderr())
			require.Empty(t, archive.List(t).Gaps)
			require.Len(t, archive.List(t).Windows, 1)
			requireSound(t, archive, source, dsn)
		})
	}
}

// waitCommits waits until the clients have committed n transactions more.
func waitCommits(t *testing.T, clients *workload.Workload, n int) {
	t.Helper()
	from := len(clients.Commits())
	require.Eventually(t, func() bool { return len(clients.Commits()) >= from+n || clients.Err() != nil },
		time.Minute, 10*time.Millisecond)
	require.NoError(t, clients.Err())
}
