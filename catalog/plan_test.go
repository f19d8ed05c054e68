package catalog_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
	"tidemark/pitr"
	"tidemark/segment"
)

// maker makes the entries of an archive: segments of 0x100 bytes and ten seconds, each with two commits,
// at 0x40 and 0xC0. Only where real says so there is an object as well.
type maker struct {
	t         testing.TB
	store     objectstore.Store
	seq       uint64 // of the entry made last
	snapshots uint64 // one after so many entries; 0: none
	real      func(seq uint64) bool
	deletes   func(seq uint64) bool    // nil: all segments delete a row
	made      map[uint64]catalog.Entry // the real ones
}

const begins = segment.LSN(0x1000)

func (m *maker) next(v *catalog.View) catalog.Entry {
	m.seq++
	h, _ := v.Newest()
	if m.snapshots > 0 && m.seq%m.snapshots == 0 {
		at := h.End - 0x80 // between the two commits of a segment
		return catalog.Entry{Kind: catalog.KindSnapshot, History: 1, From: at, To: at, Snapshot: &catalog.Snapshot{
			ID: fmt.Sprint("s", m.seq), Time: h.RunningMax, Tables: 3, Rows: 10, StoredBytes: 100,
			Manifest: catalog.Object{Key: fmt.Sprint("snapshots/", m.seq), Size: 1, SHA256: strings.Repeat("0a", 32)}}}
	}
	n := int(h.End-begins) / 0x100
	e := catalog.Entry{Kind: catalog.KindSegment, History: 1, Epoch: v.Epoch().Epoch, From: h.End, To: h.End + 0x100, Segment: &catalog.Segment{
		Objects:      []catalog.Object{{Key: segmentKey(h.End), Size: 1000, SHA256: strings.Repeat("0a", 32)}},
		Transactions: 2, Inserts: 3, Deletes: 1, FirstCommitLSN: h.End + 0x40, LastCommitLSN: h.End + 0xC0,
		FirstCommitTime: catalog.At(10*n + 1), LastCommitTime: catalog.At(10*n + 8), MinCommitTime: catalog.At(10*n + 1), MaxCommitTime: catalog.At(10*n + 8),
		MinXID: xid(n, 0), MaxXID: xid(n, 1), RawBytes: 5000, StoredBytes: 1000,
		Tables: []catalog.TableCounts{{Table: "public.items", Deletes: 1}, {Table: "public.orders", Inserts: 3}},
	}}
	deletes := m.deletes == nil || m.deletes(m.seq)
	if !deletes {
		e.Segment.Deletes, e.Segment.Tables = 0, e.Segment.Tables[1:]
	}
	if m.real(m.seq) {
		m.makeReal(&e, n, deletes)
		m.made[m.seq] = e
	}
	return e
}

// xid is the transaction id of a commit of segment n. Those of neighbours overlap.
func xid(n, i int) uint32 { return uint32(700 + 2*n + 3*i) }

func segmentKey(from segment.LSN) string {
	return fmt.Sprintf("segments/00000001/%s-%s.0", from.Hex(), (from + 0x100).Hex())
}

// makeReal puts the segment of an entry into the store.
func (m *maker) makeReal(e *catalog.Entry, n int, deletes bool) {
	const partSize, blockSize = 16 << 10, 4 << 10
	var part segment.Part
	id := catalog.TestIdentity()
	w, err := segment.NewWriter(segment.WriterOptions{
		Archive: id.UUID(), History: 1, Epoch: e.Epoch, Start: e.From, PartSize: partSize, BlockSize: blockSize,
		Buffer: func() ([]byte, error) { return make([]byte, 0, segment.BufferSize(partSize, blockSize)), nil },
		Emit:   func(p segment.Part) error { part = p; return nil },
	})
	require.NoError(m.t, err)
	for i, table := range []string{"orders", "items"} {
		r := &segment.Relation{ID: uint32(i + 1), Namespace: "public", Name: table, Identity: 'd', Columns: []segment.Column{{Flags: 1, Name: "id", TypeOID: 23, Modifier: -1}}}
		require.NoError(m.t, w.Relation(r))
	}
	commit := func(i int, at segment.LSN, seconds int, rows func()) {
		require.NoError(m.t, w.Begin(segment.Begin{CommitLSN: at, CommitTime: catalog.At(seconds), XID: xid(n, i)}))
		rows()
		require.NoError(m.t, w.Commit(segment.Commit{CommitLSN: at, EndLSN: at + 0x20, CommitTime: catalog.At(seconds)}))
	}
	row := func(op segment.Op, role segment.TupleRole, relation uint32) {
		require.NoError(m.t, w.Row(op, relation))
		require.NoError(m.t, w.Tuple(role, 1))
		require.NoError(m.t, w.Value(1))
		require.NoError(m.t, w.Bytes([]byte("7")))
		require.NoError(m.t, w.EndRow())
	}
	commit(0, e.From+0x40, 10*n+1, func() { row(segment.OpInsert, segment.New, 1); row(segment.OpInsert, segment.New, 1) })
	commit(1, e.From+0xC0, 10*n+8, func() {
		row(segment.OpInsert, segment.New, 1)
		if deletes {
			row(segment.OpDelete, segment.OldKey, 2)
		}
	})
	sum, err := w.Close(e.To)
	require.NoError(m.t, err)
	e.Segment.StoredBytes = sum.StoredBytes
	e.Segment.Objects[0].Size, e.Segment.Objects[0].SHA256 = int64(len(part.Data)), hex.EncodeToString(part.SHA256[:])
	e.Segment.Marks = []catalog.Mark{{Name: fmt.Sprint("mark-", m.seq), LSN: e.From + 0x60, Time: catalog.At(10*n + 8)}}
	require.NoError(m.t, m.store.Put(m.t.Context(), e.Segment.Objects[0].Key, part.Data))
}

