package segment

import (
	"errors"
	"os"
)

// DefaultLargeValue is the size in bytes above which a value is given as a Value.Large.
const DefaultLargeValue = 1 << 20

// ReaderOptions say what of a segment is read, and how.
type ReaderOptions struct {
	// Want says whether the rows of a relation version are wanted; nil means all. Rows that are not
	// wanted are left out without reading their frames; all other operations are always given.
	Want func(*Relation) bool

	// Pass is asked about the rows of a wanted relation version that a block holds, by their number, before
	// anything of the block is given: true passes them over like unwanted ones. It isn't asked about a block in which
	// an operation goes on from block to block, a relation is defined, or one is emptied. nil passes none over.
	Pass func(r *Relation, rows int64) bool

	// LargeValue is the size in bytes above which a value goes to a temporary file; 0 means
	// DefaultLargeValue. Values of a row that together exceed four times as much go there, too.
	LargeValue int64

	// TempDir is the folder of that file; "" means os.TempDir.
	TempDir string

	// Expect is checked against the segment; fields that are zero are not.
	Expect Identity
}

// Record is one operation of the stream. Which fields are set depends on Op.
type Record struct {
	Op       Op
	Begin    Begin
	Commit   Commit
	Relation *Relation // OpRelation: the definition; row operations: the one in force. Valid as long as the Reader
	TypeDef  TypeDef
	Origin   Origin
	Message  MessageHeader
	Content  Value // of a message; of Kind Text

	Truncate          Truncate
	TruncateRelations []*Relation // of Truncate.Relations, in that order

	OldRole TupleRole // of Old: OldKey or OldFull; 0 without an old tuple
	Old     []Value
	New     []Value // empty for OpDelete
}

// Reader gives back the operations of a segment, in order. Everything is checked before it is given
// (docs/format/segment.md, "How a reader verifies"). Memory stays flat however large a value is. A
// Reader belongs to one goroutine.
type Reader struct {
	next func() (PartFile, error)
	o    ReaderOptions
	err  error
	rec  Record

	part   PartFile
	foot   footer
	opened int   // parts begun
	stored int64 // bytes of them
	off    int64 // of the next block
	end    int64 // of the part's blocks
	blocks uint32

	stream  streamState
	block   readBlock
	number  uint32 // of the next block
	carry   bool   // the last block's operation goes on
	ledger  *ledger
	partial bool  // rows were left out
	pos     int   // next of block.ops
	run     int64 // rows left of the run
	runCode byte  // what they are
	runOf   *readRelation
	skipped bool // the last operation's rows were left out
	delta   deltaDecoder

	arena    []byte // values of the current record that a block's end cut off
	held     int64  // bytes of the current record's values
	saved    [2]int // how many of its old and new values no longer lie in the block
	spill    *os.File
	spillEnd int64
}

// NewReader reads the segment whose parts next gives, in order, and then io.EOF. The Reader is done with
// a part when it calls next again. Nothing is read before the first Next.
func NewReader(next func() (PartFile, error), o ReaderOptions) *Reader {
	if o.LargeValue <= 0 {
		o.LargeValue = DefaultLargeValue
	}
	return &Reader{next: next, o: o, stream: streamState{inForce: make(map[uint32]int)}}
}

// Next returns the next operation. The Record and all it refers to, but for its relations, is valid
// until the next call. After the last operation it returns io.EOF, but only when everything that ends a
// segment was there and right. All damage is a *CorruptError, a newer format a *VersionError; errors of
// next and of reading parts are passed on.
func (r *Reader) Next() (*Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	rec, err := r.read()
	if err != nil {
		r.err = err
		return nil, err
	}
	return rec, nil
}

// Summary returns what the segment held. It is complete only after Next has returned io.EOF; RawBytes
// then is what the index says if rows were left out.
func (r *Reader) Summary() Summary {
	if r.ledger == nil {
		return Summary{}
	}
	return r.ledger.Summary
}

// Close frees the temporary file. The records given become invalid.
func (r *Reader) Close() error {
	if r.err == nil {
		r.err = errors.New("segment: the reader is closed")
	}
	if r.spill == nil {
		return nil
	}
	f := r.spill
	r.spill = nil
	return f.Close()
}

