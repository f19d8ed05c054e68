package segment

import (
	"encoding/binary"
	"slices"
)

// keepFrames is how much memory of frames is kept for the next block.
const keepFrames = 4 << 20

// frame is a frame of the open block, before compression.
type frame struct {
	stream  uint32
	columns int // of its tuples; 0 for messages
	buf     []byte
}

// blockBuilder collects one block. Its memory is used again for the next.
type blockBuilder struct {
	number  uint32
	flags   byte
	begun   int64 // transactions begun before it
	ops     int
	prelude int // length of the control frame without operations
	control []byte

	slots     []*frame // slots[:used] hold the block's tuples and messages
	used      int
	bytes     int // raw bytes of them
	messages  *frame
	directory []dirEntry
	rawTotal  int
	delta     deltaEncoder
}

// start begins block number.
func (b *blockBuilder) start(number uint32, d delta, begun int64, flags byte) {
	b.trim()
	b.number, b.flags, b.begun = number, flags, begun
	b.ops, b.used, b.bytes, b.messages = 0, 0, 0, nil
	c := binary.AppendUvarint(b.control[:0], uint64(d.lsn))
	c = appendSvarint(c, int64(d.time))
	b.control = binary.AppendUvarint(c, uint64(d.xid))
	b.prelude = len(b.control)
}

// trim gives up the memory of frames when a block of many relations has left more than a few blocks' worth.
func (b *blockBuilder) trim() {
	kept := 0
	for _, f := range b.slots {
		if kept += cap(f.buf); kept > keepFrames {
			f.buf = nil
		}
	}
}

// size returns the raw bytes collected, without the prelude.
func (b *blockBuilder) size() int { return b.bytes + len(b.control) - b.prelude }

func (b *blockBuilder) empty() bool { return b.used == 0 && len(b.control) == b.prelude }

// full reports whether no further frame fits.
func (b *blockBuilder) full() bool { return b.used >= maxFrames-1 }

// frame adds a frame for a stream.
func (b *blockBuilder) frame(stream uint32, columns int) *frame {
	if b.used == len(b.slots) {
		b.slots = append(b.slots, new(frame))
	}
	f := b.slots[b.used]
	b.used++
	f.stream, f.columns, f.buf = stream, columns, f.buf[:0]
	return f
}

// appendTo encodes the block after dst. Frames that stayed empty (rows without columns) are left out.
func (b *blockBuilder) appendTo(dst []byte) []byte {
	b.directory = append(b.directory[:0], dirEntry{stream: streamControl, raw: uint32(len(b.control))})
	for _, f := range b.slots[:b.used] {
		if len(f.buf) > 0 {
			b.directory = append(b.directory, dirEntry{stream: f.stream, raw: uint32(len(f.buf))})
		}
	}
	start := len(dst)
	head := blockFixedSize + dirEntrySize*len(b.directory) + crcSize
	dst = slices.Grow(dst, head)[:start+head]
	b.rawTotal = 0
	i := 0
	dst = b.appendFrame(dst, i, b.control, 0)
	for _, f := range b.slots[:b.used] {
		if len(f.buf) > 0 {
			i++
			dst = b.appendFrame(dst, i, f.buf, f.columns)
		}
	}
	b.putHead(dst[start:start+head], len(dst)-start)
	return dst
}

// appendFrame encodes a frame of tuples with so many columns, or of something else (0). Tuples become a delta frame only if all
// of the block's are whole.
func (b *blockBuilder) appendFrame(dst []byte, i int, raw []byte, columns int) []byte {
	start := len(dst)
	if b.flags&(blockContinues|blockGoesOn) == 0 && b.delta.encode(raw, columns) {
		dst = b.delta.appendTo(dst, columns)
	} else {
		dst = compress(dst, raw)
	}
	b.directory[i].stored = uint32(len(dst) - start)
	b.directory[i].crc = checksum(dst[start:])
	b.rawTotal += len(raw)
	return dst
}

// putHead writes the head of a block of length bytes.
func (b *blockBuilder) putHead(h []byte, length int) {
	h[0], h[1] = blockMagic, b.flags
	binary.LittleEndian.PutUint16(h[2:], uint16(len(b.directory)))
	binary.LittleEndian.PutUint32(h[4:], b.number)
	binary.LittleEndian.PutUint32(h[8:], uint32(length))
	for i, e := range b.directory {
		d := h[blockFixedSize+dirEntrySize*i:]
		binary.LittleEndian.PutUint32(d, e.stream)
		binary.LittleEndian.PutUint32(d[4:], e.stored)
		binary.LittleEndian.PutUint32(d[8:], e.raw)
		binary.LittleEndian.PutUint32(d[12:], e.crc)
	}
	body := len(h) - crcSize
	binary.LittleEndian.PutUint32(h[body:], checksum(h[:body]))
}
