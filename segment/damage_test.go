package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// smallSegment is a segment of a few parts that has every kind of operation, every kind of frame, and values that
// span blocks and parts.
func smallSegment(t testing.TB) written {
	return writeSegment(t, testOptions(700, 150), smallEvents(), func(w *Writer) {
		w.SetSequences(0x1_0000_9999, []Sequence{{Namespace: "public", Name: "orders_id_seq", LastValue: 42, IsCalled: true}})
	})
}

func smallEvents() []*event {
	rel := &Relation{ID: 16385, Namespace: "public", Name: "orders", Identity: 'd', Columns: []Column{
		{Flags: 1, Name: "id", TypeOID: 20, Modifier: -1}, {Name: "note", TypeOID: 25, Modifier: -1}}}
	wide := *rel
	wide.Columns = append(rel.Columns[:2:2], Column{Name: "added", TypeOID: 1043, Modifier: 44})
	empty := &Relation{ID: 16390, Namespace: "public", Name: "nothing", Identity: 'f'}
	text := func(s string) column { return column{Text, []byte(s)} }
	long := make([]byte, 0, 900)
	for i := range 300 {
		long = fmt.Appendf(long, "%x", i*i*7919)
	}
	begin := func(n int) *event {
		return &event{op: OpBegin, begin: Begin{CommitLSN: 0x1_0000_0000 + LSN(n)*0x100, CommitTime: 7e14 + Timestamp(n)*1000, XID: uint32(700 + n)}}
	}
	commit := func(b *event) *event {
		return &event{op: OpCommit, commit: Commit{CommitLSN: b.begin.CommitLSN, EndLSN: b.begin.CommitLSN + 0x30, CommitTime: b.begin.CommitTime}}
	}
	message := func(transactional bool, prefix, content string) *event {
		return &event{op: OpMessage, content: []byte(content), message: MessageHeader{Transactional: transactional, LSN: 0x1_0000_0050, Prefix: prefix, Size: int64(len(content))}}
	}
	one, two, three, four := begin(1), begin(2), begin(3), begin(4)
	return []*event{
		one, {op: OpRelation, relation: rel}, {op: OpType, typeDef: TypeDef{ID: 99, Namespace: "public", Name: "mood"}},
		{op: OpInsert, row: rel.ID, new: []column{text("1"), text("first")}},
		{op: OpInsert, row: rel.ID, new: []column{text("2"), {kind: Null}}},
		{op: OpInsert, row: rel.ID, new: []column{text("3"), text(string(long))}},
		commit(one),
		message(false, "outbox", "between transactions"),
		two, {op: OpOrigin, origin: Origin{CommitLSN: 77, Name: "node_b"}},
		{op: OpUpdate, row: rel.ID, new: []column{text("1"), {kind: Unchanged}}},
		{op: OpUpdate, row: rel.ID, role: OldKey, old: []column{text("2"), {kind: Null}}, new: []column{text("22"), text("")}},
		{op: OpRelation, relation: &wide},
		{op: OpUpdate, row: rel.ID, role: OldFull, old: []column{text("3"), text("a"), {kind: Null}}, new: []column{text("3"), text("b"), text("c")}},
		commit(two),
		three, {op: OpRelation, relation: &wide}, {op: OpRelation, relation: empty},
		{op: OpInsert, row: empty.ID}, {op: OpInsert, row: empty.ID},
		{op: OpDelete, row: rel.ID, role: OldKey, old: []column{text("1"), {kind: Null}, {kind: Null}}},
		{op: OpDelete, row: rel.ID, role: OldFull, old: []column{text("3"), text("b"), text("c")}},
		{op: OpTruncate, truncate: Truncate{Options: 3, Relations: []uint32{rel.ID, empty.ID}}},
		message(true, messagePrefix, "mark:before the release"), message(true, messagePrefix, `ddl:{"command":"ALTER TABLE"}`),
		message(true, "big", string(long)),
		commit(three), four, commit(four),
	}
}

func partsOf(s written) [][]byte {
	data := make([][]byte, len(s.parts))
	for i, p := range s.parts {
		data[i] = bytes.Clone(p.Data)
	}
	return data
}

func decode(data [][]byte) error {
	_, err := readAll(filesOf(data), ReaderOptions{}, func(*Record) {})
	return err
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	s := smallSegment(t)
	data := partsOf(s)
	require.Greater(t, len(data), 2)
	require.NoError(t, decode(data))
	for i, part := range data {
		for at := range part {
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				part[at] ^= flip
				err := decode(data)
				require.ErrorIs(t, err, ErrCorrupt, "part %d byte %d flipped by %02x", i, at, flip)
				damage, ok := errors.AsType[*CorruptError](err)
				require.True(t, ok)
				require.Equal(t, fmt.Sprintf("part.%d", i), damage.Name, "byte %d", at)
				require.LessOrEqual(t, damage.Offset, int64(at))
				part[at] ^= flip
			}
		}
	}
}

