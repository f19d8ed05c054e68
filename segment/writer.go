package segment

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// Defaults of WriterOptions.
const (
	DefaultPartSize  = 8 << 20
	DefaultBlockSize = 256 << 10

	maxBlockSize = 4 << 20
)

var (
	// ErrUnknownRelation is the mark of an operation on a relation that this segment has no definition
	// of yet: call Relation first.
	ErrUnknownRelation = errors.New("the segment has no definition of the relation")

	// ErrOrder is the mark of a call, or a message of the stream, that can't stand where it does.
	ErrOrder = errors.New("out of order")

	// ErrTooLarge is the mark of something beyond the format's limits.
	ErrTooLarge = errors.New("larger than the segment format allows")
)

// WriterOptions say what segment is written and where its parts go.
type WriterOptions struct {
	Archive [16]byte
	History uint32
	Epoch   uint64
	Start   LSN // From of the segment's range

	PartSize  int // stored bytes at which a part is handed on; 0: DefaultPartSize
	BlockSize int // raw bytes of a block; 0: DefaultBlockSize; at most 4 MiB

	// Buffer gives an empty buffer for a part, of capacity BufferSize or more. It is called when the
	// first block of a part is complete; the Writer owns the buffer until it passes it to Emit. An error
	// ends the Writer.
	Buffer func() ([]byte, error)

	// Emit takes a finished part and owns its Data from then on. An error ends the Writer.
	Emit func(Part) error
}

// Part is a finished part of a segment.
type Part struct {
	Number int      // from 0
	Data   []byte   // in a buffer that WriterOptions.Buffer gave, or in a larger one that had to replace it
	SHA256 [32]byte // of Data
	Last   bool
}

// BufferSize is the capacity that a part's buffer needs so that it is not replaced by a larger one; a size
// of 0 stands for the default. (Definitions of megabytes, which no one has, or an index larger than a
// part still can.)
func BufferSize(partSize, blockSize int) int {
	partSize, blockSize = cmp.Or(partSize, DefaultPartSize), cmp.Or(blockSize, DefaultBlockSize)
	return partSize + 2*blockSize + 640<<10
}

// Writer writes one segment. It is a push interface: each call is one message of the stream, or a
// piece of one, in the stream's order. Nothing that it is given is kept. Rows cost no allocation. A Writer
// belongs to one goroutine. After any error only Discard is left to call.
type Writer struct {
	o   WriterOptions
	err error

	state state
	home  state // where the open message returns to
	open  bool  // whether a transaction is
	begin Begin // the open transaction's

	part       []byte // the open part's bytes; nil when none is open
	partNo     int
	partBlocks uint32
	hashed     int // bytes of part that sha has seen
	sha        hash.Hash
	emitted    int64

	block  blockBuilder
	ledger *ledger
	run    run

	sequences []Sequence
	sampled   bool // whether SetSequences was called

	relations map[uint32]*relation
	last      *relation // the one used last, to spare lookups
	scratch   []byte

	row  rowState
	left int64 // bytes that the open value or message still gets
	cur  *frame
	peek []byte // beginning of the open message's content
	msg  MessageHeader
}

// relation is what the Writer knows of the definition in force for an OID.
type relation struct {
	id      uint32
	version int
	columns int
	sum     [sha256.Size]byte // of the encoded definition
	frame   *frame            // in block number frameOf - 1
	frameOf uint32
}

// state says which calls are in order.
type state byte

const (
	idle    state = iota // between transactions
	inside               // inside a transaction, between operations
	inRow                // between Row and EndRow
	inValue              // bytes of a value are missing
	inMsg                // bytes of a message are missing
	closed
	failed
)

// run is the run of equal row operations at the end of the control frame, not yet written there.
type run struct {
	code     byte
	relation *relation
	count    int64
}

// rowState is the open row.
type rowState struct {
	op       Op
	relation *relation
	old      TupleRole // the old tuple's role, 0 for none
	tuples   int
	missing  int // columns of the open tuple
	done     bool
}

