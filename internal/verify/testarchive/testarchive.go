// Package testarchive makes small archives without a database, for tests of what reads archives.
package testarchive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"tidemark/catalog"
	"tidemark/internal/basesnapshot"
	"tidemark/objectstore"
	"tidemark/segment"
)

// TB is the part of testing.TB that is needed.
type TB interface {
	require.TestingT
	Helper()
}

// Epoch0 is the commit time of the first transaction; each following one is a second later.
var Epoch0 = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)

// Archive grows an archive in a store: one history that begins at 0/1000 and one writer.
type Archive struct {
	tb    TB
	Store objectstore.Store
	Log   *catalog.Log
	id    [16]byte

	at  segment.LSN
	xid uint32
}

// New makes an archive with a history, a writer's claim and a base snapshot without tables at 0/1000.
func New(tb TB, store objectstore.Store) *Archive {
	tb.Helper()
	clock := Epoch0
	log, err := catalog.Create(context.Background(), store, catalog.Identity{
		ID: "6f2c0f0e-6d0d-4c5e-9a53-0f5a3f0b7c11", Made: Epoch0, SystemID: "7301", Database: "shop", Slot: "tidemark_shop",
	}, catalog.WithClock(func() time.Time { clock = clock.Add(time.Second); return clock }))
	require.NoError(tb, err)
	a := &Archive{tb: tb, Store: store, Log: log, id: log.View().Identity().UUID(), at: 0x1000, xid: 700}
	a.append(catalog.Entry{Kind: catalog.KindHistory, History: 1, From: a.at, Begins: &catalog.History{
		SystemID: "7301", Timeline: 1, ServerVersion: 150018, Database: "shop", Encoding: "UTF8", Slot: "tidemark_shop", Publication: "tidemark", Reason: "the archive is new",
	}})
	a.append(catalog.Entry{Kind: catalog.KindWriter, Epoch: 1, Writer: &catalog.Writer{Instance: "test", Host: "test", PID: 1, Version: "test", Timeline: 1}})
	a.Snapshot("0000000000000001")
	return a
}

func (a *Archive) append(e catalog.Entry) catalog.Entry {
	a.tb.Helper()
	e, err := a.Log.Append(context.Background(), func(*catalog.View) (catalog.Entry, error) { return e, nil })
	require.NoError(a.tb, err)
	return e
}

func (a *Archive) put(key string, data []byte) catalog.Object {
	require.NoError(a.tb, a.Store.Put(context.Background(), key, data))
	sum := sha256.Sum256(data)
	return catalog.Object{Key: key, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

// Snapshot adds a base snapshot without tables at the stream's end.
func (a *Archive) Snapshot(id string) catalog.Entry {
	a.tb.Helper()
	now := segment.TimestampOf(a.now())
	manifest := encodeManifest(a.tb, &basesnapshot.Manifest{
		Archive: a.Log.View().Identity().ID, ID: id, History: 1, LSN: a.at, Time: now, ServerVersion: 150018, DumpVersion: "15.18",
		Schema: []basesnapshot.SchemaItem{}, Tables: []basesnapshot.Table{},
	})
	object := a.put(basesnapshot.Prefix(1, a.at, id)+"manifest", manifest)
	return a.append(catalog.Entry{Kind: catalog.KindSnapshot, History: 1, From: a.at, Snapshot: &catalog.Snapshot{
		ID: id, Manifest: object, Time: now, StoredBytes: object.Size,
	}})
}

func (a *Archive) now() time.Time { return Epoch0.Add(time.Duration(a.xid-700) * time.Second) }

func encodeManifest(tb TB, m *basesnapshot.Manifest) []byte {
	text, err := json.Marshal(m)
	require.NoError(tb, err)
	table := crc32.MakeTable(crc32.Castagnoli)
	b := append([]byte("TMSNAPMF"), 1, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(text)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, table))
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
	require.NoError(tb, err)
	b = enc.EncodeAll(text, b)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, table))
}

// Watermark adds a watermark of 256 bytes.
func (a *Archive) Watermark() catalog.Entry {
	a.tb.Helper()
	from := a.at
	a.at += 0x100
	return a.append(catalog.Entry{Kind: catalog.KindWatermark, History: 1, Epoch: 1, From: from, To: a.at, Watermark: &catalog.Watermark{}})
}

// Gap adds a gap of 256 bytes.
func (a *Archive) Gap(reason string) catalog.Entry {
	a.tb.Helper()
	from := a.at
	a.at += 0x100
	return a.append(catalog.Entry{Kind: catalog.KindGap, History: 1, Epoch: 1, From: from, To: a.at, Gap: &catalog.Gap{Reason: reason}})
}

