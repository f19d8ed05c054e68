package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
)

func TestCreateAndOpen(t *testing.T) {
	store := objectstore.NewMem()
	_, err := Open(t.Context(), store)
	require.ErrorIs(t, err, ErrNoArchive)
	require.Equal(t, fault.Usage, fault.CodeOf(err))

	l := create(t, store)
	require.Equal(t, testID, l.View().Identity().ID)
	require.Zero(t, l.View().Head().Seq)
	require.Empty(t, l.View().Windows())
	require.Equal(t, "tidemark_shop", open(t, store).View().Identity().Slot)

	_, err = Create(t.Context(), store, testIdentity())
	require.NoError(t, err, "the same identity: a lost answer")
	other := testIdentity()
	other.Slot = "other"
	_, err = Create(t.Context(), store, other)
	require.ErrorIs(t, err, ErrArchiveExists)

	begun := put(t, l, claim())
	require.EqualValues(t, 1, begun.Seq)
	require.EqualValues(t, 1, begun.Epoch)
	require.Empty(t, begun.Prev)
	require.NoError(t, store.Delete(t.Context(), identityKey))
	for _, err := range []error{second(Open(t.Context(), store)), second(Create(t.Context(), store, other))} {
		require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
		require.ErrorContains(t, err, "archive.json")
	}
}

func second[T any](_ T, err error) error { return err }

func TestCreateRefusesBadIdentity(t *testing.T) {
	_, err := Create(t.Context(), objectstore.NewMem(), Identity{ID: "not a uuid"})
	require.Equal(t, fault.Usage, fault.CodeOf(err))
}

func TestReopenedIsTheSame(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	for _, seq := range []uint64{5, 63, 64, 65, 200, 511, 512, 513, 1030} {
		grow(t, l, seq)
		if seq == 200 {
			put(t, l, hold("incident"))
			put(t, l, gap(1, 1, l.View().End(1), l.View().End(1)+0x100))
		}
		require.Equal(t, dumpAll(t, l.View()), dumpAll(t, open(t, store).View()), "at %d", seq)
		require.NoError(t, l.Lag())
	}
	require.Empty(t, verified(t, store))
}

func TestRefreshIsCheap(t *testing.T) {
	store := faulty.New(objectstore.NewMem())
	l := begun(t, store)
	grow(t, l, 100)
	r := open(t, store)
	_ = store.Requests()
	require.NoError(t, r.Refresh(t.Context()))
	require.Equal(t, map[string]int{"list": 1}, store.Requests())
	grow(t, l, 101)
	_ = store.Requests()
	require.NoError(t, r.Refresh(t.Context()))
	require.Equal(t, map[string]int{"list": 1, "get": 1}, store.Requests())
	require.Equal(t, dumpAll(t, l.View()), dumpAll(t, r.View()))
	grow(t, l, 1000)
	require.NoError(t, r.Refresh(t.Context()))
	require.Equal(t, dumpAll(t, l.View()), dumpAll(t, r.View()))
}

func TestViewsDoNotChange(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	grow(t, l, 500)
	v := l.View()
	before := dumpAll(t, v)
	grow(t, l, 600)
	put(t, l, snapshotAt(1, l.View().End(1)+5, "s2", 7000))
	put(t, l, Entry{Kind: KindPrune, History: 1, Prune: &Prune{Before: 0x2000, Snapshots: []string{"s2"}}})
	require.Equal(t, before, dumpAll(t, v))
}

// TestWithoutRoots: the log alone says everything, and the next appender writes what is missing.
func TestWithoutRoots(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 4200)
	want := dumpAll(t, l.View())
	for _, prefix := range []string{rootPrefix, bookPrefix} {
		for info, err := range store.List(t.Context(), prefix, "") {
			require.NoError(t, err)
			require.NoError(t, store.Delete(t.Context(), info.Key))
		}
	}
	r := open(t, store)
	require.Equal(t, want, dumpAll(t, r.View()))
	grow(t, r, 4201)
	require.NoError(t, r.Lag())
	require.Empty(t, verified(t, store), "all roots are back: there were fewer than %d", maxDue)
}

