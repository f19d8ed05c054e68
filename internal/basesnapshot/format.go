package basesnapshot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// FormatVersion is the newest version of chunk objects and manifests that this package writes and reads.
const FormatVersion = 1

// Sizes of docs/format/snapshot.md, in bytes.
const (
	maxObject   = 8 << 20   // a chunk object, at most
	maxBlockRaw = 512 << 10 // a block, decompressed
	maxFrame    = 1 << 20   // a block's zstd frame

	chunkHeaderSize  = 56
	blockHeaderSize  = 16
	chunkTrailerSize = 36

	manifestHeaderSize = 24
	maxManifestRaw     = 1 << 30
)

const (
	chunkMagic    = "TMSNAPCK"
	chunkEndMagic = "TMSNAPCE"
	manifestMagic = "TMSNAPMF"
)

// Flags of a chunk object.
const (
	flagBeginsInRow = 1 << 0
	flagEndsInRow   = 1 << 1
)

const endOfBlocks = 0xFFFFFFFF

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var sharedEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(maxBlockRaw), zstd.WithEncoderCRC(false))
	if err != nil {
		panic("basesnapshot: zstd encoder options: " + err.Error())
	}
	return e
})

var sharedDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxBlockRaw), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("basesnapshot: zstd decoder options: " + err.Error())
	}
	return d
})

// ChunkHeader is what a chunk object says of itself.
type ChunkHeader struct {
	Archive     [16]byte // the archive id's bytes
	Snapshot    [8]byte  // the snapshot id's bytes
	Table       uint32   // position in the manifest's Tables
	Chunk       uint32
	Part        uint32
	BeginsInRow bool
	EndsInRow   bool
}

func (h ChunkHeader) append(dst []byte) []byte {
	start := len(dst)
	var flags uint16
	if h.BeginsInRow {
		flags |= flagBeginsInRow
	}
	if h.EndsInRow {
		flags |= flagEndsInRow
	}
	dst = append(dst, chunkMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, FormatVersion)
	dst = binary.LittleEndian.AppendUint16(dst, flags)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = append(dst, h.Archive[:]...)
	dst = append(dst, h.Snapshot[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, h.Table)
	dst = binary.LittleEndian.AppendUint32(dst, h.Chunk)
	dst = binary.LittleEndian.AppendUint32(dst, h.Part)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func parseChunkHeader(name string, b []byte) (ChunkHeader, error) {
	var h ChunkHeader
	if len(b) < chunkHeaderSize {
		return h, damage(name, 0, "it ends within its header")
	}
	b = b[:chunkHeaderSize]
	if string(b[:8]) != chunkMagic {
		return h, damage(name, 0, "it is no chunk object")
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > FormatVersion {
		return h, versionFault(name, v)
	}
	if crc32.Checksum(b[:52], castagnoli) != binary.LittleEndian.Uint32(b[52:]) {
		return h, damage(name, 0, "the header's checksum is wrong")
	}
	flags := binary.LittleEndian.Uint16(b[10:])
	if binary.LittleEndian.Uint16(b[8:]) == 0 || flags&^(flagBeginsInRow|flagEndsInRow) != 0 || binary.LittleEndian.Uint32(b[12:]) != 0 {
		return h, damage(name, 8, "the header has an unknown version or flag")
	}
	h.BeginsInRow, h.EndsInRow = flags&flagBeginsInRow != 0, flags&flagEndsInRow != 0
	copy(h.Archive[:], b[16:32])
	copy(h.Snapshot[:], b[32:40])
	h.Table = binary.LittleEndian.Uint32(b[40:])
	h.Chunk = binary.LittleEndian.Uint32(b[44:])
	h.Part = binary.LittleEndian.Uint32(b[48:])
	return h, nil
}

// appendBlock appends a block with one frame of raw, which ends rows rows.
func appendBlock(dst, raw []byte, rows int) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, blockHeaderSize)...)
	dst = sharedEncoder().EncodeAll(raw, dst)
	head := dst[start : start+blockHeaderSize]
	binary.LittleEndian.PutUint32(head, uint32(len(dst)-start-blockHeaderSize))
	binary.LittleEndian.PutUint32(head[4:], uint32(len(raw)))
	binary.LittleEndian.PutUint32(head[8:], uint32(rows))
	crc := crc32.Update(crc32.Checksum(head[:12], castagnoli), castagnoli, dst[start+blockHeaderSize:])
	binary.LittleEndian.PutUint32(head[12:], crc)
	return dst
}