// Segment adds a segment of transactions that each insert a row into public.orders, update it and
// delete it; the first sets a mark if a name is given. Parts are cut at partSize bytes (0: the default).
func (a *Archive) Segment(transactions, partSize int, mark string) catalog.Entry {
	a.tb.Helper()
	from := a.at
	var parts []segment.Part
	w, err := segment.NewWriter(segment.WriterOptions{
		Archive: a.id, History: 1, Epoch: 1, Start: from, PartSize: partSize, BlockSize: blockSize(partSize),
		Buffer: func() ([]byte, error) { return make([]byte, 0, 12<<20), nil },
		Emit:   func(p segment.Part) error { parts = append(parts, p); return nil },
	})
	require.NoError(a.tb, err)
	orders := &segment.Relation{ID: 16384, Namespace: "public", Name: "orders", Identity: 'd', Columns: []segment.Column{
		{Flags: 1, Name: "id", TypeOID: 20, Modifier: -1}, {Name: "note", TypeOID: 25, Modifier: -1},
	}}
	for i := range transactions {
		a.transaction(w, orders, i, mark)
		mark = ""
	}
	a.at += 0x10
	s, err := w.Close(a.at)
	require.NoError(a.tb, err)
	return a.append(catalog.Entry{Kind: catalog.KindSegment, History: 1, Epoch: 1, From: from, To: a.at, Segment: a.entry(s, parts, from)})
}

func blockSize(partSize int) int {
	if partSize == 0 {
		return 0
	}
	return min(partSize, 256<<10)
}

func (a *Archive) transaction(w *segment.Writer, orders *segment.Relation, i int, mark string) {
	commit := a.at + 0x80
	at := segment.TimestampOf(a.now())
	steps := []error{w.Begin(segment.Begin{CommitLSN: commit, CommitTime: at, XID: a.xid})}
	do := func(err error) { steps = append(steps, err) }
	if i == 0 {
		do(w.Relation(orders))
	}
	if mark != "" {
		content := "mark:" + mark
		do(w.Message(segment.MessageHeader{Transactional: true, LSN: a.at, Prefix: "tidemark", Size: int64(len(content))}))
		do(w.Bytes([]byte(content)))
	}
	id := fmt.Sprint(a.xid)
	row := func(op segment.Op, values map[segment.TupleRole][]string) {
		do(w.Row(op, orders.ID))
		for _, role := range []segment.TupleRole{segment.OldKey, segment.New} {
			if values[role] == nil {
				continue
			}
			do(w.Tuple(role, len(orders.Columns)))
			for _, v := range values[role] {
				if v == "" {
					do(w.Null())
					continue
				}
				do(w.Value(len(v)))
				do(w.Bytes([]byte(v)))
			}
		}
		do(w.EndRow())
	}
	row(segment.OpInsert, map[segment.TupleRole][]string{segment.New: {id, fmt.Sprintf("%x", sha256.Sum256([]byte(id)))}})
	row(segment.OpUpdate, map[segment.TupleRole][]string{segment.New: {id, "changed"}})
	row(segment.OpDelete, map[segment.TupleRole][]string{segment.OldKey: {id, ""}})
	do(w.Commit(segment.Commit{CommitLSN: commit, EndLSN: commit + 0x20, CommitTime: at}))
	for _, err := range steps {
		require.NoError(a.tb, err)
	}
	a.at, a.xid = commit+0x20, a.xid+1
}

// entry stores a segment's parts and describes it as an archiver does.
func (a *Archive) entry(s segment.Summary, parts []segment.Part, from segment.LSN) *catalog.Segment {
	e := &catalog.Segment{
		Transactions: s.Transactions, Inserts: s.Inserts, Updates: s.Updates, Deletes: s.Deletes, Truncates: s.Truncates,
		Messages: s.Messages, DDL: s.DDL, FirstCommitLSN: s.FirstCommitLSN, LastCommitLSN: s.LastCommitLSN,
		FirstCommitTime: s.FirstCommitTime, LastCommitTime: s.LastCommitTime, MinCommitTime: s.MinCommitTime, MaxCommitTime: s.MaxCommitTime,
		MinXID: s.MinXID, MaxXID: s.MaxXID, RawBytes: s.RawBytes, StoredBytes: s.StoredBytes, TablesCut: s.TablesCut,
	}
	for _, t := range s.Tables {
		e.Tables = append(e.Tables, catalog.TableCounts(t))
	}
	for _, m := range s.Marks {
		e.Marks = append(e.Marks, catalog.Mark(m))
	}
	for _, p := range parts {
		e.Objects = append(e.Objects, a.put(fmt.Sprintf("segments/1/%s-%08X.%04d", from.Hex(), 1, p.Number), p.Data))
	}
	return e
}

// Sample fills the archive: two segments (the second of several parts), a watermark, a gap, a second
// snapshot, a segment, and the end of the writer in good order.
func (a *Archive) Sample() {
	a.tb.Helper()
	a.Segment(3, 0, "before-release")
	a.Segment(60, 512, "")
	a.Watermark()
	a.Segment(2, 0, "")
	a.Gap("the slot was lost")
	a.Snapshot("0000000000000002")
	a.Segment(5, 0, "")
	a.append(catalog.Entry{Kind: catalog.KindWriter, Epoch: 1, Writer: &catalog.Writer{Instance: "test", Host: "test", PID: 1, Version: "test", Timeline: 1, Stopped: true}})
}
