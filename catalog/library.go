package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"tidemark/objectstore"
)

const (
	fetchers  = 8        // concurrent gets
	cacheSize = 16 << 20 // bytes of lines kept
)

// library reads lines from the store and keeps the runs that were used last. It is safe for
// concurrent use.
type library struct {
	store   objectstore.Store
	archive string
	log     *slog.Logger
	bound   atomic.Uint64 // books below this number are known to be in the store
	read    atomic.Int64  // runs read
	over    sync.Map      // keys of the damaged objects that were told of

	mu    sync.Mutex
	runs  []cachedRun // used last at the end
	bytes int
}

type cachedRun struct {
	hash  string
	lines [][]byte
	size  int
}

// fetchLines reads lines (after, through] from the log objects, few of which are needed: see the
// walk in docs/format/catalog.md. Only the objects' own form is checked, not the chain. A line whose object is
// damaged or missing is taken from one that repeats it; the error is the object's damage if there is none.
func (lib *library) fetchLines(ctx context.Context, after, through uint64) ([][]byte, error) {
	lines := make([][]byte, through-after)
	var todo []uint64
	for i := through; i > after; i -= span(i) {
		todo = append(todo, i)
	}
	for len(todo) > 0 {
		var mu sync.Mutex
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(fetchers)
		for _, seq := range todo {
			g.Go(func() error {
				line, carried, err := lib.fetchLogObject(gctx, seq)
				if _, ok := errors.AsType[*Damage](err); ok {
					line, carried, err = lib.fetchRepeated(gctx, seq, err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					place(lines, after, seq, line, carried)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		todo = unplaced(lines, after)
	}
	return lines, nil
}

// place puts an object's lines where they belong, leaving out those that are not asked for.
func place(lines [][]byte, after, seq uint64, line []byte, carried [][]byte) {
	lines[seq-after-1] = line
	for n := len(carried); n > 0 && seq-1 > after; n-- {
		seq--
		if lines[seq-after-1] == nil {
			lines[seq-after-1] = carried[n-1]
		}
	}
}

// unplaced returns the last seq of each run of missing lines (objects whose carry was cut short).
func unplaced(lines [][]byte, after uint64) []uint64 {
	var seqs []uint64
	for i := range lines {
		if lines[i] == nil && (i == len(lines)-1 || lines[i+1] != nil) {
			seqs = append(seqs, after+1+uint64(i))
		}
	}
	return seqs
}

// fetchRepeated reads a line whose own object can't be read from what repeats it: a later log object that carries it, the next root,
// its book. It returns the damage if none does.
func (lib *library) fetchRepeated(ctx context.Context, seq uint64, damage error) (line []byte, carried [][]byte, err error) {
	for later := seq + 1; later <= seq+chapterSize && (later-1)/bookSize == (seq-1)/bookSize; later++ {
		back := later - seq
		if span(later) <= back {
			continue
		}
		_, carried, err := lib.fetchLogObject(ctx, later)
		if _, ok := errors.AsType[*Damage](err); !ok && err != nil {
			return nil, nil, err
		}
		if err == nil && uint64(len(carried)) >= back {
			n := uint64(len(carried)) - back
			return carried[n], carried[:n], nil
		}
	}
	next := (seq + tailSize - 1) / tailSize * tailSize
	if root, err := readRoot(ctx, lib.store, rootKey(next), lib.archive, next); err == nil {
		switch first := root.base.Seq + 1; {
		case seq == root.base.Seq:
			return root.prior, nil, nil
		case seq >= first:
			return root.lines[seq-first], root.lines[:seq-first], nil
		}
	}
	if lines, err := readBook(ctx, lib.store, (seq-1)/bookSize); err == nil {
		i := (seq - 1) % bookSize
		return lines[i], lines[:i], nil
	}
	return nil, nil, damage
}

func (lib *library) fetchLogObject(ctx context.Context, seq uint64) (line []byte, carried [][]byte, err error) {
	key := logKey(seq)
	data, err := readAll(ctx, lib.store, key)
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, nil, damaged(key, "is missing")
	}
	if err != nil {
		return nil, nil, err
	}
	line, carried, err = decodeLogObject(key, data)
	if err == nil && uint64(len(carried)) >= span(seq) {
		return nil, nil, damaged(key, "carries more lines than it may")
	}
	return line, carried, err
}

// run returns the lines of a closed book or chapter, checked: they lead from the hash before to the
// summary's own.
func (lib *library) run(ctx context.Context, s *summary, before string) ([][]byte, error) {
	if lines := lib.cached(s); lines != nil {
		return lines, nil
	}
	lib.read.Add(1)
	lines, err := lib.readRun(ctx, s, before)
	if err != nil {
		return nil, err
	}
	lib.keep(s.Hash, lines)
	return lines, nil
}

// readRun reads a chapter from its log object, and a book from its own. A book that no root counts yet may be missing; for one that is
// missing or damaged the log is read, if it is still there.
func (lib *library) readRun(ctx context.Context, s *summary, before string) ([][]byte, error) {
	if s.Last-s.First+1 < bookSize {
		return lib.readLog(ctx, s, before)
	}
	lines, err := lib.readBookRun(ctx, s, before)
	d, isDamage := errors.AsType[*Damage](err)
	if !isDamage && !errors.Is(err, objectstore.ErrNotFound) {
		return lines, err
	}
	if lines, err = lib.readLog(ctx, s, before); isDamage {
		if _, ok := errors.AsType[*Damage](err); ok {
			return nil, d
		}
		lib.passOver(d)
	}
	return lines, err
}

// readLog reads a chapter or book from the log's objects.
func (lib *library) readLog(ctx context.Context, s *summary, before string) ([][]byte, error) {
	lines, err := lib.fetchLines(ctx, s.First-1, s.Last)
	if err != nil {
		return nil, err
	}
	if err := checkChain(lines, s.First, before, s.Hash); err != nil {
		return nil, damaged(logKey(s.Last), "%v", err)
	}
	return lines, nil
}

func (lib *library) readBookRun(ctx context.Context, s *summary, before string) ([][]byte, error) {
	n := (s.First - 1) / bookSize
	lines, err := readBook(ctx, lib.store, n)
	if errors.Is(err, objectstore.ErrNotFound) && n < lib.bound.Load() {
		return nil, derivedDamage(bookKey(n), "is missing")
	}
	if err != nil {
		return nil, err
	}
	if err := checkChain(lines, s.First, before, s.Hash); err != nil {
		return nil, derivedDamage(bookKey(n), "%v", err)
	}
	return lines, nil
}

// passOver tells of a damaged book or root that is done without: the log has what it says.
func (lib *library) passOver(d *Damage) {
	if _, known := lib.over.LoadOrStore(d.Object, true); !known {
		lib.log.Warn("a part of the catalog is damaged; the log, which it only repeats, is read instead", "object", d.Object, "problem", d.Problem)
	}
}

// readBook returns a book's lines. Their chain is the caller's to check.
func readBook(ctx context.Context, store objectstore.Store, n uint64) ([][]byte, error) {
	key := bookKey(n)
	data, err := readAll(ctx, store, key)
	if err != nil {
		return nil, err
	}
	return decodeBook(key, data)
}

func decodeBook(key string, data []byte) ([][]byte, error) {
	text, err := unseal(key, magicBook, data)
	if err != nil {
		return nil, asDerived(err)
	}
	lines, err := splitLines(text)
	if err != nil {
		return nil, derivedDamage(key, "%v", err)
	}
	if len(lines) != bookSize {
		return nil, derivedDamage(key, "it holds %d lines", len(lines))
	}
	return lines, nil
}

// asDerived marks damage as that of a book or root.
func asDerived(err error) error {
	if d, ok := errors.AsType[*Damage](err); ok {
		d.Derived = true
	}
	return err
}

// checkChain tests that lines are first, first+1, ..., and lead from one hash to another.
func checkChain(lines [][]byte, first uint64, before, last string) error {
	for i, line := range lines {
		seq, prev, ok := linkOf(line)
		if !ok || seq != first+uint64(i) || prev != before {
			return fmt.Errorf("line %d does not continue the chain", first+uint64(i))
		}
		before = hashOf(line)
	}
	if before != last {
		return errors.New("its last line is not the one that the root vouches for")
	}
	return nil
}

// is reports whether a run is the one that a summary sums up. A book and its last chapter end alike.
func (r cachedRun) is(s *summary) bool {
	return r.hash == s.Hash && uint64(len(r.lines)) == s.Last-s.First+1
}

func (lib *library) cached(s *summary) [][]byte {
	lib.mu.Lock()
	defer lib.mu.Unlock()
	for i, r := range lib.runs {
		if r.is(s) {
			lib.runs = append(append(lib.runs[:i:i], lib.runs[i+1:]...), r)
			return r.lines
		}
	}
	return nil
}

// holds reports whether a run is in memory, and leaves the order of use alone.
func (lib *library) holds(s *summary) bool {
	lib.mu.Lock()
	defer lib.mu.Unlock()
	return slices.ContainsFunc(lib.runs, func(r cachedRun) bool { return r.is(s) })
}

// cachedThrough returns the chapter that ends with a seq.
func (lib *library) cachedThrough(last uint64) [][]byte {
	lib.mu.Lock()
	defer lib.mu.Unlock()
	for _, r := range lib.runs {
		if len(r.lines) != chapterSize {
			continue
		}
		if seq, _, ok := linkOf(r.lines[chapterSize-1]); ok && seq == last {
			return r.lines
		}
	}
	return nil
}

// keep remembers checked lines, which are not to be changed any more.
func (lib *library) keep(hash string, lines [][]byte) {
	r := cachedRun{hash: hash, lines: lines}
	for _, l := range lines {
		r.size += len(l)
	}
	lib.mu.Lock()
	defer lib.mu.Unlock()
	lib.runs = append(lib.runs, r)
	lib.bytes += r.size
	for len(lib.runs) > 1 && lib.bytes > cacheSize {
		lib.bytes -= lib.runs[0].size
		lib.runs = lib.runs[1:]
	}
}

// lastSeq lists the log after a seq and returns the greatest, after itself if there is none. Whether the lines before it are all
// there shows when they are read.
func (lib *library) lastSeq(ctx context.Context, after uint64) (uint64, error) {
	last := after
	for info, err := range lib.store.List(ctx, logPrefix, logKey(after)) {
		if err != nil {
			return 0, err
		}
		if seq, ok := parseLogKey(info.Key); ok { // Verify reports what does not belong here
			last = max(last, seq)
		}
	}
	return last, nil
}
