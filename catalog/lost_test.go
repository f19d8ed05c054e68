package catalog

import (
	"context"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/objectstore"
)

// TestLostCatalogIsDamage: objects of segments and snapshots come after the first entry, so that an archive with some of
// them and no entry at all has lost its catalog, with or without archive.json.
func TestLostCatalogIsDamage(t *testing.T) {
	for _, left := range []string{"segments/1/0000000000001000-00000001.0000", "snapshots/1-0000000000001000-00000000000000aa/manifest", bookKey(0)} {
		store := objectstore.NewMem()
		create(t, store)
		open(t, store) // a first start that was killed leaves archive.json alone
		require.Empty(t, verified(t, store))
		require.NoError(t, store.Put(t.Context(), left, []byte("left")))

		_, err := Open(t.Context(), store)
		require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
		require.ErrorContains(t, err, "catalog/log/")
		require.ErrorContains(t, err, left)
		require.Contains(t, fault.HintOf(err), "--new-archive")
		found := verified(t, store)
		require.NotEmpty(t, found, left)
		require.Equal(t, logKey(1), found[0].Object)

		require.NoError(t, store.Delete(t.Context(), identityKey))
		for _, err := range []error{second(Open(t.Context(), store)), second(Create(t.Context(), store, testIdentity()))} {
			require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, identityKey)
		}
		require.Equal(t, identityKey, verified(t, store)[0].Object)
	}
}

// TestEntriesThatCameMeanwhileAreNoLoss: between the looks at the log and at the objects an archiver may begin.
func TestEntriesThatCameMeanwhileAreNoLoss(t *testing.T) {
	store := objectstore.NewMem()
	create(t, store)
	beginning := &beginningStore{Store: store, begin: func() {
		begun(t, store)
		require.NoError(t, store.Put(t.Context(), "segments/1/0000000000001000-00000001.0000", []byte("the first")))
	}}
	_, err := Open(t.Context(), beginning)
	require.NoError(t, err)
	require.Nil(t, beginning.begin, "it began between the looks")
}

// beginningStore is one where an archiver begins before the first list of segments.
type beginningStore struct {
	objectstore.Store
	begin func()
}

func (s *beginningStore) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	if begin := s.begin; prefix == "segments/" && begin != nil {
		s.begin = nil
		begin()
	}
	return s.Store.List(ctx, prefix, after)
}
