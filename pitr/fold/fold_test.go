package fold

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"tidemark/segment"
)

// row is a row of the model: its key's two columns, and two values of which the second may be left out by an update.
type row struct{ a, b, x, toast string }

func (r row) id() string { return r.a + "\x00" + r.b }

// values of a row, in the order toast, a, x, b: the key is not at the front.
func (r row) values() []segment.Value {
	var out []segment.Value
	for _, s := range []string{r.toast, r.a, r.x, r.b} {
		out = append(out, segment.Value{Kind: segment.Text, Data: []byte(s)})
	}
	return out
}

func key(r row) []segment.Value {
	out := r.values()
	out[0], out[2] = segment.Value{Kind: segment.Null}, segment.Value{Kind: segment.Null}
	return out
}

var relation = segment.Relation{ID: 7, Namespace: "public", Name: "t", Identity: 'd', Columns: []segment.Column{
	{Name: "toast", TypeOID: 25}, {Name: "a", TypeOID: 25, Flags: 1}, {Name: "x", TypeOID: 25}, {Name: "b", TypeOID: 20, Flags: 1}}}

var escaper = strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\t", "\\t")

func copyText(rows map[string]row) string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		r := rows[id]
		for i, v := range []string{r.toast, r.a, r.x, r.b} {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(escaper.Replace(v))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// history makes random operations on a table and keeps the table as it is after them.
type history struct {
	rnd     *rand.Rand
	rows    map[string]row
	keys    int
	records []*segment.Record // nil: TRUNCATE
	counts  Counts
}

func (h *history) anyKey() (a, b string) {
	return []string{"k", "tab\tand\\back", "new\nline", "ü"}[h.rnd.IntN(4)], strconv.Itoa(h.rnd.IntN(h.keys))
}

func (h *history) value() string {
	return strings.Repeat("v\t\\N\n", h.rnd.IntN(3)) + strconv.Itoa(h.rnd.Int())
}

func (h *history) step(truncate bool) {
	a, b := h.anyKey()
	r := row{a, b, h.value(), h.value()}
	old, there := h.rows[r.id()]
	record := &segment.Record{Relation: &relation}
	switch kind := h.rnd.IntN(1000); {
	case kind == 0 && truncate:
		clear(h.rows)
		h.records = append(h.records, nil)
		h.counts.Truncated++
		return
	case !there:
		record.Op, record.New = segment.OpInsert, r.values()
		h.counts.Inserted++
	case kind < 300:
		record.Op, record.OldRole, record.Old = segment.OpDelete, segment.OldKey, key(old)
		delete(h.rows, old.id())
		h.records = append(h.records, record)
		h.counts.Deleted++
		return
	default:
		record.Op = segment.OpUpdate
		h.counts.Updated++
		if kind < 500 { // another key, or the same one sent again
			to := row{r.a, r.b, r.x, r.toast}
			to.a, to.b = h.anyKey()
			if _, taken := h.rows[to.id()]; taken && to.id() != old.id() {
				to.a, to.b = old.a, old.b
			}
			r = to
			record.OldRole, record.Old = segment.OldKey, key(old)
			delete(h.rows, old.id())
		}
		partial := h.rnd.IntN(3) == 0
		if partial {
			r.toast = old.toast
		}
		record.New = r.values()
		if partial {
			record.New[0] = segment.Value{Kind: segment.Unchanged}
		}
	}
	h.rows[r.id()] = r
	h.records = append(h.records, record)
}

// target is the table that is restored. It refuses what PostgreSQL would refuse.
type target struct {
	t    *testing.T
	rows map[string]row
}

func (g *target) insert(v []segment.Value) {
	r := row{string(v[1].Data), string(v[3].Data), string(v[2].Data), string(v[0].Data)}
	require.Equal(g.t, segment.Text, v[0].Kind, "a row without all of its values is inserted")
	_, there := g.rows[r.id()]
	require.False(g.t, there, "a row is inserted twice")
	g.rows[r.id()] = r
}

func (g *target) remove(v []segment.Value) row {
	id := row{a: string(v[1].Data), b: string(v[3].Data)}.id()
	r, there := g.rows[id]
	require.True(g.t, there, "no such row")
	delete(g.rows, id)
	return r
}

func (g *target) keep(r *segment.Record) {
	switch r.Op {
	case segment.OpInsert:
		g.insert(r.New)
	case segment.OpDelete:
		g.remove(r.Old)
	case segment.OpUpdate:
		at := r.New
		if r.OldRole != 0 {
			at = r.Old
		}
		old := g.remove(at)
		row := slices.Clone(r.New)
		if row[0].Kind == segment.Unchanged {
			row[0] = segment.Value{Kind: segment.Text, Data: []byte(old.toast)}
		}
		g.insert(row)
	}
}

func (g *target) load(text string) {
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		values := make([]segment.Value, len(fields))
		for i, f := range fields {
			plain, ok := unescape([]byte(f))
			require.True(g.t, ok)
			values[i] = segment.Value{Kind: segment.Text, Data: plain}
		}
		g.insert(values)
	}
}

