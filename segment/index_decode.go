package segment

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"
	"slices"
)

var (
	errCounts = errors.New("its counts are not those of the index")
	errFooter = errors.New("its counts are not those of the footer")
	errDigest = errors.New("its digests are not those of the index")
)

// indexDecoder decodes the chunks of an index.
type indexDecoder struct {
	*Index
	name string
	foot footer
	sums [digests]section // only hashing

	stored  [digests][sha256.Size]byte // what the summary says
	counts  summaryCounts
	got     bool
	from    LSN // transactions that committed before it are not kept
	seen    int64
	prev    Transaction
	prevBlk Block
	slab    []Change // room for changes
	passing []Change // those of a transaction that is not kept
	changed []Change // sums by relation
	sampled bool
	last    chunk // where the summary stands
}

// summaryCounts are the lengths that a summary states.
type summaryCounts struct{ relations, transactions, blocks, marks int64 }

func newIndexDecoder(name string, f footer) *indexDecoder {
	d := &indexDecoder{Index: &Index{}, name: name, foot: f}
	for i := range d.sums {
		d.sums[i] = newSection(byte(i+1), false)
	}
	return d
}

func (d *indexDecoder) chunk(c chunk) error {
	d.last = chunk{kind: c.kind, offset: c.offset}
	if c.kind != sectionSummary {
		d.sums[c.kind-1].sum.Write(c.raw)
	}
	cur := &cursor{b: c.raw}
	for cur.err == nil && cur.rest() > 0 {
		switch c.kind {
		case sectionRelations:
			d.Relations = append(d.Relations, *cur.relation())
		case sectionTransactions:
			d.transaction(cur)
		case sectionBlocks:
			d.block(cur)
		case sectionMessages:
			d.message(cur)
		case sectionSequences:
			d.sequence(cur)
		case sectionSummary:
			d.summary(cur)
		}
	}
	if cur.err != nil {
		return c.errAt(d.name, cur.err)
	}
	return nil
}

func (d *indexDecoder) transaction(c *cursor) {
	rise, gap := c.uvarint(), c.uvarint()
	t := Transaction{CommitLSN: d.prev.CommitLSN + LSN(rise)}
	t.EndLSN = t.CommitLSN + LSN(gap)
	t.CommitTime = d.prev.CommitTime + Timestamp(c.svarint())
	xid := int64(d.prev.XID) + c.svarint()
	t.Block = d.prev.Block + int(c.limited(maxVersions))
	bits := c.uvarint()
	t.Foreign = bits&bitForeign != 0
	if bits&bitMessages != 0 {
		t.Messages, t.DDL = int(c.limited(maxVersions)), int(c.limited(maxVersions))
	}
	n := bits >> shiftChanges
	if xid < 0 || xid > math.MaxUint32 || n > uint64(c.rest()) || t.CommitLSN < d.prev.CommitLSN || t.EndLSN < t.CommitLSN ||
		d.seen > 0 && rise == 0 {
		c.fail(errRange)
		return
	}
	t.XID = uint32(xid)
	keep := t.CommitLSN >= d.from
	if keep {
		t.Changes = d.changes(int(n))
	} else {
		d.passing = slices.Grow(d.passing[:0], int(n))[:n]
		t.Changes = d.passing
	}
	for i := range t.Changes {
		t.Changes[i] = d.change(c)
	}
	d.prev = t
	d.seen++
	if keep {
		d.Transactions = append(d.Transactions, t)
	}
}

// changes returns room for n changes, cut from larger pieces of memory.
func (d *indexDecoder) changes(n int) []Change {
	if n == 0 {
		return nil
	}
	if n > len(d.slab) {
		d.slab = make([]Change, max(n, min(4096, 2*len(d.Transactions))))
	}
	room := d.slab[:n:n]
	d.slab = d.slab[n:]
	return room
}

func (d *indexDecoder) change(c *cursor) Change {
	v := Change{Relation: int(c.limited(maxVersions))}
	mask := c.byte()
	if v.Relation >= len(d.Relations) || mask > 15 {
		c.fail(errVersion)
		return v
	}
	for i, n := range [...]*int64{&v.Inserts, &v.Updates, &v.Deletes, &v.Truncates} {
		if mask&(1<<i) != 0 {
			*n = c.int64()
		}
	}
	d.changed = slices.Grow(d.changed, len(d.Relations)-len(d.changed))[:len(d.Relations)]
	d.changed[v.Relation].include(v)
	return v
}

// include adds other counts.
func (c *Change) include(o Change) {
	c.Inserts += o.Inserts
	c.Updates += o.Updates
	c.Deletes += o.Deletes
	c.Truncates += o.Truncates
}

func (d *indexDecoder) block(c *cursor) {
	step := int(c.limited(maxVersions))
	b := Block{Part: d.prevBlk.Part + step}
	flags := c.byte()
	b.Inside, b.Continues, b.GoesOn = flags&blockInside != 0, flags&blockContinues != 0, flags&blockGoesOn != 0
	b.Transaction = d.prevBlk.Transaction + c.int64()
	n := c.limited(maxFrames)
	if n > uint64(c.rest())/3 {
		c.fail(errShort)
		return
	}
	if b.Offset = headerSize; step == 0 && len(d.Blocks) > 0 {
		b.Offset = d.prevBlk.Offset + d.prevBlk.Length
	}
	b.Length = blockFixedSize + dirEntrySize*int64(n) + crcSize
	b.Frames = make([]Frame, n)
	for i := range b.Frames {
		f := Frame{Relation: int(c.uint32()) - streamTuples, Offset: b.Offset + b.Length, Stored: int64(c.uint32()), Raw: int64(c.limited(maxFrameRaw))}
		if f.Relation >= len(d.Relations) {
			c.fail(errVersion)
		}
		b.Length += f.Stored
		b.Frames[i] = f
	}
	d.prevBlk = b
	d.Blocks = append(d.Blocks, b)
}

