package pipeline

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
)

// TestClaimWhoseAnswerWasLostIsOurOwn: whatever the same process appended since, and whether or not the next START claims in the
// same words, it does not take itself for another archiver.
func TestClaimWhoseAnswerWasLostIsOurOwn(t *testing.T) {
	ctx := context.Background()
	for _, source := range []string{"as before", "changed"} {
		for _, first := range []bool{true, false} {
			store := faulty.New(objectstore.NewMem())
			r, err := newRunner(Config{DSN: "host=nowhere", Store: store})
			require.NoError(t, err)
			r.catalog, err = catalog.Create(ctx, store, catalog.Identity{ID: uuid.NewString()})
			require.NoError(t, err)
			hold := func(name string) {
				_, err := r.catalog.Append(ctx, func(*catalog.View) (catalog.Entry, error) {
					return catalog.Entry{Kind: catalog.KindHold, Hold: &catalog.Hold{Name: name}}, nil
				})
				require.NoError(t, err)
			}
			var former uint64
			if !first {
				former, err = r.claim(ctx, 1, "as before")
				require.NoError(t, err)
			}
			store.FailPut(1, faulty.After)
			_, err = r.claim(ctx, 1, "as before")
			require.Equal(t, fault.Unreachable, fault.CodeOf(err), "%v", err)
			hold("beside")

			epoch, err := r.claim(ctx, 1, source)
			require.NoError(t, err)
			require.Equal(t, r.catalog.View().Epoch().Epoch, epoch)
			require.Equal(t, map[string]uint64{"as before": former + 1, "changed": former + 2}[source], epoch)
			require.Zero(t, r.before.Epoch().Epoch, "there was no other archiver before")
			other, err := r.findRival(ctx)
			require.NoError(t, err)
			require.Nil(t, other, "it is no rival of its own")

			_, err = r.catalog.Append(ctx, func(*catalog.View) (catalog.Entry, error) {
				return catalog.Entry{Kind: catalog.KindWriter, Writer: &catalog.Writer{Instance: "other"}}, nil
			})
			require.NoError(t, err)
			_, err = r.claim(ctx, 1, source)
			require.Equal(t, fault.Conflict, fault.CodeOf(err), "%v", err)
		}
	}
}
