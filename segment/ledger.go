package segment

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxPrefixes   = 256 // distinct message prefixes that the index counts
	prefixCut     = 64  // bytes of a prefix that it keeps
	maxMarkName   = 255
	messagePrefix = "tidemark"
	markPrefix    = "mark:"
	ddlPrefix     = "ddl:"
	maxPeek       = len(markPrefix) + maxMarkName
	recordPrefix  = 1 // kinds of records in the messages section
	recordMark    = 2
	recordOthers  = 3
	bitForeign    = 1 // bits of a transaction's record
	bitMessages   = 2
	shiftChanges  = 2
)

// Change is what a transaction did to one relation.
type Change struct {
	Relation  int // index into Index.Relations
	Inserts   int64
	Updates   int64
	Deletes   int64
	Truncates int64
}

// add counts n rows of a row opcode.
func (c *Change) add(code byte, n int64) {
	switch opOf(code) {
	case OpInsert:
		c.Inserts += n
	case OpUpdate:
		c.Updates += n
	default:
		c.Deletes += n
	}
}

// PrefixCount says how many logical messages had a prefix.
type PrefixCount struct {
	Prefix string // cut to 64 bytes; empty for the empty prefix and for all that were too many
	Others bool   // the count of those that are not listed
	Count  int64
}

// delta is what the deltas of commits refer to.
type delta struct {
	lsn  LSN
	time Timestamp
	xid  uint32
}

// dirEntry is one entry of a block's frame directory.
type dirEntry struct{ stream, stored, raw, crc uint32 }

// tally is the account of one relation version.
type tally struct {
	name  string
	total Change
	tx    Change // in the open transaction, if seen is its ordinal
	seen  int64
}

// ledger keeps the account of a segment that becomes its index. The writer keeps one while writing, the
// reader one while reading: that both come to the same bytes proves the index.
type ledger struct {
	Summary
	relations    section
	transactions section
	blocks       section
	messages     section
	sequences    section

	tallies []tally
	touched []int // versions changed by the open transaction
	begun   int64 // transactions begun

	tx struct {
		begin         Begin
		block         uint32
		foreign       bool
		messages, ddl int64
	}
	prev      delta
	prevBlock uint32 // of the last transaction's begin
	prevPart  uint32 // of the last block
	prevBegun int64  // of the last block

	prefixes []PrefixCount
	prefixAt map[string]int
	others   int64
}

// newLedger starts an account; keep says whether the index will be asked for.
func newLedger(id Identity, keep bool) *ledger {
	return &ledger{
		Summary:      Summary{Identity: id},
		relations:    newSection(sectionRelations, keep),
		transactions: newSection(sectionTransactions, keep),
		blocks:       newSection(sectionBlocks, keep),
		messages:     newSection(sectionMessages, keep),
		sequences:    newSection(sectionSequences, keep),
		prev:         delta{lsn: id.From},
		prefixAt:     make(map[string]int),
	}
}

// relation adds a relation version, given with its encoding.
func (l *ledger) relation(name string, encoded []byte) {
	l.tallies = append(l.tallies, tally{name: name})
	l.relations.raw = append(l.relations.raw, encoded...)
	l.relations.end()
}

// block adds a block; begun is the number of transactions that began before it.
func (l *ledger) block(part uint32, flags byte, begun int64, frames []dirEntry) {
	b := binary.AppendUvarint(l.blocks.raw, uint64(part-l.prevPart))
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(begun-l.prevBegun))
	b = binary.AppendUvarint(b, uint64(len(frames)))
	for _, f := range frames {
		b = binary.AppendUvarint(b, uint64(f.stream))
		b = binary.AppendUvarint(b, uint64(f.stored))
		b = binary.AppendUvarint(b, uint64(f.raw))
	}
	l.blocks.raw = b
	l.blocks.end()
	l.prevPart, l.prevBegun = part, begun
	l.Blocks++
}

func (l *ledger) begin(b Begin, block uint32) {
	l.begun++
	l.tx.begin, l.tx.block = b, block
	l.tx.foreign, l.tx.messages, l.tx.ddl = false, 0, 0
	l.touched = l.touched[:0]
	l.Operations++
	l.RawBytes += rawBegin
}

func (l *ledger) origin() {
	l.tx.foreign = true
	l.Operations++
}

