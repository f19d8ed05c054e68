package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
)

func TestWindowsGrow(t *testing.T) {
	store := objectstore.NewMem()
	l := create(t, store)
	put(t, l, claim())
	put(t, l, history(1, 0x1000))
	grow(t, l, 5)
	require.Empty(t, l.View().Windows(), "nothing can be restored without a snapshot")
	put(t, l, snapshotAt(1, 0x1200, "s1", 25))
	require.Equal(t, []Window{{1, 0x1200, 0x1300, at(25), at(29)}}, l.View().Windows())
	grow(t, l, 10)
	require.Equal(t, []Window{{1, 0x1200, 0x1700, at(25), at(69)}}, l.View().Windows())
	put(t, l, snapshotAt(1, 0x1500, "s2", 45))
	require.Equal(t, []Window{{1, 0x1200, 0x1700, at(25), at(69)}}, l.View().Windows())

	// One taken ahead of the stream stands alone until the stream reaches it.
	put(t, l, snapshotAt(1, 0x1850, "s3", 77))
	require.Equal(t, []Window{{1, 0x1200, 0x1700, at(25), at(69)}, {1, 0x1850, 0x1850, at(77), at(77)}}, l.View().Windows())
	grow(t, l, 14)
	require.Equal(t, []Window{{1, 0x1200, 0x1900, at(25), at(89)}}, l.View().Windows())
	require.Equal(t, l.View().Windows(), open(t, store).View().Windows())
}

func TestWindowsAndGaps(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 6) // to 0x1300, time 29
	put(t, l, gap(1, 1, 0x1300, 0x2000))
	grow(t, l, 9) // to 0x2200
	v := l.View()
	require.Equal(t, []Window{{1, 0x1000, 0x1300, at(0), at(29)}}, v.Windows(), "after a gap a new snapshot is needed")
	require.Len(t, v.Gaps(), 1)
	require.Equal(t, at(29), v.Gaps()[0].RunningMax)

	put(t, l, snapshotAt(1, 0x2100, "s2", 175))
	grow(t, l, 13)
	want := []Window{{1, 0x1000, 0x1300, at(0), at(29)}, {1, 0x2100, 0x2500, at(175), at(209)}}
	require.Equal(t, want, l.View().Windows())
	require.Equal(t, "s1", l.View().SnapshotsFor(1, 0x1300)[0].Snapshot.ID)
	require.Empty(t, l.View().SnapshotsFor(1, 0x1301))
	require.Empty(t, l.View().SnapshotsFor(1, 0x20ff))
	require.Equal(t, "s2", l.View().SnapshotsFor(1, 0x2100)[0].Snapshot.ID)

	put(t, l, snapshotAt(1, 0x1800, "lost", 100)) // inside the gap: only itself
	require.Equal(t, []Window{want[0], {1, 0x1800, 0x1800, at(100), at(100)}, want[1]}, l.View().Windows())
	require.Len(t, l.View().SnapshotsFor(1, 0x1800), 1)
	require.Empty(t, l.View().SnapshotsFor(1, 0x1801))

	put(t, l, Entry{Kind: KindPrune, History: 1, Prune: &Prune{Before: 0x2080}})
	require.Equal(t, want[1:], l.View().Windows())
	require.Empty(t, l.View().Gaps())
	require.Equal(t, want[1:], open(t, store).View().Windows())
	require.Empty(t, verified(t, store))
}

func TestWindowsOfSeveralHistories(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 6)
	fork := history(2, 0x1250)
	fork.Begins.Parent, fork.Begins.Fork, fork.Begins.Timeline = 1, 0x1250, 2
	put(t, l, fork)
	_, err := l.Append(t.Context(), func(*View) (Entry, error) { return watermark(1, 1, 0x1300, 0x1400), nil })
	require.ErrorContains(t, err, "history 1 is not the newest")
	put(t, l, snapshotAt(2, 0x1250, "s2", 33))
	put(t, l, segmentAt(2, 1, 0x1250, 0x1350, 40, 50, 800))
	require.Equal(t, []Window{{1, 0x1000, 0x1300, at(0), at(29)}, {2, 0x1250, 0x1350, at(33), at(50)}}, l.View().Windows())
	h, ok := l.View().Newest()
	require.True(t, ok)
	require.EqualValues(t, 1, h.Begins.Parent)
	require.Equal(t, at(50), l.View().RunningMax(2))
	require.Equal(t, at(29), l.View().RunningMax(1))
	require.Zero(t, l.View().End(3))
	require.Empty(t, verified(t, store))
}

func TestSnapshotsForTime(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	grow(t, l, 9) // six segments, to 59 seconds
	put(t, l, snapshotAt(1, 0x1300, "s2", 30))
	ids := func(seconds int) (ids []string) {
		for _, p := range l.View().SnapshotsForTime(1, at(seconds)) {
			ids = append(ids, p.Snapshot.ID)
		}
		return ids
	}
	require.Empty(t, ids(-1))
	require.Equal(t, []string{"s1"}, ids(0))
	require.Equal(t, []string{"s1"}, ids(29))
	require.Equal(t, []string{"s2", "s1"}, ids(30))
	require.Equal(t, []string{"s2", "s1"}, ids(58))
	require.Empty(t, ids(59), "no later commit has settled it")
	require.Empty(t, l.View().SnapshotsForTime(2, at(30)))
}

// TestSnapshotAfterALateClock: commits before the snapshot have later times than its own.
func TestSnapshotAfterALateClock(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	put(t, l, segmentAt(1, 1, 0x1000, 0x1100, 1, 500, 1))
	put(t, l, gap(1, 1, 0x1100, 0x1200))
	put(t, l, segmentAt(1, 1, 0x1200, 0x1300, 20, 30, 5))
	put(t, l, snapshotAt(1, 0x1300, "s2", 35))
	require.Equal(t, Window{1, 0x1300, 0x1300, at(500), at(500)}, l.View().Windows()[1], "no time is settled there")
	require.Empty(t, l.View().SnapshotsForTime(1, at(500)))
	require.Equal(t, "s1", l.View().SnapshotsForTime(1, at(40))[0].Snapshot.ID)
}

func TestHolds(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	put(t, l, hold("a"))
	put(t, l, hold("b"))
	put(t, l, Entry{Kind: KindHold, Hold: &Hold{Name: "a", Released: true}})
	require.Len(t, l.View().Holds(), 1)
	require.Equal(t, "b", l.View().Holds()[0].Name)
}