func TestEveryFlippedByteOfTheIndexIsFoundByReadIndex(t *testing.T) {
	s := smallSegment(t)
	last := partsOf(s)[len(s.parts)-1]
	f, err := memoryFile(0, last).readFooter()
	require.NoError(t, err)
	for at := int(f.indexOffset); at < len(last); at++ {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			last[at] ^= flip
			_, err := ReadIndex(memoryFile(0, last))
			require.ErrorIs(t, err, ErrCorrupt, "byte %d flipped by %02x", at, flip)
			_, err = ReadIndexFrom(memoryFile(0, last), f.to)
			require.ErrorIs(t, err, ErrCorrupt, "byte %d flipped by %02x", at, flip)
			last[at] ^= flip
		}
	}
}

func TestEveryTruncationIsFound(t *testing.T) {
	data := partsOf(smallSegment(t))
	for i, part := range data {
		for n := range part {
			data[i] = part[:n]
			require.ErrorIs(t, decode(data), ErrCorrupt, "part %d cut to %d bytes", i, n)
			if i == len(data)-1 {
				_, err := ReadIndex(memoryFile(i, part[:n]))
				require.ErrorIs(t, err, ErrCorrupt)
			}
			// The object may also be shorter than its size says.
			file := memoryFile(i, part[:n])
			file.Size = int64(len(part))
			_, err := readFooterAndHeader(file)
			require.ErrorIs(t, err, ErrCorrupt)
		}
		data[i] = part
		data[i] = append(bytes.Clone(part), 0)
		require.ErrorIs(t, decode(data), ErrCorrupt, "part %d with a byte more", i)
		data[i] = part
	}
}

func readFooterAndHeader(p PartFile) (footer, error) {
	if _, err := p.readHeader(); err != nil {
		return footer{}, err
	}
	return p.readFooter()
}

func TestPartsOutOfPlace(t *testing.T) {
	data := partsOf(smallSegment(t))
	other := partsOf(writeSegment(t, WriterOptions{Archive: testArchive, History: 4, Epoch: 9, Start: 0x1_0000_0000, PartSize: 700, BlockSize: 150}, smallEvents()))
	n := len(data)
	for name, parts := range map[string][][]byte{
		"none":               {},
		"first missing":      data[1:],
		"last missing":       data[:n-1],
		"middle missing":     append(data[:1:1], data[2:]...),
		"swapped":            append([][]byte{data[1], data[0]}, data[2:]...),
		"one twice":          append([][]byte{data[0]}, data...),
		"one more":           append(data[:n:n], data[n-1]),
		"of another history": append([][]byte{other[0]}, data[1:]...),
	} {
		t.Run(name, func(t *testing.T) { require.ErrorIs(t, decode(parts), ErrCorrupt) })
	}
}

