// Package storetest is the conformance suite of objectstore.Store: every driver passes it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"tidemark/objectstore"
)

// Run runs the suite. newStore returns an empty store of its own for each call.
func Run(t *testing.T, newStore func(t *testing.T) objectstore.Store) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s objectstore.Store)
	}{
		{"PutGetStatDelete", testRoundTrip},
		{"CreateOnly", testCreateOnly},
		{"OneOfManyPuttersWins", testRace},
		{"ReaderNeverSeesAPart", testNoPartVisible},
		{"PutDoesNotKeepData", testPutKeepsNothing},
		{"RangedGet", testRanges},
		{"EmptyObject", testEmpty},
		{"LargeObject", testLarge},
		{"NotFound", testNotFound},
		{"EmptyStore", testEmptyStore},
		{"ListOrder", testListOrder},
		{"ListPrefixAndAfter", testListPrefix},
		{"ListManyPages", testListMany},
		{"ListStopsEarly", testListStops},
		{"OddCharacters", testOddKeys},
		{"RefusedKeys", testRefusedKeys},
		{"DeleteTwice", testDeleteTwice},
		{"CancelledContext", testCancelled},
		{"ConcurrentUse", testConcurrent},
		{"Probe", testProbe},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStore(t)) })
	}
}

func put(t *testing.T, s objectstore.Store, key, data string) {
	t.Helper()
	require.NoError(t, s.Put(t.Context(), key, []byte(data)))
}

func get(t *testing.T, s objectstore.Store, key string, offset, length int64) string {
	t.Helper()
	r, err := s.Get(t.Context(), key, offset, length)
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return string(data)
}

func list(t *testing.T, s objectstore.Store, prefix, after string) []string {
	t.Helper()
	keys := []string{}
	for info, err := range s.List(t.Context(), prefix, after) {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

func testRoundTrip(t *testing.T, s objectstore.Store) {
	before := time.Now()
	put(t, s, "catalog/log/0/1", "one")
	require.Equal(t, "one", get(t, s, "catalog/log/0/1", 0, -1))
	info, err := s.Stat(t.Context(), "catalog/log/0/1")
	require.NoError(t, err)
	require.Equal(t, "catalog/log/0/1", info.Key)
	require.EqualValues(t, 3, info.Size)
	require.WithinDuration(t, before, info.Modified, time.Minute)
	for listed, err := range s.List(t.Context(), "", "") {
		require.NoError(t, err)
		require.Equal(t, info.Key, listed.Key)
		require.Equal(t, info.Size, listed.Size)
		require.WithinDuration(t, info.Modified, listed.Modified, 2*time.Second)
	}
	require.NoError(t, s.Delete(t.Context(), "catalog/log/0/1"))
	_, err = s.Stat(t.Context(), "catalog/log/0/1")
	require.ErrorIs(t, err, objectstore.ErrNotFound)
	put(t, s, "catalog/log/0/1", "again")
	require.Equal(t, "again", get(t, s, "catalog/log/0/1", 0, -1))
}

func testCreateOnly(t *testing.T, s objectstore.Store) {
	put(t, s, "a/b", "first")
	for _, data := range []string{"other", "first", ""} {
		err := s.Put(t.Context(), "a/b", []byte(data))
		require.ErrorIs(t, err, objectstore.ErrExists)
		require.Contains(t, err.Error(), "a/b")
	}
	require.Equal(t, "first", get(t, s, "a/b", 0, -1))
}

func testRace(t *testing.T, s objectstore.Store) {
	const putters = 16
	for round := range 5 {
		key := fmt.Sprintf("race/%d", round)
		var mu sync.Mutex
		var won []string
		start := make(chan struct{})
		var group errgroup.Group
		for i := range putters {
			group.Go(func() error {
				// Of different lengths, so that a mixture of two shows.
				data := strings.Repeat(fmt.Sprintf("%02d", i), 1000*(i+1))
				<-start
				err := s.Put(t.Context(), key, []byte(data))
				switch {
				case err == nil:
					mu.Lock()
					won = append(won, data)
					mu.Unlock()
				case !errors.Is(err, objectstore.ErrExists):
					return err
				}
				return nil
			})
		}
		close(start)
		require.NoError(t, group.Wait())
		require.Len(t, won, 1, "exactly one put may succeed")
		require.Equal(t, won[0], get(t, s, key, 0, -1))
	}
}

// testNoPartVisible reads an object while it is being put: it is whole or not there.
func testNoPartVisible(t *testing.T, s objectstore.Store) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // 4 MiB
	done := make(chan error, 1)
	go func() { done <- s.Put(t.Context(), "big", data) }()
	for {
		got, err := objectstore.GetAll(t.Context(), s, "big")
		if err == nil {
			require.True(t, bytes.Equal(data, got), "%d of %d bytes were visible", len(got), len(data))
			break
		}
		require.ErrorIs(t, err, objectstore.ErrNotFound)
	}
	require.NoError(t, <-done)
}

func testPutKeepsNothing(t *testing.T, s objectstore.Store) {
	data := []byte("before")
	require.NoError(t, s.Put(t.Context(), "k", data))
	copy(data, "after!")
	require.Equal(t, "before", get(t, s, "k", 0, -1))
}

func testRanges(t *testing.T, s objectstore.Store) {
	put(t, s, "r", "0123456789")
	for _, c := range []struct {
		offset, length int64
		want           string
	}{
		{0, -1, "0123456789"},
		{0, 10, "0123456789"},
		{0, 1, "0"},
		{0, 0, ""},
		{3, 4, "3456"},
		{3, -1, "3456789"},
		{9, 1, "9"},
		{9, -1, "9"},
		{9, 5, "9"},
		{5, 1 << 40, "56789"},
		{5, 1<<63 - 1, "56789"},
		{10, -1, ""},
		{10, 1, ""},
		{10, 0, ""},
		{11, -1, ""},
		{1 << 40, 5, ""},
	} {
		require.Equal(t, c.want, get(t, s, "r", c.offset, c.length), "%d+%d", c.offset, c.length)
	}
	_, err := s.Get(t.Context(), "r", -1, 5)
	require.Error(t, err)

	at := objectstore.ReaderAt(t.Context(), s, "r")
	buf := make([]byte, 4)
	n, err := at.ReadAt(buf, 2)
	require.NoError(t, err)
	require.Equal(t, "2345", string(buf[:n]))
	n, err = at.ReadAt(buf, 8)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "89", string(buf[:n]))
}

