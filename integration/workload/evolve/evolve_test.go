package evolve_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/integration/workload/evolve"
	"tidemark/internal/testserver/postgres"
)

// TestEveryKindAndFormSucceeds runs the workload on a plain server: a template that PostgreSQL always refuses
// would test nothing.
func TestEveryKindAndFormSucceeds(t *testing.T) {
	ctx := context.Background()
	s := postgres.Start(t, postgres.Options{})
	coverage := new(evolve.Coverage)
	refused := map[string]error{}
	for seed := uint64(1); len(coverage.Missing()) > 0; seed++ {
		if seed == 12 {
			var why strings.Builder
			for _, name := range coverage.Missing() {
				fmt.Fprintf(&why, "%s: %v\n", name, refused[name])
			}
			t.Fatal("these never succeed:\n", why.String())
		}
		dsn := s.CreateDatabase(t, fmt.Sprintf("seed%d", seed))
		require.NoError(t, evolve.Setup(ctx, dsn))
		w, err := evolve.Start(ctx, dsn, evolve.Options{Seed: seed, Inexact: seed%2 == 0, Coverage: coverage})
		require.NoError(t, err)
		defer w.Stop()
		require.NoError(t, w.Change(ctx, 150))
		require.NoError(t, w.Stop())
		for name, tally := range w.Tallies() {
			if tally.LastError != nil {
				refused[name] = tally.LastError
			}
		}
		t.Logf("seed %d: missing %q", seed, coverage.Missing())
	}
}