// commitsBefore counts the commits before a position.
func commitsBefore(at segment.LSN) int64 {
	n := 2 * int64((at-begins)/0x100)
	for _, offset := range []segment.LSN{0x40, 0xC0} {
		if (at-begins)%0x100 > offset {
			n++
		}
	}
	return n
}

// question is a target, and the cut that it means.
type question struct {
	name   string
	target pitr.Target
	cut    segment.LSN
}

// around asks in all ways for what surrounds a segment: in its middle, at its beginning.
func (m *maker) around(t *testing.T, seq uint64) []question {
	e, ok := m.made[seq]
	require.True(t, ok, seq)
	n := int(e.From-begins) / 0x100
	lsn := func(at segment.LSN, exclusive bool) pitr.Target {
		return pitr.Target{Kind: pitr.ToLSN, LSN: at, Exclusive: exclusive}
	}
	return []question{
		{"lsn in it", lsn(e.From+0x40, false), e.From + 0x41},
		{"lsn at its beginning", lsn(e.From, true), e.From},
		{"time in it", pitr.Target{Kind: pitr.ToTime, Time: catalog.At(10*n + 4)}, e.From + 0xC0},
		{"time before it", pitr.Target{Kind: pitr.ToTime, Time: catalog.At(10 * n)}, e.From + 0x40},
		{"its first xid", pitr.Target{Kind: pitr.ToXID, XID: xid(n, 0)}, e.From + 0x41},
		{"its last xid", pitr.Target{Kind: pitr.ToXID, XID: xid(n, 1)}, e.From + 0xC1},
		{"before its first xid", pitr.Target{Kind: pitr.ToXID, XID: xid(n, 0), Exclusive: true}, e.From + 0x40},
		{"its mark", pitr.Target{Kind: pitr.ToMark, Name: fmt.Sprint("mark-", seq)}, e.From + 0x61},
		{"before its mark", pitr.Target{Kind: pitr.ToMark, Name: fmt.Sprint("mark-", seq), Exclusive: true}, e.From + 0x60},
	}
}

// TestRequestsOfPlans: opening an archive of 100,000 entries and planning takes at most 12 requests, for every length
// of the tail, from one snapshot at the beginning and from daily ones.
func TestRequestsOfPlans(t *testing.T) {
	const begin, day, book = 99_968, 8_640, 4_096
	for name, every := range map[string]uint64{"one snapshot": 0, "daily snapshots": day} {
		t.Run(name, func(t *testing.T) {
			store := faulty.New(objectstore.NewMem())
			l := catalog.Begun(t, store)
			m := &maker{t: t, store: store, seq: 3, snapshots: every, made: map[uint64]catalog.Entry{}}
			m.real = func(seq uint64) bool {
				return seq < 8 || seq > begin-70 || (seq+3)%book < 6 || (seq+3)%day < 6 || seq%1000 < 4
			}
			l = catalog.Synthesize(t, store, l, begin, m.next)
			most, listed, plans := 0, 0, 0
			for tail := range uint64(68) {
				seq := begin + tail
				for ; m.seq < seq; plans++ {
					_, err := l.Append(t.Context(), func(v *catalog.View) (catalog.Entry, error) { return m.next(v), nil })
					require.NoError(t, err)
				}
				var asked []question
				if tail%8 == 7 {
					asked = append(asked, question{name: "latest", target: pitr.Target{Kind: pitr.ToLatest}, cut: l.View().End(1)})
				}
				for i, place := range []uint64{seq - 1, 50_001, 11*book + 1, 6*day + 1, 6*day - 1} {
					// The longest tail gets all questions, the others one in turn.
					switch all := m.around(t, place); {
					case tail == 63:
						asked = append(asked, all...)
					case int(tail)%5 == i:
						asked = append(asked, all[int(tail)%len(all)])
					}
				}
				for _, q := range asked {
					n, plan := planned(t, store, q)
					require.LessOrEqual(t, n, 12, "%d entries, %s, cut at %s", seq, q.name, q.cut)
					most = max(most, n)
					plans++
					if !plan.TablesUnlisted {
						listed++
					}
				}
			}
			t.Logf("%d plans: at most %d requests; %d list tables", plans, most, listed)
			require.Equal(t, every > 0, listed > plans/2)
		})
	}
}