func testEmpty(t *testing.T, s objectstore.Store) {
	require.NoError(t, s.Put(t.Context(), "e", nil))
	require.Equal(t, "", get(t, s, "e", 0, -1))
	require.Equal(t, "", get(t, s, "e", 0, 5))
	require.Equal(t, "", get(t, s, "e", 5, -1))
	info, err := s.Stat(t.Context(), "e")
	require.NoError(t, err)
	require.Zero(t, info.Size)
	require.ErrorIs(t, s.Put(t.Context(), "e", []byte("x")), objectstore.ErrExists)
	require.Equal(t, []string{"e"}, list(t, s, "", ""))
}

func testLarge(t *testing.T, s objectstore.Store) {
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(i>>16) ^ byte(i*7)
	}
	require.NoError(t, s.Put(t.Context(), "large", data))
	got, err := objectstore.GetAll(t.Context(), s, "large")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	got, err = objectstore.GetRange(t.Context(), s, "large", 8<<20-1000, 1000)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[8<<20-1000:], got))
}

func testNotFound(t *testing.T, s objectstore.Store) {
	put(t, s, "dir/there", "x")
	for _, key := range []string{"nothing", "dir/nothing", "dir", "dir/there/below", "nothing/at/all"} {
		_, err := s.Get(t.Context(), key, 0, -1)
		require.ErrorIs(t, err, objectstore.ErrNotFound, key)
		_, err = s.Get(t.Context(), key, 3, 4)
		require.ErrorIs(t, err, objectstore.ErrNotFound, key)
		_, err = s.Get(t.Context(), key, 0, 0)
		require.ErrorIs(t, err, objectstore.ErrNotFound, key)
		_, err = s.Stat(t.Context(), key)
		require.ErrorIs(t, err, objectstore.ErrNotFound, key)
		require.Contains(t, err.Error(), key)
		require.NoError(t, s.Delete(t.Context(), key), key)
	}
	require.Equal(t, []string{"dir/there"}, list(t, s, "", ""))
}

