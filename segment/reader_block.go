package segment

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// readFrame is a frame of the current block.
type readFrame struct {
	dirEntry
	offset int64  // of its stored bytes in the part
	raw    []byte // its bytes, once loaded
	pos    int    // how much of raw was used
	loaded bool
}

// readBlock is the current block. Its memory is used again for the next.
type readBlock struct {
	number    uint32
	flags     byte
	offset    int64
	started   bool
	directory []dirEntry
	frames    []readFrame
	messages  *readFrame
	ops       []controlOp
	head      []byte
	stored    []byte
}

// advance ends the current block and begins the next one, in the next part if need be; mid says that
// an operation goes on there. At the end of the segment it returns io.EOF, if all is well.
func (r *Reader) advance(mid bool) error {
	if err := r.endBlock(mid); err != nil {
		return err
	}
	for r.opened == 0 || r.off == r.end {
		if r.opened > 0 {
			if err := r.endPart(); err != nil {
				return err
			}
		}
		if err := r.nextPart(); err != nil {
			return err
		}
	}
	return r.loadBlock()
}

// endBlock checks that the current block was used up.
func (r *Reader) endBlock(mid bool) error {
	b := &r.block
	if !b.started {
		return nil
	}
	goesOn := b.flags&blockGoesOn != 0
	switch {
	case mid && (!goesOn || r.run > 0 || r.pos < len(b.ops)):
		return corrupt(r.part.Name, b.offset, "an operation's bytes are missing")
	case !mid && goesOn && !r.skipped:
		return corrupt(r.part.Name, b.offset, "an operation that should go on is complete")
	}
	for i := range b.frames {
		if f := &b.frames[i]; f.loaded && f.pos != len(f.raw) {
			return corrupt(r.part.Name, f.offset, "a frame has %d bytes more than its operations use", len(f.raw)-f.pos)
		}
	}
	r.detach()
	r.carry = goesOn
	return nil
}

// loadBlock reads the block at r.off: its head, its operations, and all frames that are wanted.
func (r *Reader) loadBlock() error {
	b := &r.block
	if err := r.readHead(); err != nil {
		return err
	}
	inside, continues := b.flags&blockInside != 0, b.flags&blockContinues != 0
	if b.number != r.number || inside != r.stream.open || continues != r.carry || b.flags > 7 {
		return corrupt(r.part.Name, b.offset, "block %d with flags %d can't follow here", b.number, b.flags)
	}
	r.ledger.block(uint32(r.opened-1), b.flags, r.ledger.begun, b.directory)
	r.number++
	r.blocks++
	b.started, b.messages = true, nil
	control := &b.frames[0]
	if err := r.loadFrame(control); err != nil {
		return err
	}
	control.pos = len(control.raw)
	if err := r.parse(control); err != nil {
		return err
	}
	if r.o.Pass != nil {
		r.passOver()
	}
	for i := 1; i < len(b.frames); i++ {
		if err := r.assignFrame(&b.frames[i]); err != nil {
			return err
		}
	}
	return nil
}

// parse decodes the control frame into operations.
func (r *Reader) parse(control *readFrame) error {
	known := len(r.stream.relations)
	var err error
	r.block.ops, err = r.stream.parseControl(control.raw, r.block.ops[:0])
	if err != nil {
		return corrupt(r.part.Name, control.offset, "control frame: %v", err)
	}
	r.pos, r.run = 0, 0
	for _, rel := range r.stream.relations[known:] {
		rel.wanted = r.o.Want == nil || r.o.Want(&rel.Relation)
	}
	return nil
}

// passOver asks which rows of the block are passed over.
func (r *Reader) passOver() {
	for _, rel := range r.stream.relations {
		rel.passed, rel.rows = false, 0
	}
	b := &r.block
	if b.flags&(blockContinues|blockGoesOn) != 0 {
		return
	}
	for i := range b.ops {
		op := &b.ops[i]
		if op.op == OpRelation || op.op == OpTruncate {
			return
		}
		if op.code != 0 {
			r.stream.relations[op.version].rows += op.count
		}
	}
	for _, rel := range r.stream.relations {
		rel.passed = rel.wanted && rel.rows > 0 && r.o.Pass(&rel.Relation, rel.rows)
	}
}