// fold brings a table from its base snapshot to its end, in as many passes as it takes.
func fold(t *testing.T, f *Folder, snapshot string, records []*segment.Record) (rows map[string]row, passes int) {
	t.Helper()
	f.Add(7, "public.t", []string{"a", "b"}, false)
	table := f.Table(7)
	g := &target{t: t, rows: map[string]row{}}
	for {
		passes++
		marks, err := noteAll(f, records)
		require.NoError(t, err)
		f.EndNotes()
		require.Empty(t, f.Given())
		s, err := f.Snapshot(table, []string{"toast", "a", "x", "b"})
		require.NoError(t, err)
		rows := s.Rows(strings.NewReader(snapshot))
		loaded, err := io.ReadAll(slow(rows, len(snapshot)))
		require.NoError(t, err)
		require.NoError(t, rows.Close())
		require.NoError(t, s.Check())
		g.load(string(loaded))
		require.Equal(t, int64(strings.Count(snapshot, "\n")-strings.Count(string(loaded), "\n")), rows.Dropped())
		// In any order, unless some operations are replayed in theirs.
		parts := rand.Perm(len(marks) - 1)
		if table.InOrder() {
			slices.Sort(parts)
		}
		for n, p := range parts {
			if n > 0 {
				require.ErrorContains(t, f.Replayed(), otherwise, "a part is missing")
			}
			part := f.Read(marks[p], marks[p+1])
			readAgain(t, part, g, records[p*markEach:min(len(records), (p+1)*markEach)])
			require.NoError(t, part.End())
		}
		require.NoError(t, f.Replayed())
		if !f.Next() {
			return g.rows, passes
		}
	}
}

// readAgain brings a part of the records to the target.
func readAgain(t *testing.T, part *Reading, g *target, records []*segment.Record) {
	t.Helper()
	d := part.Table(7)
	for i := 0; i < len(records); i++ {
		if n := untilEmptied(records[i:]); n > 0 && d.PassOver(int64(n)) {
			i += n - 1
		} else if records[i] == nil {
			d.Empty()
		} else {
			act(t, d, g, records[i])
		}
	}
}

const markEach = 100

// noteAll notes records, nil for a TRUNCATE, in batches. There is a mark before each, and one at the end.
func noteAll(f *Folder, records []*segment.Record) (marks []Mark, err error) {
	var b Batch
	reducers := []*Reducer{f.Reducer(), f.Reducer()}
	for i, r := range records {
		if i%markEach == 0 {
			marks = append(marks, f.Mark())
		}
		if reducer := reducers[i/markEach%2]; r == nil {
			reducer.Empty(&b, 7)
		} else {
			reducer.Reduce(&b, r)
		}
		if (i+1)%markEach > 0 && i < len(records)-1 {
			continue
		}
		if err := f.Note(&b); err != nil {
			return nil, err
		}
		b.Reset()
	}
	return append(marks, f.Mark()), nil
}

// untilEmptied is how many records, at most seven, come before a TRUNCATE.
func untilEmptied(records []*segment.Record) (n int) {
	for n < min(7, len(records)) && records[n] != nil {
		n++
	}
	return n
}

// slow reads byte by byte what is not too long for that, each second time.
func slow(r io.Reader, size int) io.Reader {
	if size > 50_000 || size%2 == 0 {
		return r
	}
	return iotest.OneByteReader(r)
}

func act(t *testing.T, d *Decider, g *target, r *segment.Record) {
	t.Helper()
	action, err := d.Decide(r)
	require.NoError(t, err)
	if !d.t.InOrder() {
		require.Contains(t, []Action{Skip, Keep, Insert}, action)
		require.False(t, action == Keep && r.Op != segment.OpInsert)
	}
	if action == Delete || action == DeleteAndInsert {
		g.remove(r.Old)
	}
	if action == Insert || action == DeleteAndInsert {
		g.insert(r.New)
	}
	if action == Keep {
		g.keep(r)
	}
}