func testEmptyStore(t *testing.T, s objectstore.Store) {
	require.Empty(t, list(t, s, "", ""))
	require.Empty(t, list(t, s, "catalog/", "catalog/x"))
	_, err := s.Get(t.Context(), "archive.json", 0, -1)
	require.ErrorIs(t, err, objectstore.ErrNotFound)
}

// orderKeys are in byte order, which is not the order of a walk through folders.
var orderKeys = []string{
	"a-b/c", "a.b", "a/a", "a/b-c", "a/b/c", "a/b0", "a/c", "a0", "ab/c", "b", "b-/x", "b0/x", "c/" + "9", "é/x",
}

func testListOrder(t *testing.T, s objectstore.Store) {
	require.True(t, slices.IsSorted(orderKeys))
	for _, i := range []int{7, 2, 11, 0, 5, 13, 9, 1, 12, 3, 8, 6, 4, 10} {
		put(t, s, orderKeys[i], orderKeys[i])
	}
	require.Equal(t, orderKeys, list(t, s, "", ""))
	for i, key := range orderKeys {
		require.Equal(t, orderKeys[i+1:], list(t, s, "", key), "after %s", key)
	}
}

func testListPrefix(t *testing.T, s objectstore.Store) {
	for _, key := range orderKeys {
		put(t, s, key, "")
	}
	want := func(prefix, after string) []string {
		keys := []string{}
		for _, key := range orderKeys {
			if strings.HasPrefix(key, prefix) && key > after {
				keys = append(keys, key)
			}
		}
		return keys
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/b/c", "a-", "b", "b-/", "nothing", "nothing/", "zz/", "é"} {
		for _, after := range []string{"", "0", "a", "a-z", "a/", "a/b", "a/b-", "a/b/", "a/b/c", "a/bz", "a/z", "b", "b-", "b/", "zz"} {
			require.Equal(t, want(prefix, after), list(t, s, prefix, after), "prefix %q after %q", prefix, after)
		}
	}
}

func testListMany(t *testing.T, s objectstore.Store) {
	const n = 2300 // three pages of S3
	keys := make([]string, n)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range n {
		keys[i] = fmt.Sprintf("log/%d/%020d", i/1500, i)
		group.Go(func() error { return s.Put(ctx, keys[i], []byte("x")) })
	}
	require.NoError(t, group.Wait())
	require.Equal(t, keys, list(t, s, "", ""))
	require.Equal(t, keys[1100:1500], list(t, s, "log/0/", keys[1099]))
	require.Equal(t, keys[1200:], list(t, s, "log/", keys[1199]))
	require.Equal(t, keys[100:], list(t, s, "log/", keys[99]))
}

func testListStops(t *testing.T, s objectstore.Store) {
	for i := range 20 {
		put(t, s, fmt.Sprintf("k/%02d", i), "")
	}
	seen := 0
	sequence := s.List(t.Context(), "k/", "")
	for range 2 { // a sequence can be ranged over again
		for info, err := range sequence {
			require.NoError(t, err)
			require.Equal(t, "k/00", info.Key)
			seen++
			break
		}
	}
	require.Equal(t, 2, seen)
}

func testOddKeys(t *testing.T, s objectstore.Store) {
	keys := []string{
		"with space/x y", "plus+plus", "percent%2Fpercent%", "query?a=b&c=d", "hash#hash", "quote'\"`", "semi;colon:at@",
		"brackets[]{}()<>", "tilde~!$*,=|^", "ünïcödé/日本語/🌊", "trailing.dots..", "-dash/_under", "x/=", strings.Repeat("l", 200),
	}
	for _, key := range keys {
		put(t, s, key, key)
	}
	slices.Sort(keys)
	require.Equal(t, keys, list(t, s, "", ""))
	for i, key := range keys {
		require.Equal(t, key, get(t, s, key, 0, -1))
		require.Equal(t, keys[i+1:], list(t, s, "", key))
		require.ErrorIs(t, s.Put(t.Context(), key, nil), objectstore.ErrExists)
		require.NoError(t, s.Delete(t.Context(), key))
	}
	require.Empty(t, list(t, s, "", ""))
}

