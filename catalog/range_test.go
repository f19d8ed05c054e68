package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
	"tidemark/segment"
)

// sparse is an archive of 1,300 entries in which segments are rare: two stand close at the ends of chapters.
func sparse(t *testing.T, store objectstore.Store) *Log {
	l := begun(t, store)
	for l.View().Head().Seq < 1300 {
		e := nextSegment(l.View())
		switch n := l.View().Head().Seq + 1; {
		case n == 700:
			e = gap(1, 1, e.From, e.To)
		case n != 20 && n != 511 && n != 513 && n != 1280 && n != 1281:
			e = watermark(1, 1, e.From, e.To)
		}
		put(t, l, e)
	}
	return l
}

func TestSegmentsBesideAPosition(t *testing.T) {
	store := objectstore.NewMem()
	l := sparse(t, store)
	var all []Entry
	for e, err := range l.View().Entries(t.Context(), Range{History: 1}) {
		require.NoError(t, err)
		all = append(all, e)
	}
	commits := func(e Entry, r Range) bool {
		return e.Kind == KindSegment && e.Segment.LastCommitLSN >= r.From && (r.To == 0 || e.Segment.FirstCommitLSN < r.To)
	}
	for name, v := range map[string]*View{"writer": l.View(), "reader": open(t, store).View()} {
		for i := range all {
			if near := i > 0 && i+1 < len(all) && (all[i-1].Kind != KindWatermark || all[i+1].Kind != KindWatermark); !near && i%199 > 0 {
				continue
			}
			for _, at := range []segment.LSN{all[i].From, all[i].From + 1, all[i].From + 0x80, all[i].To - 1} {
				var first, last, cut Entry
				for _, e := range all {
					if commits(e, Range{From: at}) && first.Seq == 0 {
						first = e
					}
					if commits(e, Range{To: at}) {
						last = e
					}
					if e.From < at && at < e.To && e.Kind == KindSegment {
						cut = e
					}
				}
				got, ok, err := v.FirstSegment(t.Context(), Range{History: 1, From: at})
				require.NoError(t, err)
				require.Equal(t, first, got, "%s %s", name, at)
				require.Equal(t, first.Seq > 0, ok)
				got, _, err = v.LastSegment(t.Context(), Range{History: 1, To: at})
				require.NoError(t, err)
				require.Equal(t, last, got, "%s %s", name, at)
				got, _, err = v.Spanning(t.Context(), 1, at)
				require.NoError(t, err)
				require.Equal(t, cut, got, "%s %s", name, at)
			}
		}
	}
}

// TestSkipsWhatHoldsNoCommit: runs without transactions are not read, and what will be read can be told.
func TestSkipsWhatHoldsNoCommit(t *testing.T) {
	store := objectstore.NewMem()
	sparse(t, store)
	v := open(t, store).View()
	require.Zero(t, v.Read())
	require.Equal(t, 2, v.Unread(Range{History: 1}))
	require.Equal(t, 1, v.Unread(Range{History: 1, To: 0x2000}))
	require.Zero(t, v.Unread(Range{History: 2}))
	e, ok, err := v.LastSegment(t.Context(), Range{History: 1, To: v.End(1)})
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 1281, e.Seq)
	require.Zero(t, v.Read(), "the open chapter is in the root")
	e, ok, err = v.LastSegment(t.Context(), Range{History: 1, To: e.From - 0x100})
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 513, e.Seq)
	require.Equal(t, 1, v.Read())
	require.Equal(t, 1, v.Unread(Range{History: 1}))
}
