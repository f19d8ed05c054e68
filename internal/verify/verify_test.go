package verify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/internal/verify/testarchive"
	"tidemark/objectstore"
	"tidemark/segment"
)

// sample makes an archive in a folder.
func sample(t *testing.T) (dir string, store objectstore.Store) {
	dir = t.TempDir()
	store, err := objectstore.Open(context.Background(), dir)
	require.NoError(t, err)
	testarchive.New(t, store).Sample()
	return dir, store
}

func run(t *testing.T, store objectstore.Store, level Level) *Report {
	t.Helper()
	r, err := Run(context.Background(), store, Options{Level: level})
	require.NoError(t, err)
	return r
}

func objectsOf(t *testing.T, store objectstore.Store) (keys []string) {
	for info, err := range store.List(context.Background(), "", "") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

func TestSoundArchive(t *testing.T) {
	_, store := sample(t)
	for _, level := range []Level{LevelCatalog, LevelChecksum, LevelDecode} {
		r := run(t, store, level)
		require.Empty(t, r.Damage, level)
		require.Empty(t, r.Notes)
		require.NoError(t, r.Err())
		require.Equal(t, int64(4), r.Segments, level)
		require.Equal(t, int64(2), r.Snapshots)
		require.Len(t, r.Windows, 2)
	}
	r := run(t, store, LevelDecode)
	require.Equal(t, int64(70), r.Transactions)
	require.Equal(t, int64(210), r.Rows)
	require.Equal(t, r.Objects, run(t, store, LevelCatalog).Objects)
}

// TestEveryFlippedByteAndEveryMissingObjectIsFound also at the level that only checks sums.
func TestEveryFlippedByteAndEveryMissingObjectIsFound(t *testing.T) {
	dir, store := sample(t)
	for _, key := range objectsOf(t, store) {
		path := filepath.Join(dir, key)
		sound, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, at := range []int{0, len(sound) / 2, len(sound) - 1} {
			bad := append([]byte(nil), sound...)
			bad[at] ^= 0x10
			replace(t, path, bad)
			for _, level := range []Level{LevelChecksum, LevelDecode} {
				requireFound(t, store, level, key)
			}
		}
		replace(t, path, append(append([]byte(nil), sound...), 0))
		requireFound(t, store, LevelChecksum, key)
		require.NoError(t, os.RemoveAll(path))
		requireFound(t, store, LevelCatalog, key)
		if !strings.HasPrefix(key, "catalog/") { // the catalog is verified the same way at every level
			requireFound(t, store, LevelChecksum, key)
			requireFound(t, store, LevelDecode, key)
		}
		replace(t, path, sound)
	}
	require.Empty(t, run(t, store, LevelDecode).Damage)
}

func replace(t *testing.T, path string, data []byte) {
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

func requireFound(t *testing.T, store objectstore.Store, level Level, key string) {
	t.Helper()
	r := run(t, store, level)
	require.Contains(t, keysOf(r), key, "%s: %v", level, r.Damage)
	require.Equal(t, fault.Damage, fault.CodeOf(r.Err()))
	require.NotEmpty(t, fault.HintOf(r.Err()))
}

func keysOf(r *Report) (keys []string) {
	for _, d := range r.Damage {
		keys = append(keys, d.Object)
	}
	return keys
}

func TestDamageIsLocated(t *testing.T) {
	dir, store := sample(t)
	key := segmentKeys(t, store)[2] // a part in the middle of the second segment
	require.Contains(t, key, ".0001")
	path := filepath.Join(dir, key)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	replace(t, path, data)
	for _, level := range []Level{LevelChecksum, LevelDecode} {
		r := run(t, store, level)
		require.Len(t, r.Damage, 1, level)
		d := r.Damage[0]
		require.Equal(t, key, d.Object)
		require.Positive(t, d.Offset, level)
		require.Less(t, d.Offset, int64(len(data)))
		require.Equal(t, uint32(1), d.History)
		require.NotZero(t, d.Entry)
		require.Contains(t, d.Problem, "SHA-256")
	}
}

func TestObjectOfAnotherSize(t *testing.T) {
	for _, change := range []int{-7, 1891} {
		dir, store := sample(t)
		key := segmentKeys(t, store)[0]
		data, err := os.ReadFile(filepath.Join(dir, key))
		require.NoError(t, err)
		replace(t, filepath.Join(dir, key), append(data, make([]byte, 2000)...)[:len(data)+change])
		for _, level := range []Level{LevelCatalog, LevelChecksum, LevelDecode} {
			r := run(t, store, level)
			require.Len(t, r.Damage, 1, level)
			require.Contains(t, r.Damage[0].Problem, sizes(int64(len(data)+change), int64(len(data))), level)
		}
	}
}

func segmentKeys(t *testing.T, store objectstore.Store) (keys []string) {
	for _, key := range objectsOf(t, store) {
		if strings.HasPrefix(key, "segments/") {
			keys = append(keys, key)
		}
	}
	return keys
}

func TestWindowsWithoutWhatIsDamaged(t *testing.T) {
	dir, store := sample(t)
	log, err := catalog.Open(context.Background(), store)
	require.NoError(t, err)
	whole := log.View().Windows()
	segments := map[int]catalog.Entry{}
	for e, err := range log.View().Entries(context.Background(), catalog.Range{History: 1}) {
		require.NoError(t, err)
		if e.Kind == catalog.KindSegment {
			segments[len(segments)] = e
		}
	}
	good := func(key string) []catalog.Window {
		path := filepath.Join(dir, key)
		sound, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.Remove(path))
		defer replace(t, path, sound)
		return run(t, store, LevelChecksum).Windows
	}

	// The second segment: the first window ends where it begins.
	cut := whole[0]
	cut.To, cut.ToTime = segments[1].From, segments[0].Segment.RunningMax
	require.Equal(t, []catalog.Window{cut, whole[1]}, good(segments[1].Segment.Objects[0].Key))

	// The first segment: only the snapshot itself is left of the first window.
	alone := whole[0]
	alone.To, alone.ToTime = alone.From, alone.FromTime
	require.Equal(t, []catalog.Window{alone, whole[1]}, good(segments[0].Segment.Objects[0].Key))

	// The second snapshot: its window goes.
	snapshots := log.View().Snapshots()
	require.Equal(t, whole[:1], good(snapshots[1].Snapshot.Manifest.Key))

	// A root only repeats the log: nothing is lost with it.
	var root string
	for _, key := range objectsOf(t, store) {
		if strings.HasPrefix(key, "catalog/root/") {
			root = key
		}
	}
	require.Equal(t, whole, good(root))
}

// TestLostCatalogIsFound: the objects that it named are no leftovers of cut-off uploads.
func TestLostCatalogIsFound(t *testing.T) {
	dir, store := sample(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "catalog")))
	for _, gone := range []string{"catalog/log/", "archive.json"} {
		for _, level := range []Level{LevelCatalog, LevelChecksum, LevelDecode} {
			r := run(t, store, level)
			require.NotEmpty(t, r.Damage, level)
			require.Condition(t, func() bool {
				return slices.ContainsFunc(keysOf(r), func(key string) bool { return strings.HasPrefix(key, gone) })
			}, "%v", r.Damage)
			require.Equal(t, fault.Damage, fault.CodeOf(r.Err()))
			require.Contains(t, fault.HintOf(r.Err()), "catalog")
		}
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "archive.json")))
	}
}

