package segment

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// diskSegment keeps the parts of a segment in files and watches the heap meanwhile.
type diskSegment struct {
	t     testing.TB
	dir   string
	names []string
	base  uint64 // heap at the start, bytes
	peak  uint64
}

func newDiskSegment(t testing.TB) *diskSegment {
	d := &diskSegment{t: t, dir: t.TempDir()}
	d.base = heap()
	return d
}

// heap is what is in use after a collection: how late that comes otherwise is the machine's affair.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func (d *diskSegment) watch() { d.peak = max(d.peak, heap()) }

// growth returns how much the heap grew at most, in MiB.
func (d *diskSegment) growth() uint64 { return (max(d.peak, d.base) - d.base) >> 20 }

func (d *diskSegment) emit(p Part) error {
	d.watch()
	name := filepath.Join(d.dir, fmt.Sprint("part.", p.Number))
	d.names = append(d.names, name)
	require.Equal(d.t, sha256.Sum256(p.Data), p.SHA256)
	return os.WriteFile(name, p.Data, 0o600)
}

// next opens part after part; the one before is closed.
func (d *diskSegment) next() func() (PartFile, error) {
	var open *os.File
	i := 0
	return func() (PartFile, error) {
		d.watch()
		if open != nil {
			require.NoError(d.t, open.Close())
			open = nil
		}
		if i == len(d.names) {
			return PartFile{}, io.EOF
		}
		f, err := os.Open(d.names[i])
		require.NoError(d.t, err)
		info, err := f.Stat()
		require.NoError(d.t, err)
		open = f
		i++
		return PartFile{R: f, Size: info.Size(), Name: d.names[i-1]}, nil
	}
}

// writer makes a Writer with one buffer that is used over and over, as a pool would.
func (d *diskSegment) writer(relations ...*Relation) *Writer {
	o := testOptions(0, 0)
	buffer := make([]byte, 0, BufferSize(DefaultPartSize, DefaultBlockSize))
	first := &buffer[:1][0]
	o.Buffer = func() ([]byte, error) { return buffer, nil }
	o.Emit = func(p Part) error {
		require.Same(d.t, first, &p.Data[0], "the buffer had to be replaced: %d bytes", len(p.Data))
		return d.emit(p)
	}
	w, err := NewWriter(o)
	require.NoError(d.t, err)
	require.NoError(d.t, w.Begin(Begin{CommitLSN: o.Start + 1, CommitTime: 7e14, XID: 700}))
	for _, r := range relations {
		require.NoError(d.t, w.Relation(r))
	}
	return w
}

func (d *diskSegment) close(w *Writer) Summary {
	lsn := w.o.Start + 1
	require.NoError(d.t, w.Commit(Commit{CommitLSN: lsn, EndLSN: lsn + 8, CommitTime: 7e14}))
	s, err := w.Close(lsn + 8)
	require.NoError(d.t, err)
	return s
}

// blobPiece returns 64 KiB as a bytea column has them, different from piece to piece.
func blobPiece(i int) []byte {
	random := make([]byte, 32<<10)
	_, _ = rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(random)
	return hex.AppendEncode(nil, random)
}

// TestHugeValuesKeepMemoryFlat streams a row's value of 300 MB and a message of 64 MB through Writer and Reader.
func TestHugeValuesKeepMemoryFlat(t *testing.T) {
	const size, messageSize = 300 << 20, 64 << 20
	blob := &Relation{ID: 9, Namespace: "public", Name: "blobs", Identity: 'd', Columns: []Column{
		{Flags: 1, Name: "id"}, {Name: "data"}, {Name: "after"}}}
	d := newDiskSegment(t)
	w := d.writer(blob)
	sum := sha256.New()
	fill := func(size int) []byte {
		sum.Reset()
		for i := range size >> 16 {
			p := blobPiece(i)
			sum.Write(p)
			require.NoError(t, w.Bytes(p))
		}
		return sum.Sum(nil)
	}
	require.NoError(t, firstOf(w.Row(OpInsert, blob.ID), w.Tuple(New, 3), w.Value(1), w.Bytes([]byte("1")), w.Value(size)))
	want := fill(size)
	require.NoError(t, firstOf(w.Value(5), w.Bytes([]byte("after")), w.EndRow()))
	require.NoError(t, w.Message(MessageHeader{Transactional: true, LSN: 1, Prefix: "huge", Size: messageSize}))
	wantMessage := fill(messageSize)
	s := d.close(w)
	require.Less(t, d.growth(), uint64(32), "MiB of heap while writing")
	t.Logf("writing: %d MiB of heap, %d parts, stored/raw %.3f", d.growth(), s.Parts, float64(s.StoredBytes)/float64(s.RawBytes))

	temp := t.TempDir()
	d.base, d.peak = heap(), 0
	r := NewReader(d.next(), ReaderOptions{TempDir: temp})
	defer r.Close()
	large := 0
	check := func(v Value, size int64, want []byte) {
		require.NotNil(t, v.Large)
		require.Equal(t, size, v.Large.Size())
		h := sha256.New()
		_, err := io.Copy(h, v.Large)
		require.NoError(t, err)
		require.Equal(t, want, h.Sum(nil))
		entries, err := os.ReadDir(temp)
		require.NoError(t, err)
		require.Empty(t, entries, "the temporary file is unlinked")
		large++
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch rec.Op {
		case OpInsert:
			require.Equal(t, "1", string(rec.New[0].Data))
			check(rec.New[1], size, want)
			require.Equal(t, "after", string(rec.New[2].Data))
		case OpMessage:
			check(rec.Content, messageSize, wantMessage)
		}
	}
	require.Equal(t, 2, large)
	require.Less(t, d.growth(), uint64(32), "MiB of heap while reading")
	t.Logf("reading: %d MiB of heap", d.growth())
}

