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
		op, err := s.parseOp(c)
		if err != nil {
			return ops, err
		}
		if c.err != nil {
			break
		}
		if total += op.rows(); total > maxBlockOps {
			return ops, errOps
		}
		ops = append(ops, op)
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

func (s *streamState) parseOp(c *cursor) (controlOp, error) {
	code := c.byte()
	if row := code &^ repeated; row >= codeInsert && row <= codeDeleteOld {
		return s.parseRow(c, row, code != row)
	}
	switch code {
	case codeBegin:
		return s.parseBegin(c)
	case codeCommit:
		op := controlOp{op: OpCommit, flags: c.byte(), lsn: s.delta.lsn, time: s.delta.time}
		gap := c.uvarint()
		if !s.open || gap > math.MaxUint64-uint64(op.lsn) {
			return op, errSequence
		}
		op.end, s.open = op.lsn+LSN(gap), false
		return op, nil
	case codeRelation, codeRelationAgain:
		return s.parseRelation(c, code)
	case codeType:
		t := TypeDef{ID: c.uint32(), Namespace: c.string(), Name: c.string()}
		return controlOp{op: OpType, more: &controlMore{typeDef: t}}, nil
	case codeOrigin:
		op := controlOp{op: OpOrigin, lsn: LSN(c.uvarint()), more: &controlMore{name: c.string()}}
		return op, s.inside()
	case codeMessage:
		return s.parseMessage(c)
	case codeTruncate:
		return s.parseTruncate(c)
	}
	return controlOp{}, errOpcode
}

// inside returns an error outside transactions.
func (s *streamState) inside() error {
	if !s.open {
		return errSequence
	}
	return nil
}

func (s *streamState) parseRow(c *cursor, code byte, many bool) (controlOp, error) {
	op := controlOp{op: opOf(code), code: code, version: int(c.limited(maxVersions)), count: 1}
	if many {
		if op.count = c.int64(); op.count < 2 && c.err == nil {
			return op, errRange
		}
	}
	if op.version >= len(s.relations) {
		return op, errVersion
	}
	return op, s.inside()
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

func (s *streamState) parseBegin(c *cursor) (controlOp, error) {
	rise, late, xid := c.uvarint(), c.svarint(), c.svarint()
	d := delta{lsn: s.delta.lsn + LSN(rise), time: s.delta.time + Timestamp(late)}
	xid += int64(s.delta.xid)
	switch {
	case s.open:
		return controlOp{}, errSequence
	case d.lsn < s.delta.lsn || s.any && rise == 0:
		return controlOp{}, errLSN
	case xid < 0 || xid > math.MaxUint32:
		return controlOp{}, errRange
	}
	d.xid = uint32(xid)
	s.delta, s.open, s.any = d, true, true
	return controlOp{op: OpBegin, lsn: d.lsn, time: d.time, xid: d.xid}, nil
}

func (s *streamState) parseRelation(c *cursor, code byte) (controlOp, error) {
	if code == codeRelationAgain {
		op := controlOp{op: OpRelation, version: int(c.limited(maxVersions))}
		if op.version >= len(s.relations) || s.inForce[s.relations[op.version].ID] != op.version {
			return op, errRelation
		}
		return op, nil
	}
	start := c.pos
	r := &readRelation{Relation: *c.relation()}
	if c.err != nil {
		return controlOp{}, c.err
	}
	r.encoded = append(r.encoded, c.b[start:c.pos]...)
	op := controlOp{op: OpRelation, version: len(s.relations)}
	s.relations = append(s.relations, r)
	s.inForce[r.ID] = op.version
	return op, nil
}

func (s *streamState) parseMessage(c *cursor) (controlOp, error) {
	op := controlOp{op: OpMessage, flags: c.byte()}
	op.lsn = s.delta.lsn - LSN(c.svarint())
	op.prefix, op.count = int64(c.limited(maxPrefixSize)), int64(c.limited(maxContentSize))
	switch {
	case op.flags > 1:
		return op, errRange
	case op.flags == 1:
		return op, s.inside()
	}
	return op, nil
}

func (s *streamState) parseTruncate(c *cursor) (controlOp, error) {
	op := controlOp{op: OpTruncate, flags: c.byte()}
	n := c.uvarint()
	if n > uint64(c.rest()) {
		return op, errShort
	}
	op.more = &controlMore{versions: make([]int, n)}
	for i := range op.more.versions {
		v := int(c.limited(maxVersions))
		if v >= len(s.relations) {
			return op, errVersion
		}
		op.more.versions[i] = v
	}
	return op, s.inside()
}
