package evolve_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
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
	total := map[string]evolve.Tally{}
	missing := func() (kinds []string) {
		for _, name := range evolve.Kinds() {
			if total[name].Done == 0 {
				kinds = append(kinds, fmt.Sprintf("%s: %v", name, total[name].LastError))
			}
		}
		return kinds
	}
	for seed := uint64(1); len(missing()) > 0; seed++ {
		require.Less(t, seed, uint64(12), "these never succeed: %s", strings.Join(missing(), "\n"))
		dsn := s.CreateDatabase(t, fmt.Sprintf("seed%d", seed))
		require.NoError(t, evolve.Setup(ctx, dsn))
		w, err := evolve.Start(ctx, dsn, evolve.Options{Seed: seed, Inexact: true})
		require.NoError(t, err)
		defer w.Stop()
		require.NoError(t, w.Change(ctx, 250))
		require.NoError(t, w.Stop())
		for name, tally := range w.Tallies() {
			sum := total[name]
			sum.Done += tally.Done
			sum.Failed += tally.Failed
			if tally.LastError != nil {
				sum.LastError = tally.LastError
			}
			total[name] = sum
		}
	}
	for _, name := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%-40s done %4d, failed %4d", name, total[name].Done, total[name].Failed)
	}
}