func TestMissingAndDamagedObjects(t *testing.T) {
	for _, c := range []struct {
		name string
		key  string
		head uint64
	}{
		{"a hole in the tail", logKey(72), 78},
		{"on the way of the tail's walk", logKey(72), 73},
		{"damaged head", logKey(67), 67},
		{"newest root", rootKey(64), 67},
		{"identity", identityKey, 67},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := objectstore.NewMem()
			grow(t, begun(t, store), c.head)
			data, err := readAll(t.Context(), store, c.key)
			require.NoError(t, err)
			require.NoError(t, store.Delete(t.Context(), c.key))
			if c.key != logKey(67) && c.key != rootKey(64) {
				_, err = Open(t.Context(), store)
				require.Equal(t, fault.Damage, fault.CodeOf(err), "missing: %v", err)
				require.ErrorContains(t, err, c.key)
			}
			data[len(data)/2] ^= 4
			require.NoError(t, store.Put(t.Context(), c.key, data))
			found := verified(t, store)
			require.NotEmpty(t, found)
			require.Equal(t, c.key, found[0].Object)
			_, err = Open(t.Context(), store)
			if c.key == rootKey(64) {
				require.NoError(t, err, "the log has all that it says")
				return
			}
			require.Equal(t, fault.Damage, fault.CodeOf(err), "flipped: %v", err)
			require.ErrorContains(t, err, c.key)
			require.NotEmpty(t, fault.HintOf(err))
		})
	}
}

// TestLinesAreTakenFromTheObjectsThatRepeatThem: an object that is lost or damaged takes nothing with it that another one has: a later
// object that carries the line, a root, a book.
func TestLinesAreTakenFromTheObjectsThatRepeatThem(t *testing.T) {
	for _, head := range []uint64{78, 131, 600} {
		store := objectstore.NewMem()
		l := begun(t, store)
		grow(t, l, head)
		want := dumpAll(t, l.View())
		for lost := uint64(1); lost < head; lost++ {
			if head == 600 && lost%31 != 0 && lost%64 != 0 {
				continue // one of each kind
			}
			data, err := readAll(t.Context(), store, logKey(lost))
			require.NoError(t, err)
			// A later object repeats a line, and so does the newest root.
			repeated := lost <= head/64*64
			for later := lost + 1; later <= head; later++ {
				repeated = repeated || span(later) > later-lost
			}
			flipped := bytes.Clone(data)
			flipped[len(data)/2] ^= 4
			require.NoError(t, store.Delete(t.Context(), logKey(lost)))
			if lost%3 == 0 {
				require.NoError(t, store.Put(t.Context(), logKey(lost), flipped))
			}
			r, err := Open(t.Context(), store)
			if !repeated {
				require.Equal(t, fault.Damage, fault.CodeOf(err), "%d of %d: %v", lost, head, err)
				require.ErrorContains(t, err, logKey(lost))
			} else {
				require.NoError(t, err, "%d of %d", lost, head)
				require.Equal(t, want, dumpAll(t, r.View()), "%d of %d", lost, head)
				v, cut, err := OpenIntact(t.Context(), store)
				require.NoError(t, err)
				require.Empty(t, cut, "%d of %d", lost, head)
				require.Equal(t, head, v.Head().Seq)
			}
			require.Contains(t, objects(verified(t, store)), logKey(lost), "it is told of all the same")
			replace(t, store, logKey(lost), data)
		}
	}
}

func objects(found []Damage) (keys []string) {
	for _, d := range found {
		keys = append(keys, d.Object)
	}
	return keys
}

// TestForeignLines: a root and an object that are intact but tell another story are found out.
func TestForeignLines(t *testing.T) {
	mine, other := objectstore.NewMem(), objectstore.NewMem()
	grow(t, begun(t, mine), 70)
	l := create(t, other)
	put(t, l, claim())
	put(t, l, history(1, 0x2000))
	put(t, l, snapshotAt(1, 0x2000, "s1", 0))
	grow(t, l, 70)
	for _, key := range []string{logKey(70), rootKey(64)} {
		t.Run(key, func(t *testing.T) {
			data, err := readAll(t.Context(), other, key)
			require.NoError(t, err)
			was, err := readAll(t.Context(), mine, key)
			require.NoError(t, err)
			replace(t, mine, key, data)
			defer replace(t, mine, key, was)
			_, err = Open(t.Context(), mine)
			require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
			require.Equal(t, key, verified(t, mine)[0].Object)
		})
	}
}

func replace(t testing.TB, store objectstore.Store, key string, data []byte) {
	require.NoError(t, store.Delete(t.Context(), key))
	require.NoError(t, store.Put(t.Context(), key, data))
}