// NewWriter begins a segment. No buffer is asked for before the first block is complete.
func NewWriter(o WriterOptions) (*Writer, error) {
	o.PartSize, o.BlockSize = cmp.Or(o.PartSize, DefaultPartSize), cmp.Or(o.BlockSize, DefaultBlockSize)
	switch {
	case o.Buffer == nil || o.Emit == nil:
		return nil, errors.New("segment: a writer needs Buffer and Emit")
	case o.PartSize < 0, o.PartSize > 1<<30, o.BlockSize < 0, o.BlockSize > maxBlockSize:
		return nil, fmt.Errorf("segment: part size %d or block size %d is out of range", o.PartSize, o.BlockSize)
	}
	w := &Writer{o: o, sha: sha256.New(), relations: make(map[uint32]*relation)}
	w.ledger = newLedger(w.identity(), true)
	w.block.start(0, delta{lsn: o.Start}, 0, 0)
	return w, nil
}

func (w *Writer) identity() Identity {
	return Identity{Archive: w.o.Archive, History: w.o.History, Epoch: w.o.Epoch, From: w.o.Start}
}

// InTransaction reports whether a transaction is open.
func (w *Writer) InTransaction() bool {
	return w.open
}

// Transactions returns the number of committed transactions.
func (w *Writer) Transactions() int64 { return w.ledger.Transactions }

// StoredBytes returns the bytes of the parts handed on and of the complete blocks of the open one.
func (w *Writer) StoredBytes() int64 { return w.emitted + int64(len(w.part)) }

// RawBytes returns the bytes of the pgoutput messages taken so far.
func (w *Writer) RawBytes() int64 { return w.ledger.RawBytes }

// Empty reports whether nothing was written yet.
func (w *Writer) Empty() bool {
	return w.state == idle && w.ledger.Operations == 0
}

// SetSequences sets the sample of sequences, read at lsn or later, that goes into the index. The last
// call counts. The slice is kept until Close.
func (w *Writer) SetSequences(lsn LSN, sequences []Sequence) {
	w.ledger.SequencesLSN, w.ledger.Sequences = lsn, len(sequences)
	w.sequences, w.sampled = sequences, true
}

// Close ends the segment at end, which becomes To: it lies above the last commit LSN. It hands on the
// last part and returns what the segment holds. Inside a transaction it is out of order.
func (w *Writer) Close(end LSN) (Summary, error) {
	if w.state != idle {
		return Summary{}, w.misuse("Close")
	}
	if end < w.o.Start || w.ledger.Transactions > 0 && end <= w.ledger.LastCommitLSN {
		return Summary{}, w.fail(fmt.Errorf("segment: %w: a segment from %s with last commit %s can't end at %s", ErrOrder, w.o.Start, w.ledger.LastCommitLSN, end))
	}
	if err := w.cut(0); err != nil {
		return Summary{}, err
	}
	if w.sampled {
		w.ledger.addSequences(w.ledger.SequencesLSN, w.sequences)
	}
	index, err := w.ledger.index(end)
	if err != nil {
		return Summary{}, w.fail(err)
	}
	if len(w.part) > headerSize && len(w.part)+len(index)+footerSize > cap(w.part) {
		if err := w.finishPart(footer{}); err != nil {
			return Summary{}, err
		}
	}
	if err := w.openPart(); err != nil {
		return Summary{}, err
	}
	f := footer{last: true, to: end, indexOffset: int64(len(w.part)), indexLength: int64(len(index))}
	w.part = append(w.part, index...)
	if err := w.finishPart(f); err != nil {
		return Summary{}, err
	}
	w.state = closed
	w.ledger.StoredBytes, w.ledger.Parts = w.emitted, w.partNo
	return w.ledger.Summary, nil
}

// Discard gives up an unfinished segment and returns the buffer that the Writer still owns, nil if it
// has none. The Writer can't be used after it.
func (w *Writer) Discard() []byte {
	b := w.part
	w.part = nil
	if w.state != closed {
		_ = w.fail(errors.New("segment: the segment was given up"))
	}
	return b
}