// TestRandomHistories folds what random operations did, and compares with what they came to.
func TestRandomHistories(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for n := range 300 {
		h := &history{rnd: rand.New(rand.NewPCG(seed, uint64(n))), rows: map[string]row{}, keys: 1 + n%40}
		for range h.rnd.IntN(200) {
			h.step(false)
		}
		snapshot, before := copyText(h.rows), int64(len(h.rows))
		h.records, h.counts = nil, Counts{}
		for range h.rnd.IntN(2000) {
			h.step(n%3 == 0)
		}
		f := New(0)
		rows, passes := fold(t, f, snapshot, h.records)
		require.Equal(t, h.rows, rows, "history %d", n)
		require.Equal(t, 1, passes)
		table := f.Table(7)
		require.Equal(t, h.counts, table.Counts())
		live, emptied := table.Live()
		if !emptied {
			live += before
		}
		require.Equal(t, int64(len(h.rows)), live)
	}
}

// TestKeysThatDontFit takes several passes, each over as many keys as memory allows.
func TestKeysThatDontFit(t *testing.T) {
	h := &history{rnd: rand.New(rand.NewPCG(1, 2)), rows: map[string]row{}, keys: 1 << 30}
	ids := []row{}
	var records []*segment.Record
	for i := range 30_000 {
		r := row{"k", strconv.Itoa(i), h.value(), h.value()}
		ids = append(ids, r)
		h.rows[r.id()] = r
	}
	snapshot := copyText(h.rows)
	for i, r := range ids {
		old := r
		if i%2 == 0 { // keys move within and between the ranges
			r.b = strconv.Itoa(i + 1_000_000)
		}
		r.x, r.toast = h.value(), h.value()
		record := &segment.Record{Op: segment.OpUpdate, Relation: &relation, New: r.values()}
		if r.b != old.b {
			record.OldRole, record.Old = segment.OldKey, key(old)
		} else if i%3 == 0 {
			r.toast, record.New[0] = old.toast, segment.Value{Kind: segment.Unchanged}
		}
		delete(h.rows, old.id())
		h.rows[r.id()] = r
		records = append(records, record)
	}
	for _, memory := range []int64{entrySize * firstSlots * 8, entrySize * firstSlots * 40} {
		rows, passes := fold(t, New(memory), snapshot, records)
		require.Equal(t, h.rows, rows)
		require.Greater(t, passes, 2)
	}
}

// TestWhatDoesNotFitIsRefused: an archive whose operations contradict each other, or its base snapshot, must not be
// folded into a table that looks right.
func TestWhatDoesNotFitIsRefused(t *testing.T) {
	a, b := row{"k", "1", "x", "t"}, row{"k", "2", "x", "t"}
	insert := &segment.Record{Op: segment.OpInsert, Relation: &relation, New: a.values()}
	update := &segment.Record{Op: segment.OpUpdate, Relation: &relation, New: a.values()}
	remove := &segment.Record{Op: segment.OpDelete, Relation: &relation, OldRole: segment.OldKey, Old: key(a)}
	move := &segment.Record{Op: segment.OpUpdate, Relation: &relation, OldRole: segment.OldKey, Old: key(b), New: a.values()}
	note := func(records ...*segment.Record) (*Folder, error) {
		f := New(0)
		f.Add(7, "public.t", []string{"a", "b"}, false)
		_, err := noteAll(f, records)
		return f, err
	}
	for name, records := range map[string][]*segment.Record{
		"insert twice": {insert, insert}, "insert after update": {update, insert}, "update after delete": {remove, update}, "delete twice": {insert, remove, remove},
		"key taken": {insert, move}, "move after delete": {{Op: segment.OpDelete, Relation: &relation, OldRole: segment.OldKey, Old: key(b)}, move},
		"update after truncate": {update, nil, update}, "delete after truncate": {nil, remove},
	} {
		_, err := note(records...)
		require.ErrorContains(t, err, "table public.t", name)
	}
	read := func(f *Folder, text string) error {
		s, err := f.Snapshot(f.Table(7), []string{"toast", "a", "x", "b"})
		require.NoError(t, err)
		if _, err := io.ReadAll(s.Rows(strings.NewReader(text))); err != nil {
			return err
		}
		return s.Check()
	}
	f, err := note(insert)
	require.NoError(t, err)
	require.ErrorContains(t, read(f, copyText(map[string]row{a.id(): a})), "already")
	f, err = note(update)
	require.NoError(t, err)
	require.ErrorContains(t, read(f, copyText(map[string]row{b.id(): b})), "0 of them are there")
	require.NoError(t, read(f, copyText(map[string]row{a.id(): a, b.id(): b})))
	require.ErrorContains(t, read(f, "t\tk\tx"), "inside a row")
	require.ErrorContains(t, read(f, "t\tk\tx\n"), "lacks columns")
	require.ErrorContains(t, read(f, "t\tk\tx\t\\N\n"), "no key")
	d := f.Read(Mark{}, f.Mark()).Table(7)
	_, err = d.Decide(insert)
	require.NoError(t, err)
	_, err = d.Decide(insert)
	require.ErrorContains(t, err, otherwise)
}

