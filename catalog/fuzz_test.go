package catalog

import (
	"testing"

	"tidemark/objectstore"
)

func FuzzEntry(f *testing.F) {
	l := begun(f, objectstore.NewMem())
	e := nextSegment(l.View())
	e.Segment.Marks = []Mark{{Name: `"max_commit_time":"2030-01-01T00:00:00Z","min_xid":5`}}
	put(f, l, e)
	put(f, l, gap(1, 1, l.View().End(1), l.View().End(1)+9))
	put(f, l, hold("h"))
	put(f, l, inexactEntry(1, inexact(0x1000, 0x1100, "public.orders")))
	for _, line := range l.leaf.lines {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		_, _, _ = linkOf(line)
		e, err := decodeEntry(line)
		if err != nil {
			return
		}
		seq, prev, ok := linkOf(line)
		if !ok || seq != e.Seq || prev != e.Prev {
			t.Fatalf("the link of %q is read as %d %q", line, seq, prev)
		}
		if g := glance(line); g.kind() != e.Kind || (e.Stream() && (mustReach(g) != reach{History: e.History, From: e.From, To: e.To})) {
			t.Fatalf("a glance at %q sees something else", line)
		} else if s := e.Segment; s != nil && (g.number("min_xid") != int64(s.MinXID) || g.number("max_xid") != int64(s.MaxXID) || g.time("max_commit_time") != s.MaxCommitTime || g.counts() != CountsOf(s)) {
			t.Fatalf("a glance at %q sees something else", line)
		}
		s := l.state.clone()
		_ = s.admit(&e)
		e.Seq, e.Prev = s.Seq+1, s.Hash
		_ = s.apply(&e, e.Archive, hashOf(line))
		for i := range s.Histories {
			_ = s.windows(&s.Histories[i])
		}
	})
}

func mustReach(g glance) reach {
	r, _ := g.stream()
	return r
}

func FuzzLogObject(f *testing.F) {
	l := begun(f, objectstore.NewMem())
	grow(f, l, 16)
	f.Add(encodeLogObject(l.leaf.lines[15], l.leaf.lines[:15]))
	f.Add(encodeLogObject(l.leaf.lines[14], nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Most inputs would stop at the checksum: try them with a right one too.
		for _, data := range [][]byte{data, appendSum(data[:max(0, len(data)-32)])} {
			line, carried, err := decodeLogObject("k", data)
			if err == nil && (line == nil || len(carried) > len(data)*maxRatio) {
				t.Fatal("decoded more than there is")
			}
		}
	})
}

func FuzzRootAndBook(f *testing.F) {
	l := begun(f, objectstore.NewMem())
	grow(f, l, 64)
	small, err := rootText(testID, l.leaf)
	if err != nil {
		f.Fatal(err)
	}
	grow(f, l, 515)
	large, err := rootText(testID, l.leaf)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small, uint64(64), false)
	f.Add(large, uint64(515), false)
	f.Add(sealed(f, magicRoot, large), uint64(515), true)
	f.Fuzz(func(t *testing.T, data []byte, seq uint64, whole bool) {
		if whole {
			data = appendSum(data[:max(0, len(data)-32)])
			_, _ = decodeRoot("k", testID, seq, data)
			_, _ = decodeBook("k", data)
			return
		}
		r, err := parseRoot("k", testID, seq, data)
		if err != nil {
			return
		}
		// What a reader does with it must not panic either.
		l := newLog(objectstore.NewMem(), Identity{ID: testID}, nil)
		l.fold = fold{archive: testID, state: r.base.clone(), leaf: &leaf{base: r.base, prior: r.prior}}
		head, err := decodeHead(r)
		if err != nil {
			return
		}
		if _, err := l.absorb(head, r.lines); err != nil {
			return
		}
		l.publish(head)
		v := l.View()
		_ = v.Windows()
		for range v.Entries(t.Context(), Range{History: 1}) {
			break
		}
		_, _, _ = v.FindTime(t.Context(), 1, at(5))
		_ = v.SnapshotsFor(1, 0x1000)
	})
}
