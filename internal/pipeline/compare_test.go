package pipeline

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/segment"
	"tidemark/walstream"
)

func TestCompareArchiveAndServer(t *testing.T) {
	history := &catalog.History{SystemID: "7001", Database: "shop"}
	const end = segment.LSN(0x5000)
	server := func(change func(*walstream.Identity)) walstream.Identity {
		id := walstream.Identity{SystemID: "7001", Database: "shop", Timeline: 1, FlushLSN: 0x6000, Publication: &walstream.Publication{}}
		id.Slot.ConfirmedFlush = 0x4000
		change(&id)
		return id
	}
	promoted := func(at segment.LSN) func(*walstream.Identity) {
		return func(id *walstream.Identity) {
			id.Timeline = 2
			id.Switches = []walstream.TimelineSwitch{{Timeline: 1, SwitchPoint: at}}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*walstream.Identity)
		want   verdict
		fork   segment.LSN
	}{
		{"the same server, ahead", func(*walstream.Identity) {}, resume, 0},
		{"the same server, where the archive ends", func(id *walstream.Identity) { id.FlushLSN = end; id.Slot.ConfirmedFlush = end }, resume, 0},
		{"another cluster", func(id *walstream.Identity) { id.SystemID = "7002" }, newHistory, 0},
		{"another database", func(id *walstream.Identity) { id.Database = "stage" }, newHistory, 0},
		{"a data directory rolled back to an older copy", func(id *walstream.Identity) { id.FlushLSN = end - 1 }, newHistory, 0},
		{"a slot that someone advanced", func(id *walstream.Identity) { id.Slot.ConfirmedFlush = end + 1 }, gap, 0},
		{"a publication that was dropped", func(id *walstream.Identity) { id.Publication = nil }, gap, 0},
		{"a promotion behind the archive's end", promoted(end), resume, 0},
		{"a promotion before the archive's end", promoted(end - 1), newHistory, end - 1},
		{"a timeline that does not descend from ours", func(id *walstream.Identity) { id.Timeline = 3 }, newHistory, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := compare(history, 1, end, server(c.change))
			require.Equal(t, c.want, got.verdict, got.reason)
			require.Equal(t, c.fork, got.fork)
		})
	}
}

func TestResentCommitsMustBeTheArchives(t *testing.T) {
	archived := func() map[segment.LSN]archivedCommit {
		return map[segment.LSN]archivedCommit{0x100: {xid: 7, time: 1}, 0x200: {xid: 8, time: 2}}
	}
	begin := func(lsn segment.LSN, xid uint32, at segment.Timestamp) segment.Begin {
		return segment.Begin{CommitLSN: lsn, XID: xid, CommitTime: at}
	}
	t.Run("all come again", func(t *testing.T) {
		r := newResent(0x300, archived())
		require.NoError(t, r.seen(begin(0x100, 7, 1)))
		require.False(t, r.done(0x200))
		require.NoError(t, r.seen(begin(0x200, 8, 2)))
		require.NoError(t, r.passed())
		require.True(t, r.done(0))
	})
	t.Run("the archive's end is not covered", func(t *testing.T) {
		r := newResent(0x300, nil)
		require.True(t, r.covers(0x2ff))
		require.False(t, r.covers(0x300))
	})
	for name, b := range map[string]segment.Begin{
		"a commit that the archive lacks": begin(0x180, 9, 1),
		"another xid":                     begin(0x100, 9, 1),
		"another time":                    begin(0x100, 7, 5),
	} {
		t.Run(name, func(t *testing.T) {
			var diverged *divergedError
			require.ErrorAs(t, newResent(0x300, archived()).seen(b), &diverged)
		})
	}
	t.Run("one is missing", func(t *testing.T) {
		r := newResent(0x300, archived())
		require.NoError(t, r.seen(begin(0x200, 8, 2)))
		var diverged *divergedError
		require.ErrorAs(t, r.passed(), &diverged)
	})
}

func TestDefaultSlotIsAlwaysAValidName(t *testing.T) {
	require.Equal(t, "tidemark_shop", DefaultSlot("shop"))
	require.Equal(t, "tidemark_my_shop_2", DefaultSlot("My-Shop 2"))
	require.Len(t, DefaultSlot(string(make([]byte, 100))), 63)
}
