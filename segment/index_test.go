package segment

import (
	"cmp"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// model computes from events what the index should say.
type model struct {
	transactions []Transaction
	marks        []Mark
	prefixes     map[string]int64
	versions     []Relation
	current      map[uint32]int
}

func newModel(events []*event) *model {
	m := &model{prefixes: map[string]int64{}, current: map[uint32]int{}}
	var tx *Transaction
	for _, e := range events {
		switch e.op {
		case OpBegin:
			tx = &Transaction{XID: e.begin.XID, CommitLSN: e.begin.CommitLSN, CommitTime: e.begin.CommitTime}
		case OpOrigin:
			tx.Foreign = true
		case OpCommit:
			tx.EndLSN = e.commit.EndLSN
			m.transactions = append(m.transactions, *tx)
			tx = nil
		case OpRelation:
			m.define(e.relation)
		case OpMessage:
			m.message(e, tx)
		case OpTruncate:
			for _, id := range e.truncate.Relations {
				m.change(tx, id).Truncates++
			}
		case OpInsert:
			m.change(tx, e.row).Inserts++
		case OpUpdate:
			m.change(tx, e.row).Updates++
		case OpDelete:
			m.change(tx, e.row).Deletes++
		}
	}
	return m
}

func (m *model) define(r *Relation) {
	v, ok := m.current[r.ID]
	if ok && string(appendRelation(nil, &m.versions[v])) == string(appendRelation(nil, r)) {
		return
	}
	m.current[r.ID] = len(m.versions)
	m.versions = append(m.versions, *r)
}

func (m *model) message(e *event, tx *Transaction) {
	m.prefixes[e.message.Prefix[:min(len(e.message.Prefix), prefixCut)]]++
	if !e.message.Transactional {
		return
	}
	tx.Messages++
	if e.message.Prefix != "tidemark" {
		return
	}
	content := string(e.content)
	if len(content) >= 4 && content[:4] == "ddl:" {
		tx.DDL++
	}
	if len(content) > 5 && content[:5] == "mark:" {
		m.marks = append(m.marks, Mark{Name: content[5:], LSN: e.message.LSN, Time: tx.CommitTime})
	}
}

func (m *model) change(tx *Transaction, id uint32) *Change {
	v := m.current[id]
	for i := range tx.Changes {
		if tx.Changes[i].Relation == v {
			return &tx.Changes[i]
		}
	}
	tx.Changes = append(tx.Changes, Change{Relation: v})
	return &tx.Changes[len(tx.Changes)-1]
}

// TestIndexAgainstModel compares indexes of random streams with what the events say, and their block directories with
// where the parts really have blocks.
func TestIndexAgainstModel(t *testing.T) {
	seed := testSeed(t)
	for i := range uint64(20) {
		g := newGenerator(seed+i, 500)
		events := g.stream(1+g.IntN(100), 30)
		s := writeSegment(t, testOptions(1+g.IntN(20000), 1+g.IntN(3000)), events)
		index, err := ReadIndex(memoryFile(0, s.parts[len(s.parts)-1].Data))
		require.NoError(t, err)
		m := newModel(events)

		require.Equal(t, s.summary.Identity, index.Identity)
		require.Len(t, index.Transactions, len(m.transactions))
		for j, tx := range index.Transactions {
			b := index.Blocks[tx.Block]
			require.LessOrEqual(t, b.Transaction, int64(j))
			if tx.Block+1 < len(index.Blocks) {
				require.Greater(t, index.Blocks[tx.Block+1].Transaction, int64(j))
			}
			tx.Block = 0
			require.Equal(t, m.transactions[j], tx)
		}
		require.Equal(t, m.marks, index.Marks)
		require.Len(t, index.Relations, len(m.versions))
		for j := range m.versions {
			require.Equal(t, appendRelation(nil, &m.versions[j]), appendRelation(nil, &index.Relations[j]))
		}
		require.Len(t, index.Prefixes, len(m.prefixes))
		for _, p := range index.Prefixes {
			require.Equal(t, m.prefixes[p.Prefix], p.Count)
		}
		checkDirectory(t, s, index)
		checkSums(t, m, s.summary)
		checkFrom(t, g, s, index)
	}
}

// checkFrom reads the index again, without the transactions before some LSN.
func checkFrom(t *testing.T, g *generator, s written, all *Index) {
	n := g.IntN(len(all.Transactions) + 1)
	from := s.summary.LastCommitLSN + 1
	if n < len(all.Transactions) {
		from = all.Transactions[n].CommitLSN - LSN(g.IntN(2))
	}
	less, err := ReadIndexFrom(memoryFile(0, s.parts[len(s.parts)-1].Data), from)
	require.NoError(t, err)
	want := *all
	want.Transactions = want.Transactions[n:]
	if n == len(all.Transactions) {
		want.Transactions = nil
	}
	require.Equal(t, want, *less)
}

// checkDirectory finds every block where the directory says it is.
func checkDirectory(t *testing.T, s written, index *Index) {
	end := map[int]int64{}
	for _, b := range index.Blocks {
		require.Equal(t, max(end[b.Part], headerSize), b.Offset)
		end[b.Part] = b.Offset + b.Length
		require.EqualValues(t, blockMagic, s.parts[b.Part].Data[b.Offset])
		require.Equal(t, ControlFrame, b.Frames[0].Relation)
		last := b.Frames[len(b.Frames)-1]
		require.Equal(t, b.Offset+b.Length, last.Offset+last.Stored)
	}
	require.Equal(t, len(index.Blocks), s.summary.Blocks)
}

func checkSums(t *testing.T, m *model, s Summary) {
	var want Summary
	tables := map[string]int64{}
	for _, tx := range m.transactions {
		if !tx.Foreign {
			want.MinCommitTime = min(cmp.Or(want.MinCommitTime, tx.CommitTime), tx.CommitTime)
			want.MaxCommitTime = max(want.MaxCommitTime, tx.CommitTime)
		}
		want.MinXID = min(cmp.Or(want.MinXID, tx.XID), tx.XID)
		want.MaxXID = max(want.MaxXID, tx.XID)
		want.DDL += int64(tx.DDL)
		for _, c := range tx.Changes {
			want.Inserts += c.Inserts
			want.Updates += c.Updates
			want.Deletes += c.Deletes
			want.Truncates += c.Truncates
			tables[m.versions[c.Relation].String()] += c.Inserts + c.Updates + c.Deletes + c.Truncates
		}
	}
	first, last := m.transactions[0], m.transactions[len(m.transactions)-1]
	require.Equal(t, []any{first.CommitLSN, last.CommitLSN, first.CommitTime, last.CommitTime}, []any{s.FirstCommitLSN, s.LastCommitLSN, s.FirstCommitTime, s.LastCommitTime})
	require.Equal(t, []any{want.MinCommitTime, want.MaxCommitTime, want.MinXID, want.MaxXID}, []any{s.MinCommitTime, s.MaxCommitTime, s.MinXID, s.MaxXID})
	require.Equal(t, []int64{want.Inserts, want.Updates, want.Deletes, want.Truncates, want.DDL}, []int64{s.Inserts, s.Updates, s.Deletes, s.Truncates, s.DDL})
	require.EqualValues(t, len(m.transactions), s.Transactions)
	require.Equal(t, m.marks, s.Marks)
	require.Len(t, s.Tables, len(tables))
	for i, table := range s.Tables {
		require.Equal(t, tables[table.Table], table.operations())
		require.True(t, i == 0 || s.Tables[i-1].Table < table.Table, "tables are sorted")
	}
}

// TestReadIndexReadsOnlyTheTail counts requests: one for a small index, two for a large one, and nothing before it.
func TestReadIndexReadsOnlyTheTail(t *testing.T) {
	for _, wl := range []workload{
		{transactions: 2000, rows: 1},
		{transactions: 50_000, bank: true},
	} {
		var last []byte
		w := wl.prepare(t, func(p Part) error {
			last = p.Data
			return nil
		})
		end, err := wl.write(w, wl.rowsOf(1000), w.o.Start)
		require.NoError(t, err)
		s, err := w.Close(end)
		require.NoError(t, err)
		p := memoryFile(0, last)
		f, err := p.readFooter()
		require.NoError(t, err)
		r := &requests{ReaderAt: p.R}
		p.R = r
		index, err := ReadIndex(p)
		require.NoError(t, err)
		require.EqualValues(t, s.Transactions, len(index.Transactions))
		if f.indexLength < tailSize-footerSize {
			require.Equal(t, 1, r.n)
		} else {
			require.Equal(t, 2, r.n)
			require.GreaterOrEqual(t, r.least, f.indexOffset)
		}
	}
}

type requests struct {
	io.ReaderAt
	n     int
	least int64
}

func (r *requests) ReadAt(b []byte, off int64) (int, error) {
	r.n++
	r.least = min(cmp.Or(r.least, off), off)
	return r.ReaderAt.ReadAt(b, off)
}

func TestPrefixesBeyondTheLimit(t *testing.T) {
	var events []*event
	for i := range maxPrefixes + 10 {
		prefix := string(rune('A'+i/26)) + string(rune('a'+i%26))
		events = append(events, &event{op: OpMessage, message: MessageHeader{LSN: 0x1_0000_0001, Prefix: prefix}})
	}
	s := writeSegment(t, testOptions(0, 0), events)
	compareStream(t, s, ReaderOptions{}, events)
	index, err := ReadIndex(memoryFile(0, s.parts[0].Data))
	require.NoError(t, err)
	require.Len(t, index.Prefixes, maxPrefixes+1)
	require.Equal(t, PrefixCount{Others: true, Count: 10}, index.Prefixes[maxPrefixes])
	require.EqualValues(t, maxPrefixes+10, index.Summary.Messages)
}