// read decodes the next operation that is wanted.
func (r *Reader) read() (*Record, error) {
	if err := r.release(); err != nil {
		return nil, err
	}
	r.rec = Record{Old: r.rec.Old[:0], New: r.rec.New[:0], TruncateRelations: r.rec.TruncateRelations[:0]}
	for {
		if r.run > 0 {
			r.run--
			return r.row()
		}
		if r.pos < len(r.block.ops) {
			op := &r.block.ops[r.pos]
			r.pos++
			r.skipped = false
			if op.code == 0 {
				return r.operation(op)
			}
			r.ledger.rows(op.version, op.code, op.count)
			r.ledger.RawBytes += rawRow * op.count
			if rel := r.stream.relations[op.version]; rel.wanted && !rel.passed {
				r.run, r.runCode, r.runOf = op.count, op.code, rel
			} else {
				r.skipped, r.partial = true, true
			}
			continue
		}
		if err := r.advance(false); err != nil {
			return nil, err
		}
	}
}

// operation gives an operation that isn't a row.
func (r *Reader) operation(op *controlOp) (*Record, error) {
	rec, l := &r.rec, r.ledger
	rec.Op = op.op
	switch op.op {
	case OpBegin:
		rec.Begin = Begin{CommitLSN: op.lsn, CommitTime: op.time, XID: op.xid}
		l.begin(rec.Begin, r.block.number)
	case OpCommit:
		rec.Commit = Commit{Flags: op.flags, CommitLSN: op.lsn, EndLSN: op.end, CommitTime: op.time}
		l.commit(rec.Commit)
	case OpRelation:
		v := r.stream.relations[op.version]
		if v.encoded != nil {
			l.relation(v.String(), v.encoded)
			v.encoded = nil
		}
		rec.Relation = &v.Relation
		l.Operations++
		l.RawBytes += rawRelation(rec.Relation)
	case OpType:
		rec.TypeDef = op.more.typeDef
		l.Operations++
		l.RawBytes += rawTypeDef(rec.TypeDef)
	case OpOrigin:
		rec.Origin = Origin{CommitLSN: op.lsn, Name: op.more.name}
		l.origin()
		l.RawBytes += rawOrigin(rec.Origin)
	case OpTruncate:
		rec.Truncate.Options = op.flags
		for _, v := range op.more.versions {
			rel := &r.stream.relations[v].Relation
			rec.Truncate.Relations = append(rec.Truncate.Relations, rel.ID)
			rec.TruncateRelations = append(rec.TruncateRelations, rel)
		}
		l.truncate(op.more.versions)
	case OpMessage:
		return r.message(op)
	}
	return rec, nil
}

// message gives a logical message.
func (r *Reader) message(op *controlOp) (*Record, error) {
	h := MessageHeader{Transactional: op.flags == 1, LSN: op.lsn, Size: op.count}
	content := op.count
	prefix, err := r.gather(nil, op.prefix)
	if err != nil {
		return nil, err
	}
	h.Prefix = string(prefix)
	r.rec.Message = h
	if err := r.value(&r.rec.Content, content, nil); err != nil {
		return nil, err
	}
	peek := r.rec.Content.Data
	if large := r.rec.Content.Large; large != nil {
		peek = make([]byte, min(h.Size, int64(maxPeek+1)))
		if _, err := large.ReadAt(peek, 0); err != nil {
			return nil, err
		}
	}
	r.ledger.message(h, peek[:min(len(peek), maxPeek+1)])
	return &r.rec, nil
}

// row gives the next row of the run.
func (r *Reader) row() (*Record, error) {
	rec, rel := &r.rec, r.runOf
	rec.Op, rec.Relation = opOf(r.runCode), &rel.Relation
	switch r.runCode {
	case codeUpdateKey, codeDeleteKey:
		rec.OldRole = OldKey
	case codeUpdateOld, codeDeleteOld:
		rec.OldRole = OldFull
	}
	if rec.OldRole != 0 {
		if err := r.tuple(&rec.Old, rel); err != nil {
			return nil, err
		}
	}
	if rec.Op != OpDelete {
		if err := r.tuple(&rec.New, rel); err != nil {
			return nil, err
		}
	}
	return rec, nil
}
