package catalog

import (
	"bytes"
	"context"
	"errors"

	"tidemark/objectstore"
)

// maxDue is how many missing roots are remembered for writing.
const maxDue = 128

// dueRoot is a root that the rules call for and that is not known to exist.
type dueRoot struct {
	seq  uint64
	leaf *leaf
	own  bool // its entry was appended by this Log just now: nobody else writes it
}

// rootDue is the rule: which entries are followed by a root.
func rootDue(e *Entry) bool {
	switch e.Kind {
	case KindSnapshot, KindHold, KindPrune, KindHistory, KindInexact:
		return true
	case KindWriter:
		return e.Writer.Stopped || e.Seq%tailSize == 0
	}
	return e.Seq%tailSize == 0
}

// settle writes the books and roots that are due. It is called with the lock held, after an entry of
// our own became durable; a failure is told and left for the next time.
func (l *Log) settle(ctx context.Context) {
	for len(l.due) > 0 {
		if err := l.writeRoot(ctx, l.due[0]); err != nil {
			l.lag.Store(&err)
			l.warn(err)
			return
		}
		l.due = l.due[1:]
	}
	l.due = nil
	l.lag.Store(nil)
}

func (l *Log) writeRoot(ctx context.Context, d dueRoot) error {
	key := rootKey(d.seq)
	if !d.own {
		_, err := l.lib.store.Stat(ctx, key)
		if err == nil {
			l.lib.bound.Store(max(l.lib.bound.Load(), d.seq/bookSize))
			return nil
		}
		if !errors.Is(err, objectstore.ErrNotFound) {
			return err
		}
	}
	for n := l.lib.bound.Load(); n < d.seq/bookSize; n++ {
		if err := l.writeBook(ctx, n, &d.leaf.base.Books[n]); err != nil {
			return err
		}
		l.lib.bound.Store(n + 1)
	}
	text, err := rootText(l.id.ID, d.leaf.through(d.seq))
	if err != nil {
		return err
	}
	return putDerived(ctx, l.lib.store, key, magicRoot, text)
}

// writeBook writes book n from its chapters.
func (l *Log) writeBook(ctx context.Context, n uint64, s *summary) error {
	lines := make([][]byte, 0, bookSize)
	for seq := s.First; seq <= s.Last; seq += chapterSize {
		part, err := l.lib.chapter(ctx, seq, s)
		if err != nil {
			return err
		}
		lines = append(lines, part...)
	}
	before := ""
	if n > 0 {
		_, before, _ = linkOf(lines[0])
	}
	if err := checkChain(lines, s.First, before, s.Hash); err != nil {
		return damaged(logKey(s.Last), "%v", err)
	}
	return putDerived(ctx, l.lib.store, bookKey(n), magicBook, joinLines(lines))
}

// chapter returns the lines of the chapter of book s that begins at first, from memory if they are there.
func (lib *library) chapter(ctx context.Context, first uint64, s *summary) ([][]byte, error) {
	last := first + chapterSize - 1
	if lines := lib.cachedThrough(last); lines != nil {
		return lines, nil
	}
	return lib.fetchLines(ctx, first-1, last)
}

// putDerived creates a book or root. One that exists is right if it says the same.
func putDerived(ctx context.Context, store objectstore.Store, key, magic string, text []byte) error {
	data, err := seal(magic, text)
	if err != nil {
		return err
	}
	err = store.Put(ctx, key, data)
	if !errors.Is(err, objectstore.ErrExists) {
		return err
	}
	found, err := readAll(ctx, store, key)
	if err != nil || bytes.Equal(found, data) {
		return err
	}
	other, err := unseal(key, magic, found)
	if err == nil && !bytes.Equal(other, text) {
		err = derivedDamage(key, "it does not say what the log says")
	}
	return asFault(asDerived(err))
}
