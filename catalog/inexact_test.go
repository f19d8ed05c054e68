package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
	"tidemark/segment"
)

func inexact(from, to segment.LSN, tables ...string) Inexact {
	return Inexact{From: from, To: to, Tables: tables, Reason: "the publication was narrowed"}
}

func inexactEntry(h uint32, ranges ...Inexact) Entry {
	e := Entry{Kind: KindInexact, History: h, From: ranges[0].From, To: ranges[0].To, Inexact: ranges}
	for _, r := range ranges {
		e.From, e.To = min(e.From, r.From), max(e.To, r.To)
	}
	return e
}

func TestInexactRangesAreRolledUp(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	require.Empty(t, l.View().Inexact())
	change := nextSegment(l.View())
	change.Inexact = []Inexact{inexact(0x1010, 0x1011, "public.orders")}
	first := put(t, l, change)
	ahead := inexact(0x1180, 0x9000)
	changed := inexactEntry(1, inexact(0x1100, 0x1180, "public.a", "public.b"), ahead)
	changed.Source = "narrowed"
	second := put(t, l, changed)
	require.Equal(t, "narrowed", open(t, store).View().Epoch().Writer.Source)
	want := []InexactPoint{
		{Inexact: change.Inexact[0], History: 1, Seq: first.Seq, At: first.At},
		{Inexact: second.Inexact[0], History: 1, Seq: second.Seq, At: second.At},
		{Inexact: ahead, History: 1, Seq: second.Seq, At: second.At},
	}
	require.Equal(t, want, l.View().Inexact())
	require.Equal(t, want, open(t, store).View().Inexact())

	grow(t, l, 2*chapterSize+3) // into the state of a root
	require.Equal(t, want, open(t, store).View().Inexact())
	require.Empty(t, verified(t, store))

	put(t, l, Entry{Kind: KindPrune, History: 1, Prune: &Prune{Before: 0x1180}})
	require.Equal(t, want[2:], l.View().Inexact(), "what reaches past the pruned part stays")
	require.Equal(t, want[2:], open(t, store).View().Inexact())
	require.Empty(t, verified(t, store))
}

func TestInexactRangesMustMakeSense(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	noReason := inexact(0x1000, 0x1001)
	noReason.Reason = ""
	tooFar := nextSegment(l.View())
	tooFar.Inexact = []Inexact{inexact(tooFar.To, tooFar.To+1)}
	onWatermark := watermark(1, 1, 0x1000, 0x1100)
	onWatermark.Inexact = []Inexact{inexact(0x1000, 0x1001)}
	for name, e := range map[string]Entry{
		"no ranges":           {Kind: KindInexact, History: 1, From: 0x1000, To: 0x1001},
		"empty range":         inexactEntry(1, inexact(0x1000, 0x1001), inexact(0x1000, 0x1000)),
		"no history":          inexactEntry(0, inexact(0x1000, 0x1001)),
		"unknown history":     inexactEntry(2, inexact(0x1000, 0x1001)),
		"before its history":  inexactEntry(1, inexact(0x800, 0x1001)),
		"no reason":           inexactEntry(1, noReason),
		"outside the segment": tooFar,
		"on a watermark":      onWatermark,
	} {
		_, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
		require.Error(t, err, name)
	}
	require.EqualValues(t, 3, l.View().Head().Seq)
}

func TestInexactTouches(t *testing.T) {
	i := inexact(0x100, 0x101)
	require.True(t, i.Touches(0x100, 0x101), "the change itself is replayed")
	require.False(t, i.Touches(0x100, 0x100), "the cut lies before the change")
	require.False(t, i.Touches(0x101, 0x200), "the snapshot was taken after it")
	require.True(t, i.Touches(0x50, 0x200))
}
