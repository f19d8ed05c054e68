package catalog

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"tidemark/objectstore"
)

// Verify reads every object of the catalog again and checks each by itself and against the others: the
// chain and its rules, the carried lines, books and roots against the log, and that none is missing.
// It calls report for each damage it finds, in the order of the log, and goes on. Its error says that
// it could not finish (or ErrNoArchive), not that something is damaged. It may run beside appenders:
// what they add meanwhile is not looked at.
func Verify(ctx context.Context, store objectstore.Store, report func(Damage)) error {
	c := &checker{store: store, report: report, books: map[uint64]bool{}, roots: map[uint64]bool{}}
	if err := c.identity(ctx); err != nil {
		return err
	}
	if err := c.list(ctx); err != nil {
		return err
	}
	if err := c.findHead(ctx); err != nil {
		return err
	}
	if c.head == 0 {
		if err := c.found(checkLost(ctx, store)); err != nil {
			return err
		}
	}
	c.fold, c.whole = newFold(c.archive), true
	for after := uint64(0); after < c.head; after += chapterSize {
		if err := c.chapter(ctx, after, min(c.head, after+chapterSize)); err != nil {
			return err
		}
	}
	c.leftovers()
	return nil
}

// checker is a running Verify.
type checker struct {
	store   objectstore.Store
	report  func(Damage)
	archive string

	logs  []uint64 // listed, ascending
	books map[uint64]bool
	roots map[uint64]bool
	head  uint64

	fold  fold
	whole bool     // the fold is unbroken so far
	last  []byte   // the line before, nil if it is not known
	book  [][]byte // lines of the open book, nil where not known
}

// found reports damage and returns nil, and hands every other error on.
func (c *checker) found(err error) error {
	if d, ok := errors.AsType[*Damage](err); ok {
		c.report(*d)
		return nil
	}
	return err
}

func (c *checker) identity(ctx context.Context) error {
	id, err := readIdentity(ctx, c.store)
	c.archive = id.ID
	return c.found(err)
}

// list takes the names of all objects, and reports those that are not a catalog's.
func (c *checker) list(ctx context.Context) error {
	for info, err := range c.store.List(ctx, catalogPrefix, "") {
		if err != nil {
			return err
		}
		if seq, ok := parseLogKey(info.Key); ok {
			c.logs = append(c.logs, seq)
		} else if n, ok := parseBookKey(info.Key); ok {
			c.books[n] = true
		} else if seq, ok := parseRootKey(info.Key); ok {
			c.roots[seq] = true
		} else {
			c.report(*damaged(info.Key, "does not belong into a catalog"))
		}
	}
	return nil
}

// findHead takes the greater of the newest log object and the newest intact root: a log whose end was
// cut off is found by the root. Without archive.json the first line tells the archive's id.
func (c *checker) findHead(ctx context.Context) error {
	if len(c.logs) > 0 {
		c.head = c.logs[len(c.logs)-1]
	}
	if c.archive == "" && len(c.logs) > 0 {
		var err error
		if c.archive, err = archiveOf(ctx, c.store, logKey(c.logs[0])); err != nil {
			return err
		}
	}
	for seq := range c.roots {
		if seq <= c.head {
			continue
		}
		if _, err := readRoot(ctx, c.store, rootKey(seq), c.archive, seq); err == nil {
			c.head = seq
		} else if _, ok := errors.AsType[*Damage](err); !ok {
			return err
		}
	}
	return nil
}

// page is a chapter's objects as they were read.
type page struct {
	after   uint64
	lines   [][]byte   // own lines; those of damaged objects are put in from elsewhere, nil if nowhere
	carried [][][]byte // by log object
	roots   []*leaf    // by seq; nil if absent or damaged
	errs    []error
}

// chapter checks the log objects (after, through] with the roots and the book that end there.
func (c *checker) chapter(ctx context.Context, after, through uint64) error {
	p, err := c.read(ctx, after, through)
	if err != nil {
		return err
	}
	for _, err := range p.errs {
		if err := c.found(err); err != nil {
			return err
		}
	}
	p.restore()
	c.checkCarried(p)
	for i, line := range p.lines {
		if err := c.checkLine(ctx, p, after+1+uint64(i), line); err != nil {
			return err
		}
	}
	c.book = append(c.book, p.lines...)
	if through%bookSize == 0 {
		err = c.checkBook(ctx, through/bookSize-1)
		c.book = nil
	}
	return err
}

func (c *checker) read(ctx context.Context, after, through uint64) (*page, error) {
	n := int(through - after)
	p := &page{after: after, lines: make([][]byte, n), carried: make([][][]byte, n), roots: make([]*leaf, n), errs: make([]error, 2*n)}
	lib := &library{store: c.store, archive: c.archive}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * fetchers)
	for i := range n {
		seq := after + 1 + uint64(i)
		g.Go(func() (err error) {
			p.lines[i], p.carried[i], err = lib.fetchLogObject(gctx, seq)
			return p.note(2*i, err)
		})
		if c.roots[seq] {
			g.Go(func() (err error) {
				p.roots[i], err = readRoot(gctx, c.store, rootKey(seq), c.archive, seq)
				return p.note(2*i+1, err)
			})
		}
	}
	return p, g.Wait()
}

