package segment

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func discardOptions() WriterOptions {
	o := testOptions(0, 0)
	o.Buffer = func() ([]byte, error) { return make([]byte, 0, 1<<20), nil }
	o.Emit = func(Part) error { return nil }
	return o
}

func newTestWriter(t testing.TB) *Writer {
	w, err := NewWriter(discardOptions())
	require.NoError(t, err)
	return w
}

var firstBegin = Begin{CommitLSN: 0x1_0000_0010, CommitTime: 7e14, XID: 7}

func firstCommit() Commit {
	return Commit{CommitLSN: firstBegin.CommitLSN, EndLSN: firstBegin.CommitLSN + 8, CommitTime: firstBegin.CommitTime}
}

// TestCallsOutOfOrder shows that a Writer refuses what can't be, and stays refused.
func TestCallsOutOfOrder(t *testing.T) {
	begun := func(w *Writer) error { return firstOf(w.Begin(firstBegin), w.Relation(eventsRelation)) }
	row := func(w *Writer) error { return firstOf(begun(w), w.Row(OpUpdate, eventsRelation.ID)) }
	tuple := func(w *Writer) error { return firstOf(row(w), w.Tuple(New, 6)) }
	value := func(w *Writer) error { return firstOf(tuple(w), w.Value(3)) }
	message := func(w *Writer) error {
		return firstOf(begun(w), w.Message(MessageHeader{Transactional: true, Size: 3}))
	}
	for name, c := range map[string]struct {
		before func(*Writer) error
		call   func(*Writer) error
	}{
		"commit outside":          {nil, func(w *Writer) error { return w.Commit(firstCommit()) }},
		"begin inside":            {begun, func(w *Writer) error { return w.Begin(firstBegin) }},
		"begin before the start":  {nil, func(w *Writer) error { return w.Begin(Begin{CommitLSN: 5}) }},
		"commit of another":       {begun, func(w *Writer) error { return w.Commit(Commit{CommitLSN: 0x2_0000_0000}) }},
		"end below commit":        {begun, func(w *Writer) error { c := firstCommit(); c.EndLSN = 1; return w.Commit(c) }},
		"row outside":             {nil, func(w *Writer) error { return w.Row(OpInsert, 1) }},
		"row of another kind":     {begun, func(w *Writer) error { return w.Row(OpTruncate, eventsRelation.ID) }},
		"origin outside":          {nil, func(w *Writer) error { return w.Origin(Origin{}) }},
		"truncate outside":        {nil, func(w *Writer) error { return w.Truncate(Truncate{}) }},
		"transactional message":   {nil, func(w *Writer) error { return w.Message(MessageHeader{Transactional: true}) }},
		"message in a row":        {row, func(w *Writer) error { return w.Message(MessageHeader{}) }},
		"negative size":           {begun, func(w *Writer) error { return w.Message(MessageHeader{Size: -1}) }},
		"relation in a row":       {row, func(w *Writer) error { return w.Relation(eventsRelation) }},
		"type in a row":           {row, func(w *Writer) error { return w.Type(TypeDef{}) }},
		"wrong number of columns": {row, func(w *Writer) error { return w.Tuple(New, 5) }},
		"unknown role":            {row, func(w *Writer) error { return w.Tuple('X', 6) }},
		"column without a tuple":  {row, func(w *Writer) error { return w.Null() }},
		"row without a tuple":     {row, func(w *Writer) error { return w.EndRow() }},
		"row with half a tuple":   {tuple, func(w *Writer) error { return w.EndRow() }},
		"two tuples at once":      {tuple, func(w *Writer) error { return w.Tuple(New, 6) }},
		"negative value":          {tuple, func(w *Writer) error { return w.Value(-1) }},
		"value in a value":        {value, func(w *Writer) error { return w.Value(1) }},
		"too many bytes":          {value, func(w *Writer) error { return w.Bytes([]byte("four")) }},
		"bytes of nothing":        {tuple, func(w *Writer) error { return w.Bytes([]byte("x")) }},
		"row in a message":        {message, func(w *Writer) error { return w.Row(OpInsert, eventsRelation.ID) }},
		"commit in a message":     {message, func(w *Writer) error { return w.Commit(firstCommit()) }},
		"close in a transaction":  {begun, func(w *Writer) error { _, err := w.Close(0x2_0000_0000); return err }},
		"close before the start":  {nil, func(w *Writer) error { _, err := w.Close(5); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestWriter(t)
			if c.before != nil {
				require.NoError(t, c.before(w))
			}
			err := c.call(w)
			require.Error(t, err)
			require.True(t, errors.Is(err, ErrOrder) || errors.Is(err, ErrTooLarge), "%v", err)
			require.Equal(t, err, w.Begin(Begin{CommitLSN: 0x3_0000_0000}), "the error stays")
			require.Equal(t, err, w.Null())
			require.Equal(t, err, w.Bytes(nil))
		})
	}
}

