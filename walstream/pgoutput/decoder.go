package pgoutput

import (
	"tidemark/segment"
)

// Decoder turns the messages of one replication connection into calls of a Sink. It remembers what
// the protocol makes it remember: whether a transaction is open, and how many columns each relation
// has. It belongs to one goroutine; a new connection needs a new Decoder, since the server
// describes every relation again.
type Decoder struct {
	sink Sink
	c    cursor

	open    bool // between Begin and Commit
	begin   segment.Begin
	end     segment.LSN // of the last commit
	columns map[uint32]int
	lastRel uint32 // a row's relation is mostly that of the row before
	lastCol int    // its columns, -1 when lastRel means nothing
	prefix  string // the prefix of the last logical message: mostly the same
}

// NewDecoder returns a Decoder that tells sink what it reads.
func NewDecoder(sink Sink) *Decoder {
	return &Decoder{sink: sink, columns: make(map[uint32]int), lastCol: -1}
}

// InTransaction reports whether a transaction was begun and not committed.
func (d *Decoder) InTransaction() bool { return d.open }

// CommitEnd returns the EndLSN of the last Commit that was decoded, 0 before the first.
func (d *Decoder) CommitEnd() segment.LSN { return d.end }

// Decode decodes one whole message. Errors are *Error, or what the Sink returned; the Decoder can't be
// used after one, since the Sink may have seen half of the message.
func (d *Decoder) Decode(msg []byte) error {
	d.c.reset(msg, len(msg), nil)
	return d.message()
}

// DecodePieces decodes one message of size bytes, of which head is the beginning; more returns the
// following pieces (never empty, never beyond the message), each valid until the next call. It is
// only called for bytes that are due. Values and message contents are passed on piece by piece. An
// error of more is returned as it is, other errors are as in Decode.
func (d *Decoder) DecodePieces(head []byte, size int, more func() ([]byte, error)) error {
	if len(head) > size {
		head = head[:size]
	}
	d.c.reset(head, size, more)
	return d.message()
}

func (d *Decoder) message() error {
	c := &d.c
	c.typ = c.uint8()
	if c.err != nil {
		return c.err
	}
	op := segment.Op(c.typ)
	if !d.open && op != segment.OpBegin && op != segment.OpMessage {
		return c.failAt(0, "outside a transaction")
	}
	switch op {
	case segment.OpInsert, segment.OpUpdate, segment.OpDelete:
		return d.row(op)
	case segment.OpBegin:
		return d.beginMessage()
	case segment.OpCommit:
		return d.commit()
	case segment.OpRelation:
		return d.relation()
	case segment.OpType:
		return d.typeDef()
	case segment.OpOrigin:
		return d.origin()
	case segment.OpMessage:
		return d.logicalMessage()
	case segment.OpTruncate:
		return d.truncate()
	}
	return c.failAt(0, "%s", refusal(c.typ))
}

// refusal explains a message type that protocol version 1 doesn't have.
func refusal(typ byte) string {
	switch typ {
	case 'S', 'E', 'c', 'A':
		return "a message of streamed transactions, which were not asked for"
	case 'b', 'P', 'K', 'r', 'p':
		return "a message of two-phase commit, which was not asked for"
	}
	return "unknown message type"
}

func (d *Decoder) beginMessage() error {
	c := &d.c
	b := segment.Begin{CommitLSN: c.lsn(), CommitTime: c.timestamp(), XID: c.uint32()}
	if err := c.end(); err != nil {
		return err
	}
	if d.open {
		return c.failAt(0, "inside the transaction that commits at %s", d.begin.CommitLSN)
	}
	d.open, d.begin = true, b
	return d.sink.Begin(b)
}