// TestLargeTransactionKeepsMemoryFlat writes and reads one transaction of 3,000,000 rows.
func TestLargeTransactionKeepsMemoryFlat(t *testing.T) {
	const rows = 3_000_000
	rel := &Relation{ID: 9, Namespace: "public", Name: "numbers", Identity: 'd', Columns: []Column{{Flags: 1, Name: "id"}, {Name: "text"}}}
	d := newDiskSegment(t)
	w := d.writer(rel)
	text := []byte("a text of some length, for compression to find again")
	var id []byte
	for i := range rows {
		id = fmt.Append(id[:0], i)
		require.NoError(t, firstOf(w.Row(OpInsert, 9), w.Tuple(New, 2), w.Value(len(id)), w.Bytes(id), w.Value(len(text)), w.Bytes(text), w.EndRow()))
	}
	s := d.close(w)
	require.EqualValues(t, rows, s.Inserts)
	require.Less(t, d.growth(), uint64(32), "MiB of heap while writing")

	d.base, d.peak = heap(), 0
	n := 0
	_, err := readAll(d.next(), ReaderOptions{}, func(r *Record) {
		if r.Op == OpInsert {
			if id = fmt.Append(id[:0], n); !bytes.Equal(r.New[0].Data, id) {
				t.Fatalf("row %d has id %s", n, r.New[0].Data)
			}
			n++
		}
	})
	require.NoError(t, err)
	require.Equal(t, rows, n)
	require.Less(t, d.growth(), uint64(32), "MiB of heap while reading")
}

// TestManySmallTransactionsKeepTheIndexSmall bounds what the account of 500,000 transactions takes meanwhile.
func TestManySmallTransactionsKeepTheIndexSmall(t *testing.T) {
	wl := workload{transactions: 500_000, bank: true}
	d := newDiskSegment(t)
	w := wl.prepare(t, func(Part) error { return nil })
	end, err := wl.write(w, wl.rowsOf(1000), w.o.Start)
	require.NoError(t, err)
	held := 0
	for _, s := range w.ledger.sections() {
		held += cap(s.raw) + cap(s.out)
	}
	require.Less(t, held, 8<<20, "bytes held for the index")
	_, err = w.Close(end)
	require.NoError(t, err)
	d.watch()
	t.Logf("%d bytes held for the index of %d transactions", held, wl.transactions)
}

// TestManyRelationsInABlock has more relations than a block takes frames.
func TestManyRelationsInABlock(t *testing.T) {
	var events []*event
	b := &event{op: OpBegin, begin: Begin{CommitLSN: 0x1_0000_0001, CommitTime: 1, XID: 3}}
	events = append(events, b)
	const n = maxFrames + 500
	for i := range uint32(n) {
		events = append(events, &event{op: OpRelation, relation: &Relation{ID: i, Namespace: "p", Name: fmt.Sprint("part_", i), Identity: 'd', Columns: []Column{{Name: "id"}}}})
	}
	for i := range uint32(n) {
		events = append(events, &event{op: OpInsert, row: i, new: []column{{Text, []byte("x")}}})
	}
	events = append(events, &event{op: OpMessage, message: MessageHeader{Transactional: true, Prefix: "p"}})
	events = append(events, &event{op: OpCommit, commit: Commit{CommitLSN: 0x1_0000_0001, EndLSN: 0x1_0000_0002, CommitTime: 1}})
	s := writeSegment(t, testOptions(8<<20, 4<<20), events)
	compareStream(t, s, ReaderOptions{}, events)
	require.Len(t, s.summary.Tables, maxTables)
	require.True(t, s.summary.TablesCut)
}
