package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"tidemark/objectstore"
)

// Log is an open catalog. It is safe for concurrent use. It holds no goroutines and needs no closing.
type Log struct {
	lib   *library
	id    Identity
	clock func() time.Time
	warn  func(error)

	lock chan struct{} // taken while the log moves; a channel, so that waiting can be cancelled
	view atomic.Pointer[View]
	fold

	due    []dueRoot // ascending
	unsure []unsure
	lag    atomic.Pointer[error]
}

// Option changes how Open and Create set up a Log.
type Option func(*Log)

// WithClock sets the clock of the entries' At; time.Now otherwise.
func WithClock(now func() time.Time) Option { return func(l *Log) { l.clock = now } }

// WithRootFailure sets a function that is told when a book or root could not be written after an
// entry was appended. The entry is durable all the same; the next Append tries again. See Log.Lag.
func WithRootFailure(f func(error)) Option { return func(l *Log) { l.warn = f } }

// WithLog sets the log that is told, once each, of damaged books and roots that were done without; none otherwise.
func WithLog(log *slog.Logger) Option { return func(l *Log) { l.lib.log = log } }

func newLog(store objectstore.Store, id Identity, opts []Option) *Log {
	l := &Log{lib: &library{store: store, archive: id.ID, log: slog.New(slog.DiscardHandler)}, id: id, clock: time.Now, warn: func(error) {},
		lock: make(chan struct{}, 1), fold: newFold(id.ID)}
	for _, o := range opts {
		o(l)
	}
	l.publish(Entry{})
	return l
}

// Create makes an archive in store and returns its empty log. The error matches ErrArchiveExists if
// there is one already, unless it says exactly the same. Its remains (a catalog, segments or snapshots
// without archive.json) are damage.
func Create(ctx context.Context, store objectstore.Store, id Identity, opts ...Option) (*Log, error) {
	id, err := writeIdentity(ctx, store, id)
	if err != nil {
		return nil, asFault(err)
	}
	return read(ctx, store, id, opts) // it is not empty if it existed
}

// Open reads an archive's catalog up to its newest entry, in 4 requests and 2 at most for the newest
// entries (docs/format/catalog.md). The error matches ErrNoArchive if there is none; damage is a
// fault with code fault.Damage and names the object. Segments or snapshots without any entry are damage:
// the catalog is lost.
func Open(ctx context.Context, store objectstore.Store, opts ...Option) (*Log, error) {
	id, err := readIdentity(ctx, store)
	if err != nil {
		return nil, asFault(err)
	}
	return read(ctx, store, id, opts)
}

func read(ctx context.Context, store objectstore.Store, id Identity, opts []Option) (*Log, error) {
	l := newLog(store, id, opts)
	newest, err := l.loadRoot(ctx)
	if err != nil {
		return nil, asFault(err)
	}
	if err := l.Refresh(ctx); err != nil {
		return nil, err
	}
	head := l.View().Head().Seq
	if seq, ok := parseRootKey(newest); ok && head < seq {
		return nil, asFault(damaged(logKey(head+1), "is missing, although there is %s", newest))
	}
	if head == 0 {
		if err := checkLost(ctx, store); err != nil {
			return nil, asFault(err)
		}
	}
	return l, nil
}

// loadRoot takes the newest root over that is sound; without any the log is read from its beginning. newest is the key of the newest one,
// sound or not: the log must reach as far.
func (l *Log) loadRoot(ctx context.Context) (newest string, err error) {
	for info, err := range l.lib.store.List(ctx, rootPrefix, "") {
		if err != nil {
			return "", err
		}
		seq, ok := parseRootKey(info.Key)
		if !ok {
			continue
		}
		newest = cmp.Or(newest, info.Key)
		err = l.takeRoot(ctx, info.Key, seq)
		d, ok := errors.AsType[*Damage](err)
		if !ok {
			return newest, err
		}
		l.lib.passOver(d)
	}
	return newest, nil
}