// change returns the open transaction's account of a relation version.
func (l *ledger) change(version int) *tally {
	t := &l.tallies[version]
	if t.seen != l.begun {
		t.seen, t.tx = l.begun, Change{Relation: version}
		l.touched = append(l.touched, version)
	}
	return t
}

// rows counts n rows of a row opcode.
func (l *ledger) rows(version int, code byte, n int64) {
	t := l.change(version)
	t.tx.add(code, n)
	t.total.add(code, n)
	l.Operations += n
}

func (l *ledger) truncate(versions []int) {
	for _, v := range versions {
		t := l.change(v)
		t.tx.Truncates++
		t.total.Truncates++
	}
	l.Operations++
	l.RawBytes += rawTruncate + 4*int64(len(versions))
}

// message counts a logical message; peek is its content or the first maxPeek + 1 bytes of it.
func (l *ledger) message(h MessageHeader, peek []byte) {
	l.Messages++
	l.Operations++
	l.RawBytes += rawContent(h)
	l.prefix(h.Prefix)
	if !h.Transactional {
		return
	}
	l.tx.messages++
	if h.Prefix != messagePrefix {
		return
	}
	if bytes.HasPrefix(peek, []byte(ddlPrefix)) {
		l.DDL++
		l.tx.ddl++
	}
	if name, ok := bytes.CutPrefix(peek, []byte(markPrefix)); ok && len(name) > 0 && len(name) <= maxMarkName && utf8.Valid(name) {
		m := Mark{Name: string(name), LSN: h.LSN, Time: l.tx.begin.CommitTime}
		l.Marks = append(l.Marks, m)
		b := append(l.messages.raw, recordMark)
		b = appendString(b, m.Name)
		b = binary.AppendUvarint(b, uint64(m.LSN))
		b = appendSvarint(b, int64(m.Time))
		l.messages.raw = binary.AppendUvarint(b, uint64(l.begun-1))
		l.messages.end()
	}
}

func (l *ledger) prefix(p string) {
	if len(p) > prefixCut {
		p = p[:prefixCut]
	}
	i, ok := l.prefixAt[p]
	switch {
	case ok:
		l.prefixes[i].Count++
	case len(l.prefixes) == maxPrefixes:
		l.others++
	default:
		p = strings.Clone(p)
		l.prefixAt[p] = len(l.prefixes)
		l.prefixes = append(l.prefixes, PrefixCount{Prefix: p, Count: 1})
	}
}

// commit ends the open transaction and adds it to the index.
func (l *ledger) commit(c Commit) {
	l.Operations++
	l.RawBytes += rawCommit
	l.count()
	base := l.prev.lsn
	if l.Transactions == 1 {
		base = 0 // so that the index can be read without the header
	}
	b := binary.AppendUvarint(l.transactions.raw, uint64(c.CommitLSN-base))
	b = binary.AppendUvarint(b, uint64(c.EndLSN-c.CommitLSN))
	b = appendSvarint(b, int64(c.CommitTime-l.prev.time))
	b = appendSvarint(b, int64(l.tx.begin.XID)-int64(l.prev.xid))
	b = binary.AppendUvarint(b, uint64(l.tx.block-l.prevBlock))
	bits := uint64(len(l.touched)) << shiftChanges
	if l.tx.foreign {
		bits |= bitForeign
	}
	if l.tx.messages > 0 {
		bits |= bitMessages
	}
	b = binary.AppendUvarint(b, bits)
	if l.tx.messages > 0 {
		b = binary.AppendUvarint(b, uint64(l.tx.messages))
		b = binary.AppendUvarint(b, uint64(l.tx.ddl))
	}
	for _, v := range l.touched {
		b = appendChange(b, l.tallies[v].tx)
	}
	l.transactions.raw = b
	l.transactions.end()
	l.prev = delta{lsn: c.CommitLSN, time: c.CommitTime, xid: l.tx.begin.XID}
	l.prevBlock = l.tx.block
}

// count puts the open transaction into the sums.
func (l *ledger) count() {
	b := l.tx.begin
	if l.Transactions == 0 {
		l.FirstCommitLSN, l.FirstCommitTime = b.CommitLSN, b.CommitTime
		l.MinXID, l.MaxXID = b.XID, b.XID
	}
	l.LastCommitLSN, l.LastCommitTime = b.CommitLSN, b.CommitTime
	l.MinXID, l.MaxXID = min(l.MinXID, b.XID), max(l.MaxXID, b.XID)
	if !l.tx.foreign {
		if l.MinCommitTime == 0 || b.CommitTime < l.MinCommitTime {
			l.MinCommitTime = b.CommitTime
		}
		if l.MaxCommitTime == 0 || b.CommitTime > l.MaxCommitTime {
			l.MaxCommitTime = b.CommitTime
		}
	}
	l.Transactions++
}