// TestTablesThatAreGivenUp can't be folded; that shows when their first operation comes.
func TestTablesThatAreGivenUp(t *testing.T) {
	for name, change := range map[string]func(*segment.Relation, []segment.Value){
		"another identity":   func(r *segment.Relation, _ []segment.Value) { r.Identity = 'f' },
		"another key":        func(r *segment.Relation, _ []segment.Value) { r.Columns[2].Flags = 1 },
		"a key that is less": func(r *segment.Relation, _ []segment.Value) { r.Columns[3].Flags = 0 },
		"a type":             func(r *segment.Relation, _ []segment.Value) { r.Columns[3].TypeOID = 701 },
		"a key not sent":     func(_ *segment.Relation, v []segment.Value) { v[1].Kind = segment.Unchanged },
	} {
		rel := relation
		rel.Columns = slices.Clone(relation.Columns)
		values := row{"k", "1", "x", "t"}.values()
		change(&rel, values)
		f := New(0)
		f.Add(7, "public.t", []string{"a", "b"}, false)
		_, err := noteAll(f, []*segment.Record{{Op: segment.OpUpdate, Relation: &rel, New: values}})
		require.NoError(t, err)
		require.Nil(t, f.Table(7), name)
		require.NotEmpty(t, f.Given(), name)
	}
}

// TestLargeRows are held only until their key is known, beyond a bound on disk.
func TestLargeRows(t *testing.T) {
	big := strings.Repeat("x", heldRow+3*rowBuffer+17)
	rows := map[string]row{}
	for i := range 4 {
		r := row{"k", strconv.Itoa(i), "x", "t"}
		if i%2 == 0 {
			r.toast = big
		} else {
			r.x = big
		}
		rows[r.id()] = r
	}
	snapshot := copyText(rows)
	gone := rows["k\x002"]
	delete(rows, gone.id())
	other := rows["k\x001"]
	delete(rows, other.id())
	got, _ := fold(t, New(0), snapshot, []*segment.Record{
		{Op: segment.OpDelete, Relation: &relation, OldRole: segment.OldKey, Old: key(gone)},
		{Op: segment.OpDelete, Relation: &relation, OldRole: segment.OldKey, Old: key(other)},
	})
	require.True(t, maps.Equal(rows, got), "%d rows", len(got))
}

// BenchmarkNote notes updates of a million rows, in random order: what it costs is memory that is far away.
func BenchmarkNote(b *testing.B) {
	f := New(0)
	f.Add(7, "public.t", []string{"a", "b"}, false)
	reducer := f.Reducer()
	rnd := rand.New(rand.NewPCG(1, 2))
	update := &segment.Record{Op: segment.OpUpdate, Relation: &relation, New: row{"k", "", "x", "t"}.values()}
	var batch Batch
	b.ReportAllocs()
	for b.Loop() {
		update.New[3].Data = strconv.AppendInt(update.New[3].Data[:0], rnd.Int64N(1<<20), 10)
		if reducer.Reduce(&batch, update); batch.Full() {
			if err := f.Note(&batch); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
}

func BenchmarkRows(b *testing.B) {
	f := New(0)
	f.Add(7, "public.t", []string{"a", "b"}, false)
	rows := map[string]row{}
	for i := range 10_000 {
		r := row{"k", fmt.Sprint(i), "some value", "and another one"}
		rows[r.id()] = r
	}
	text := copyText(rows)
	s, err := f.Snapshot(f.Table(7), []string{"toast", "a", "x", "b"})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for range b.N {
		if _, err := io.Copy(io.Discard, s.Rows(strings.NewReader(text))); err != nil {
			b.Fatal(err)
		}
	}
}
