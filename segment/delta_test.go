package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tuples encodes rows as a tuple frame does; nil is NULL.
func tuples(rows ...[]any) (raw []byte, columns int) {
	for _, row := range rows {
		columns = len(row)
		for _, v := range row {
			switch v := v.(type) {
			case nil:
				raw = append(raw, 0)
			case string:
				raw = append(binary.AppendUvarint(raw, uint64(len(v))+2), v...)
			}
		}
	}
	return raw, columns
}

// requireDelta encodes, and requires that the result gives the same again and is smaller than limit.
func requireDelta(t testing.TB, raw []byte, columns, limit int) []byte {
	var f deltaEncoder
	require.True(t, f.encode(raw, columns), "it was not encoded")
	stored := f.appendTo(nil, columns)
	require.True(t, isDelta(stored, len(raw)))
	require.Less(t, len(stored), limit)
	var u deltaDecoder
	got, err := u.decode(nil, stored, len(raw))
	require.NoError(t, err)
	require.Equal(t, raw, got)
	_, err = u.decode(nil, append(stored[:len(stored):len(stored)], 0), len(raw))
	require.Error(t, err)
	stored[len(binary.AppendUvarint([]byte{deltaMagic}, uint64(columns)))+deltaHead-1] ^= 1
	_, err = u.decode(nil, stored, len(raw))
	require.ErrorContains(t, err, "other tuples than were written")
	return stored
}

// eventRow is a row of an event store.
func eventRow(i int) []any {
	h := uint64(i+1) * 0x9e3779b97f4a7c15
	payload := fmt.Sprintf(`{"id": %d, "email": "customer-%d@example.com", "country": "%s", "price": %d.%d}`, h>>40, h>>40, []string{"DE", "FR", "日本"}[i%3], h>>50&511, h&63)
	return []any{fmt.Sprint(i - 3), fmt.Sprintf("%08x-%04x-4a7c-9e37-%012x", h>>32, h>>20&0xffff, h>>10&0xffffffffffff), "7",
		[]string{"OrderPlaced", "OrderPaid", "OrderShipped"}[i%3], payload, fmt.Sprintf("2026-01-01 00:%02d:%02d.%d+00", i/60, i%60, i*7131%1000000), nil,
		fmt.Sprintf(`\x%016x`, h)}
}

func fewRows() (raw []byte, columns int) {
	var rows [][]any
	for i := range 20 {
		rows = append(rows, eventRow(i))
	}
	return tuples(rows...)
}

func TestDeltaTuplesComeBack(t *testing.T) {
	var events [][]any
	for i := range 500 {
		events = append(events, eventRow(i))
	}
	raw, columns := tuples(events...)
	stored := requireDelta(t, raw, columns, len(raw)/3)
	require.Less(t, len(stored), len(compress(nil, raw))*3/4, "zstd alone does as well")
}

// TestDeltaValues encodes pairs of values in turn, so that each is made from the other.
func TestDeltaValues(t *testing.T) {
	long := strings.Repeat("word, ", 40)
	for _, pair := range [][2]string{
		{"", "a"}, {"9", "10"}, {"99", "100"}, {"0", "127"}, {"0", "128"}, {"128", "0"}, {"007", "008"}, {"-1", "0"},
		{"999999999999999999", "999999999999999998"}, {"9999999999999999999", "9999999999999999998"}, {"000000000000000001", "000000000000000002"},
		{`\x`, `\x00`}, {`\xABCD`, `\xabcd`}, {`\xabc`, `\xabcg`},
		{"01234567-89ab-cdef-0123-456789abcdef", "01234567-89AB-cdef-0123-456789abcdef"},
		{"01234567-89ab-cdef-0123-456789abcdeg", "01234567x89ab-cdef-0123-456789abcdef"},
		{long + "1", long + "1, and more"}, {long + "a-b", long + "ab"}, {long, long + long}, {"a" + long, long}, {long + "77 77", long + "88 88"},
		{strings.Repeat("x", 126), strings.Repeat("x", 125) + "y z"}, {long + strings.Repeat("0", 16300), long + strings.Repeat("1", 16200)},
		{strings.Repeat("é", 100) + " 1", strings.Repeat("é", 100) + " 2é"}, {"\x00\x01" + long, "\x00\x02" + long}, {strings.Repeat("p", 300), strings.Repeat("q", 300)},
	} {
		t.Run(pair[0][:min(20, len(pair[0]))], func(t *testing.T) {
			same := strings.Repeat("the same ", 6000) // so that it always pays
			var rows [][]any
			for i := range 12 {
				rows = append(rows, []any{pair[i%2], same, nil})
			}
			raw, columns := tuples(rows...)
			requireDelta(t, raw, columns, len(raw))
		})
	}
}