// TestDamagedRootsAreDoneWithout: an older root is taken, or the log, with a word; an archive goes on from there. Only what such a root's
// name says is still believed: that there were so many entries.
func TestDamagedRootsAreDoneWithout(t *testing.T) {
	for _, damaged := range [][]uint64{{128}, {128, 64}, {128, 64, 3}} {
		store := objectstore.NewMem()
		l := begun(t, store)
		grow(t, l, 130)
		want := dumpAll(t, l.View())
		var keys []string
		for _, seq := range damaged {
			data, err := readAll(t.Context(), store, rootKey(seq))
			require.NoError(t, err)
			replace(t, store, rootKey(seq), data[:len(data)-9])
			keys = append(keys, rootKey(seq))
		}
		r, told := openTold(t, store)
		require.Equal(t, want, dumpAll(t, r.View()))
		require.Equal(t, keys, told())

		grow(t, r, 200)
		require.NoError(t, r.Lag())
		r, told = openTold(t, store)
		require.Equal(t, uint64(200), r.View().Head().Seq)
		require.Empty(t, told(), "there is a newer root")
		require.ElementsMatch(t, keys, objects(verified(t, store)))

		for seq := uint64(200); seq > 190; seq-- {
			require.NoError(t, store.Delete(t.Context(), logKey(seq)))
		}
		replace(t, store, rootKey(192), []byte("x"))
		_, err := Open(t.Context(), store)
		require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
		require.ErrorContains(t, err, logKey(191))
		require.ErrorContains(t, err, rootKey(192))
	}
}

// openTold opens a catalog; told returns the objects that it has done without so far.
func openTold(t testing.TB, store objectstore.Store) (l *Log, told func() []string) {
	var b bytes.Buffer
	l, err := Open(t.Context(), store, WithLog(slog.New(slog.NewJSONHandler(&b, nil))))
	require.NoError(t, err)
	return l, func() (keys []string) {
		for line := range strings.Lines(b.String()) {
			var record struct{ Object string }
			require.NoError(t, json.Unmarshal([]byte(line), &record))
			keys = append(keys, record.Object)
		}
		return keys
	}
}

// TestBooksAreVouchedFor: an intact book with other lines is refused, as is a missing one. The log is read instead, while it is there.
func TestBooksAreVouchedFor(t *testing.T) {
	store := objectstore.NewMem()
	l := begun(t, store)
	grow(t, l, 4100)
	want := dumpAll(t, l.View())
	key := bookKey(0)
	lines, err := readBook(t.Context(), store, 0)
	require.NoError(t, err)
	retold := append([][]byte{}, lines...)
	retold[bookSize-1] = bytes.Replace(lines[bookSize-1], []byte("orders"), []byte("0rders"), 1)
	lines[7], lines[8] = lines[8], lines[7]
	spoiled := map[string]func(){
		"its last line": func() { replace(t, store, key, sealed(t, magicBook, joinLines(retold))) },
		"other lines":   func() { replace(t, store, key, sealed(t, magicBook, joinLines(lines))) },
		"fewer lines":   func() { replace(t, store, key, sealed(t, magicBook, joinLines(lines[:9]))) },
		"missing":       func() { require.NoError(t, store.Delete(t.Context(), key)) },
	}
	for name, spoil := range spoiled {
		spoil()
		r, told := openTold(t, store)
		require.Equal(t, want, dumpAll(t, r.View()), name)
		require.Equal(t, []string{key}, told())
		found := verified(t, store)
		require.Len(t, found, 1)
		require.Equal(t, key, found[0].Object)
		require.True(t, found[0].Derived)
		_ = store.Delete(t.Context(), key)
		require.NoError(t, store.Put(t.Context(), key, []byte("x"))) // for the next to replace
	}
	part := objectstore.NewMem() // without what else repeats them
	for _, kept := range []string{identityKey, rootKey(bookSize), logKey(bookSize + 1), logKey(bookSize + 2), logKey(bookSize + 3), logKey(bookSize + 4)} {
		data, err := readAll(t.Context(), store, kept)
		require.NoError(t, err)
		require.NoError(t, part.Put(t.Context(), kept, data))
	}
	store = part
	require.NoError(t, store.Put(t.Context(), key, []byte("x")))
	delete(spoiled, "its last line") // which the root has, too
	for name, spoil := range spoiled {
		spoil()
		var got error
		for _, err := range open(t, store).View().Entries(t.Context(), Range{History: 1, From: 0x1000, To: 0x1100}) {
			got = err
		}
		require.Equal(t, fault.Damage, fault.CodeOf(got), "%s: %v", name, got)
		require.ErrorContains(t, got, key)
		_ = store.Delete(t.Context(), key)
		require.NoError(t, store.Put(t.Context(), key, []byte("x"))) // for the next to replace
	}
}