// planned opens the archive, makes a plan, checks it, and returns how many requests that took.
func planned(t *testing.T, store *faulty.Store, q question) (int, *pitr.Plan) {
	_ = store.Requests()
	l, err := catalog.Open(t.Context(), store)
	require.NoError(t, err)
	v := l.View()
	plan, err := pitr.MakePlan(t.Context(), pitr.NewArchive(store, v), q.target, time.UTC)
	require.NoError(t, err, q.name)
	n := 0
	for _, times := range store.Requests() {
		n += times
	}
	require.Equal(t, q.cut, plan.Cut, q.name)
	want := commitsBefore(q.cut) - commitsBefore(plan.Snapshot.LSN)
	require.Equal(t, want, plan.Transactions, q.name)
	require.Less(t, plan.LastKept.LSN, q.cut)
	require.Equal(t, commitsBefore(q.cut)-1, commitsBefore(plan.LastKept.LSN), q.name)
	if q.cut < v.End(1) {
		require.GreaterOrEqual(t, plan.FirstLeftOut.LSN, q.cut)
		require.Equal(t, commitsBefore(q.cut), commitsBefore(plan.FirstLeftOut.LSN), q.name)
	}
	require.Equal(t, plan.TablesUnlisted, len(plan.Tables) == 0 && want > 0)
	return n, plan
}

// BenchmarkPlan opens an archive and plans a restore: a year of entries each ten seconds, from a snapshot at its
// beginning, and one of 100,000 with daily snapshots, where the plan counts by table. The bytes allocated in all
// are an upper bound of the memory in use.
func BenchmarkPlan(b *testing.B) {
	year := faulty.New(objectstore.NewMem())
	m := &maker{t: b, store: year, seq: 3, made: map[uint64]catalog.Entry{}, real: func(seq uint64) bool { return seq < 500 || seq > 7_000 }}
	catalog.Year(b, year, m.next)
	days := faulty.New(objectstore.NewMem())
	m = &maker{t: b, store: days, seq: 3, snapshots: 8_640, made: map[uint64]catalog.Entry{}, real: func(seq uint64) bool { return (seq+3)%8_640 < 6 || seq > 95_000 }}
	catalog.Synthesize(b, days, catalog.Begun(b, days), 99_968, m.next)
	for _, c := range []struct {
		name  string
		store *faulty.Store
	}{{"year", year}, {"day", days}} {
		l, err := catalog.Open(b.Context(), c.store)
		require.NoError(b, err)
		end := l.View().End(1)
		for _, q := range []question{
			{"latest", pitr.Target{Kind: pitr.ToLatest}, end},
			{"lsn", pitr.Target{Kind: pitr.ToLSN, LSN: end - 0x100*500, Exclusive: true}, end - 0x100*500},
			{"time", pitr.Target{Kind: pitr.ToTime, Time: l.View().RunningMax(1) - 5000*1e6}, end - 0x100*500 + 0x40},
		} {
			b.Run(c.name+"/"+q.name, func(b *testing.B) { benchmarkPlan(b, c.store, q) })
		}
	}
}

func benchmarkPlan(b *testing.B, store *faulty.Store, q question) {
	_ = store.Requests()
	b.ReportAllocs()
	for b.Loop() {
		l, err := catalog.Open(b.Context(), store)
		require.NoError(b, err)
		plan, err := pitr.MakePlan(b.Context(), pitr.NewArchive(store, l.View()), q.target, time.UTC)
		require.NoError(b, err)
		require.Equal(b, q.cut, plan.Cut)
	}
	total := 0
	for _, n := range store.Requests() {
		total += n
	}
	b.ReportMetric(float64(total)/float64(b.N), "requests/op")
}