func appendTrailer(dst []byte, blocks int, raw, rows int64) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, endOfBlocks)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(blocks))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(raw))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(rows))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return append(dst, chunkEndMagic...)
}

// chunkObject decodes one chunk object, block by block.
type chunkObject struct {
	Header ChunkHeader
	name   string
	data   []byte
	at     int
	blocks uint32
	raw    uint64
	rows   uint64
	last   byte
	ended  bool
}

func openChunkObject(name string, data []byte) (*chunkObject, error) {
	h, err := parseChunkHeader(name, data)
	if err != nil {
		return nil, err
	}
	return &chunkObject{Header: h, name: name, data: data, at: chunkHeaderSize}, nil
}

// next returns the next block's raw bytes, in buf's memory where that is large enough; nil after the
// last block, once the trailer was found right.
func (c *chunkObject) next(buf []byte) ([]byte, error) {
	if c.ended {
		return nil, nil
	}
	rest := c.data[c.at:]
	if len(rest) < 4 {
		return nil, damage(c.name, c.at, "it ends before its trailer")
	}
	if binary.LittleEndian.Uint32(rest) == endOfBlocks {
		return nil, c.end(rest)
	}
	if len(rest) < blockHeaderSize {
		return nil, damage(c.name, c.at, "it ends within a block")
	}
	stored, size := binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint32(rest[4:])
	if stored == 0 || stored > maxFrame || int(stored) > len(rest)-blockHeaderSize || size == 0 || size > maxBlockRaw {
		return nil, damage(c.name, c.at, "a block's sizes are impossible")
	}
	frame := rest[blockHeaderSize : blockHeaderSize+int(stored)]
	if crc32.Update(crc32.Checksum(rest[:12], castagnoli), castagnoli, frame) != binary.LittleEndian.Uint32(rest[12:]) {
		return nil, damage(c.name, c.at, "a block's checksum is wrong")
	}
	if cap(buf) < int(size) {
		buf = make([]byte, 0, size)
	}
	raw, err := sharedDecoder().DecodeAll(frame, buf[:0:size])
	if err != nil || len(raw) != int(size) {
		return nil, damage(c.name, c.at, "a block can't be decompressed to its size")
	}
	rows := bytes.Count(raw, []byte{'\n'})
	if uint32(rows) != binary.LittleEndian.Uint32(rest[8:]) {
		return nil, damage(c.name, c.at, "a block holds another number of rows than it says")
	}
	c.at += blockHeaderSize + int(stored)
	c.blocks++
	c.raw += uint64(size)
	c.rows += uint64(rows)
	c.last = raw[len(raw)-1]
	return raw, nil
}

func (c *chunkObject) end(b []byte) error {
	switch {
	case len(b) != chunkTrailerSize:
		return damage(c.name, c.at, "the trailer has a wrong size")
	case crc32.Checksum(b[:24], castagnoli) != binary.LittleEndian.Uint32(b[24:]) || string(b[28:]) != chunkEndMagic:
		return damage(c.name, c.at, "the trailer's checksum or magic is wrong")
	case c.blocks != binary.LittleEndian.Uint32(b[4:]) || c.raw != binary.LittleEndian.Uint64(b[8:]) || c.rows != binary.LittleEndian.Uint64(b[16:]):
		return damage(c.name, c.at, "the trailer's sums are not those of the blocks")
	case c.blocks == 0 || c.Header.EndsInRow == (c.last == '\n'):
		return damage(c.name, c.at, "it doesn't end where its header says")
	}
	c.ended = true
	return nil
}

func damage(name string, offset int, reason string) error {
	return &segment.CorruptError{Name: name, Offset: int64(offset), Reason: reason}
}

func versionFault(name string, version uint16) error {
	return fault.New(fault.Failed, "read this archive with a newer Tidemark",
		"%s has format version %d; this Tidemark reads up to %d", name, version, FormatVersion)
}

// parseUUID reads the canonical form, with or without dashes.
func parseUUID(s string) (id [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("archive id %q is not a UUID", s)
	}
	return [16]byte(b), nil
}

func parseSnapshotID(s string) (id [8]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || s != strings.ToLower(s) {
		return id, fmt.Errorf("snapshot id %q is not 16 hexadecimal digits", s)
	}
	return [8]byte(b), nil
}

var (
	errClosed   = errors.New("read after close")
	errConninfo = errors.New("the connection string can't be read")
)