// TestForgedLines: whole objects with right checksums, whose lines break the chain or a rule of it.
func TestForgedLines(t *testing.T) {
	for name, c := range map[string]struct {
		seq   uint64
		forge func(*Entry)
		want  string
	}{
		"its own past":  {72, func(e *Entry) { e.Prev = hashOf([]byte("elsewhere")) }, "does not continue the chain"},
		"retold":        {72, func(e *Entry) { e.Segment.Inserts++ }, "does not continue the chain"}, // the entry after it tells
		"another's":     {73, func(e *Entry) { e.Archive = "00000000-2a43-4b7e-9d0f-0d6c0b0f7a11" }, "does not continue the chain"},
		"wrong maximum": {73, func(e *Entry) { e.Segment.RunningMax++ }, "running maximum"},
		"a hole":        {73, func(e *Entry) { e.From++ }, "does not tile"},
		"wrong epoch":   {73, func(e *Entry) { e.Epoch = 7 }, "never claimed"},
	} {
		t.Run(name, func(t *testing.T) {
			store := objectstore.NewMem()
			l := begun(t, store)
			grow(t, l, 73)
			e, ok, err := l.View().Entry(t.Context(), c.seq)
			require.NoError(t, err)
			require.True(t, ok)
			c.forge(&e)
			line, err := marshal(e)
			require.NoError(t, err)
			replace(t, store, logKey(c.seq), encodeLogObject(line, l.leaf.lines[c.seq-span(c.seq):c.seq-1]))
			_, err = Open(t.Context(), store)
			require.Equal(t, fault.Damage, fault.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, c.want)
			require.NotEmpty(t, verified(t, store))
		})
	}
}

// TestForgedRoots: roots with right checksums that contradict themselves.
func TestForgedRoots(t *testing.T) {
	l := begun(t, objectstore.NewMem())
	grow(t, l, 520)
	text, err := rootText(testID, l.leaf)
	require.NoError(t, err)
	lines, err := splitLines(text)
	require.NoError(t, err)
	_, err = decodeRoot("k", testID, 520, sealed(t, magicRoot, text))
	require.NoError(t, err)
	state := string(lines[0])
	for name, forged := range map[string][][]byte{
		"another line before": append([][]byte{lines[0], bytes.Replace(lines[1], []byte("orders"), []byte("0rders"), 1)}, lines[2:]...),
		"fewer lines":         lines[:len(lines)-1],
		"no lines":            lines[:1],
		"another seq":         append([][]byte{[]byte(strings.Replace(state, `"seq":520,`, `"seq":521,`, 1))}, lines[1:]...),
		"another base":        append([][]byte{[]byte(strings.Replace(state, `"base":512,`, `"base":8,`, 1))}, lines[1:]...),
		"another archive":     append([][]byte{[]byte(strings.Replace(state, testID, "00000000-2a43-4b7e-9d0f-0d6c0b0f7a11", 1))}, lines[1:]...),
		"another chapter":     append([][]byte{[]byte(strings.Replace(state, `"last":512,`, `"last":511,`, 1))}, lines[1:]...),
		"another history":     append([][]byte{[]byte(strings.Replace(state, `"number":1,`, `"number":2,`, 1))}, lines[1:]...),
		"unknown field":       append([][]byte{[]byte(strings.Replace(state, `"claim":`, `"colour":1,"claim":`, 1))}, lines[1:]...),
	} {
		_, err := decodeRoot("k", testID, 520, sealed(t, magicRoot, joinLines(forged)))
		require.Equal(t, fault.Damage, fault.CodeOf(asFault(err)), "%s: %v", name, err)
	}
	newer := append([][]byte{[]byte(strings.Replace(state, `{"v":1,`, `{"v":3,`, 1))}, lines[1:]...)
	_, err = decodeRoot("k", testID, 520, sealed(t, magicRoot, joinLines(newer)))
	require.ErrorContains(t, err, "k has format version 3")
}

// forgetful leaves a key out of its lists, as reading a folder that is being written to may.
type forgetful struct {
	objectstore.Store
	key string
}

func (s forgetful) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		for info, err := range s.Store.List(ctx, prefix, after) {
			if info.Key != s.key && !yield(info, err) {
				return
			}
		}
	}
}

func TestListThatForgets(t *testing.T) {
	store := objectstore.NewMem()
	grow(t, begun(t, store), 70)
	require.EqualValues(t, 70, open(t, forgetful{store, logKey(69)}).View().Head().Seq)
}