// fail ends the Writer with err.
func (w *Writer) fail(err error) error {
	w.state, w.err = failed, err
	w.row.missing, w.left = 0, 0
	return err
}

// misuse is the slow path of every check: it ends the Writer.
func (w *Writer) misuse(call string) error {
	if w.state == failed {
		return w.err
	}
	return w.fail(fmt.Errorf("segment: %w: %s", ErrOrder, call))
}

// openPart begins a part unless one is open.
func (w *Writer) openPart() error {
	if w.part != nil {
		return nil
	}
	b, err := w.o.Buffer()
	if err != nil {
		return w.fail(fmt.Errorf("segment: no buffer for part %d: %w", w.partNo, err))
	}
	w.part = header{part: w.partNo, id: w.identity()}.append(b[:0])
	w.partBlocks, w.hashed = 0, 0
	w.sha.Reset()
	return nil
}

// finishPart completes the open part with a footer and hands it on. f holds what only the last part has.
func (w *Writer) finishPart(f footer) error {
	f.blocks, f.part, f.size = w.partBlocks, w.partNo, int64(len(w.part)+footerSize)
	f.transactions, f.operations = w.ledger.Transactions, w.ledger.Operations
	w.part = f.append(w.part)
	w.sha.Write(w.part[w.hashed:])
	p := Part{Number: w.partNo, Data: w.part, Last: f.last}
	w.sha.Sum(p.SHA256[:0])
	w.emitted += int64(len(w.part))
	w.part = nil
	w.partNo++
	if err := w.o.Emit(p); err != nil {
		return w.fail(fmt.Errorf("segment: part %d was not taken: %w", p.Number, err))
	}
	return nil
}

// cut completes the open block, if it has anything, and begins the next; goesOn is blockGoesOn when an
// operation continues there.
func (w *Writer) cut(goesOn byte) error {
	w.flushRun()
	if w.block.empty() {
		return nil
	}
	if err := w.openPart(); err != nil {
		return err
	}
	b := &w.block
	b.flags |= goesOn
	w.part = b.appendTo(w.part)
	if b.rawTotal > maxBlockRaw {
		return w.fail(fmt.Errorf("segment: block of %d bytes: %w", b.rawTotal, ErrTooLarge))
	}
	w.sha.Write(w.part[w.hashed:])
	w.hashed = len(w.part)
	w.ledger.block(uint32(w.partNo), b.flags, b.begun, b.directory)
	w.partBlocks++
	flags := byte(0)
	if w.InTransaction() {
		flags |= blockInside
	}
	if goesOn != 0 {
		flags |= blockContinues
	}
	b.start(b.number+1, w.delta(), w.ledger.begun, flags)
	if len(w.part) >= w.o.PartSize {
		return w.finishPart(footer{})
	}
	return nil
}

// delta is what the next block's control frame starts from.
func (w *Writer) delta() delta {
	if w.InTransaction() {
		return delta{lsn: w.begin.CommitLSN, time: w.begin.CommitTime, xid: w.begin.XID}
	}
	return w.ledger.prev
}

// flushRun writes the pending run of row operations to the control frame.
func (w *Writer) flushRun() {
	r := &w.run
	if r.count == 0 {
		return
	}
	c := w.block.control
	if r.count == 1 {
		c = append(c, r.code)
		c = binary.AppendUvarint(c, uint64(r.relation.version))
	} else {
		c = append(c, r.code|repeated)
		c = binary.AppendUvarint(c, uint64(r.relation.version))
		c = binary.AppendUvarint(c, uint64(r.count))
	}
	w.block.control = c
	w.ledger.rows(r.relation.version, r.code, r.count)
	*r = run{}
}

// endOp is called at the end of every operation: here a block may end without splitting one.
func (w *Writer) endOp() error {
	w.block.ops++
	if w.block.size() >= w.o.BlockSize || w.block.ops >= maxBlockOps {
		return w.cut(0)
	}
	return nil
}
