package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// event is one operation of a test stream, with the pgoutput message that it came as.
type event struct {
	op       Op
	begin    Begin
	commit   Commit
	relation *Relation
	typeDef  TypeDef
	origin   Origin
	message  MessageHeader
	content  []byte
	truncate Truncate
	row      uint32 // relation OID
	old, new []column
	role     TupleRole
}

type column struct {
	kind Kind
	data []byte
}

// pgoutput builds the message that PostgreSQL would send for the event: the reference for losslessness.
func (e *event) pgoutput() []byte {
	be := binary.BigEndian
	b := []byte{byte(e.op)}
	str := func(s string) { b = append(append(b, s...), 0) }
	u64 := func(v uint64) { b = be.AppendUint64(b, v) }
	u32 := func(v uint32) { b = be.AppendUint32(b, v) }
	tuple := func(role TupleRole, t []column) {
		b = be.AppendUint16(append(b, byte(role)), uint16(len(t)))
		for _, c := range t {
			b = append(b, byte(c.kind))
			if c.kind == Text {
				u32(uint32(len(c.data)))
				b = append(b, c.data...)
			}
		}
	}
	switch e.op {
	case OpBegin:
		u64(uint64(e.begin.CommitLSN))
		u64(uint64(e.begin.CommitTime))
		u32(e.begin.XID)
	case OpCommit:
		b = append(b, e.commit.Flags)
		u64(uint64(e.commit.CommitLSN))
		u64(uint64(e.commit.EndLSN))
		u64(uint64(e.commit.CommitTime))
	case OpRelation:
		u32(e.relation.ID)
		str(e.relation.Namespace)
		str(e.relation.Name)
		b = be.AppendUint16(append(b, e.relation.Identity), uint16(len(e.relation.Columns)))
		for _, c := range e.relation.Columns {
			b = append(b, c.Flags)
			str(c.Name)
			u32(c.TypeOID)
			u32(uint32(c.Modifier))
		}
	case OpType:
		u32(e.typeDef.ID)
		str(e.typeDef.Namespace)
		str(e.typeDef.Name)
	case OpOrigin:
		u64(uint64(e.origin.CommitLSN))
		str(e.origin.Name)
	case OpMessage:
		flags := byte(0)
		if e.message.Transactional {
			flags = 1
		}
		b = append(b, flags)
		u64(uint64(e.message.LSN))
		str(e.message.Prefix)
		u32(uint32(len(e.content)))
		b = append(b, e.content...)
	case OpTruncate:
		u32(uint32(len(e.truncate.Relations)))
		b = append(b, e.truncate.Options)
		for _, r := range e.truncate.Relations {
			u32(r)
		}
	default:
		u32(e.row)
		if e.role != 0 {
			tuple(e.role, e.old)
		}
		if e.op != OpDelete {
			tuple(New, e.new)
		}
	}
	return b
}

// write sends the event to a Writer, large values in pieces.
func (e *event) write(w *Writer) error {
	switch e.op {
	case OpBegin:
		return w.Begin(e.begin)
	case OpCommit:
		return w.Commit(e.commit)
	case OpRelation:
		return w.Relation(e.relation)
	case OpType:
		return w.Type(e.typeDef)
	case OpOrigin:
		return w.Origin(e.origin)
	case OpTruncate:
		return w.Truncate(e.truncate)
	case OpMessage:
		if err := w.Message(e.message); err != nil {
			return err
		}
		return writeBytes(w, e.content)
	}
	if err := w.Row(e.op, e.row); err != nil {
		return err
	}
	if e.role != 0 {
		if err := writeTuple(w, e.role, e.old); err != nil {
			return err
		}
	}
	if e.op != OpDelete {
		if err := writeTuple(w, New, e.new); err != nil {
			return err
		}
	}
	return w.EndRow()
}

