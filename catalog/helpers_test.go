package catalog

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
	"tidemark/segment"
)

const testID = "7f0c6f5e-2a43-4b7e-9d0f-0d6c0b0f7a11"

var testBegin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// stepClock is a clock that moves on by ten seconds at each look.
func stepClock() func() time.Time {
	var n atomic.Int64
	return func() time.Time { return testBegin.Add(time.Duration(n.Add(1)) * 10 * time.Second) }
}

func testIdentity() Identity {
	return Identity{ID: testID, Made: testBegin, SystemID: "7301234567890123456", Database: "shop", Slot: "tidemark_shop"}
}

// at is a commit time so many seconds after the begin.
func at(seconds int) segment.Timestamp {
	return segment.TimestampOf(testBegin.Add(time.Duration(seconds) * time.Second))
}

func create(t testing.TB, store objectstore.Store) *Log {
	l, err := Create(t.Context(), store, testIdentity(), WithClock(stepClock()))
	require.NoError(t, err)
	return l
}

func open(t testing.TB, store objectstore.Store) *Log {
	l, err := Open(t.Context(), store, WithClock(stepClock()))
	require.NoError(t, err)
	return l
}

// put appends an entry as it is.
func put(t testing.TB, l *Log, e Entry) Entry {
	stored, err := l.Append(t.Context(), func(*View) (Entry, error) { return e, nil })
	require.NoError(t, err)
	return stored
}

func claim() Entry {
	return Entry{Kind: KindWriter, Writer: &Writer{Instance: "i1", Host: "db1", PID: 42, Version: "0.1", Timeline: 1}}
}

func stop(epoch uint64) Entry {
	return Entry{Kind: KindWriter, Epoch: epoch, Writer: &Writer{Instance: "i1", Host: "db1", PID: 42, Version: "0.1", Timeline: 1, Stopped: true}}
}

func history(n uint32, from segment.LSN) Entry {
	return Entry{Kind: KindHistory, History: n, From: from, Begins: &History{SystemID: "7301234567890123456", Timeline: 1,
		ServerVersion: 150018, Database: "shop", Encoding: "UTF8", Slot: "tidemark_shop", Publication: "tidemark", Reason: "the archive begins"}}
}

func hold(name string) Entry { return Entry{Kind: KindHold, Hold: &Hold{Name: name}} }

func object(key string) Object {
	return Object{Key: key, Size: 100, SHA256: strings.Repeat("0a", 32)}
}

func snapshotAt(h uint32, lsn segment.LSN, id string, seconds int) Entry {
	return Entry{Kind: KindSnapshot, History: h, From: lsn, Snapshot: &Snapshot{ID: id, Manifest: object("snapshots/" + id), Time: at(seconds), Tables: 3}}
}

// segmentAt holds commits between two moments and xids.
func segmentAt(h uint32, epoch uint64, from, to segment.LSN, minTime, maxTime int, xid uint32) Entry {
	return Entry{Kind: KindSegment, History: h, Epoch: epoch, From: from, To: to, Segment: &Segment{
		Objects:      []Object{{Key: fmt.Sprintf("segments/%08X/%s-%s.0", h, from.Hex(), to.Hex()), Size: int64(to - from), SHA256: hashOf([]byte(from.Hex()))}},
		Transactions: 2, Inserts: 10, Updates: 3, FirstCommitLSN: from + 1, LastCommitLSN: to - 1,
		FirstCommitTime: at(minTime), LastCommitTime: at(maxTime), MinCommitTime: at(minTime), MaxCommitTime: at(maxTime),
		MinXID: xid, MaxXID: xid + 1, RawBytes: 1000, StoredBytes: int64(to - from),
		Tables: []TableCounts{{Table: "public.orders", Inserts: 10}, {Table: "public.items", Updates: 3}},
	}}
}

func watermark(h uint32, epoch uint64, from, to segment.LSN) Entry {
	return Entry{Kind: KindWatermark, History: h, Epoch: epoch, From: from, To: to, Watermark: &Watermark{}}
}

func gap(h uint32, epoch uint64, from, to segment.LSN) Entry {
	return Entry{Kind: KindGap, History: h, Epoch: epoch, From: from, To: to, Gap: &Gap{Reason: "the slot was lost"}}
}

// begun makes an archive with a claim, a history from 0/1000 and a snapshot there: three entries.
func begun(t testing.TB, store objectstore.Store) *Log {
	l := create(t, store)
	put(t, l, claim())
	put(t, l, history(1, 0x1000))
	put(t, l, snapshotAt(1, 0x1000, "s1", 0))
	return l
}

// grow appends segments of 0x100 bytes and ten seconds until the head is at seq.
func grow(t testing.TB, l *Log, seq uint64) {
	for l.View().Head().Seq < seq {
		put(t, l, nextSegment(l.View()))
	}
}

func nextSegment(v *View) Entry {
	h, _ := v.Newest()
	n := int(h.End-h.From) / 0x100
	return segmentAt(h.Number, v.Epoch().Epoch, h.End, h.End+0x100, 10*n+1, 10*n+9, uint32(700+2*n))
}

// dumpAll returns everything a view says, to compare views by.
func dumpAll(t testing.TB, v *View) string {
	var b strings.Builder
	for e, err := range v.All(context.Background()) {
		require.NoError(t, err)
		line, err := marshal(e)
		require.NoError(t, err)
		b.Write(line)
		b.WriteByte('\n')
	}
	for _, part := range []any{v.Identity(), v.Head(), v.Epoch(), v.Histories(), v.Snapshots(), v.Marks(), v.Gaps(), v.Inexact(), v.Holds(), v.Windows()} {
		line, err := marshal(part)
		require.NoError(t, err)
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// verified returns what Verify finds.
func verified(t testing.TB, store objectstore.Store) []Damage {
	var found []Damage
	require.NoError(t, Verify(context.Background(), store, func(d Damage) { found = append(found, d) }))
	return found
}

func sealed(t testing.TB, magic string, text []byte) []byte {
	data, err := seal(magic, text)
	require.NoError(t, err)
	return data
}
