// Package pgoutput decodes the messages of PostgreSQL's pgoutput plugin, protocol version 1, values in
// text form (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html). It does
// no I/O: bytes go in, events come out at a Sink. Nothing is allocated per row, every length is
// checked against the bytes that are really there, and a message larger than the caller's buffer is
// decoded piece by piece, so a value is never held whole.
package pgoutput

import "tidemark/segment"

// Sink receives the decoded stream, in order. An error ends the decoding and is returned as it is.
//
// A row operation is Row, one or two Tuples, EndRow. A tuple is followed by exactly one of Null,
// Unchanged or Value for each of its columns. Value and Message announce a size in bytes; Bytes
// follows once or several times until that size is reached, and not at all for size 0. No Sink
// method may keep a byte slice it was given; pointers, strings and Truncate.Relations may be kept.
type Sink interface {
	Begin(segment.Begin) error
	Commit(segment.Commit) error
	Relation(*segment.Relation) error
	Type(segment.TypeDef) error
	Origin(segment.Origin) error
	Message(segment.MessageHeader) error
	Truncate(segment.Truncate) error
	Row(op segment.Op, relation uint32) error
	Tuple(role segment.TupleRole, columns int) error
	Null() error
	Unchanged() error
	Value(size int) error
	Bytes(b []byte) error
	EndRow() error
}
