package rows

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"tidemark/bench/lab"
	"tidemark/catalog"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
	"tidemark/segment"
)

// line is an archive that is made up: its base is a real one, its segments and catalog entries are written by the
// packages that archiver writes them with, without the years that they speak of. A segment each ten seconds.
type line struct {
	store        objectstore.Store
	log          *catalog.Log
	began        time.Time
	transactions int                 // of a segment
	rows         int                 // of a transaction
	real         func(n uint64) bool // whether the object of segment n is there too
	deletes      func(n uint64) bool // whether segment n deletes a row, in its last transaction
	snapshots    uint64              // a base snapshot after so many entries; 0: none but the base's

	n       uint64 // of the next segment
	claimed bool
	values  [][][]byte // rows to write, over and over
	written int
}

const (
	lineWidth = 1 << 20 // bytes of WAL of a segment
	lineStep  = 10 * time.Second
	lineTable = "public.events"
)

// newLine begins with a copy of a source's archive in a folder. What is made up comes after it: in the future.
func newLine(ctx context.Context, src *lab.Source, folder string) (*line, error) {
	if err := os.CopyFS(folder, os.DirFS(src.Fresh)); err != nil {
		return nil, err
	}
	files, err := objectstore.Open(ctx, folder)
	if err != nil {
		return nil, err
	}
	l := &line{store: faulty.Hasty(files, folder), began: time.Now().Add(time.Minute).Truncate(time.Second)}
	l.log, err = catalog.Open(ctx, l.store)
	return l, err
}

// extend adds entries until the catalog has so many.
func (l *line) extend(ctx context.Context, entries uint64) (err error) {
	l.log, err = l.log.Extend(ctx, entries, func(v *catalog.View) (catalog.Entry, error) { return l.next(ctx, v) })
	return err
}

func (l *line) next(ctx context.Context, v *catalog.View) (catalog.Entry, error) {
	h, _ := v.Newest()
	seq := v.Head().Seq + 1
	if !l.claimed {
		l.claimed = true
		return catalog.Entry{Kind: catalog.KindWriter, At: l.began, Writer: &catalog.Writer{Instance: "bench", Host: "bench", PID: 1, Timeline: h.Begins.Timeline}}, nil
	}
	if l.snapshots > 0 && seq%l.snapshots == 0 {
		base := v.Snapshots()[0]
		s := base.Snapshot
		s.ID, s.Time, s.RunningMax = fmt.Sprintf("day-%d", seq/l.snapshots), l.at(l.n, 0), v.RunningMax(h.Number)
		return catalog.Entry{Kind: catalog.KindSnapshot, History: h.Number, From: h.End, Snapshot: &s}, nil
	}
	n := l.n
	l.n++
	e := l.entry(v, h, n)
	if !l.real(n) {
		return e, nil
	}
	return e, l.write(ctx, &e, n)
}

// at is the time of transaction i of segment n.
func (l *line) at(n uint64, i int) segment.Timestamp {
	return segment.TimestampOf(l.began.Add(time.Duration(n)*lineStep + time.Duration(i)*lineStep/time.Duration(l.transactions+1)))
}

// commit is the commit LSN of transaction i of the segment that begins at from.
func (l *line) commit(from segment.LSN, i int) segment.LSN {
	return from + segment.LSN((i+1)*lineWidth/(l.transactions+2))
}

func (l *line) xid(n uint64, i int) uint32 {
	return uint32(10_000 + n*uint64(l.transactions) + uint64(i))
}

// entry describes segment n.
func (l *line) entry(v *catalog.View, h catalog.HistoryPoint, n uint64) catalog.Entry {
	last := l.transactions - 1
	deletes := int64(0)
	if l.deletes(n) {
		deletes = 1
	}
	rows := int64(l.transactions * l.rows)
	epoch := v.Epoch().Epoch
	return catalog.Entry{Kind: catalog.KindSegment, History: h.Number, Epoch: epoch, From: h.End, To: h.End + lineWidth, At: l.began.Add(time.Duration(n+1) * lineStep),
		Segment: &catalog.Segment{
			Objects: []catalog.Object{{Key: fmt.Sprintf("segments/%08x/%s-%08x.0000", h.Number, h.End.Hex(), epoch), Size: rows * 80,
				SHA256: "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"}},
			Transactions: int64(l.transactions), Inserts: rows, Deletes: deletes,
			FirstCommitLSN: l.commit(h.End, 0), LastCommitLSN: l.commit(h.End, last),
			FirstCommitTime: l.at(n, 0), LastCommitTime: l.at(n, last), MinCommitTime: l.at(n, 0), MaxCommitTime: l.at(n, last),
			MinXID: l.xid(n, 0), MaxXID: l.xid(n, last), RawBytes: rows * 400, StoredBytes: rows * 80,
			Tables: []catalog.TableCounts{{Table: lineTable, Inserts: rows, Deletes: deletes}},
		}}
}