func TestOldTuplesWhereTheyBelong(t *testing.T) {
	for name, tuples := range map[string]struct {
		op    Op
		roles []TupleRole
	}{
		"insert with an old tuple": {OpInsert, []TupleRole{OldKey}},
		"delete with a new tuple":  {OpDelete, []TupleRole{New}},
		"two old tuples":           {OpUpdate, []TupleRole{OldKey, OldFull}},
		"old after new":            {OpUpdate, []TupleRole{New, OldKey}},
		"two new tuples":           {OpInsert, []TupleRole{New, New}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestWriter(t)
			none := &Relation{ID: 1}
			require.NoError(t, firstOf(w.Begin(firstBegin), w.Relation(none), w.Row(tuples.op, 1)))
			var err error
			for _, role := range tuples.roles {
				require.NoError(t, err)
				err = w.Tuple(role, 0)
			}
			require.ErrorIs(t, err, ErrOrder)
		})
	}
	w := newTestWriter(t)
	require.NoError(t, firstOf(w.Begin(firstBegin), w.Relation(&Relation{ID: 1}), w.Row(OpUpdate, 1), w.Tuple(OldKey, 0)))
	require.ErrorIs(t, w.EndRow(), ErrOrder, "an update needs its new tuple")
}

// TestUnknownRelationCanBeMended is how the pipeline feeds definitions into a new segment.
func TestUnknownRelationCanBeMended(t *testing.T) {
	w := newTestWriter(t)
	require.NoError(t, w.Begin(firstBegin))
	require.ErrorIs(t, w.Row(OpInsert, 7), ErrUnknownRelation)
	require.ErrorIs(t, w.Truncate(Truncate{Relations: []uint32{7}}), ErrUnknownRelation)
	require.NoError(t, firstOf(w.Relation(&Relation{ID: 7}), w.Row(OpInsert, 7), w.Tuple(New, 0), w.EndRow(),
		w.Truncate(Truncate{Relations: []uint32{7}}), w.Commit(firstCommit())))
	s, err := w.Close(0x1_0000_0020)
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Inserts)
	require.EqualValues(t, 1, s.Truncates)
}

func TestEmptySegment(t *testing.T) {
	s := writeSegment(t, testOptions(0, 0), nil)
	require.Len(t, s.parts, 1)
	require.True(t, s.parts[0].Last)
	compareStream(t, s, ReaderOptions{}, nil)
}

func TestWriterState(t *testing.T) {
	w := newTestWriter(t)
	require.True(t, w.Empty())
	require.False(t, w.InTransaction())
	require.Nil(t, w.Discard(), "no buffer is taken before the first block")

	w = newTestWriter(t)
	require.NoError(t, w.Begin(firstBegin))
	require.True(t, w.InTransaction())
	require.False(t, w.Empty())
	require.NoError(t, w.Commit(firstCommit()))
	require.EqualValues(t, 1, w.Transactions())
	require.EqualValues(t, rawBegin+rawCommit, w.RawBytes())
	require.Zero(t, w.StoredBytes())
	_, err := w.Close(firstBegin.CommitLSN)
	require.ErrorIs(t, err, ErrOrder, "To lies above the last commit")

	w = newTestWriter(t)
	require.NoError(t, firstOf(w.Begin(firstBegin), w.Commit(firstCommit())))
	s, err := w.Close(firstBegin.CommitLSN + 1)
	require.NoError(t, err)
	require.Equal(t, s.StoredBytes, w.StoredBytes())
	require.ErrorIs(t, w.Begin(Begin{CommitLSN: 0x3_0000_0000}), ErrOrder, "a closed writer takes nothing")
}