func (l *Log) takeRoot(ctx context.Context, key string, seq uint64) error {
	root, err := readRoot(ctx, l.lib.store, key, l.id.ID, seq)
	if err != nil {
		return err
	}
	before := l.fold
	l.fold = fold{archive: l.id.ID, state: root.base.clone(), leaf: &leaf{base: root.base, prior: root.prior}}
	head, err := decodeHead(root)
	if err != nil {
		err = derivedDamage(key, "its first line: %v", err)
	} else {
		head, err = l.absorb(head, root.lines)
	}
	l.due = nil
	if err != nil {
		l.fold = before
		if d, ok := errors.AsType[*Damage](err); ok && !d.Derived {
			err = derivedDamage(key, "%v", err)
		}
		return err
	}
	l.lib.bound.Store(seq / bookSize)
	l.publish(head)
	return nil
}

func decodeHead(l *leaf) (Entry, error) {
	if l.prior == nil {
		return Entry{}, nil
	}
	e, err := decodeEntry(l.prior)
	if err == nil && e.Seq != l.base.Seq {
		err = errors.New("it has another seq")
	}
	return e, err
}

func newestRoot(ctx context.Context, store objectstore.Store) (seq uint64, key string, err error) {
	for info, err := range store.List(ctx, rootPrefix, "") {
		if err != nil {
			return 0, "", err
		}
		if seq, ok := parseRootKey(info.Key); ok {
			return seq, info.Key, nil
		}
	}
	return 0, "", nil
}

func readRoot(ctx context.Context, store objectstore.Store, key, archive string, seq uint64) (*leaf, error) {
	data, err := readAll(ctx, store, key)
	if err != nil {
		return nil, err
	}
	return decodeRoot(key, archive, seq, data)
}

func decodeRoot(key, archive string, seq uint64, data []byte) (*leaf, error) {
	text, err := unseal(key, magicRoot, data)
	if err != nil {
		return nil, asDerived(err)
	}
	return parseRoot(key, archive, seq, text)
}

// Refresh reads what was appended since. When there is nothing new it costs one list request.
func (l *Log) Refresh(ctx context.Context) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.release()
	return asFault(l.catchUp(ctx))
}

func (l *Log) take(ctx context.Context) error {
	select {
	case l.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the catalog: %w", context.Cause(ctx))
	}
}

func (l *Log) release() { <-l.lock }

func (l *Log) catchUp(ctx context.Context) error {
	last, err := l.lib.lastSeq(ctx, l.state.Seq)
	if err != nil {
		return err
	}
	for l.state.Seq < last {
		through := min(last, l.state.Seq-l.state.Seq%bookSize+bookSize)
		lines, err := l.lib.fetchLines(ctx, l.state.Seq, through)
		if err != nil {
			return err
		}
		if err := l.advance(lines); err != nil {
			return err
		}
	}
	return nil
}

// advance adds lines that come next and shows them. After an error the log stands where it stood.
func (l *Log) advance(lines [][]byte) error {
	before, due := l.fold, l.due
	l.fold = before.fork()
	head, err := l.absorb(l.view.Load().head, lines)
	if err != nil {
		l.fold, l.due = before, due
		return err
	}
	l.publish(head)
	return nil
}

// absorb adds lines to the fold, notes the roots that they call for, and returns the new head.
func (l *Log) absorb(head Entry, lines [][]byte) (Entry, error) {
	for _, line := range lines {
		e, chapter, err := l.add(line)
		if err != nil {
			return head, err
		}
		if chapter != nil {
			l.lib.keep(l.state.Hash, chapter)
		}
		if rootDue(&e) {
			l.due = append(l.due[:len(l.due):len(l.due)], dueRoot{seq: e.Seq, leaf: l.leaf})
			l.due = l.due[max(0, len(l.due)-maxDue):]
		}
		head = e
	}
	return head, nil
}

// publish shows the private state. The state is not to be changed after it: changes begin with a clone.
func (l *Log) publish(head Entry) {
	l.view.Store(&View{id: l.id, lib: l.lib, st: l.state, lines: l.leaf.lines, head: head})
}

// View returns what is known: an immutable picture as of the last Open, Refresh or Append.
func (l *Log) View() *View { return l.view.Load() }

// Lag returns why the newest book or root could not be written, nil when none is missing. Until it
// is mended (by the next Append that succeeds in it) opening the catalog takes more requests.
func (l *Log) Lag() error {
	if p := l.lag.Load(); p != nil {
		return *p
	}
	return nil
}
