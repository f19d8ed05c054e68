package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// FormatVersion is the newest version of the segment file that this package reads, and the one it writes. Version 1 had no
// delta frames, and was the same otherwise.
const FormatVersion = 2

// Sizes and limits of the format (docs/format/segment.md, "Limits").
const (
	headerSize      = 64
	footerSize      = 64
	blockFixedSize  = 12
	dirEntrySize    = 16
	crcSize         = 4
	chunkHeaderSize = 16

	maxFrames      = 4096
	maxFrameRaw    = 16 << 20
	maxBlockRaw    = 64 << 20
	maxIndexRaw    = 1 << 30
	maxOpSize      = 8 << 20
	maxBlockOps    = 1 << 16
	maxColumns     = 1<<16 - 1
	maxVersions    = 1<<31 - 1
	maxValueSize   = 1<<31 - 1
	maxPrefixSize  = 1<<31 - 1
	maxContentSize = 1<<32 - 1
)

const (
	headerMagic = "\x89TMSEG\r\n"
	footerMagic = "TM.\n"
	blockMagic  = 'B'

	footerLast = 1 // footer flag: the last part

	blockInside    = 1 // block flags
	blockContinues = 2
	blockGoesOn    = 4
)

// Streams of a block's frames. Relation version v has stream streamTuples + v.
const (
	streamControl  = 0
	streamMessages = 1
	streamTuples   = 2
)

// Opcodes of the control frame. A row opcode with repeated set has a count.
const (
	codeInsert    = 0x01
	codeUpdate    = 0x02
	codeUpdateKey = 0x03
	codeUpdateOld = 0x04
	codeDeleteKey = 0x05
	codeDeleteOld = 0x06
	repeated      = 0x10

	codeBegin         = 0x20
	codeCommit        = 0x21
	codeRelation      = 0x22
	codeRelationAgain = 0x23
	codeType          = 0x24
	codeOrigin        = 0x25
	codeMessage       = 0x26
	codeTruncate      = 0x27
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// VersionError says that a file was written in a newer format than this program reads. The file is
// sound as far as its header goes: a newer program reads it.
type VersionError struct {
	Name    string // the object
	Version int    // of the file
}

// Error names the object and both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has segment format version %d, and this program reads up to version %d", e.Name, e.Version, FormatVersion)
}

// Identity says which segment a part belongs to.
type Identity struct {
	Archive [16]byte // archive id
	History uint32
	Epoch   uint64 // of the writer
	From    LSN    // the segment's range is [From, To)
	To      LSN    // zero where it isn't known yet
}

// header is the first 64 bytes of a part.
type header struct {
	part int
	id   Identity // without To
}

func (h header) append(b []byte) []byte {
	start := len(b)
	b = append(b, headerMagic...)
	b = binary.LittleEndian.AppendUint16(b, FormatVersion)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.part))
	b = append(b, h.id.Archive[:]...)
	b = binary.LittleEndian.AppendUint32(b, h.id.History)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.id.Epoch)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.id.From))
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

// parseHeader checks and reads a header. b has headerSize bytes.
func parseHeader(name string, b []byte) (header, error) {
	switch {
	case string(b[:8]) != headerMagic:
		return header{}, corrupt(name, 0, "not a segment: the magic number is wrong")
	case checksum(b[:60]) != binary.LittleEndian.Uint32(b[60:]):
		return header{}, corrupt(name, 0, "the header's checksum is wrong")
	}
	if err := checkVersion(name, 8, b[8:]); err != nil {
		return header{}, err
	}
	if binary.LittleEndian.Uint16(b[10:]) != 0 || binary.LittleEndian.Uint32(b[36:]) != 0 || binary.LittleEndian.Uint32(b[56:]) != 0 {
		return header{}, corrupt(name, 10, "the header's unused bytes are not zero")
	}
	part := binary.LittleEndian.Uint32(b[12:])
	if part > maxVersions {
		return header{}, corrupt(name, 12, "part number out of range")
	}
	return header{part: int(part), id: Identity{
		Archive: [16]byte(b[16:32]),
		History: binary.LittleEndian.Uint32(b[32:]),
		Epoch:   binary.LittleEndian.Uint64(b[40:]),
		From:    LSN(binary.LittleEndian.Uint64(b[48:])),
	}}, nil
}

