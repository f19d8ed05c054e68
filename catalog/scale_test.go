package catalog

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
	"tidemark/segment"
)

// synthesize adds segments to an archive up to seq (a multiple of 64) without the cost of appending: of the
// objects in between only those that readers need are written.
func synthesize(t testing.TB, store objectstore.Store, l *Log, seq uint64) *Log {
	return synthesizeOf(t, store, l, seq, nextSegment)
}

// synthesizeOf does it with the entries that next makes.
func synthesizeOf(t testing.TB, store objectstore.Store, l *Log, seq uint64, next func(*View) Entry) *Log {
	f := l.fold.fork()
	var book [][]byte
	if n := f.state.Seq; n > 0 {
		require.Less(t, n, uint64(chapterSize), "it begins in the first chapter")
		book = append(book, f.leaf.lines...)
	}
	for f.state.Seq < seq {
		v := &View{id: l.id, st: f.state}
		e := next(v)
		e.complete(v, testBegin)
		e.setRunningMax(max(v.RunningMax(1), e.maxCommitTime()))
		line, err := marshal(e)
		require.NoError(t, err)
		require.NoError(t, f.state.apply(&e, testID, hashOf(line)))
		carried := f.leaf.lines
		f.leaf.lines = append(f.leaf.lines, line)
		if book = append(book, line); len(book) == bookSize {
			require.NoError(t, store.Put(t.Context(), bookKey(e.Seq/bookSize-1), sealed(t, magicBook, joinLines(book))))
			book = nil
		}
		if e.Seq%chapterSize == 0 || e.Seq+chapterSize > seq {
			carried = carried[uint64(len(carried))-(span(e.Seq)-1):]
			require.NoError(t, store.Put(t.Context(), logKey(e.Seq), encodeLogObject(line, carried)))
		}
		if e.Seq%chapterSize == 0 {
			f.leaf = &leaf{base: f.state.clone(), prior: line}
		}
	}
	text, err := rootText(testID, f.leaf)
	require.NoError(t, err)
	require.NoError(t, store.Put(t.Context(), rootKey(seq), sealed(t, magicRoot, text)))
	return open(t, store)
}

// TestRequests: opening and reading a small range takes at most 12 requests for every length of the
// tail, and around the ends of chapters and books.
func TestRequests(t *testing.T) {
	for _, begin := range []uint64{64, 448, 4032, 99_968} {
		store := faulty.New(objectstore.NewMem())
		l := synthesize(t, store, begun(t, store), begin)
		most := 0
		for seq := begin + 1; seq <= begin+68; seq++ {
			grow(t, l, seq)
			most = max(most, requestsOfAPlan(t, store, seq))
		}
		t.Logf("%d to %d entries: at most %d requests", begin, begin+68, most)
	}
}

// requestsOfAPlan opens the archive, finds a moment and reads what surrounds it: at its end, around
// the end of a book, and (unless it is the first few) long ago.
func requestsOfAPlan(t *testing.T, store *faulty.Store, head uint64) (most int) {
	for _, target := range []uint64{head - 1, head - head%bookSize + 1, head/2 + 5} {
		if target < 10 || target >= head {
			continue
		}
		_ = store.Requests()
		v := open(t, store).View()
		// Entry seq begins at 0x1000 + (seq-4)*0x100 and ends at second (seq-4)*10+9.
		e, ok, err := v.FindTime(t.Context(), 1, at(int(target-4)*10+5))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, target, e.Seq)
		n := 0
		for _, err := range v.Entries(t.Context(), Range{History: 1, From: e.From - 0x300, To: e.To}) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 4, n)
		requests := store.Requests()
		sum := 0
		for _, n := range requests {
			sum += n
		}
		require.LessOrEqual(t, sum, 12, "head %d, target %d: %v", head, target, requests)
		most = max(most, sum)
	}
	return most
}

// yearOfEntries makes an archive of 770 books: only the last few and the newest root are in the store.
func yearOfEntries(t testing.TB) objectstore.Store {
	store := objectstore.NewMem()
	yearOf(t, store, nextSegment)
	return store
}

