package pitr

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"sync"
	"sync/atomic"

	"tidemark/catalog"
	"tidemark/internal/fault"
	"tidemark/objectstore"
	"tidemark/segment"
)

// Archive is an archive as it stood when its View was taken.
type Archive struct {
	store objectstore.Store
	view  *catalog.View
	gets  atomic.Int64 // of indexes

	mu      sync.Mutex
	indexes map[string]*list.Element // by key of the last part
	recent  list.List                // of cachedIndex, newest first
}

// cachedIndex is an index that was read lately: planning asks for the same few more than once.
type cachedIndex struct {
	key   string
	index *segment.Index
}

const keptIndexes = 4

var _ source = (*Archive)(nil)

// NewArchive reads archives through a store and what is known of it. Plans and restores see the
// archive as the view has it; entries that come later don't matter to them.
func NewArchive(store objectstore.Store, view *catalog.View) *Archive {
	return &Archive{store: store, view: view, indexes: map[string]*list.Element{}}
}

func (a *Archive) archiveID() string                  { return a.view.Identity().ID }
func (a *Archive) histories() []catalog.HistoryPoint  { return a.view.Histories() }
func (a *Archive) windows() []catalog.Window          { return a.view.Windows() }
func (a *Archive) snapshots() []catalog.SnapshotPoint { return a.view.Snapshots() }
func (a *Archive) marks() []catalog.MarkPoint         { return a.view.Marks() }
func (a *Archive) gaps() []catalog.GapPoint           { return a.view.Gaps() }
func (a *Archive) inexact() []catalog.InexactPoint    { return a.view.Inexact() }
func (a *Archive) requests() int                      { return a.view.Read() + int(a.gets.Load()) }

func (a *Archive) stream(ctx context.Context, history uint32, from, to segment.LSN) iter.Seq2[catalog.Entry, error] {
	return a.view.Entries(ctx, catalog.Range{History: history, From: from, To: to})
}

func (a *Archive) since(ctx context.Context, history uint32, t segment.Timestamp) iter.Seq2[catalog.Entry, error] {
	return a.view.EntriesSince(ctx, catalog.Range{History: history}, t)
}

func (a *Archive) sums(ctx context.Context, history uint32, from, to segment.LSN) (catalog.Counts, error) {
	return a.view.Sums(ctx, catalog.Range{History: history, From: from, To: to})
}

func (a *Archive) spanning(ctx context.Context, history uint32, lsn segment.LSN) (catalog.Entry, bool, error) {
	return a.view.Spanning(ctx, history, lsn)
}

func (a *Archive) firstSegment(ctx context.Context, history uint32, from, to segment.LSN) (catalog.Entry, bool, error) {
	return a.view.FirstSegment(ctx, catalog.Range{History: history, From: from, To: to})
}

func (a *Archive) lastSegment(ctx context.Context, history uint32, from, to segment.LSN) (catalog.Entry, bool, error) {
	return a.view.LastSegment(ctx, catalog.Range{History: history, From: from, To: to})
}

func (a *Archive) unread(history uint32, from, to segment.LSN) int {
	return a.view.Unread(catalog.Range{History: history, From: from, To: to})
}

func (a *Archive) firstLater(ctx context.Context, history uint32, t segment.Timestamp) (catalog.Entry, bool, error) {
	return a.view.FindTime(ctx, history, t)
}

func (a *Archive) withXID(ctx context.Context, xid uint32) iter.Seq2[catalog.Entry, error] {
	return a.view.FindXID(ctx, xid)
}

// index reads a segment's index by a ranged read of its last part (or two, where it is larger than
// it was guessed to be), and checks that it is the index of the entry.
//
// The transactions that committed before from may be missing.
func (a *Archive) index(ctx context.Context, e catalog.Entry, from segment.LSN) (*segment.Index, error) {
	if e.Segment == nil || len(e.Segment.Objects) == 0 {
		return nil, fault.New(fault.Damage, verifyHint, "catalog entry %d names no object", e.Seq)
	}
	last := e.Segment.Objects[len(e.Segment.Objects)-1]
	if x := a.cached(last.Key); x != nil {
		return x, nil
	}
	r := &objectReader{size: last.Size, guess: guessIndex(e.Segment), read: func(off, n int64) (io.ReadCloser, error) {
		a.gets.Add(1)
		return a.store.Get(ctx, last.Key, off, n)
	}}
	x, err := segment.ReadIndexFrom(segment.PartFile{R: r, Size: last.Size, Name: last.Key}, from)
	if err != nil {
		return nil, objectError(err, last.Key)
	}
	if !a.belongs(x.Identity, e) || x.Summary.Transactions != e.Segment.Transactions {
		return nil, fault.New(fault.Damage, verifyHint, "%s is not the segment that catalog entry %d describes", last.Key, e.Seq)
	}
	if from == 0 {
		a.keep(last.Key, x)
	}
	return x, nil
}

