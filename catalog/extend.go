package catalog

import (
	"context"
	"fmt"
	"time"

	"tidemark/objectstore"
)

// Extend adds entries to a short archive up to number seq, a multiple of 64, in a small part of the time that so many
// appends take, and opens what it made. It is for archives that are made up, to measure with. build is called
// as by Append. Of the log's objects only those are written that a reader needs: all books, the newest root,
// and the log objects of the open book that carry its chapters; the others are such as may be pruned. Nobody
// else may append meanwhile.
func (l *Log) Extend(ctx context.Context, seq uint64, build func(*View) (Entry, error)) (*Log, error) {
	x := extension{store: l.lib.store, id: l.id, clock: l.clock, fold: l.fold.fork(), until: seq}
	if n := x.state.Seq; n >= chapterSize || seq < n || seq%tailSize != 0 {
		return nil, fmt.Errorf("an archive of %d entries can't be extended to %d", n, seq)
	}
	if x.state.Seq > 0 {
		x.book = append(x.book, x.leaf.lines...)
	}
	for x.state.Seq < seq {
		v := &View{id: x.id, st: x.state}
		e, err := build(v)
		if err != nil {
			return nil, err
		}
		if err := x.extend(ctx, v, e); err != nil {
			return nil, err
		}
	}
	text, err := rootText(x.id.ID, x.leaf)
	if err != nil {
		return nil, err
	}
	if err := x.put(ctx, rootKey(seq), magicRoot, text); err != nil {
		return nil, err
	}
	next := newLog(l.lib.store, l.id, nil)
	next.clock, next.warn = l.clock, l.warn
	if _, err := next.loadRoot(ctx); err != nil {
		return nil, asFault(err)
	}
	return next, next.Refresh(ctx)
}

// extension is an archive that is being extended.
type extension struct {
	fold
	store objectstore.Store
	id    Identity
	clock func() time.Time
	book  [][]byte // lines of the open book
	until uint64
}

// extend adds one entry.
func (x *extension) extend(ctx context.Context, v *View, e Entry) error {
	e.complete(v, x.clock())
	if err := e.check(); err != nil {
		return refusal(&e, err)
	}
	e.setRunningMax(max(v.RunningMax(e.History), e.maxCommitTime()))
	line, err := marshal(e)
	if err != nil {
		return err
	}
	if err := x.state.apply(&e, x.id.ID, hashOf(line)); err != nil {
		return refusal(&e, err)
	}
	carried := x.leaf.lines
	x.leaf.lines = append(x.leaf.lines, line)
	if x.book = append(x.book, line); len(x.book) == bookSize {
		if err := x.put(ctx, bookKey(e.Seq/bookSize-1), magicBook, joinLines(x.book)); err != nil {
			return err
		}
		x.book = nil
	}
	open := e.Seq+chapterSize > x.until-x.until%bookSize // in the open book, or in the last chapter before it
	if open && (e.Seq%chapterSize == 0 || e.Seq+chapterSize > x.until) {
		carried = carried[uint64(len(carried))-(span(e.Seq)-1):]
		if err := x.store.Put(ctx, logKey(e.Seq), encodeLogObject(line, carried)); err != nil {
			return err
		}
	}
	if e.Seq%chapterSize == 0 {
		x.leaf = &leaf{base: x.state.clone(), prior: line}
	}
	return nil
}

// put writes a book or a root.
func (x *extension) put(ctx context.Context, key, magic string, text []byte) error {
	data, err := seal(magic, text)
	if err != nil {
		return err
	}
	return x.store.Put(ctx, key, data)
}
