package segment

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// countingFile notes which bytes of a part are read.
type countingFile struct {
	io.ReaderAt
	read []bool
}

func (c *countingFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(b, off)
	for i := range n {
		c.read[int(off)+i] = true
	}
	return n, err
}

// TestWantReadsOnlyNeededFrames reads one table of a segment of many: its rows come all, the others' frames are
// never read, and what remains still proves the index.
func TestWantReadsOnlyNeededFrames(t *testing.T) {
	g := newGenerator(testSeed(t), 2000)
	events := g.stream(80, 40)
	s := writeSegment(t, testOptions(30_000, 2000), events)
	index, err := ReadIndex(memoryFile(len(s.parts)-1, s.parts[len(s.parts)-1].Data))
	require.NoError(t, err)
	require.NotEmpty(t, index.Relations)
	wanted := index.Relations[0].ID

	var files []*countingFile
	next := s.files()
	counted := func() (PartFile, error) {
		p, err := next()
		if err != nil {
			return p, err
		}
		c := &countingFile{ReaderAt: p.R, read: make([]bool, p.Size)}
		files = append(files, c)
		p.R = c
		return p, nil
	}
	var want, got [][]byte
	for _, e := range events {
		if e.op != OpInsert && e.op != OpUpdate && e.op != OpDelete || e.row == wanted {
			want = append(want, e.pgoutput())
		}
	}
	o := ReaderOptions{Want: func(r *Relation) bool { return r.ID == wanted }}
	summary, err := readAll(counted, o, func(r *Record) { got = append(got, eventOf(t, r).pgoutput()) })
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, s.summary, summary)

	skipped := 0
	for _, b := range index.Blocks {
		for _, f := range b.Frames {
			read := files[b.Part].read[f.Offset]
			needed := f.Relation < 0 || index.Relations[f.Relation].ID == wanted
			require.Equal(t, needed, read, "frame of %d at %d", f.Relation, f.Offset)
			if !read {
				skipped++
			}
		}
	}
	require.Positive(t, skipped)
}

// TestWantNothing leaves out all rows, also those that span blocks.
func TestWantNothing(t *testing.T) {
	s := smallSegment(t)
	summary, err := readAll(s.files(), ReaderOptions{Want: func(*Relation) bool { return false }}, func(r *Record) {
		require.NotContains(t, []Op{OpInsert, OpUpdate, OpDelete}, r.Op)
	})
	require.NoError(t, err)
	require.Equal(t, s.summary, summary)
}

// TestPassReadsOnlyNeededFrames passes over every other run of rows that it is asked about: all else comes, and what
// is passed over lies where the numbers say.
func TestPassReadsOnlyNeededFrames(t *testing.T) {
	g := newGenerator(testSeed(t), 2000)
	events := g.stream(200, 40)
	s := writeSegment(t, testOptions(30_000, 2000), events)
	type place struct {
		relation uint32
		nth      int64
	}
	seen, passed := map[uint32]int64{}, map[place]bool{}
	asked, frames := 0, 0
	o := ReaderOptions{Pass: func(r *Relation, rows int64) bool {
		if asked++; asked%2 == 0 {
			return false
		}
		frames++
		for range rows {
			passed[place{r.ID, seen[r.ID]}] = true
			seen[r.ID]++
		}
		return true
	}}
	var want, got [][]byte
	summary, err := readAll(s.files(), o, func(r *Record) {
		if r.Op == OpInsert || r.Op == OpUpdate || r.Op == OpDelete {
			seen[r.Relation.ID]++
		}
		got = append(got, eventOf(t, r).pgoutput())
	})
	require.NoError(t, err)
	require.Greater(t, frames, 10)
	clear(seen)
	for _, e := range events {
		if e.op == OpInsert || e.op == OpUpdate || e.op == OpDelete {
			if seen[e.row]++; passed[place{e.row, seen[e.row] - 1}] {
				continue
			}
		}
		want = append(want, e.pgoutput())
	}
	require.Equal(t, want, got)
	require.Equal(t, s.summary, summary)
}
