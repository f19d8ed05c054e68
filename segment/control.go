package segment

import (
	"errors"
	"math"
)

var (
	errOpcode   = errors.New("unknown opcode")
	errSequence = errors.New("an operation stands where it can't")
	errVersion  = errors.New("a relation version that is not defined")
	errPrelude  = errors.New("its base values are not those of the stream")
	errLSN      = errors.New("commit LSNs that do not rise")
	errOps      = errors.New("too many operations")
	errRelation = errors.New("a definition sent again that is not in force")
)

// controlOp is one decoded operation of a control frame. Which fields count depends on op.
type controlOp struct {
	op      Op
	code    byte  // opcode of a row operation, without repeated
	flags   uint8 // of a commit, a message, a TRUNCATE
	version int   // of a row operation or a relation
	count   int64 // rows; length of a message's content
	prefix  int64 // length of a message's prefix
	lsn     LSN   // commit LSN; a message's or an origin's LSN
	end     LSN
	time    Timestamp
	xid     uint32
	more    *controlMore
}

// controlMore is what only rare operations have.
type controlMore struct {
	typeDef  TypeDef
	name     string // of an origin
	versions []int  // of a TRUNCATE
}

// streamState is where a stream of control frames stands.
type streamState struct {
	from      LSN
	delta     delta
	open      bool // inside a transaction
	any       bool // a transaction has begun
	relations []*readRelation
	inForce   map[uint32]int // OID to version
}

// readRelation is a relation version that a reader knows.
type readRelation struct {
	Relation
	encoded []byte // its definition, in the block that defined it: until the ledger has it
	wanted  bool
	passed  bool       // its rows in the current block are passed over
	rows    int64      // of the current block, while it is asked whether they are passed over
	frame   *readFrame // in block frameOf - 1
	frameOf uint32
}

// parseControl decodes a control frame. It appends to ops, adds relations to s and moves s on. The
// result shares no memory with b.
func (s *streamState) parseControl(b []byte, ops []controlOp) ([]controlOp, error) {
	c := &cursor{b: b}
	d := delta{lsn: LSN(c.uvarint()), time: Timestamp(c.svarint()), xid: c.uint32()}
	if c.err == nil && d != s.delta {
		return ops, errPrelude
	}
	total := int64(0)
	for c.err == nil && c.rest() > 0 {
		ops = append(ops, controlOp{})
		op := &ops[len(ops)-1]
		err := s.parseOp(c, op)
		if err == nil {
			err = c.err
		}
		if err != nil {
			return ops[:len(ops)-1], err
		}
		if total += op.rows(); total > maxBlockOps {
			return ops, errOps
		}
	}
	return ops, c.err
}

// rows returns the number of operations that op stands for.
func (o *controlOp) rows() int64 {
	if o.code != 0 {
		return o.count
	}
	return 1
}

// parseOp decodes one operation into op, which is zero before. What ends early is c's error.
func (s *streamState) parseOp(c *cursor, op *controlOp) error {
	code := c.byte()
	if row := code &^ repeated; row >= codeInsert && row <= codeDeleteOld {
		return s.parseRow(c, op, row, code != row)
	}
	switch code {
	case codeBegin:
		return s.parseBegin(c, op)
	case codeCommit:
		op.op, op.flags, op.lsn, op.time = OpCommit, c.byte(), s.delta.lsn, s.delta.time
		gap := c.uvarint()
		if !s.open || gap > math.MaxUint64-uint64(op.lsn) {
			return errSequence
		}
		op.end, s.open = op.lsn+LSN(gap), false
		return nil
	case codeRelation, codeRelationAgain:
		return s.parseRelation(c, op, code)
	case codeType:
		op.op, op.more = OpType, &controlMore{typeDef: TypeDef{ID: c.uint32(), Namespace: c.string(), Name: c.string()}}
		return nil
	case codeOrigin:
		op.op, op.lsn = OpOrigin, LSN(c.uvarint())
		op.more = &controlMore{name: c.string()}
		return s.inside()
	case codeMessage:
		return s.parseMessage(c, op)
	case codeTruncate:
		return s.parseTruncate(c, op)
	}
	return errOpcode
}

// inside returns an error outside transactions.
func (s *streamState) inside() error {
	if !s.open {
		return errSequence
	}
	return nil
}

func (s *streamState) parseRow(c *cursor, op *controlOp, code byte, many bool) error {
	op.op, op.code, op.version, op.count = opOf(code), code, int(c.limited(maxVersions)), 1
	if many {
		if op.count = c.int64(); op.count < 2 && c.err == nil {
			return errRange
		}
	}
	if op.version >= len(s.relations) {
		return errVersion
	}
	return s.inside()
}

// opOf returns the operation of a row opcode.
func opOf(code byte) Op {
	switch code {
	case codeInsert:
		return OpInsert
	case codeUpdate, codeUpdateKey, codeUpdateOld:
		return OpUpdate
	}
	return OpDelete
}

func (s *streamState) parseBegin(c *cursor, op *controlOp) error {
	rise, late, xid := c.uvarint(), c.svarint(), c.svarint()
	d := delta{lsn: s.delta.lsn + LSN(rise), time: s.delta.time + Timestamp(late)}
	xid += int64(s.delta.xid)
	switch {
	case s.open:
		return errSequence
	case d.lsn < s.delta.lsn || s.any && rise == 0:
		return errLSN
	case xid < 0 || xid > math.MaxUint32:
		return errRange
	}
	d.xid = uint32(xid)
	s.delta, s.open, s.any = d, true, true
	op.op, op.lsn, op.time, op.xid = OpBegin, d.lsn, d.time, d.xid
	return nil
}

func (s *streamState) parseRelation(c *cursor, op *controlOp, code byte) error {
	op.op = OpRelation
	if code == codeRelationAgain {
		op.version = int(c.limited(maxVersions))
		if op.version >= len(s.relations) || s.inForce[s.relations[op.version].ID] != op.version {
			return errRelation
		}
		return nil
	}
	start := c.pos
	r := &readRelation{Relation: *c.relation()}
	if c.err != nil {
		return c.err
	}
	r.encoded = append(r.encoded, c.b[start:c.pos]...)
	op.version = len(s.relations)
	s.relations = append(s.relations, r)
	s.inForce[r.ID] = op.version
	return nil
}

func (s *streamState) parseMessage(c *cursor, op *controlOp) error {
	op.op, op.flags = OpMessage, c.byte()
	op.lsn = s.delta.lsn - LSN(c.svarint())
	op.prefix, op.count = int64(c.limited(maxPrefixSize)), int64(c.limited(maxContentSize))
	switch op.flags {
	case 0:
		return nil
	case 1:
		return s.inside()
	}
	return errRange
}

func (s *streamState) parseTruncate(c *cursor, op *controlOp) error {
	op.op, op.flags = OpTruncate, c.byte()
	n := c.uvarint()
	if n > uint64(c.rest()) {
		return errShort
	}
	op.more = &controlMore{versions: make([]int, n)}
	for i := range op.more.versions {
		v := int(c.limited(maxVersions))
		if v >= len(s.relations) {
			return errVersion
		}
		op.more.versions[i] = v
	}
	return s.inside()
}
