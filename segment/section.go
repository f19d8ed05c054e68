package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
)

// Sections of the index, in their order.
const (
	sectionRelations    = 1
	sectionTransactions = 2
	sectionBlocks       = 3
	sectionMessages     = 4
	sectionSequences    = 5
	sectionSummary      = 6

	digests = 5 // sections whose SHA-256 the summary holds
)

// chunkSize is the raw size at which a chunk is closed.
const chunkSize = 64 << 10

// section collects the records of one section of the index. What is complete is compressed (in the
// writer) or only hashed (in the reader, which wants to know whether it comes to the same).
type section struct {
	kind byte
	keep bool   // whether chunks are kept
	raw  []byte // records of the open chunk
	out  []byte // closed chunks
	size int64  // raw bytes of the closed chunks
	huge bool   // a chunk is beyond what readers take
	sum  hash.Hash
}

func newSection(kind byte, keep bool) section {
	return section{kind: kind, keep: keep, sum: sha256.New()}
}

// end is called after each record.
func (s *section) end() {
	if len(s.raw) >= chunkSize {
		s.closeChunk()
	}
}

func (s *section) closeChunk() {
	if len(s.raw) == 0 {
		return
	}
	s.sum.Write(s.raw)
	s.size += int64(len(s.raw))
	s.huge = s.huge || len(s.raw) > maxFrameRaw
	if s.keep {
		s.out = appendChunk(s.out, s.kind, s.raw)
	}
	s.raw = s.raw[:0]
}

// digest closes the section and returns the SHA-256 of its raw bytes.
func (s *section) digest() (d [sha256.Size]byte) {
	s.closeChunk()
	s.sum.Sum(d[:0])
	return d
}

// tooInflated reports whether a chunk with these lengths is beyond what readers take.
func tooInflated(raw, stored int) bool { return raw > 256*stored+128<<10 }

// appendChunk encodes one chunk of the index.
func appendChunk(dst []byte, kind byte, raw []byte) []byte {
	start := len(dst)
	var head [chunkHeaderSize]byte
	dst = append(dst, head[:]...)
	dst = compress(dst, raw)
	if tooInflated(len(raw), len(dst)-start-chunkHeaderSize) {
		dst = append(dst[:start+chunkHeaderSize], raw...)
	}
	h := dst[start:]
	h[0] = kind
	binary.LittleEndian.PutUint32(h[4:], uint32(len(h)-chunkHeaderSize))
	binary.LittleEndian.PutUint32(h[8:], uint32(len(raw)))
	binary.LittleEndian.PutUint32(h[12:], chunkChecksum(h))
	return dst
}

// chunkChecksum is the CRC32C over a chunk without the four bytes that hold it.
func chunkChecksum(chunk []byte) uint32 {
	return crc32.Update(checksum(chunk[:12]), castagnoli, chunk[chunkHeaderSize:])
}

// chunk is one checked and decompressed chunk.
type chunk struct {
	kind   byte
	offset int64 // in the object
	raw    []byte
}

// scanIndex reads the chunks of the index that p's footer names, checks them and calls visit for each;
// the chunk's bytes are valid during the call. Memory is that of one chunk.
func scanIndex(p PartFile, f footer, visit func(chunk) error) error {
	var stored, raw []byte
	var total int64
	kind := byte(0)
	for off, end := f.indexOffset, f.indexOffset+f.indexLength; off < end; {
		c, err := readChunkHeader(p, off, end)
		if err != nil {
			return err
		}
		stored = sized(stored, int(c.stored)+chunkHeaderSize)
		if err := p.readAt(stored, off); err != nil {
			return err
		}
		if chunkChecksum(stored) != binary.LittleEndian.Uint32(stored[12:]) {
			return corrupt(p.Name, off, "a checksum in the index is wrong")
		}
		if stored[0] < max(kind, 1) || stored[0] > sectionSummary || stored[1]|stored[2]|stored[3] != 0 {
			return corrupt(p.Name, off, "section %d of the index is unknown or out of order", stored[0])
		}
		kind = stored[0]
		if total += int64(c.raw); total > maxIndexRaw {
			return corrupt(p.Name, off, "the index is larger than %d bytes", maxIndexRaw)
		}
		if raw, err = decompress(raw, stored[chunkHeaderSize:], int(c.raw)); err != nil {
			return corrupt(p.Name, off, "index: %v", err)
		}
		if err := visit(chunk{kind: kind, offset: off, raw: raw}); err != nil {
			return err
		}
		off += int64(len(stored))
	}
	if kind != sectionSummary {
		return corrupt(p.Name, f.indexOffset, "the index has no summary")
	}
	return nil
}

type chunkHeader struct{ stored, raw uint32 }

// readChunkHeader reads the lengths of the chunk at off, which must end by end, and bounds them.
func readChunkHeader(p PartFile, off, end int64) (chunkHeader, error) {
	if end-off < chunkHeaderSize {
		return chunkHeader{}, corrupt(p.Name, off, "the index ends early")
	}
	var b [chunkHeaderSize]byte
	if err := p.readAt(b[:], off); err != nil {
		return chunkHeader{}, err
	}
	h := chunkHeader{stored: binary.LittleEndian.Uint32(b[4:]), raw: binary.LittleEndian.Uint32(b[8:])}
	switch {
	case int64(h.stored) > end-off-chunkHeaderSize:
		return h, corrupt(p.Name, off, "a chunk of the index reaches past its end")
	case h.stored == 0 || h.raw < h.stored || h.raw > maxFrameRaw || tooInflated(int(h.raw), int(h.stored)):
		return h, corrupt(p.Name, off, "a chunk of the index can't have %d bytes from %d", h.raw, h.stored)
	}
	return h, nil
}

// sized returns b with length n, in new memory if b's is too small.
func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// errAt turns a cursor's failure in a chunk into damage of the object.
func (c chunk) errAt(name string, err error) error {
	return corrupt(name, c.offset, "section %d of the index: %v", c.kind, err)
}
