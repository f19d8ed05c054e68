package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"tidemark/internal/fault"
	"tidemark/objectstore"
)

// Append adds the entry that build makes. build gets the newest view, and is called again whenever
// another appender was faster: it must have no effects of its own, and returns an error (handed on as
// it is) if its entry makes no sense any more.
//
// build sets Kind, History, the range, the payload and, in the stream writer's entries, Epoch. Append
// fills the rest: Version, Archive, Seq and Prev; At if it is zero; To of history and snapshot
// entries; Epoch of a claim; the running maxima, from the entries before. It returns the entry as stored.
//
// An entry of an older epoch than the newest claim is refused with fault.Conflict: another archiver
// has taken over. When the store fails, the entry may be there or not; an Append of the same entry
// tells (it returns the one that landed, however often it is called).
func (l *Log) Append(ctx context.Context, build func(*View) (Entry, error)) (Entry, error) {
	if err := l.take(ctx); err != nil {
		return Entry{}, err
	}
	defer l.release()
	if e, ok, err := l.resolve(ctx, build); ok || err != nil {
		if err != nil {
			return e, asFault(err)
		}
		l.settle(ctx)
		return e, nil
	}
	for try := 0; ; try++ {
		e, done, err := l.attempt(ctx, build)
		if err != nil {
			return Entry{}, asFault(err)
		}
		if done {
			l.settle(ctx)
			return e, nil
		}
		if err := pause(ctx, try); err != nil {
			return Entry{}, err
		}
	}
}

// unsure is an append whose outcome the store did not tell.
type unsure struct {
	view   *View // that it was built on
	entry  Entry // as it was built; once it landed, as it is stored
	landed bool
}

// maxUnsure is how many appends are remembered that landed unsure and were not asked for again: more than a process has under way.
const maxUnsure = 16

// doubt remembers an append that failed. Each of several callers may have one.
func (l *Log) doubt(v *View, e Entry) {
	l.unsure = slices.DeleteFunc(l.unsure, func(u unsure) bool { return saysTheSame(u.entry, e) })
	l.unsure = append(l.unsure, unsure{view: v, entry: e})
	l.unsure = l.unsure[max(0, len(l.unsure)-maxUnsure):]
}

// resolve answers an Append that repeats an unsure one whose entry turned out to have landed: it was
// read since, by a Refresh or an Append of something else.
func (l *Log) resolve(ctx context.Context, build func(*View) (Entry, error)) (Entry, bool, error) {
	if err := l.findUnsure(ctx); err != nil {
		return Entry{}, false, err
	}
	for i, u := range l.unsure {
		if u.landed && u.isOf(build) {
			l.unsure = slices.Delete(l.unsure, i, i+1)
			return u.entry, true, nil
		}
	}
	return Entry{}, false, nil
}

// findUnsure looks what became of the unsure entries whose places are taken by now, and forgets those that did not land.
func (l *Log) findUnsure(ctx context.Context) error {
	var left []unsure
	for _, u := range l.unsure {
		if !u.landed && u.entry.Seq <= l.state.Seq {
			found, ok, err := l.view.Load().Entry(ctx, u.entry.Seq)
			if err != nil {
				return err
			}
			if !ok || !saysTheSame(found, u.entry) {
				continue
			}
			u.entry, u.landed = found, true
		}
		left = append(left, u)
	}
	l.unsure = left
	return nil
}

// isOf reports whether an entry that landed is what build makes. It is asked with the view of then, for the new one holds
// the entry.
func (u unsure) isOf(build func(*View) (Entry, error)) bool {
	e, err := build(u.view)
	if err != nil {
		return false // it is another entry: the build for the newest view decides
	}
	e.complete(u.view, u.entry.At)
	if e.check() != nil || e.Kind != u.entry.Kind {
		return false
	}
	e.setRunningMax(u.entry.runningMax())
	if e.Kind == KindSnapshot {
		e.Snapshot.RunningMax = u.entry.Snapshot.RunningMax
	}
	return saysTheSame(e, u.entry)
}

// attempt tries once. done is false if another appender was faster.
func (l *Log) attempt(ctx context.Context, build func(*View) (Entry, error)) (e Entry, done bool, err error) {
	v := l.view.Load()
	if e, err = build(v); err != nil {
		return e, false, err
	}
	line, e, err := l.prepare(ctx, v, e)
	if err != nil {
		return e, false, err
	}
	object := encodeLogObject(line, l.carry(e.Seq))
	err = l.lib.store.Put(ctx, logKey(e.Seq), object)
	if errors.Is(err, objectstore.ErrExists) {
		return l.lost(ctx, e, object)
	}
	if err != nil {
		l.doubt(v, e)
		return e, false, fmt.Errorf("appending to the catalog: %w", err)
	}
	return e, true, l.land(line)
}

