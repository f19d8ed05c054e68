package catalog

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"tidemark/objectstore"
)

// ended makes an archive that was stopped in good order.
func ended(t testing.TB, store objectstore.Store, seq uint64) *Log {
	l := begun(t, store)
	grow(t, l, seq-1)
	put(t, l, stop(1))
	return l
}

func allKeys(t testing.TB, store objectstore.Store) (keys []string) {
	for info, err := range store.List(t.Context(), "", "") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

// TestVerifyFindsAnyFlip flips a byte in every object, at the ends and somewhere in between.
func TestVerifyFindsAnyFlip(t *testing.T) {
	store := objectstore.NewMem()
	ended(t, store, 75)
	require.Empty(t, verified(t, store))
	for _, key := range allKeys(t, store) {
		was, err := readAll(t.Context(), store, key)
		require.NoError(t, err)
		for _, i := range []int{0, rand.N(len(was)), rand.N(len(was)), len(was) - 1} {
			bad := bytes.Clone(was)
			bad[i] ^= 1 << rand.N(8)
			replace(t, store, key, bad)
			found := verified(t, store)
			require.NotEmpty(t, found, "%s byte %d", key, i)
			require.Equal(t, key, found[0].Object, "byte %d", i)
		}
		replace(t, store, key, was)
	}
	require.Empty(t, verified(t, store))
}

func TestVerifyFindsAnyMissing(t *testing.T) {
	store := objectstore.NewMem()
	ended(t, store, 75)
	for _, key := range allKeys(t, store) {
		was, err := readAll(t.Context(), store, key)
		require.NoError(t, err)
		require.NoError(t, store.Delete(t.Context(), key))
		found := verified(t, store)
		require.Len(t, found, 1, key)
		require.Equal(t, key, found[0].Object)
		require.Contains(t, found[0].Problem, "is missing")
		require.NoError(t, store.Put(t.Context(), key, was))
	}
}

// TestVerifyGoesOn: damage does not hide other damage, in the same chapter or in later ones.
func TestVerifyGoesOn(t *testing.T) {
	store := objectstore.NewMem()
	ended(t, store, 1100)
	bad := []string{logKey(10), logKey(300), rootKey(512), logKey(701), rootKey(1024), logKey(1099)}
	for _, key := range bad {
		data, err := readAll(t.Context(), store, key)
		require.NoError(t, err)
		data[len(data)/2] ^= 1
		replace(t, store, key, data)
	}
	var got []string
	for _, d := range verified(t, store) {
		got = append(got, d.Object)
	}
	require.ElementsMatch(t, bad, got)
}

func TestVerifyFindsStrangers(t *testing.T) {
	store := objectstore.NewMem()
	ended(t, store, 75)
	root, err := readAll(t.Context(), store, rootKey(64))
	require.NoError(t, err)
	strangers := []string{"catalog/log/readme", "catalog/root/x", "catalog/index", bookKey(0), rootKey(10), rootKey(1 << 60)}
	for _, key := range strangers {
		require.NoError(t, store.Put(t.Context(), key, root))
	}
	var got []string
	for _, d := range verified(t, store) {
		got = append(got, d.Object)
	}
	for _, key := range strangers {
		require.Contains(t, got, key)
	}
	require.Len(t, got, len(strangers)+1, "%v", got) // the root at 10 is damaged and not called for
}

func TestVerifyComparesCarriedLines(t *testing.T) {
	store := objectstore.NewMem()
	l := ended(t, store, 75)
	lines := l.leaf.lines
	other := bytes.Replace(lines[9], []byte("orders"), []byte("0rders"), 1)
	carried := append([][]byte{}, lines[8:11]...)
	carried[1] = other
	replace(t, store, logKey(12), encodeLogObject(lines[11], carried))
	found := verified(t, store)
	require.Len(t, found, 1)
	require.Equal(t, logKey(12), found[0].Object)
}

func TestVerifyOfNothing(t *testing.T) {
	require.ErrorIs(t, Verify(t.Context(), objectstore.NewMem(), func(Damage) {}), ErrNoArchive)
	store := objectstore.NewMem()
	create(t, store)
	require.Empty(t, verified(t, store))
}

// TestVerifyBesideAppenders: an archive that is being written to is not damaged.
func TestVerifyBesideAppenders(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	done := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		defer close(done)
		for range 3000 {
			if _, err := l.Append(t.Context(), func(v *View) (Entry, error) { return nextSegment(v), nil }); err != nil {
				return err
			}
		}
		return nil
	})
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		require.Empty(t, verified(t, store))
	}
	require.NoError(t, g.Wait())
}

// lateStore gives an object only to the third who asks.
type lateStore struct {
	objectstore.Store
	key   string
	data  []byte
	asked int
}

func (s *lateStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if key == s.key {
		if s.asked++; s.asked == 3 {
			if err := s.Put(ctx, key, s.data); err != nil {
				return nil, err
			}
		}
	}
	return s.Store.Get(ctx, key, offset, length)
}

// TestVerifyWaitsForTheLastRoot: an appender is just writing it.
func TestVerifyWaitsForTheLastRoot(t *testing.T) {
	inner := objectstore.NewMem()
	ended(t, inner, 75)
	data, err := readAll(t.Context(), inner, rootKey(75))
	require.NoError(t, err)
	require.NoError(t, inner.Delete(t.Context(), rootKey(75)))
	store := &lateStore{Store: inner, key: rootKey(75), data: data}
	require.Empty(t, verified(t, store))
	require.Equal(t, 3, store.asked)
}
