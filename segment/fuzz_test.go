package segment

import (
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"testing"
)

// reseal puts right checksums on a mutated part as far as its structure can be followed, so that fuzzing
// gets behind them.
func reseal(b []byte) {
	le := binary.LittleEndian
	if len(b) < headerSize+footerSize {
		return
	}
	copy(b, headerMagic)
	le.PutUint16(b[8:], FormatVersion)
	le.PutUint32(b[60:], checksum(b[:60]))
	foot := b[len(b)-footerSize:]
	le.PutUint64(foot[40:], uint64(len(b)))
	le.PutUint16(foot[54:], FormatVersion)
	copy(foot[60:], footerMagic)
	le.PutUint32(foot[56:], checksum(foot[:56]))
	end := len(b) - footerSize
	if at := le.Uint64(foot); at >= headerSize && at < uint64(end) {
		resealIndex(b[at:end])
		end = int(at)
	}
	for rest := b[headerSize:end]; len(rest) >= blockFixedSize; {
		n, length := int(le.Uint16(rest[2:])), int(le.Uint32(rest[8:]))
		head := blockFixedSize + dirEntrySize*n + crcSize
		if length > len(rest) || head > length {
			return
		}
		at := head
		for i := range n {
			d := rest[blockFixedSize+dirEntrySize*i:]
			stored := int(le.Uint32(d[4:]))
			if stored > length-at {
				break
			}
			le.PutUint32(d[12:], checksum(rest[at:at+stored]))
			at += stored
		}
		le.PutUint32(rest[head-crcSize:], checksum(rest[:head-crcSize]))
		rest = rest[length:]
	}
}

func resealIndex(b []byte) {
	for len(b) >= chunkHeaderSize {
		n := int(binary.LittleEndian.Uint32(b[4:]))
		if n > len(b)-chunkHeaderSize {
			return
		}
		c := b[:chunkHeaderSize+n]
		binary.LittleEndian.PutUint32(c[12:], crc32.Update(checksum(c[:12]), castagnoli, c[chunkHeaderSize:]))
		b = b[len(c):]
	}
}

// seedParts are single-part segments with small blocks, whose frames are mostly not compressed.
func seedParts(f *testing.F) [][]byte {
	var seeds [][]byte
	for _, block := range []int{20, 60, 5000} {
		s := writeSegment(f, testOptions(1<<20, block), smallEvents(), func(w *Writer) {
			w.SetSequences(5, []Sequence{{Namespace: "s", Name: "q", LastValue: -1}})
		})
		seeds = append(seeds, s.parts[0].Data)
	}
	return append(seeds, writeSegment(f, testOptions(0, 0), nil).parts[0].Data)
}

// allocated runs f and returns the bytes that it allocated.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// allocationLimit is far above what a small sound part needs, and far below what its fields can claim.
const allocationLimit = 200 << 20

func FuzzReader(f *testing.F) {
	for _, s := range seedParts(f) {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, skip bool) {
		b = append([]byte(nil), b...)
		reseal(b)
		o := ReaderOptions{TempDir: t.TempDir()}
		if skip {
			o.Want = func(r *Relation) bool { return r.ID&1 == 0 }
		}
		n := allocated(func() {
			_, _ = readAll(filesOf([][]byte{b}), o, func(r *Record) {
				if r.Relation != nil && len(r.New) > len(r.Relation.Columns) {
					t.Fatal("more values than columns")
				}
			})
		})
		if n > allocationLimit {
			t.Fatalf("%d bytes allocated for a part of %d", n, len(b))
		}
	})
}

func FuzzIndex(f *testing.F) {
	for _, s := range seedParts(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append([]byte(nil), b...)
		reseal(b)
		n := allocated(func() {
			index, err := ReadIndex(memoryFile(0, b))
			if err == nil && len(index.Transactions) != int(index.Summary.Transactions) {
				t.Fatal("transactions are missing")
			}
			if _, err2 := ReadIndexFrom(memoryFile(0, b), 1<<40); (err == nil) != (err2 == nil) {
				t.Fatalf("with all transactions: %v; with some: %v", err, err2)
			}
		})
		if n > allocationLimit {
			t.Fatalf("%d bytes allocated for a part of %d", n, len(b))
		}
	})
}

// FuzzControl decodes control frames without the frame around them.
func FuzzControl(f *testing.F) {
	prelude := []byte{5, 0, 0}
	relation := appendRelation([]byte{codeRelation}, eventsRelation)
	f.Add(append(append(append(prelude, relation...), codeBegin, 1, 2, 2, codeInsert|repeated, 0, 9), codeCommit, 0, 3))
	f.Add(append(prelude, codeBegin, 1, 2, 2, codeOrigin, 1, 1, 'n', codeMessage, 1, 3, 4, 5, codeTruncate, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := streamState{delta: delta{lsn: 5}, inForce: map[uint32]int{}}
		ops, err := s.parseControl(b, nil)
		rows := int64(0)
		for i := range ops {
			rows += ops[i].rows()
			if ops[i].version > len(s.relations) {
				t.Fatal("a version beyond those known")
			}
		}
		if err == nil && rows > maxBlockOps {
			t.Fatal("too many operations")
		}
	})
}
