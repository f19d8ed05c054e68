package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
	"tidemark/segment"
)

// entriesOf collects entries by the LSN they begin at.
func entriesOf(t *testing.T, v *View, r Range) []segment.LSN {
	var from []segment.LSN
	for e, err := range v.Entries(t.Context(), r) {
		require.NoError(t, err)
		from = append(from, e.From)
	}
	return from
}

func TestEntries(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 1200)
	for name, v := range map[string]*View{"writer": l.View(), "reader": open(t, store).View()} {
		require.Equal(t, []segment.LSN{0x1000}, entriesOf(t, v, Range{1, 0x1000, 0x1100}), name)
		require.Equal(t, []segment.LSN{0x1000, 0x1100}, entriesOf(t, v, Range{1, 0x10ff, 0x1101}), name)
		require.Empty(t, entriesOf(t, v, Range{1, 0, 0x1000}), name)
		require.Empty(t, entriesOf(t, v, Range{1, v.End(1), 0}), name)
		require.Empty(t, entriesOf(t, v, Range{2, 0, 0}), name)
		require.Len(t, entriesOf(t, v, Range{1, 0, 0}), 1197, name)
		// Line 512 ends the first chapter: its segment is the 509th.
		edge := segment.LSN(0x1000 + 509*0x100)
		require.Equal(t, []segment.LSN{edge - 0x100, edge}, entriesOf(t, v, Range{1, edge - 1, edge + 1}), name)
	}
}

func TestFindTime(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 530)
	// A commit from a clock that was ahead, then times that run backwards.
	end := l.View().End(1)
	ahead := put(t, l, segmentAt(1, 1, end, end+0x100, 5300, 9000, 4000))
	put(t, l, segmentAt(1, 1, end+0x100, end+0x200, 5310, 5320, 4001))
	put(t, l, watermark(1, 1, end+0x200, end+0x300))
	v := open(t, store).View()
	for seconds, want := range map[int]segment.LSN{-5: 0x1000, 8: 0x1000, 9: 0x1100, 15: 0x1100, 5100: 0x1000 + 510*0x100, 5315: ahead.From, 8999: ahead.From} {
		e, ok, err := v.FindTime(t.Context(), 1, at(seconds))
		require.NoError(t, err)
		require.True(t, ok, seconds)
		require.Equal(t, want, e.From, "time %d", seconds)
	}
	_, ok, err := v.FindTime(t.Context(), 1, at(9000))
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, _ = v.FindTime(t.Context(), 2, at(1))
	require.False(t, ok)
}

func TestFindXIDMarkEntry(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 600)
	e := nextSegment(l.View())
	e.Segment.Marks = []Mark{{Name: "before-import", LSN: e.From + 3, Time: at(1)}}
	marked := put(t, l, e)
	grow(t, l, 610)
	v := open(t, store).View()

	var seqs []uint64
	for e, err := range v.FindXID(t.Context(), 711) {
		require.NoError(t, err)
		seqs = append(seqs, e.Seq)
	}
	require.Equal(t, []uint64{9}, seqs)
	for range v.FindXID(t.Context(), 1) {
		require.Fail(t, "there is no such transaction")
	}

	marks := v.FindMark("before-import")
	require.Len(t, marks, 1)
	require.Equal(t, MarkPoint{Mark: marked.Segment.Marks[0], History: 1, Seq: marked.Seq}, marks[0])
	require.Empty(t, v.FindMark("nothing"))

	for _, seq := range []uint64{1, 300, 512, 513, 610} {
		e, ok, err := v.Entry(t.Context(), seq)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, seq, e.Seq)
	}
	for _, seq := range []uint64{0, 611} {
		_, ok, err := v.Entry(t.Context(), seq)
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func TestSums(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 1200)
	v := open(t, store).View()
	for _, r := range []Range{{1, 0, 0}, {1, 0x1150, 0x1250}, {1, 0x1000, 0x1000 + 509*0x100}, {1, 0x1010, 0x1000 + 700*0x100}, {2, 0, 0}} {
		var want Counts
		for e, err := range v.Entries(t.Context(), r) {
			require.NoError(t, err)
			want.add(CountsOf(e.Segment))
		}
		got, err := v.Sums(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestPrunedEntriesAreNotFound(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 50)
	put(t, l, Entry{Kind: KindPrune, History: 1, Prune: &Prune{Before: 0x1400}})
	v := open(t, store).View()
	e, ok, err := v.FindTime(t.Context(), 1, at(3))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, segment.LSN(0x1400), e.From)
	for range v.FindXID(t.Context(), 702) {
		require.Fail(t, "its segment is pruned")
	}
}