func TestDeltaOfRandomRows(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		alphabet := "01289 abz,-\\x\xe9"[:2+rnd.IntN(12)]
		columns := 1 + rnd.IntN(5)
		past := make([]string, columns)
		rows := [][]any{}
		for range 20 + rnd.IntN(200) {
			row := make([]any, columns)
			for c := range row {
				b := []byte(past[c])
				for range rnd.IntN(4) {
					at, n := rnd.IntN(len(b)+1), rnd.IntN(3)
					b = append(b[:at:at], append([]byte(alphabet[rnd.IntN(len(alphabet)):])[:min(n, 1)], b[min(len(b), at+n/2):]...)...)
				}
				if past[c] = string(b); rnd.IntN(8) > 0 {
					row[c] = past[c]
				}
			}
			rows = append(rows, row)
		}
		raw, columns := tuples(rows...)
		var f deltaEncoder
		if !f.encode(raw, columns) {
			continue
		}
		var u deltaDecoder
		got, err := u.decode(nil, f.appendTo(nil, columns), len(raw))
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, raw, got, "seed %d", seed)
	}
}

// TestDeltaOfLastValues: what is written last is made from the value before, whose tag may be longer or shorter than its own.
func TestDeltaOfLastValues(t *testing.T) {
	edited := 0
	for _, border := range []int{1<<7 - 2, 1<<14 - 2} { // of the length from which on a tag has one more byte
		text := strings.Repeat("abcdef ghi, ", border/12+3)
		for from := border - 30; from < border+30; from += 3 {
			for to := border - 30; to < border+30; to += 2 {
				var rows [][]any
				for i := range 30 {
					rows = append(rows, []any{fmt.Sprint(i), text[:from]})
				}
				for _, end := range []string{"", " x", "9"} {
					raw, columns := tuples(append(rows[:30:30], []any{"30", text[:to-len(end)] + end})...)
					var f deltaEncoder
					require.True(t, f.encode(raw, columns))
					if bytes.IndexByte(f.codes, deltaEdit) >= 0 {
						edited++
					}
					var u deltaDecoder
					got, err := u.decode(nil, f.appendTo(nil, columns), len(raw))
					require.NoError(t, err, "%d bytes after %d", to, from)
					require.Equal(t, raw, got)
				}
			}
		}
	}
	require.Greater(t, edited, 1000)
}

func TestDeltaRefuses(t *testing.T) {
	var rows [][]any
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		b := make([]byte, 60)
		for i := range b {
			b[i] = byte('a' + rnd.IntN(26))
		}
		rows = append(rows, []any{string(b)})
	}
	raw, columns := tuples(rows...)
	var f deltaEncoder
	require.False(t, f.encode(raw, columns), "nothing in common")
	raw, columns = fewRows()
	require.True(t, f.encode(raw, columns))
	require.False(t, f.encode(raw[:len(raw)-1], columns), "half of a value")
	require.False(t, f.encode(raw[:len(raw)-19], columns), "half of a tuple")
	require.False(t, f.encode(raw, columns+1))
	require.False(t, f.encode(raw, 0))
}