func TestExpect(t *testing.T) {
	s := smallSegment(t)
	right := Identity{Archive: testArchive, History: 3, Epoch: 9, From: 0x1_0000_0000, To: s.summary.To}
	wrong := map[string]func(*Identity){
		"archive": func(i *Identity) { i.Archive[0]++ },
		"history": func(i *Identity) { i.History++ },
		"epoch":   func(i *Identity) { i.Epoch++ },
		"from":    func(i *Identity) { i.From++ },
		"to":      func(i *Identity) { i.To++ },
	}
	_, err := readAll(s.files(), ReaderOptions{Expect: right}, func(*Record) {})
	require.NoError(t, err)
	for name, change := range wrong {
		t.Run(name, func(t *testing.T) {
			expect := right
			change(&expect)
			_, err := readAll(s.files(), ReaderOptions{Expect: expect}, func(*Record) {})
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}

func TestNewerVersionIsRefusedByName(t *testing.T) {
	data := partsOf(smallSegment(t))
	for _, part := range data {
		binary.LittleEndian.PutUint16(part[8:], FormatVersion+1)
		binary.LittleEndian.PutUint32(part[60:], checksum(part[:60]))
		foot := part[len(part)-footerSize:]
		clear(foot[:54]) // may mean anything
		binary.LittleEndian.PutUint16(foot[54:], FormatVersion+1)
		binary.LittleEndian.PutUint32(foot[56:], checksum(foot[:56]))
	}
	err := decode(data)
	newer, ok := errors.AsType[*VersionError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, VersionError{Name: "part.0", Version: FormatVersion + 1}, *newer)
	require.NotErrorIs(t, err, ErrCorrupt)
	require.True(t, strings.Contains(err.Error(), "version 3"))

	_, err = ReadIndex(memoryFile(0, data[len(data)-1]))
	_, ok = errors.AsType[*VersionError](err)
	require.True(t, ok, "%v", err)
}

// TestIndexIsProvedByDecoding changes the account behind an otherwise perfect index: only a comparison with the
// operations finds it.
func TestIndexIsProvedByDecoding(t *testing.T) {
	for name, change := range map[string]func(*ledger){
		"a transaction's counts": func(l *ledger) { l.transactions.raw[len(l.transactions.raw)-1]++ },
		"a block's length":       func(l *ledger) { l.blocks.raw[len(l.blocks.raw)-2]++ },
		"a definition":           func(l *ledger) { l.relations.raw[8] ^= 1 },
		"a prefix's count":       func(l *ledger) { l.prefixes[0].Count++ },
		"a mark":                 func(l *ledger) { l.messages.raw[3] ^= 1 },
		"the number of inserts":  func(l *ledger) { l.tallies[0].total.Inserts++ },
		"the raw bytes":          func(l *ledger) { l.RawBytes++ },
		"the least commit time":  func(l *ledger) { l.MinCommitTime-- },
		"the number of DDL":      func(l *ledger) { l.DDL++ },
	} {
		t.Run(name, func(t *testing.T) {
			s := writeSegment(t, testOptions(700, 150), smallEvents(), func(w *Writer) { change(w.ledger) })
			require.ErrorIs(t, decode(partsOf(s)), ErrCorrupt)
		})
	}
}

// TestRulesOfTheStream writes control frames that the Writer never would, with right checksums.
func TestRulesOfTheStream(t *testing.T) {
	valid := newLedger(Identity{From: 1000}, false).prev
	prelude := func(ops ...byte) []byte {
		b := binary.AppendUvarint(nil, uint64(valid.lsn))
		return append(append(b, 0, 0), ops...)
	}
	relation := append([]byte{codeRelation}, appendRelation(nil, eventsRelation)...)
	begin, commit := []byte{codeBegin, 10, 2, 2}, []byte{codeCommit, 0, 5}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, b := range map[string][]byte{
		"commit without begin":        commit,
		"begin in a transaction":      join(begin, begin),
		"commits that don't rise":     join(begin, commit, []byte{codeBegin, 0, 2, 2}),
		"LSN beyond 64 bits":          append([]byte{codeBegin}, append(binary.AppendUvarint(nil, ^uint64(0)), 0, 0)...),
		"end LSN beyond 64 bits":      join(begin, []byte{codeCommit, 0}, binary.AppendUvarint(nil, ^uint64(0))),
		"negative xid":                {codeBegin, 10, 2, 1},
		"unknown opcode":              {0x7f},
		"row outside a transaction":   join(relation, []byte{codeInsert, 0}),
		"row of an undefined version": join(relation, begin, []byte{codeInsert, 1}),
		"a run of one":                join(relation, begin, []byte{codeInsert | repeated, 0, 1}),
		"too many rows":               join(relation, begin, []byte{codeInsert | repeated, 0}, binary.AppendUvarint(nil, 1<<40)),
		"again without a definition":  {codeRelationAgain, 0},
		"origin outside":              {codeOrigin, 1, 0},
		"truncate outside":            join(relation, []byte{codeTruncate, 0, 1, 0}),
		"truncate of nothing known":   join(begin, []byte{codeTruncate, 0, 1, 0}),
		"transactional message":       {codeMessage, 1, 0, 0, 0},
		"message with unknown flags":  join(begin, []byte{codeMessage, 2, 0, 0, 0}),
		"many columns":                {codeRelation, 1, 0, 0, 'd', 0xff, 0xff, 0x03},
		"a cut field":                 {codeType, 1, 9},
	} {
		t.Run(name, func(t *testing.T) {
			s := streamState{delta: valid, inForce: map[uint32]int{}}
			_, err := s.parseControl(prelude(b...), nil)
			require.Error(t, err)
		})
	}
	s := streamState{delta: valid, inForce: map[uint32]int{}}
	ops, err := s.parseControl(prelude(join(relation, begin, []byte{codeInsert | repeated, 0, 2}, commit)...), nil)
	require.NoError(t, err)
	require.Len(t, ops, 4)
	_, err = (&streamState{delta: delta{lsn: 5}, inForce: map[uint32]int{}}).parseControl(prelude(), nil)
	require.ErrorIs(t, err, errPrelude)
}