func (d *indexDecoder) message(c *cursor) {
	switch kind := c.byte(); kind {
	case recordPrefix, recordOthers:
		d.Prefixes = append(d.Prefixes, PrefixCount{Prefix: c.string(), Others: kind == recordOthers, Count: c.int64()})
	case recordMark:
		d.Marks = append(d.Marks, Mark{Name: c.string(), LSN: LSN(c.uvarint()), Time: Timestamp(c.svarint())})
		if t := c.uvarint(); t >= uint64(d.seen) {
			c.fail(errRange)
		}
	default:
		c.fail(errOpcode)
	}
}

func (d *indexDecoder) sequence(c *cursor) {
	if !d.sampled {
		d.sampled = true
		d.SequencesLSN = LSN(c.uvarint())
		return
	}
	q := Sequence{Namespace: c.string(), Name: c.string(), LastValue: c.svarint()}
	called := c.byte()
	if called > 1 {
		c.fail(errRange)
	}
	q.IsCalled = called == 1
	d.Sequences = append(d.Sequences, q)
}

// summary decodes the summary's one record.
func (d *indexDecoder) summary(c *cursor) {
	if d.got {
		c.fail(errOpcode)
		return
	}
	d.got = true
	s := &d.Summary
	copy(s.Archive[:], c.bytes(16))
	s.History, s.Epoch, s.From, s.To = c.uint32(), c.uvarint(), LSN(c.uvarint()), LSN(c.uvarint())
	n := &d.counts
	var blocks int64
	for _, v := range []*int64{&n.relations, &s.Transactions, &blocks, &s.Operations, &s.Inserts, &s.Updates, &s.Deletes,
		&s.Truncates, &s.Messages, &s.DDL, &n.marks, &s.RawBytes} {
		*v = c.int64()
	}
	n.transactions, n.blocks = s.Transactions, blocks
	s.Blocks = int(blocks)
	s.FirstCommitLSN, s.LastCommitLSN = LSN(c.uvarint()), LSN(c.uvarint())
	for _, t := range []*Timestamp{&s.FirstCommitTime, &s.LastCommitTime, &s.MinCommitTime, &s.MaxCommitTime} {
		*t = Timestamp(c.svarint())
	}
	s.MinXID, s.MaxXID = c.uint32(), c.uint32()
	for i := range d.stored {
		copy(d.stored[i][:], c.bytes(sha256.Size))
	}
}

// finish checks what was decoded against the summary, and completes it.
func (d *indexDecoder) finish() error {
	n := d.counts
	if int64(len(d.Relations)) != n.relations || d.seen != n.transactions ||
		int64(len(d.Blocks)) != n.blocks || int64(len(d.Marks)) != n.marks {
		return d.last.errAt(d.name, errCounts)
	}
	if n.transactions != d.foot.transactions || d.Summary.Operations != d.foot.operations || d.Summary.To != d.foot.to {
		return d.last.errAt(d.name, errFooter)
	}
	for i := range d.sums {
		if s := &d.sums[i]; d.stored[i] != s.digest() {
			return d.last.errAt(d.name, errDigest)
		}
	}
	s := &d.Summary
	d.Identity = s.Identity
	s.Parts = d.foot.part + 1
	s.Marks, s.SequencesLSN, s.Sequences = d.Marks, d.SequencesLSN, len(d.Sequences)
	if d.seen > 0 && d.prev.Block >= len(d.Blocks) { // they never fall
		return d.last.errAt(d.name, errCounts)
	}
	names := make([]string, len(d.Relations))
	for i := range d.Relations {
		names[i] = d.Relations[i].String()
	}
	changes := make([]Change, len(d.Relations))
	copy(changes, d.changed)
	s.Tables, s.TablesCut = tableCounts(names, changes)
	return nil
}

// checkIndex compares the index with the account that was kept while reading.
func (r *Reader) checkIndex() error {
	l := r.ledger
	d := newIndexDecoder(r.part.Name, r.foot)
	var summary []byte
	err := scanIndex(r.part, r.foot, func(c chunk) error {
		if c.kind >= sectionSequences {
			if err := d.chunk(c); err != nil {
				return err
			}
			if c.kind == sectionSummary {
				summary = bytes.Clone(c.raw)
			}
			return nil
		}
		d.sums[c.kind-1].sum.Write(c.raw)
		return nil
	})
	if err != nil {
		return err
	}
	own := l.seal(r.foot.to)
	for i := range d.sums {
		sum := d.sums[i].digest()
		if i+1 != sectionSequences && sum != own[i] {
			return corrupt(r.part.Name, r.foot.indexOffset, "section %d of the index is not that of the segment's operations", i+1)
		}
		own[i] = sum
	}
	l.SequencesLSN, l.Sequences = d.SequencesLSN, len(d.Sequences)
	l.StoredBytes, l.Parts = r.stored, r.opened
	if r.partial {
		l.RawBytes = d.Summary.RawBytes
	}
	if !bytes.Equal(summary, l.appendSummary(nil, own)) {
		return corrupt(r.part.Name, d.last.offset, "the index's summary is not that of the segment's operations")
	}
	return nil
}