var lineRelation = &segment.Relation{ID: 16385, Namespace: "public", Name: "events", Identity: 'd', Columns: []segment.Column{
	{Flags: 1, Name: "position", TypeOID: 20, Modifier: -1}, {Name: "stream_id", TypeOID: 2950, Modifier: -1}, {Name: "version", TypeOID: 23, Modifier: -1},
	{Name: "type", TypeOID: 25, Modifier: -1}, {Name: "payload", TypeOID: 3802, Modifier: -1}, {Name: "at", TypeOID: 1184, Modifier: -1}}}

// write writes segment n and completes its entry.
func (l *line) write(ctx context.Context, e *catalog.Entry, n uint64) error {
	var part segment.Part
	id := l.log.View().Identity()
	w, err := segment.NewWriter(segment.WriterOptions{Archive: id.UUID(), History: e.History, Epoch: e.Epoch, Start: e.From,
		Buffer: func() ([]byte, error) { return make([]byte, 0, 1<<20), nil },
		Emit:   func(p segment.Part) error { part = p; return nil },
	})
	if err != nil {
		return err
	}
	if err := w.Relation(lineRelation); err != nil {
		return err
	}
	for i := range l.transactions {
		if err := l.transaction(w, e, n, i); err != nil {
			return err
		}
	}
	sum, err := w.Close(e.To)
	if err != nil {
		return err
	}
	e.Segment.RawBytes, e.Segment.StoredBytes = sum.RawBytes, sum.StoredBytes
	e.Segment.Objects[0].Size, e.Segment.Objects[0].SHA256 = int64(len(part.Data)), hex.EncodeToString(part.SHA256[:])
	return l.store.Put(ctx, e.Segment.Objects[0].Key, part.Data)
}

func (l *line) transaction(w *segment.Writer, e *catalog.Entry, n uint64, i int) error {
	lsn, at := l.commit(e.From, i), l.at(n, i)
	if err := w.Begin(segment.Begin{CommitLSN: lsn, CommitTime: at, XID: l.xid(n, i)}); err != nil {
		return err
	}
	for range l.rows {
		if err := writeRow(w, segment.OpInsert, segment.New, l.row()); err != nil {
			return err
		}
	}
	if i == l.transactions-1 && l.deletes(n) {
		if err := writeRow(w, segment.OpDelete, segment.OldKey, l.row()); err != nil {
			return err
		}
	}
	return w.Commit(segment.Commit{CommitLSN: lsn, EndLSN: lsn + 48, CommitTime: at})
}

// row is the next of 10,000 rows.
func (l *line) row() [][]byte {
	if l.values == nil {
		for i := range 10_000 {
			h := uint64(i+1) * 0x9E3779B97F4A7C15
			l.values = append(l.values, [][]byte{fmt.Append(nil, 1_000_000+i), fmt.Appendf(nil, "%08x-%04x-4%03x-a%03x-%012x", uint32(h), uint16(h>>7), h>>20&0xfff, h>>30&0xfff, h>>16),
				fmt.Append(nil, i%50), []byte("OrderPlaced"),
				fmt.Appendf(nil, `{"order_id": %d, "customer": {"id": %d, "country": "DE"}, "items": [{"sku": "SKU-%05d", "quantity": %d}], "currency": "EUR", "note": "leave at the door"}`, h%1e8, h>>9%1e6, h>>13%1e5, h%9),
				[]byte("2026-03-01 12:00:00.123456+00")})
		}
	}
	l.written++
	return l.values[l.written%len(l.values)]
}

func writeRow(w *segment.Writer, op segment.Op, role segment.TupleRole, values [][]byte) error {
	if err := w.Row(op, lineRelation.ID); err != nil {
		return err
	}
	if err := w.Tuple(role, len(values)); err != nil {
		return err
	}
	for i, v := range values {
		if role == segment.OldKey && i > 0 {
			if err := w.Null(); err != nil {
				return err
			}
			continue
		}
		if err := w.Value(len(v)); err != nil {
			return err
		}
		if err := w.Bytes(v); err != nil {
			return err
		}
	}
	return w.EndRow()
}