func testRefusedKeys(t *testing.T, s objectstore.Store) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".tmp/a", "a/.hidden", "a\\b", "a\nb", "a\x00b", "a\xffb",
		strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x",
	} {
		require.ErrorIs(t, s.Put(t.Context(), key, []byte("x")), objectstore.ErrInvalidKey, "%q", key)
		_, err := s.Get(t.Context(), key, 0, -1)
		require.ErrorIs(t, err, objectstore.ErrInvalidKey, "%q", key)
		_, err = s.Stat(t.Context(), key)
		require.ErrorIs(t, err, objectstore.ErrInvalidKey, "%q", key)
		require.ErrorIs(t, s.Delete(t.Context(), key), objectstore.ErrInvalidKey, "%q", key)
	}
	for _, prefix := range []string{"../", "/", "a/../", ".tmp/", "a//"} {
		for _, err := range s.List(t.Context(), prefix, "") {
			require.ErrorIs(t, err, objectstore.ErrInvalidKey, "%q", prefix)
		}
	}
	require.Empty(t, list(t, s, "", ""))
}

func testDeleteTwice(t *testing.T, s objectstore.Store) {
	put(t, s, "a/b", "x")
	put(t, s, "a/c", "y")
	for range 3 {
		require.NoError(t, s.Delete(t.Context(), "a/b"))
	}
	require.NoError(t, s.Delete(t.Context(), "a")) // a folder is no object
	require.Equal(t, []string{"a/c"}, list(t, s, "", ""))
}

func testCancelled(t *testing.T, s objectstore.Store) {
	put(t, s, "there", strings.Repeat("x", 1<<20))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	is := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, objectstore.ErrUnavailable)
	}
	is(s.Put(ctx, "new", []byte("x")))
	_, err := s.Get(ctx, "there", 0, -1)
	is(err)
	_, err = s.Stat(ctx, "there")
	is(err)
	is(s.Delete(ctx, "there"))
	failed := false
	for _, err := range s.List(ctx, "", "") {
		is(err)
		failed = true
	}
	require.True(t, failed, "a list under a cancelled context must not look like an empty store")
	require.Equal(t, []string{"there"}, list(t, s, "", ""))

	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	require.ErrorIs(t, s.Put(expired, "new", []byte("x")), context.DeadlineExceeded)
}

func testConcurrent(t *testing.T, s objectstore.Store) {
	// One object of each folder stays: S3 servers that keep objects as files answer 500 now and then when a
	// folder is emptied under a put, which a bare driver rightly reports.
	anchors := []string{"c/0/anchor", "c/1/anchor", "c/2/anchor"}
	for _, key := range anchors {
		put(t, s, key, key)
	}
	group, ctx := errgroup.WithContext(t.Context())
	for worker := range 8 {
		group.Go(func() error {
			for i := range 10 {
				if err := useOnce(ctx, s, fmt.Sprintf("c/%d/%d", worker%3, worker*100+i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Equal(t, anchors, list(t, s, "", ""))
}

// useOnce puts, reads, lists and deletes one key while others do the same with theirs.
func useOnce(ctx context.Context, s objectstore.Store, key string) error {
	if err := s.Put(ctx, key, []byte(key)); err != nil {
		return err
	}
	data, err := objectstore.GetAll(ctx, s, key)
	if err != nil {
		return err
	}
	if string(data) != key {
		return fmt.Errorf("%s holds %q", key, data)
	}
	last, found := "", false
	for info, err := range s.List(ctx, "c/", "") {
		if err != nil {
			return err
		}
		if info.Key <= last {
			return fmt.Errorf("list out of order: %s after %s", info.Key, last)
		}
		last, found = info.Key, found || info.Key == key
	}
	if !found {
		return fmt.Errorf("%s is not in the list", key)
	}
	return s.Delete(ctx, key)
}

func testProbe(t *testing.T, s objectstore.Store) {
	require.NoError(t, objectstore.Probe(t.Context(), s))
	require.Empty(t, list(t, s, "", ""))
}
