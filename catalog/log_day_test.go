package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
	"tidemark/pitr"
	"tidemark/segment"
)

// dayInFolder is an archive of 8,640 segments in a folder, of which the one of seq 5,000 deletes a row.
func dayInFolder(t testing.TB) *faulty.Store {
	folder := t.TempDir()
	files, err := objectstore.Open(t.Context(), folder)
	require.NoError(t, err)
	store := faulty.New(files)
	quick := faulty.Hasty(store, folder)
	m := &maker{t: t, store: quick, seq: 3, made: map[uint64]catalog.Entry{},
		real: func(uint64) bool { return true }, deletes: func(seq uint64) bool { return seq == 5_000 }}
	catalog.Synthesize(t, quick, catalog.Begun(t, store), 8_640, m.next)
	return store
}

// find lists what a query finds, and returns how many requests that took, the opening of the archive included.
func find(t testing.TB, store *faulty.Store, q pitr.LogQuery) (lines []pitr.LogLine, requests map[string]int) {
	_ = store.Requests()
	l, err := catalog.Open(t.Context(), store)
	require.NoError(t, err)
	for line, err := range pitr.Log(t.Context(), pitr.NewArchive(store, l.View()), q) {
		require.NoError(t, err)
		lines = append(lines, line)
	}
	return lines, store.Requests()
}

// TestFindOneDelete: the catalog's counts lead to the one segment of a day that deletes; --since leaves older
// books unread.
func TestFindOneDelete(t *testing.T) {
	store := dayInFolder(t)
	lines, requests := find(t, store, pitr.LogQuery{Ops: []segment.Op{segment.OpDelete}})
	require.Len(t, lines, 1)
	require.Equal(t, []string{"--to-lsn", lines[0].LSN.String(), "--exclusive"}, lines[0].Before)
	require.LessOrEqual(t, requests["get"]+requests["list"], 8, requests)
	lines, requests = find(t, store, pitr.LogQuery{Since: catalog.At(86_300), Ops: []segment.Op{segment.OpDelete}})
	require.Empty(t, lines)
	require.LessOrEqual(t, requests["get"]+requests["list"], 4, requests)
}

// BenchmarkLogDay finds one DELETE in a day of 8,640 segments in a folder: by its operation, and by reading
// every index.
func BenchmarkLogDay(b *testing.B) {
	store := dayInFolder(b)
	for name, q := range map[string]pitr.LogQuery{"op=delete": {Ops: []segment.Op{segment.OpDelete}}, "all": {}} {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				_, requests := find(b, store, q)
				n += requests["get"] + requests["list"]
			}
			b.ReportMetric(float64(n)/float64(b.N), "requests/op")
		})
	}
}