// yearOf does it with the entries that next makes.
func yearOf(t testing.TB, store objectstore.Store, next func(*View) Entry) {
	const books = 769
	l := synthesizeOf(t, store, begun(t, store), bookSize, next)
	s := l.state.clone()
	model, end := s.Books[0], s.Histories[0].End
	width := end - 0x1000
	const segments = bookSize - 3 // of the first book
	day := segment.Timestamp(segments * 10 * 1e6)
	for n := uint64(1); n < books; n++ {
		b := model.clone()
		b.First, b.Last, b.Hash = n*bookSize+1, (n+1)*bookSize, hashOf(fmt.Append(nil, n))
		b.Ranges[0].From, b.Ranges[0].To = end, end+width
		b.Ranges[0].RunningMax += segment.Timestamp(n) * day
		b.MinTime, b.MaxTime = b.MinTime+segment.Timestamp(n)*day, b.Ranges[0].RunningMax
		b.MinXID, b.MaxXID = model.MinXID+uint32(n)*2*segments, model.MaxXID+uint32(n)*2*segments
		end += width
		s.Books = append(s.Books, b)
	}
	for i := range 365 {
		s.Snapshots = append(s.Snapshots, SnapshotPoint{History: 1, LSN: 0x1001 + segment.LSN(i), Seq: uint64(i), At: testBegin,
			Snapshot: Snapshot{ID: fmt.Sprintf("day-%d", i), Manifest: object(fmt.Sprintf("snapshots/%d", i)), Time: at(i)}, EligibleFrom: at(i)})
	}
	// The last line of the last book: real, so that the chain goes on from it.
	s.Seq = books*bookSize - 1
	s.Histories[0].End, s.Histories[0].RunningMax = end-0x100, s.Books[books-1].MaxTime-1e6
	v := &View{id: l.id, st: s}
	e := next(v)
	e.complete(v, testBegin)
	e.setRunningMax(e.maxCommitTime())
	line, err := marshal(e)
	require.NoError(t, err)
	s.Seq, s.Hash = e.Seq, hashOf(line)
	s.Books[books-1].Hash = s.Hash
	s.Histories[0].End, s.Histories[0].RunningMax = end, e.maxCommitTime()
	text, err := rootText(testID, &leaf{base: s, prior: line})
	require.NoError(t, err)
	require.NoError(t, store.Put(t.Context(), rootKey(s.Seq), sealed(t, magicRoot, text)))
	require.NoError(t, store.Put(t.Context(), logKey(s.Seq), encodeLogObject(line, nil)))
	for l = open(t, store); l.View().Head().Seq < s.Seq+4000; {
		put(t, l, next(l.View()))
	}
}

// TestYear: a year of entries each ten seconds opens in half a second and 48 MiB.
func TestYear(t *testing.T) {
	store := yearOfEntries(t)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	l := open(t, store)
	v := l.View()
	e, ok, err := v.FindTime(t.Context(), 1, v.RunningMax(1)-segment.Timestamp(3600*1e6*4))
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.True(t, ok)
	require.Greater(t, e.Seq, uint64(3_149_000))
	n := 0
	for _, err := range v.Entries(t.Context(), Range{History: 1, From: e.From}) {
		require.NoError(t, err)
		n++
	}
	require.Greater(t, n, 1000)
	require.EqualValues(t, 3_153_824, v.Head().Seq)
	runtime.GC()
	var kept runtime.MemStats
	runtime.ReadMemStats(&kept)
	key, size := "", int64(0)
	for info := range store.List(t.Context(), rootPrefix, "") {
		key, size = info.Key, info.Size
		break
	}
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("opened and searched in %v, %d KiB allocated in all, %d KiB kept; newest root %s has %d KiB",
		took, allocated>>10, (kept.HeapAlloc-before.HeapAlloc)>>10, key, size>>10)
	require.Less(t, allocated, uint64(48<<20))
	require.Less(t, took, 5*time.Second, "half a second on a quiet machine")
	runtime.KeepAlive(l)
}

func BenchmarkOpenYear(b *testing.B) {
	store := yearOfEntries(b)
	b.ReportAllocs()
	for b.Loop() {
		open(b, store)
	}
}