func TestBufferAndEmitErrorsEndTheWriter(t *testing.T) {
	full := errors.New("the pool is gone")
	for name, change := range map[string]func(*WriterOptions){
		"buffer": func(o *WriterOptions) { o.Buffer = func() ([]byte, error) { return nil, full } },
		"emit":   func(o *WriterOptions) { o.Emit = func(Part) error { return full } },
	} {
		t.Run(name, func(t *testing.T) {
			o := discardOptions()
			o.PartSize, o.BlockSize = 100, 50
			change(&o)
			w, err := NewWriter(o)
			require.NoError(t, err)
			require.NoError(t, w.Begin(firstBegin))
			require.NoError(t, w.Message(MessageHeader{Transactional: true, Size: 1000}))
			err = w.Bytes(make([]byte, 1000))
			for range 100 { // zeros compress: a part fills slowly
				if err != nil {
					break
				}
				require.NoError(t, w.Message(MessageHeader{Transactional: true, Size: 1000}))
				err = w.Bytes(make([]byte, 1000))
			}
			require.ErrorIs(t, err, full)
			require.ErrorIs(t, w.Commit(firstCommit()), full)
		})
	}
}

func TestDiscardReturnsTheBuffer(t *testing.T) {
	o := discardOptions()
	o.BlockSize = 1
	w, err := NewWriter(o)
	require.NoError(t, err)
	require.NoError(t, w.Begin(firstBegin))
	require.NotNil(t, w.Discard())
	require.Nil(t, w.Discard())
	require.Error(t, w.Commit(firstCommit()))
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := NewWriter(WriterOptions{})
	require.Error(t, err)
	o := discardOptions()
	o.BlockSize = maxBlockSize + 1
	_, err = NewWriter(o)
	require.Error(t, err)
}

// TestRowsCostNoAllocation is the rule for the hot path.
func TestRowsCostNoAllocation(t *testing.T) {
	w := newTestWriter(t)
	require.NoError(t, firstOf(w.Begin(firstBegin), w.Relation(eventsRelation)))
	values := workload{}.rowsOf(1)[0]
	insert := func() {
		_ = w.Row(OpInsert, eventsRelation.ID)
		_ = w.Tuple(New, len(values))
		for _, v := range values {
			_ = w.Value(len(v))
			_ = w.Bytes(v)
		}
		_ = w.EndRow()
	}
	for range 5000 { // buffers grow to their size
		insert()
	}
	require.Zero(t, testing.AllocsPerRun(5000, insert))
}

func TestSequencesGoIntoTheIndex(t *testing.T) {
	s := smallSegment(t)
	index, err := ReadIndex(memoryFile(0, s.parts[len(s.parts)-1].Data))
	require.NoError(t, err)
	require.Equal(t, LSN(0x1_0000_9999), index.SequencesLSN)
	require.Equal(t, []Sequence{{Namespace: "public", Name: "orders_id_seq", LastValue: 42, IsCalled: true}}, index.Sequences)
	require.Equal(t, 1, s.summary.Sequences)
}

func TestMarksAndDDL(t *testing.T) {
	s := smallSegment(t)
	require.Equal(t, []Mark{{Name: "before the release", LSN: 0x1_0000_0050, Time: 7e14 + 3000}}, s.summary.Marks)
	require.EqualValues(t, 1, s.summary.DDL)
	require.EqualValues(t, 4, s.summary.Messages)
	require.Equal(t, []TableCounts{
		{Table: "public.nothing", Inserts: 2, Truncates: 1},
		{Table: "public.orders", Inserts: 3, Updates: 3, Deletes: 2, Truncates: 1},
	}, s.summary.Tables)
}

func TestNotAMark(t *testing.T) {
	long := string(make([]byte, maxMarkName+1))
	for _, content := range []string{"mark:", "mark:" + long, "mark:\xff", "marker", ""} {
		l := newLedger(Identity{}, false)
		l.begin(Begin{}, 0)
		l.message(MessageHeader{Transactional: true, Prefix: messagePrefix}, []byte(content))
		require.Empty(t, l.Marks, "%.20q", content)
	}
	l := newLedger(Identity{}, false)
	l.message(MessageHeader{Prefix: messagePrefix}, []byte("mark:outside"))
	l.message(MessageHeader{Transactional: true, Prefix: "other"}, []byte("mark:other"))
	require.Empty(t, l.Marks)
}