func appendChange(b []byte, c Change) []byte {
	b = binary.AppendUvarint(b, uint64(c.Relation))
	at := len(b)
	b = append(b, 0)
	for i, n := range [...]int64{c.Inserts, c.Updates, c.Deletes, c.Truncates} {
		if n != 0 {
			b[at] |= 1 << i
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

// addSequences adds the sample of sequences to the index.
func (l *ledger) addSequences(lsn LSN, sequences []Sequence) {
	s := &l.sequences
	s.raw = binary.AppendUvarint(s.raw, uint64(lsn))
	for _, q := range sequences {
		s.raw = appendString(s.raw, q.Namespace)
		s.raw = appendString(s.raw, q.Name)
		s.raw = appendSvarint(s.raw, q.LastValue)
		called := byte(0)
		if q.IsCalled {
			called = 1
		}
		s.raw = append(s.raw, called)
		s.end()
	}
	l.SequencesLSN, l.Sequences = lsn, len(sequences)
}

// seal completes sections and sums, and returns the digests of sections 1 to 4 (the fifth is that of
// the sequences added).
func (l *ledger) seal(to LSN) (d [digests][sha256.Size]byte) {
	l.To = to
	for _, p := range l.prefixes {
		l.addPrefix(recordPrefix, p)
	}
	if l.others > 0 {
		l.addPrefix(recordOthers, PrefixCount{Count: l.others})
	}
	names := make([]string, len(l.tallies))
	changes := make([]Change, len(l.tallies))
	for i, t := range l.tallies {
		names[i], changes[i] = t.name, t.total
		l.Inserts += t.total.Inserts
		l.Updates += t.total.Updates
		l.Deletes += t.total.Deletes
		l.Truncates += t.total.Truncates
	}
	l.Tables, l.TablesCut = tableCounts(names, changes)
	for i, s := range l.sections() {
		d[i] = s.digest()
	}
	return d
}

func (l *ledger) addPrefix(kind byte, p PrefixCount) {
	b := append(l.messages.raw, kind)
	b = appendString(b, p.Prefix)
	l.messages.raw = binary.AppendUvarint(b, uint64(p.Count))
	l.messages.end()
}

func (l *ledger) sections() [digests]*section {
	return [digests]*section{&l.relations, &l.transactions, &l.blocks, &l.messages, &l.sequences}
}

// index completes the account and returns the encoded index.
func (l *ledger) index(to LSN) ([]byte, error) {
	d := l.seal(to)
	var out []byte
	var raw int64
	huge := false
	for _, s := range l.sections() {
		out = append(out, s.out...)
		raw += s.size
		huge = huge || s.huge
	}
	if huge || raw > maxIndexRaw-maxFrameRaw {
		return nil, errors.New("segment: the index is too large: close segments earlier")
	}
	return appendChunk(out, sectionSummary, l.appendSummary(nil, d)), nil
}

// appendSummary encodes the record of the summary section.
func (l *ledger) appendSummary(b []byte, d [digests][sha256.Size]byte) []byte {
	s := &l.Summary
	b = append(b, s.Archive[:]...)
	for _, v := range []uint64{uint64(s.History), s.Epoch, uint64(s.From), uint64(s.To)} {
		b = binary.AppendUvarint(b, v)
	}
	for _, v := range []int64{int64(len(l.tallies)), s.Transactions, int64(s.Blocks), s.Operations,
		s.Inserts, s.Updates, s.Deletes, s.Truncates, s.Messages, s.DDL, int64(len(s.Marks)), s.RawBytes} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = binary.AppendUvarint(b, uint64(s.FirstCommitLSN))
	b = binary.AppendUvarint(b, uint64(s.LastCommitLSN))
	for _, v := range []Timestamp{s.FirstCommitTime, s.LastCommitTime, s.MinCommitTime, s.MaxCommitTime} {
		b = appendSvarint(b, int64(v))
	}
	b = binary.AppendUvarint(b, uint64(s.MinXID))
	b = binary.AppendUvarint(b, uint64(s.MaxXID))
	return append(b, slices.Concat(d[0][:], d[1][:], d[2][:], d[3][:], d[4][:])...)
}