// checkVersion refuses what is not the version in the first two bytes of b, which stand at offset.
func checkVersion(name string, offset int64, b []byte) error {
	switch v := binary.LittleEndian.Uint16(b); {
	case v > FormatVersion:
		return &VersionError{Name: name, Version: int(v)}
	case v == 0:
		return corrupt(name, offset, "format version 0")
	}
	return nil
}

// footer is the last 64 bytes of a part.
type footer struct {
	indexOffset  int64
	indexLength  int64
	blocks       uint32
	to           LSN
	transactions int64
	operations   int64
	size         int64
	part         int
	last         bool
}

func (f footer) append(b []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.indexOffset))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.indexLength))
	b = binary.LittleEndian.AppendUint32(b, f.blocks)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.to))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.transactions))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.operations))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.size))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.part))
	var flags uint16
	if f.last {
		flags = footerLast
	}
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint16(b, FormatVersion)
	b = binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
	return append(b, footerMagic...)
}

// parseFooter checks and reads the footer of a part of size bytes. b has footerSize bytes.
func parseFooter(name string, b []byte, size int64) (footer, error) {
	at := size - footerSize
	switch {
	case string(b[60:]) != footerMagic:
		return footer{}, corrupt(name, at, "the footer is missing or cut off")
	case checksum(b[:56]) != binary.LittleEndian.Uint32(b[56:]):
		return footer{}, corrupt(name, at, "the footer's checksum is wrong")
	}
	if err := checkVersion(name, at+54, b[54:]); err != nil {
		return footer{}, err
	}
	flags := binary.LittleEndian.Uint16(b[52:])
	f := footer{
		indexOffset:  int64(binary.LittleEndian.Uint64(b)),
		indexLength:  int64(binary.LittleEndian.Uint32(b[8:])),
		blocks:       binary.LittleEndian.Uint32(b[12:]),
		to:           LSN(binary.LittleEndian.Uint64(b[16:])),
		transactions: int64(binary.LittleEndian.Uint64(b[24:])),
		operations:   int64(binary.LittleEndian.Uint64(b[32:])),
		size:         int64(binary.LittleEndian.Uint64(b[40:])),
		part:         int(binary.LittleEndian.Uint32(b[48:])),
		last:         flags == footerLast,
	}
	switch {
	case flags > footerLast:
		return footer{}, corrupt(name, at, "unknown footer flags")
	case f.size != size:
		return footer{}, corrupt(name, at, "the footer says %d bytes, the object has %d", f.size, size)
	case f.last && (f.indexOffset < headerSize || f.indexOffset > at || f.indexLength != at-f.indexOffset):
		return footer{}, corrupt(name, at, "the index can't be at %d with %d bytes", f.indexOffset, f.indexLength)
	case !f.last && (f.indexOffset != 0 || f.indexLength != 0 || f.to != 0):
		return footer{}, corrupt(name, at, "an index in a part that isn't the last")
	}
	return f, nil
}

// corrupt makes a CorruptError.
func corrupt(name string, offset int64, format string, args ...any) error {
	return &CorruptError{Name: name, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// PartFile is a stored part to be read. R is asked for small ranges, so that where each costs a request
// it should be buffered.
type PartFile struct {
	R    io.ReaderAt
	Size int64  // bytes of the object
	Name string // for errors
}

// readAt fills b from offset. An early end is damage; other errors of R are passed on with the name.
func (p PartFile) readAt(b []byte, offset int64) error {
	n, err := p.R.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt(p.Name, offset+int64(n), "the object ends early")
	}
	return fmt.Errorf("read %s at byte %d: %w", p.Name, offset, err)
}

// readFooter checks and reads the part's footer.
func (p PartFile) readFooter() (footer, error) {
	if p.Size < headerSize+footerSize {
		return footer{}, corrupt(p.Name, max(p.Size, 0), "too short for a segment part: %d bytes", p.Size)
	}
	var b [footerSize]byte
	if err := p.readAt(b[:], p.Size-footerSize); err != nil {
		return footer{}, err
	}
	return parseFooter(p.Name, b[:], p.Size)
}

// readHeader checks and reads the part's header.
func (p PartFile) readHeader() (header, error) {
	if p.Size < headerSize {
		return header{}, corrupt(p.Name, max(p.Size, 0), "too short for a segment part: %d bytes", p.Size)
	}
	var b [headerSize]byte
	if err := p.readAt(b[:], 0); err != nil {
		return header{}, err
	}
	return parseHeader(p.Name, b[:])
}