const verifyHint = "restorer verify shows what else is damaged, and the windows that are still good"

// belongs reports whether a segment's identity is that of the entry.
func (a *Archive) belongs(id segment.Identity, e catalog.Entry) bool { return id == a.identity(e) }

func (a *Archive) identity(e catalog.Entry) segment.Identity {
	return segment.Identity{Archive: a.view.Identity().UUID(), History: e.History, Epoch: e.Epoch, From: e.From, To: e.To}
}

func (a *Archive) cached(key string) *segment.Index {
	a.mu.Lock()
	defer a.mu.Unlock()
	el := a.indexes[key]
	if el == nil {
		return nil
	}
	a.recent.MoveToFront(el)
	return el.Value.(cachedIndex).index
}

func (a *Archive) keep(key string, x *segment.Index) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.indexes[key] != nil {
		return
	}
	a.indexes[key] = a.recent.PushFront(cachedIndex{key, x})
	if a.recent.Len() > keptIndexes {
		old := a.recent.Remove(a.recent.Back()).(cachedIndex)
		delete(a.indexes, old.key)
	}
}

// guessIndex returns how many bytes at the end of a segment most probably hold its index.
func guessIndex(s *catalog.Segment) int64 {
	return min(minGuess+guessedTransaction*s.Transactions+s.StoredBytes/guessedBlocks, maxGuess)
}

const (
	minGuess           = 64 << 10
	maxGuess           = 4 << 20
	guessedTransaction = 8    // bytes; 4 were measured with single-row transactions
	guessedBlocks      = 1000 // stored bytes for each byte about blocks; 4,000 were measured
)

// objectReader reads ranges of an object as an io.ReaderAt. What is read from near its end is read
// together with the guessed index in one request, and kept.
type objectReader struct {
	size, guess int64
	tail        []byte
	read        func(off, n int64) (io.ReadCloser, error)
}

func (o *objectReader) ReadAt(p []byte, off int64) (int, error) {
	begin := o.size - int64(len(o.tail))
	if from := max(0, o.size-o.guess); o.tail == nil && off >= from && o.size > 0 {
		tail := make([]byte, o.size-from)
		if err := o.fill(tail, from); err != nil {
			return 0, err
		}
		o.tail, begin = tail, from
	}
	if o.tail == nil || off < begin || off > o.size {
		if err := o.fill(p, off); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	n := copy(p, o.tail[off-begin:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fill reads exactly len(p) bytes; the object may be shorter than the catalog says.
func (o *objectReader) fill(p []byte, off int64) error {
	body, err := o.read(off, int64(len(p)))
	if err != nil {
		return err
	}
	_, err = io.ReadFull(body, p)
	return errors.Join(err, body.Close())
}

// objectError turns an error about an object of the archive into a fault: what is missing or wrong is
// damage, what can't be reached or read is not.
func objectError(err error, key string) error {
	var version *segment.VersionError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, objectstore.ErrNotFound):
		return fault.New(fault.Damage, verifyHint, "%s is missing from the archive", key)
	case errors.Is(err, segment.ErrCorrupt):
		return fault.Wrap(err, fault.Damage, verifyHint, "")
	case errors.As(err, &version):
		return fault.Wrap(err, fault.Failed, "use a newer restorer", "")
	}
	return err
}

// getVerified reads a whole object and compares it with what the catalog says of it.
func (a *Archive) getVerified(ctx context.Context, o catalog.Object) ([]byte, error) {
	body, err := a.store.Get(ctx, o.Key, 0, -1)
	if err != nil {
		return nil, objectError(err, o.Key)
	}
	buf := bytes.NewBuffer(make([]byte, 0, min(o.Size, maxObject)+bytes.MinRead))
	// One byte more than there should be tells a longer object from a right one.
	_, err = io.Copy(buf, io.LimitReader(body, o.Size+1))
	if err = errors.Join(err, body.Close()); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fault.Wrap(err, fault.Unreachable, "try again", "reading %s was cut off", o.Key)
		}
		return nil, objectError(err, o.Key)
	}
	if int64(buf.Len()) != o.Size {
		return nil, fault.New(fault.Damage, verifyHint, "%s does not have the %d bytes that the catalog names", o.Key, o.Size)
	}
	sum := sha256.Sum256(buf.Bytes())
	if hex.EncodeToString(sum[:]) != o.SHA256 {
		return nil, fault.New(fault.Damage, verifyHint, "%s is damaged: its SHA-256 is not the one in the catalog", o.Key)
	}
	return buf.Bytes(), nil
}

// maxObject bounds what is allocated ahead for an object; parts are smaller.
const maxObject = 16 << 20