// assignFrame gives a frame to its stream, and loads it if it is wanted.
func (r *Reader) assignFrame(f *readFrame) error {
	b := &r.block
	if f.stream == streamMessages {
		if b.messages != nil {
			return corrupt(r.part.Name, b.offset, "two message frames in a block")
		}
		b.messages = f
		return r.loadFrame(f)
	}
	v := int64(f.stream) - streamTuples
	if v < 0 || v >= int64(len(r.stream.relations)) {
		return corrupt(r.part.Name, b.offset, "a frame of unknown stream %d", f.stream)
	}
	rel := r.stream.relations[v]
	if rel.frameOf == b.number+1 {
		return corrupt(r.part.Name, b.offset, "two frames of stream %d in a block", f.stream)
	}
	rel.frame, rel.frameOf = f, b.number+1
	if !rel.wanted || rel.passed {
		return nil
	}
	return r.loadFrame(f)
}

// readHead reads and checks the head of the block at r.off, and lays out its frames.
func (r *Reader) readHead() error {
	b, name, off := &r.block, r.part.Name, r.off
	b.offset = off
	if r.end-off < blockFixedSize+dirEntrySize+crcSize {
		return corrupt(name, off, "a block is cut off")
	}
	b.head = sized(b.head, blockFixedSize)
	if err := r.part.readAt(b.head, off); err != nil {
		return err
	}
	n, length := int(binary.LittleEndian.Uint16(b.head[2:])), int64(binary.LittleEndian.Uint32(b.head[8:]))
	size := blockFixedSize + dirEntrySize*n + crcSize
	if b.head[0] != blockMagic || n == 0 || n > maxFrames || length > r.end-off || length < int64(size) {
		return corrupt(name, off, "not a block: %d frames in %d bytes", n, length)
	}
	b.head = sized(b.head, size)
	if err := r.part.readAt(b.head, off); err != nil {
		return err
	}
	if checksum(b.head[:size-crcSize]) != binary.LittleEndian.Uint32(b.head[size-crcSize:]) {
		return corrupt(name, off, "the checksum of a block's head is wrong")
	}
	b.flags, b.number = b.head[1], binary.LittleEndian.Uint32(b.head[4:])
	r.off += length
	return r.layOut(n, length)
}

// layOut reads the frame directory of a block of length bytes.
func (r *Reader) layOut(n int, length int64) error {
	b := &r.block
	b.frames = b.frames[:cap(b.frames)]
	kept := 0
	for i := range b.frames {
		if kept += cap(b.frames[i].raw); kept > keepFrames {
			b.frames[i].raw = nil
		}
	}
	b.frames = slices.Grow(b.frames, max(0, n-len(b.frames)))[:n]
	b.directory = b.directory[:0]
	at, raw := b.offset+int64(len(b.head)), int64(0)
	for i := range b.frames {
		d := b.head[blockFixedSize+dirEntrySize*i:]
		e := dirEntry{
			stream: binary.LittleEndian.Uint32(d),
			stored: binary.LittleEndian.Uint32(d[4:]),
			raw:    binary.LittleEndian.Uint32(d[8:]),
			crc:    binary.LittleEndian.Uint32(d[12:]),
		}
		if e.stored == 0 || e.raw < e.stored || e.raw > maxFrameRaw || (i == 0) != (e.stream == streamControl) {
			return corrupt(r.part.Name, b.offset, "a frame of stream %d can't have %d bytes from %d", e.stream, e.raw, e.stored)
		}
		b.directory = append(b.directory, e)
		b.frames[i] = readFrame{dirEntry: e, offset: at, raw: b.frames[i].raw}
		at += int64(e.stored)
		raw += int64(e.raw)
	}
	if at != b.offset+length || raw > maxBlockRaw {
		return corrupt(r.part.Name, b.offset, "the lengths of a block's frames don't add up")
	}
	return nil
}