// TestWindowsOfADamagedCatalog: what its intact part gives is still good, up to the newest root and on to the first entry that is lost, which
// one is that no other object repeats.
func TestWindowsOfADamagedCatalog(t *testing.T) {
	dir := t.TempDir()
	store, err := objectstore.Open(context.Background(), dir)
	require.NoError(t, err)
	a := testarchive.New(t, store) // entry 3 is the base snapshot, and has the newest root
	const head = 12
	for range head - 3 {
		a.Segment(3, 0, "")
	}
	log, err := catalog.Open(context.Background(), store)
	require.NoError(t, err)
	whole := log.View().Windows()
	require.Len(t, whole, 1)
	segments := map[uint64]catalog.Entry{}
	for e, err := range log.View().Entries(context.Background(), catalog.Range{History: 1}) {
		require.NoError(t, err)
		segments[e.Seq] = e
	}
	require.Len(t, segments, head-3)
	through := func(seq uint64) []catalog.Window {
		w := whole[0]
		w.To, w.ToTime = w.From, w.FromTime
		if e, ok := segments[seq]; ok {
			w.To, w.ToTime = e.To, max(w.FromTime, e.Segment.RunningMax)
		}
		return []catalog.Window{w}
	}
	logKey := func(seq uint64) string { return fmt.Sprintf("catalog/log/%020d/%020d", 0, seq) }

	for key, want := range map[string]uint64{logKey(4): head, logKey(7): head, logKey(8): 7, logKey(11): head, logKey(head): head - 1, logKey(2): head, "archive.json": head} {
		path := filepath.Join(dir, key)
		sound, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, cut := range []bool{false, true} {
			require.NoError(t, os.RemoveAll(path))
			if cut {
				replace(t, path, sound[:len(sound)/2])
			} else if key == logKey(head) {
				continue // an end that was cut off before the next root: nothing tells
			}
			for _, level := range []Level{LevelCatalog, LevelDecode} {
				r := run(t, store, level)
				require.Equal(t, []string{key}, keysOf(r))
				require.Equal(t, through(want), r.Windows, key)
				require.Equal(t, want, r.Entries)
				require.Len(t, r.Notes, int(head-want), "what the rest named")
				require.Equal(t, fault.Damage, fault.CodeOf(r.Err()))
				if want < head {
					require.Contains(t, fault.HintOf(r.Err()), logKey(want+1))
				}
			}
		}
		replace(t, path, sound)
	}
	require.Empty(t, run(t, store, LevelDecode).Damage)

	for lost := uint64(head); lost > 3; lost-- { // an archive without the lost entry and the later ones opens, with just these windows
		require.NoError(t, os.Remove(filepath.Join(dir, logKey(lost))))
		rest, err := catalog.Open(context.Background(), store)
		require.NoError(t, err)
		require.Equal(t, through(lost-1), rest.View().Windows())
	}
}