// note keeps damage for the report; every other error ends the reading.
func (p *page) note(i int, err error) error {
	if _, ok := errors.AsType[*Damage](err); ok {
		p.errs[i] = err
		return nil
	}
	return err
}

// restore puts lines in that are lost in their own objects, so that the rest can still be checked.
func (p *page) restore() {
	fill := func(i int, line []byte) {
		if i >= 0 && p.lines[i] == nil {
			p.lines[i] = line
		}
	}
	for i := range p.lines {
		for j, line := range p.carried[i] {
			fill(i-len(p.carried[i])+j, line)
		}
		if r := p.roots[i]; r != nil && r.base.Seq == p.after {
			for j, line := range r.lines {
				fill(j, line)
			}
		}
	}
}

func (c *checker) checkCarried(p *page) {
	for i, carried := range p.carried {
		for j, line := range carried {
			at := i - len(carried) + j
			if at < 0 || !bytes.Equal(p.lines[at], line) {
				c.report(*damaged(logKey(p.after+1+uint64(i)), "carries another line %d than the log has", p.after+1+uint64(max(at, 0))))
				break
			}
		}
	}
}

// checkLine checks a line's place in the chain, and the root that it calls for.
func (c *checker) checkLine(ctx context.Context, p *page, seq uint64, line []byte) error {
	before := c.last
	c.last = line
	if line == nil {
		c.whole = false
		return nil
	}
	if !c.whole {
		return c.found(c.checkLoose(seq, before, line))
	}
	e, _, err := c.fold.add(line)
	if err != nil {
		c.whole = false
		return c.found(err)
	}
	due := rootDue(&e)
	switch {
	case due && !c.roots[seq]:
		root, err := c.lateRoot(ctx, seq)
		if err != nil {
			return c.found(err)
		}
		return c.checkRoot(seq, root)
	case !due && c.roots[seq]:
		c.report(*derivedDamage(rootKey(seq), "no entry calls for it"))
	case due:
		return c.checkRoot(seq, p.roots[seq-p.after-1])
	}
	return nil
}

// lateRoot reads a root that was not listed. It may have been written since, as an appender is at work.
func (c *checker) lateRoot(ctx context.Context, seq uint64) (root *leaf, err error) {
	err = c.late(ctx, rootKey(seq), seq, func() error {
		root, err = readRoot(ctx, c.store, rootKey(seq), c.archive, seq)
		return err
	})
	return root, err
}

// late reads a book or root that was not listed: at once, and if it belongs to the end of the log,
// again for a while.
func (c *checker) late(ctx context.Context, key string, seq uint64, read func() error) error {
	for try := 0; ; try++ {
		err := read()
		if !errors.Is(err, objectstore.ErrNotFound) {
			return err
		}
		if seq+tailSize <= c.head || try == 8 {
			return derivedDamage(key, "is missing (harmless if an archiver was killed just now: its next start writes it again)")
		}
		if err := pause(ctx, 8); err != nil {
			return err
		}
	}
}

// checkLoose checks a line after a break in the chain.
func (c *checker) checkLoose(seq uint64, before, line []byte) error {
	e, err := decodeEntry(line)
	if err != nil {
		return lineError(logKey(seq), err)
	}
	if e.Seq != seq || e.Archive != c.archive || (before != nil && e.Prev != hashOf(before)) {
		return damaged(logKey(seq), "it does not continue the chain")
	}
	return nil
}

func (c *checker) checkRoot(seq uint64, got *leaf) error {
	if got == nil {
		return nil // reported as damaged
	}
	want, err := rootText(c.archive, c.fold.leaf.through(seq))
	if err != nil {
		return err
	}
	text, err := rootText(c.archive, got)
	if err == nil && !bytes.Equal(text, want) {
		err = derivedDamage(rootKey(seq), "it does not say what the log says")
	}
	return c.found(err)
}

func (c *checker) checkBook(ctx context.Context, n uint64) error {
	var lines [][]byte
	err := c.late(ctx, bookKey(n), (n+1)*bookSize, func() (err error) {
		lines, err = readBook(ctx, c.store, n)
		return err
	})
	if err != nil {
		return c.found(err)
	}
	for i, line := range lines {
		if c.book[i] != nil && !bytes.Equal(line, c.book[i]) {
			return c.found(derivedDamage(bookKey(n), "its line %d is not the log's", n*bookSize+1+uint64(i)))
		}
	}
	return nil
}

// leftovers reports roots and books beyond the end of the log.
func (c *checker) leftovers() {
	var beyond []string
	for seq := range c.roots {
		if seq > c.head {
			beyond = append(beyond, rootKey(seq))
		}
	}
	for n := range c.books {
		if n >= c.head/bookSize {
			beyond = append(beyond, bookKey(n))
		}
	}
	slices.Sort(beyond)
	for _, key := range beyond {
		c.report(*derivedDamage(key, "it is damaged, or the log that it repeats is missing"))
	}
}