// loadFrame reads, checks and decompresses a frame.
func (r *Reader) loadFrame(f *readFrame) error {
	b := &r.block
	b.stored = sized(b.stored, int(f.dirEntry.stored))
	if err := r.part.readAt(b.stored, f.offset); err != nil {
		return err
	}
	if checksum(b.stored) != f.crc {
		return corrupt(r.part.Name, f.offset, "the checksum of a frame is wrong")
	}
	raw, err := r.unpack(f, b.stored)
	if err != nil {
		return corrupt(r.part.Name, f.offset, "%v", err)
	}
	f.raw, f.loaded = raw, true
	return nil
}

// unpack turns the stored form of a frame into its raw bytes.
func (r *Reader) unpack(f *readFrame, stored []byte) ([]byte, error) {
	raw := int(f.dirEntry.raw)
	if f.stream >= streamTuples && isDelta(stored, raw) {
		return r.delta.decode(f.raw, stored, raw)
	}
	return decompress(f.raw, stored, raw)
}

// nextPart begins the next part. After the last part it ends the segment with io.EOF.
func (r *Reader) nextPart() error {
	p, err := r.next()
	switch {
	case errors.Is(err, io.EOF) && r.opened == 0:
		return corrupt("segment", 0, "it has no parts")
	case errors.Is(err, io.EOF) && !r.foot.last:
		return corrupt(r.part.Name, r.part.Size, "the parts after this one are missing")
	case errors.Is(err, io.EOF):
		return io.EOF
	case err != nil:
		return err
	case r.opened > 0 && r.foot.last:
		return corrupt(p.Name, 0, "a part after the last one")
	}
	h, err := p.readHeader()
	if err != nil {
		return err
	}
	f, err := p.readFooter()
	if err != nil {
		return err
	}
	if h.part != r.opened || f.part != r.opened {
		return corrupt(p.Name, 12, "part %d where part %d belongs", h.part, r.opened)
	}
	if err := r.identify(p, h, f); err != nil {
		return err
	}
	r.part, r.foot, r.blocks = p, f, 0
	r.opened++
	r.stored += p.Size
	r.off, r.end = headerSize, p.Size-footerSize
	if f.last {
		r.end = f.indexOffset
	}
	return nil
}

// identify checks that a part belongs to the segment that is read.
func (r *Reader) identify(p PartFile, h header, f footer) error {
	if f.last {
		h.id.To = f.to
	}
	e := r.o.Expect
	switch {
	case e.Archive != [16]byte{} && e.Archive != h.id.Archive, e.History != 0 && e.History != h.id.History,
		e.Epoch != 0 && e.Epoch != h.id.Epoch, e.From != 0 && e.From != h.id.From, f.last && e.To != 0 && e.To != f.to:
		return corrupt(p.Name, 16, "it is part of another segment: archive %x, history %d, epoch %d, from %s to %s",
			h.id.Archive, h.id.History, h.id.Epoch, h.id.From, h.id.To)
	}
	to := h.id.To
	h.id.To = 0
	if r.ledger == nil {
		r.ledger = newLedger(h.id, false)
		r.stream.delta = delta{lsn: h.id.From}
	} else if r.ledger.Identity != h.id {
		return corrupt(p.Name, 16, "it is part of another segment than the part before")
	}
	if f.last && to < h.id.From {
		return corrupt(p.Name, p.Size-footerSize, "the segment ends at %s, before its start", to)
	}
	return nil
}

// endPart checks the current part's footer against what was read, and after the last part the index.
func (r *Reader) endPart() error {
	f, l, at := r.foot, r.ledger, r.part.Size-footerSize
	if f.blocks != r.blocks || f.transactions != l.Transactions || f.operations != l.Operations {
		return corrupt(r.part.Name, at, "the footer says %d blocks, %d transactions, %d operations; there are %d, %d, %d",
			f.blocks, f.transactions, f.operations, r.blocks, l.Transactions, l.Operations)
	}
	if !f.last {
		return nil
	}
	switch {
	case r.stream.open || r.carry:
		return corrupt(r.part.Name, at, "the segment ends inside a transaction")
	case l.Transactions > 0 && l.LastCommitLSN >= f.to:
		return corrupt(r.part.Name, at, "commit %s lies beyond the segment's end %s", l.LastCommitLSN, f.to)
	}
	return r.checkIndex()
}