func TestStrayObjectsAreNoted(t *testing.T) {
	_, store := sample(t)
	strays := []string{
		"segments/1/0000000000000FFF-00000001.0000", "segments/1/0000000000001000-00000001.0001", "segments/1/FFFFFFFFFFFFFFFF-00000001.0000",
		"snapshots/1-0000000000001000-00000000000000aa/000000/000000.0000",
	}
	for _, key := range strays {
		require.NoError(t, store.Put(context.Background(), key, []byte("left over")))
	}
	for _, level := range []Level{LevelCatalog, LevelChecksum, LevelDecode} {
		r := run(t, store, level)
		require.Empty(t, r.Damage)
		var noted []string
		for _, n := range r.Notes {
			noted = append(noted, n.Object)
			require.Equal(t, int64(9), n.Size)
		}
		require.Equal(t, strays, noted)
	}
}

// TestWrongCountsAreFound: a segment that is sound in itself, under an entry that says something else.
func TestWrongCountsAreFound(t *testing.T) {
	store := objectstore.NewMem()
	a := testarchive.New(t, store)
	e := a.Segment(3, 0, "m")
	v := &verifier{report: &Report{}, badEntries: map[uint64]bool{}}
	v.compare(e, summaryOf(t, store, e))
	require.Empty(t, v.report.Damage)

	wrong := *e.Segment
	wrong.Deletes++
	wrong.Marks = nil
	e.Segment = &wrong
	v.compare(e, summaryOf(t, store, e))
	require.Len(t, v.report.Damage, 2)
	require.Contains(t, v.report.Damage[0].Problem, "deletes: it holds 3, entry 4 says 4")
	require.True(t, v.badEntries[e.Seq])
}

func summaryOf(t *testing.T, store objectstore.Store, e catalog.Entry) segment.Summary {
	v := &verifier{store: store, report: &Report{}}
	ctx := context.Background()
	r := segment.NewReader(v.parts(e, func(o catalog.Object) (segment.PartFile, error) {
		return segment.PartFile{R: objectstore.ReaderAt(ctx, store, o.Key), Size: o.Size, Name: o.Key}, nil
	}), segment.ReaderOptions{})
	defer r.Close()
	require.NoError(t, drain(ctx, r, nil))
	return r.Summary()
}

func TestNoArchive(t *testing.T) {
	_, err := Run(context.Background(), objectstore.NewMem(), Options{})
	require.ErrorIs(t, err, catalog.ErrNoArchive)
	require.Equal(t, fault.Usage, fault.CodeOf(err))
}

func TestProgressEndsAtTheTotal(t *testing.T) {
	_, store := sample(t)
	var last, total int64
	_, err := Run(context.Background(), store, Options{Progress: func(d, n int64) {
		require.GreaterOrEqual(t, d, last)
		last, total = d, n
	}})
	require.NoError(t, err)
	require.Positive(t, total)
	require.Equal(t, total, last)
}