// lost looks who was there first: ourselves, in an attempt whose answer was lost, or another.
func (l *Log) lost(ctx context.Context, e Entry, object []byte) (Entry, bool, error) {
	key := logKey(e.Seq)
	found, err := readAll(ctx, l.lib.store, key)
	if err != nil {
		l.doubt(l.view.Load(), e)
		return e, false, err
	}
	line, _, err := decodeLogObject(key, found)
	if err != nil {
		return e, false, err
	}
	there, err := decodeEntry(line)
	if err != nil {
		return e, false, lineError(key, err)
	}
	if bytes.Equal(found, object) || saysTheSame(there, e) {
		return there, true, l.land(line)
	}
	if err := l.advance([][]byte{line}); err != nil {
		return e, false, err
	}
	return e, false, l.catchUp(ctx)
}

// land adds our own line to the log. An unsure append of the same place was this one, or did not land.
func (l *Log) land(line []byte) error {
	if err := l.advance([][]byte{line}); err != nil {
		return err
	}
	l.unsure = slices.DeleteFunc(l.unsure, func(u unsure) bool { return u.entry.Seq == l.state.Seq })
	if n := len(l.due); n > 0 && l.due[n-1].seq == l.state.Seq {
		l.due[n-1].own = true
	}
	return nil
}

// carry returns the lines that the object of seq holds beside its own.
func (l *Log) carry(seq uint64) [][]byte {
	return l.leaf.lines[uint64(len(l.leaf.lines))-(span(seq)-1):]
}

// prepare completes an entry and tests it.
func (l *Log) prepare(ctx context.Context, v *View, e Entry) ([]byte, Entry, error) {
	e.complete(v, l.clock())
	if err := e.check(); err != nil {
		return nil, e, refusal(&e, err)
	}
	if err := l.fillRunningMax(ctx, v, &e); err != nil {
		return nil, e, err
	}
	if err := l.state.admit(&e); errors.Is(err, errVoid) {
		return nil, e, l.state.takenOver()
	} else if err != nil {
		return nil, e, refusal(&e, err)
	}
	line, e, err := encodeEntry(e)
	if err != nil {
		return nil, e, refusal(&e, err)
	}
	return line, e, nil
}

func refusal(e *Entry, err error) error {
	return fault.Wrap(err, fault.Failed, "", "can't append a %s entry to the catalog", e.Kind)
}

// complete fills what follows from the view. Payloads are copied: build may hand out its own.
func (e *Entry) complete(v *View, now time.Time) {
	e.Version, e.Archive, e.Seq, e.Prev = FormatVersion, v.id.ID, v.st.Seq+1, v.st.Hash
	if e.At.IsZero() {
		e.At = now
	}
	e.At = e.At.UTC().Truncate(time.Microsecond)
	if e.Kind == KindHistory || e.Kind == KindSnapshot {
		e.To = e.From
	}
	if e.Kind == KindWriter && e.Writer != nil && !e.Writer.Stopped && e.Epoch == 0 {
		e.Epoch = v.st.Claim.Epoch + 1
	}
	e.Segment, e.Watermark, e.Gap, e.Snapshot = copied(e.Segment), copied(e.Watermark), copied(e.Gap), copied(e.Snapshot)
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// fillRunningMax sets the running maximum of commit times from the entries before.
func (l *Log) fillRunningMax(ctx context.Context, v *View, e *Entry) error {
	h := v.st.history(e.History)
	if h == nil {
		return nil // the rules will refuse it
	}
	if e.Stream() {
		e.setRunningMax(max(h.RunningMax, e.maxCommitTime()))
	}
	if e.Kind == KindSnapshot {
		t, err := v.runningMaxAt(ctx, e.History, e.From)
		if err != nil {
			return err
		}
		e.Snapshot.RunningMax = max(e.Snapshot.RunningMax, t)
	}
	return nil
}

// saysTheSame compares all but the time of appending, which differs between two tries.
func saysTheSame(a, b Entry) bool {
	a.At = b.At
	x, errx := marshal(a)
	y, erry := marshal(b)
	return errx == nil && erry == nil && bytes.Equal(x, y)
}

// pause waits a moment after a lost race: a few milliseconds at first, half a second at most.
func pause(ctx context.Context, try int) error {
	longest := min(5*time.Millisecond<<min(try, 8), 500*time.Millisecond)
	t := time.NewTimer(rand.N(longest))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("appending to the catalog: %w", context.Cause(ctx))
	}
}