func writeTuple(w *Writer, role TupleRole, t []column) error {
	if err := w.Tuple(role, len(t)); err != nil {
		return err
	}
	for _, c := range t {
		var err error
		switch c.kind {
		case Null:
			err = w.Null()
		case Unchanged:
			err = w.Unchanged()
		default:
			if err = w.Value(len(c.data)); err == nil {
				err = writeBytes(w, c.data)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeBytes sends b in two pieces, so that chunking is always exercised.
func writeBytes(w *Writer, b []byte) error {
	for len(b) > 0 {
		n := (len(b) + 1) / 2
		if err := w.Bytes(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// eventOf turns a Record back into an event, copying everything.
func eventOf(t testing.TB, r *Record) *event {
	e := &event{op: r.Op, begin: r.Begin, commit: r.Commit, typeDef: r.TypeDef, origin: r.Origin, message: r.Message, truncate: r.Truncate}
	e.truncate.Relations = append([]uint32(nil), r.Truncate.Relations...)
	switch r.Op {
	case OpRelation:
		e.relation = r.Relation
	case OpMessage:
		e.content = bytesOf(t, r.Content)
	case OpInsert, OpUpdate, OpDelete:
		e.row, e.role = r.Relation.ID, r.OldRole
		for _, v := range r.Old {
			e.old = append(e.old, column{v.Kind, bytesOf(t, v)})
		}
		for _, v := range r.New {
			e.new = append(e.new, column{v.Kind, bytesOf(t, v)})
		}
	}
	return e
}

func bytesOf(t testing.TB, v Value) []byte {
	if v.Large != nil {
		require.Nil(t, v.Data)
		b, err := io.ReadAll(v.Large)
		require.NoError(t, err)
		return b
	}
	return bytes.Clone(v.Data)
}

// generator makes random streams.
type generator struct {
	*rand.Rand
	maxValue  int
	events    []*event
	lsn       LSN
	time      Timestamp
	xid       uint32
	relations map[uint32]*Relation
	oids      []uint32
}

func newGenerator(seed uint64, maxValue int) *generator {
	return &generator{
		Rand: rand.New(rand.NewPCG(seed, 1)), maxValue: maxValue,
		lsn: 0x1_0000_0000, time: 7e14, xid: 700, relations: make(map[uint32]*Relation),
	}
}

func (g *generator) add(e *event) { g.events = append(g.events, e) }

func (g *generator) text(limit int) []byte {
	n := g.IntN(limit + 1)
	if g.IntN(4) > 0 {
		n = g.IntN(min(limit, 40) + 1)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = "abcdefgh0123456789{}:,\"\x00\xff"[g.IntN(24)]
	}
	return b
}

// define adds a definition: of a new relation, a changed one, or the same again.
func (g *generator) define() {
	var r Relation
	switch {
	case len(g.oids) == 0 || g.IntN(3) == 0:
		r = Relation{ID: g.Uint32(), Namespace: "public", Name: fmt.Sprintf("table_%d", len(g.oids)), Identity: "dnfi"[g.IntN(4)]}
		for range g.IntN(6) {
			r.Columns = append(r.Columns, g.column())
		}
		g.oids = append(g.oids, r.ID)
	case g.IntN(2) == 0:
		r = *g.relations[g.oids[g.IntN(len(g.oids))]]
	default:
		r = *g.relations[g.oids[g.IntN(len(g.oids))]]
		r.Columns = append(append([]Column(nil), r.Columns...), g.column())
	}
	g.relations[r.ID] = &r
	g.add(&event{op: OpRelation, relation: &r})
}

func (g *generator) column() Column {
	return Column{Flags: uint8(g.IntN(2)), Name: fmt.Sprintf("c%d", g.IntN(1000)), TypeOID: g.Uint32(), Modifier: int32(g.Uint32())}
}

func (g *generator) tuple(r *Relation) []column {
	t := make([]column, len(r.Columns))
	for i := range t {
		switch g.IntN(8) {
		case 0:
			t[i].kind = Null
		case 1:
			t[i].kind = Unchanged
		default:
			t[i] = column{Text, g.text(g.maxValue)}
		}
	}
	return t
}

func (g *generator) rowEvent() {
	r := g.relations[g.oids[g.IntN(len(g.oids))]]
	for range 1 + g.IntN(4) {
		e := &event{row: r.ID, op: []Op{OpInsert, OpUpdate, OpDelete}[g.IntN(3)]}
		if e.op != OpInsert {
			e.role = []TupleRole{0, OldKey, OldFull}[g.IntN(3)]
			if e.role == 0 && e.op == OpDelete {
				e.role = OldKey
			}
		}
		if e.role != 0 {
			e.old = g.tuple(r)
		}
		if e.op != OpDelete {
			e.new = g.tuple(r)
		}
		g.add(e)
	}
}

func (g *generator) messageEvent(transactional bool) {
	e := &event{op: OpMessage, content: g.text(g.maxValue)}
	prefix := []string{"", "outbox", messagePrefix, string(bytes.ReplaceAll(g.text(100), []byte{0}, []byte{1}))}[g.IntN(4)]
	switch {
	case prefix != messagePrefix:
	case g.IntN(2) == 0:
		e.content = fmt.Appendf(nil, "mark:before release %d", g.IntN(100))
	default:
		e.content = []byte("ddl:{}")
	}
	e.message = MessageHeader{Transactional: transactional, LSN: g.lsn + LSN(g.IntN(50)), Prefix: prefix, Size: int64(len(e.content))}
	g.add(e)
}

// transaction adds a transaction of some operations.
func (g *generator) transaction(operations int) {
	begin := g.lsn
	g.lsn += LSN(1 + g.IntN(5000))
	g.time += Timestamp(g.IntN(20000) - 2000)
	g.xid += uint32(g.IntN(3))
	b := Begin{CommitLSN: g.lsn, CommitTime: g.time, XID: g.xid}
	g.add(&event{op: OpBegin, begin: b})
	g.lsn = begin
	if g.IntN(10) == 0 {
		g.add(&event{op: OpOrigin, origin: Origin{CommitLSN: LSN(g.Uint64()), Name: "node_b"}})
	}
	for range operations {
		switch n := g.IntN(40); {
		case len(g.oids) == 0 || n == 0:
			g.define()
		case n == 1:
			g.add(&event{op: OpType, typeDef: TypeDef{ID: g.Uint32(), Namespace: "public", Name: "mood"}})
		case n == 2:
			g.messageEvent(true)
		case n == 3:
			g.add(&event{op: OpTruncate, truncate: Truncate{Options: uint8(g.IntN(4)), Relations: []uint32{g.oids[0], g.oids[len(g.oids)-1]}}})
		default:
			g.rowEvent()
		}
	}
	g.lsn = b.CommitLSN + LSN(g.IntN(3)*40)
	g.add(&event{op: OpCommit, commit: Commit{CommitLSN: b.CommitLSN, EndLSN: g.lsn, CommitTime: b.CommitTime}})
	g.lsn++
}

// stream adds transactions, and messages between them.
func (g *generator) stream(transactions, operations int) []*event {
	for range transactions {
		g.transaction(g.IntN(operations + 1))
		if g.IntN(10) == 0 {
			g.messageEvent(false)
		}
	}
	return g.events
}

// written is a finished segment.
type written struct {
	parts   []Part
	summary Summary
	options WriterOptions
}

var testArchive = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func testOptions(partSize, blockSize int) WriterOptions {
	return WriterOptions{Archive: testArchive, History: 3, Epoch: 9, Start: 0x1_0000_0000, PartSize: partSize, BlockSize: blockSize}
}

// writeSegment writes events into a segment held in memory.
func writeSegment(t testing.TB, o WriterOptions, events []*event, before ...func(*Writer)) written {
	s := written{options: o}
	o.Buffer = func() ([]byte, error) { return make([]byte, 0, BufferSize(o.PartSize, o.BlockSize)), nil }
	o.Emit = func(p Part) error {
		s.parts = append(s.parts, p)
		return nil
	}
	w, err := NewWriter(o)
	require.NoError(t, err)
	end := o.Start
	for _, e := range events {
		require.NoError(t, e.write(w))
		if e.op == OpCommit {
			end = max(e.commit.EndLSN, e.commit.CommitLSN+1)
		}
	}
	for _, f := range before {
		f(w)
	}
	s.summary, err = w.Close(end)
	require.NoError(t, err)
	return s
}

// files gives the parts as a Reader wants them.
func (s written) files() func() (PartFile, error) {
	data := make([][]byte, len(s.parts))
	for i := range s.parts {
		data[i] = s.parts[i].Data
	}
	return filesOf(data)
}

func filesOf(data [][]byte) func() (PartFile, error) {
	i := 0
	return func() (PartFile, error) {
		if i == len(data) {
			return PartFile{}, io.EOF
		}
		i++
		return memoryFile(i-1, data[i-1]), nil
	}
}

func memoryFile(i int, b []byte) PartFile {
	return PartFile{R: bytes.NewReader(b), Size: int64(len(b)), Name: fmt.Sprintf("part.%d", i)}
}

// readAll decodes a segment and calls use for every record.
func readAll(next func() (PartFile, error), o ReaderOptions, use func(*Record)) (Summary, error) {
	r := NewReader(next, o)
	defer r.Close()
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Summary(), nil
		}
		if err != nil {
			return Summary{}, err
		}
		use(rec)
	}
}