// similarEvents are transactions whose rows are delta frames, updates and deletes too, with a row between that spans blocks.
func similarEvents() (events []*event) {
	rel := &Relation{ID: 16400, Namespace: "public", Name: "events", Identity: 'f'}
	for i := range len(eventRow(0)) {
		rel.Columns = append(rel.Columns, Column{Name: fmt.Sprint("c", i), TypeOID: 25, Modifier: -1})
	}
	row := func(i int) (columns []column) {
		for _, v := range eventRow(i) {
			if s, ok := v.(string); ok {
				columns = append(columns, column{Text, []byte(s)})
			} else {
				columns = append(columns, column{kind: Null})
			}
		}
		return columns
	}
	for tx := range 6 {
		b := Begin{CommitLSN: 0x1_0000_0000 + LSN(tx+1)*0x100, CommitTime: 7e14 + Timestamp(tx)*1000, XID: uint32(900 + tx)}
		events = append(events, &event{op: OpBegin, begin: b})
		if tx == 0 {
			events = append(events, &event{op: OpRelation, relation: rel})
		}
		for i := range 8 {
			i += 8 * tx
			events = append(events, &event{op: OpInsert, row: rel.ID, new: row(i)},
				&event{op: OpUpdate, row: rel.ID, role: OldFull, old: row(i), new: row(i + 1)}, &event{op: OpDelete, row: rel.ID, role: OldFull, old: row(i + 1)})
		}
		if tx == 3 {
			large := row(99)
			large[4] = column{Text, []byte(strings.Repeat("large ", 1500))}
			events = append(events, &event{op: OpInsert, row: rel.ID, new: large})
		}
		events = append(events, &event{op: OpCommit, commit: Commit{CommitLSN: b.CommitLSN, EndLSN: b.CommitLSN + 0x30, CommitTime: b.CommitTime}})
	}
	return events
}

// TestWriterOfDeltaFrames writes a segment with delta frames; the golden files hold what they are.
func TestWriterOfDeltaFrames(t *testing.T) {
	events := similarEvents()
	r := NewReader(writeSegment(t, testOptions(1500, 2000), events).files(), ReaderOptions{})
	defer r.Close()
	delta := map[uint32]bool{}
	for _, e := range events {
		rec, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, e.pgoutput(), eventOf(t, rec).pgoutput())
		for _, f := range r.block.frames {
			b := sized(nil, int(f.dirEntry.stored))
			require.NoError(t, r.part.readAt(b, f.offset))
			delta[r.block.number] = delta[r.block.number] || isDelta(b, int(f.dirEntry.raw))
		}
	}
	_, err := r.Next()
	require.ErrorIs(t, err, io.EOF)
	require.True(t, delta[0])
	plain := 0
	for _, is := range delta {
		if !is {
			plain++
		}
	}
	require.Positive(t, plain, "those of the large row")
}

func FuzzDeltaDecode(f *testing.F) {
	raw, columns := fewRows()
	var encoder deltaEncoder
	require.True(f, encoder.encode(raw, columns))
	f.Add(encoder.codes, encoder.text, encoder.bin, columns, len(raw))
	f.Fuzz(func(t *testing.T, codes, text, bin []byte, columns, size int) {
		if columns < 1 || columns > maxColumns || size < 1 || size > 1<<20 {
			return
		}
		stored := (&deltaEncoder{codes: codes, text: text, bin: bin}).appendTo(nil, columns)
		var u deltaDecoder
		_, sum, err := u.load(stored, size)
		if err != nil {
			return
		}
		got, err := u.expand(nil, columns, size)
		if err != nil {
			return
		}
		if _, err := u.decode(nil, stored, size); (err == nil) != (checksum(got) == sum) {
			t.Fatal("the checksum is of something else")
		}
		if len(got) != size {
			t.Fatal("another length")
		}
		for rest := got; len(rest) > 0; {
			tag, n := binary.Uvarint(rest)
			if n <= 0 || tag > 1 && tag-2 > uint64(len(rest)-n) {
				t.Fatal("no tuples")
			}
			if rest = rest[n:]; tag > 1 {
				rest = rest[tag-2:]
			}
		}
	})
}

// FuzzDelta encodes what may be tuples.
func FuzzDelta(f *testing.F) {
	raw, columns := fewRows()
	f.Add(raw, columns)
	f.Fuzz(func(t *testing.T, raw []byte, columns int) {
		if len(raw) == 0 || columns < 1 {
			return
		}
		var encoder deltaEncoder
		if !canonical(raw) || !encoder.encode(raw, columns) {
			return
		}
		var u deltaDecoder
		got, err := u.decode(nil, encoder.appendTo(nil, columns), len(raw))
		require.NoError(t, err)
		require.Equal(t, raw, got)
	})
}

// canonical reports whether all tags are as short as the Writer's.
func canonical(raw []byte) bool {
	for len(raw) > 0 {
		tag, n := binary.Uvarint(raw)
		if n <= 0 || n != len(binary.AppendUvarint(nil, tag)) {
			return false
		}
		if raw = raw[n:]; tag > 1 {
			raw = raw[min(tag-2, uint64(len(raw))):]
		}
	}
	return true
}