func (d *Decoder) commit() error {
	c := &d.c
	m := segment.Commit{Flags: c.uint8(), CommitLSN: c.lsn(), EndLSN: c.lsn(), CommitTime: c.timestamp()}
	if err := c.end(); err != nil {
		return err
	}
	switch {
	case m.CommitLSN != d.begin.CommitLSN || m.CommitTime != d.begin.CommitTime:
		return c.failAt(2, "commit at %s, %s of a transaction that began with %s, %s",
			m.CommitLSN, m.CommitTime, d.begin.CommitLSN, d.begin.CommitTime)
	case m.EndLSN <= m.CommitLSN:
		return c.failAt(10, "a commit at %s that ends at %s", m.CommitLSN, m.EndLSN)
	}
	d.open, d.end = false, m.EndLSN
	return d.sink.Commit(m)
}

func (d *Decoder) relation() error {
	c := &d.c
	r := &segment.Relation{
		ID:        c.uint32(),
		Namespace: string(c.cstring()),
		Name:      string(c.cstring()),
		Identity:  c.uint8(),
	}
	n := c.count()
	r.Columns = make([]segment.Column, 0, min(n, c.left()/10))
	for i := 0; i < n && c.err == nil; i++ {
		r.Columns = append(r.Columns, segment.Column{
			Flags:    c.uint8(),
			Name:     string(c.cstring()),
			TypeOID:  c.uint32(),
			Modifier: int32(c.uint32()),
		})
	}
	if err := c.end(); err != nil {
		return err
	}
	d.columns[r.ID], d.lastCol = n, -1
	return d.sink.Relation(r)
}

func (d *Decoder) typeDef() error {
	c := &d.c
	t := segment.TypeDef{ID: c.uint32(), Namespace: string(c.cstring()), Name: string(c.cstring())}
	if err := c.end(); err != nil {
		return err
	}
	return d.sink.Type(t)
}

func (d *Decoder) origin() error {
	c := &d.c
	o := segment.Origin{CommitLSN: c.lsn(), Name: string(c.cstring())}
	if err := c.end(); err != nil {
		return err
	}
	return d.sink.Origin(o)
}

func (d *Decoder) truncate() error {
	c := &d.c
	n := c.uint32()
	t := segment.Truncate{Options: c.uint8()}
	if c.err == nil && uint64(n)*4 != uint64(c.left()) {
		return c.failAt(1, "%d relations where %d bytes are left", n, c.left())
	}
	t.Relations = make([]uint32, 0, len(c.buf)/4)
	for i := uint32(0); i < n && c.err == nil; i++ {
		id := c.uint32()
		if _, known := d.columns[id]; c.err == nil && !known {
			return c.fail("relation %d was not described", id)
		}
		t.Relations = append(t.Relations, id)
	}
	if err := c.end(); err != nil {
		return err
	}
	return d.sink.Truncate(t)
}

func (d *Decoder) logicalMessage() error {
	c := &d.c
	flags := c.uint8()
	m := segment.MessageHeader{Transactional: flags&1 != 0, LSN: c.lsn()}
	if prefix := c.prefix(); d.prefix != string(prefix) {
		d.prefix = string(prefix)
	}
	m.Prefix = d.prefix
	n := c.length("content")
	switch {
	case c.err != nil:
		return c.err
	case flags > 1:
		return c.failAt(1, "unknown flags %#x", flags)
	case m.Transactional && !d.open:
		return c.failAt(0, "a transactional message outside a transaction")
	case n < c.left():
		return c.fail("content of %d bytes where %d are left", n, c.left())
	}
	m.Size = int64(n)
	if err := d.sink.Message(m); err != nil {
		return err
	}
	if err := d.bytes(n); err != nil {
		return err
	}
	return c.end()
}

// bytes passes the next n bytes on, which are known to lie in the message.
func (d *Decoder) bytes(n int) error {
	c := &d.c
	for n > 0 {
		if len(c.buf) == 0 && !c.refill() {
			return c.fail("the message ends %d bytes early", n)
		}
		piece := c.buf[:min(n, len(c.buf))]
		c.buf = c.buf[len(piece):]
		n -= len(piece)
		if err := d.sink.Bytes(piece); err != nil {
			return err
		}
	}
	return nil
}
