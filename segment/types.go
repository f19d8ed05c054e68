package segment

import (
	"errors"
	"fmt"
	"io"
)

// Op is the kind of one operation in the stream. The values are the type bytes of the logical
// replication protocol (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html).
type Op byte

// The operations.
const (
	OpBegin    Op = 'B'
	OpCommit   Op = 'C'
	OpRelation Op = 'R'
	OpType     Op = 'Y'
	OpOrigin   Op = 'O'
	OpMessage  Op = 'M'
	OpInsert   Op = 'I'
	OpUpdate   Op = 'U'
	OpDelete   Op = 'D'
	OpTruncate Op = 'T'
)

// TupleRole says which tuple of a row operation follows; the values are the protocol's bytes.
type TupleRole byte

// The roles of a tuple.
const (
	OldKey  TupleRole = 'K' // the old tuple's replica identity columns; all others are null
	OldFull TupleRole = 'O' // the whole old tuple (REPLICA IDENTITY FULL)
	New     TupleRole = 'N' // the new tuple
)

// Kind is the kind of a column's value; the values are the protocol's bytes.
type Kind byte

// The kinds of a value.
const (
	Null      Kind = 'n'
	Unchanged Kind = 'u' // a TOASTed value that the UPDATE did not touch: not sent, not NULL
	Text      Kind = 't' // the value's text form, in the encoding of the stream
)

// Begin opens a transaction.
type Begin struct {
	CommitLSN  LSN       // LSN of the commit record (its start); transactions are ordered by it
	CommitTime Timestamp // commit time; that of the origin for a transaction with an Origin
	XID        uint32    // top-level transaction id, without epoch
}

// Commit ends a transaction.
type Commit struct {
	Flags      uint8 // unused by the protocol so far, kept
	CommitLSN  LSN
	EndLSN     LSN // end of the commit record: what may be acknowledged once it is durable
	CommitTime Timestamp
}

// Column is a column of a relation as the stream defined it.
type Column struct {
	Flags    uint8 // bit 0: part of the replica identity key
	Name     string
	TypeOID  uint32
	Modifier int32 // atttypmod
}

// Key reports whether the column belongs to the replica identity.
func (c Column) Key() bool { return c.Flags&1 != 0 }

// Relation is a relation as it stood when the stream sent it. It may come again, changed, at any time.
type Relation struct {
	ID        uint32 // OID on the source
	Namespace string // "pg_catalog" is sent as an empty string by the protocol and kept so
	Name      string
	Identity  byte // pg_class.relreplident: d, n, f or i
	Columns   []Column
}

// String returns namespace.name, unquoted.
func (r *Relation) String() string { return QualifiedName(r.Namespace, r.Name) }

// TypeDef is a data type's definition as the stream sent it.
type TypeDef struct {
	ID        uint32
	Namespace string
	Name      string
}

// Origin marks the open transaction as replayed from another node.
type Origin struct {
	CommitLSN LSN // on the origin
	Name      string
}

// MessageHeader starts a logical message (pg_logical_emit_message). Size bytes of content follow.
type MessageHeader struct {
	Transactional bool
	LSN           LSN // what pg_logical_emit_message returned
	Prefix        string
	Size          int64
}

// Truncate is one TRUNCATE of several relations.
type Truncate struct {
	Options   uint8 // bit 0: CASCADE, bit 1: RESTART IDENTITY
	Relations []uint32
}

// Value is one column of a tuple. Exactly one of Data and Large is set for Kind Text.
type Value struct {
	Kind  Kind
	Data  []byte            // valid until the reader's next call
	Large *io.SectionReader // a value above the reader's LargeValue limit, held in a temporary file
}

// Sequence is the state of a sequence at a moment.
type Sequence struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	LastValue int64  `json:"last_value"`
	IsCalled  bool   `json:"is_called"`
}

// ErrCorrupt is the mark of every damage error of this package: errors.Is(err, ErrCorrupt).
var ErrCorrupt = errors.New("damaged")

// CorruptError says where a file is damaged.
type CorruptError struct {
	Name   string // the object
	Offset int64  // in bytes from the object's start
	Reason string
}

// Error names object, offset and reason.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s", e.Name, e.Offset, e.Reason)
}

// Is reports true for ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
