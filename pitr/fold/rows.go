package fold

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
)

// Snapshot leaves rows out of a table's base snapshot, for all of its chunks.
type Snapshot struct {
	f     *Folder
	t     *Table
	at    []int // the key's columns in a row
	last  int   // the rightmost of them
	order []int // the key's columns by place in a row
	met   atomic.Int64
}

// Snapshot makes the filter of a table's rows, which have the given columns.
func (f *Folder) Snapshot(t *Table, columns []string) (*Snapshot, error) {
	s := &Snapshot{f: f, t: t}
	for _, name := range t.key {
		i := slices.Index(columns, name)
		if i < 0 {
			return nil, fmt.Errorf("table %s: the base snapshot has no column %q", t.name, name)
		}
		s.at = append(s.at, i)
		s.last = max(s.last, i)
	}
	return s, nil
}

// Check tells if each row that the stream updated or deleted was in the base snapshot. It is called when all
// chunks were read.
func (s *Snapshot) Check() error {
	if s.t.emptyAt > 0 {
		return nil
	}
	if want := s.t.keys.count(flagBefore); s.met.Load() != want {
		return refuse(s.t, fmt.Sprintf("%d rows are updated or deleted that the base snapshot should have, and %d of them are there", want, s.met.Load()))
	}
	return nil
}

// Rows gives the rows of a chunk, in COPY's text format, that are to be loaded in this pass.
func (s *Snapshot) Rows(from io.Reader) *Rows {
	return &Rows{s: s, from: bufio.NewReaderSize(from, rowBuffer), fields: make([][]byte, len(s.at))}
}

// Bounds of what is held of a row until its key is known: in memory, and then in a temporary file.
const (
	rowBuffer = 128 << 10
	heldRow   = 4 << 20
)

// Rows is a reader of COPY text. Close frees its temporary file.
type Rows struct {
	s    *Snapshot
	from *bufio.Reader

	out    []byte   // to be given
	more   [][]byte // to be given after it; both lie in the buffer of from
	inside bool     // the row that out ends in goes on
	skip   bool     // the row that was read last goes on and is left out
	held   []byte   // the head of a row whose key is not known yet
	spill  *os.File // what of it doesn't fit there, which comes first
	back   io.Reader
	column int      // the one that the row's scan is in
	fields [][]byte // of the key, as far as they were scanned
	key    []byte
	pieces [][]byte // memory of more
	sink   uint64   // of touch

	dropped int64
}

// Dropped is how many rows were left out so far.
func (r *Rows) Dropped() int64 { return r.dropped }

// Read fills p with rows.
func (r *Rows) Read(p []byte) (n int, err error) {
	for n < len(p) {
		switch {
		case r.back != nil:
			m, err := io.ReadFull(r.back, p[n:])
			n += m
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				r.back, err = nil, r.forget()
			}
			if err != nil {
				return n, err
			}
		case len(r.out) > 0:
			m := copy(p[n:], r.out)
			r.out, n = r.out[m:], n+m
		case len(r.more) > 0:
			r.out, r.more = r.more[0], r.more[1:]
		default:
			if err := r.next(); err != nil {
				if n > 0 && errors.Is(err, io.EOF) {
					return n, nil
				}
				return n, err
			}
		}
	}
	return n, nil
}

// next reads on until there is something to give.
func (r *Rows) next() error {
	for len(r.out) == 0 && len(r.more) == 0 && r.back == nil {
		if several, err := r.several(); err != nil {
			return err
		} else if several {
			continue
		}
		part, err := r.from.ReadSlice('\n')
		whole := err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) && (len(part) > 0 || r.inside || r.skip || len(r.held) > 0) {
				return refuse(r.s.t, "a chunk of the base snapshot ends inside a row")
			}
			return err
		}
		switch {
		case r.inside:
			r.out, r.inside = part, !whole
		case r.skip:
			r.skip = !whole
		default:
			if err := r.head(part, whole); err != nil {
				return err
			}
		}
	}
	return nil
}

// several takes the next rows that are buffered whole, and looks their keys up together, which is faster than one by
// one (touched). It reports whether there were any.
func (r *Rows) several() (bool, error) {
	if r.inside || r.skip || r.column > 0 || len(r.held) > 0 {
		return false, nil
	}
	if _, err := r.from.Peek(1); err != nil {
		return false, nil // it comes again when a row is read by itself
	}
	buffered, err := r.from.Peek(r.from.Buffered())
	if err != nil {
		return false, err
	}
	var (
		hashes [touched]hash
		ends   [touched]int
		n, end int
	)
	for n < touched {
		size := bytes.IndexByte(buffered[end:], '\n') + 1
		if size == 0 {
			break
		}
		if !r.scan(buffered[end : end+size]) {
			return false, refuse(r.s.t, noColumns)
		}
		if hashes[n], err = r.hash(); err != nil {
			return false, err
		}
		end += size
		ends[n] = end
		n++
	}
	if n == 0 {
		return false, nil
	}
	r.sink += r.s.t.keys.touch(hashes[:n])
	if err := r.sift(buffered, hashes[:n], ends[:n]); err != nil {
		return false, err
	}
	_, err = r.from.Discard(end)
	return true, err
}

// sift gives those of several rows, each of which ends somewhere in buffered, that are to be loaded.
func (r *Rows) sift(buffered []byte, hashes []hash, ends []int) error {
	begin, kept := 0, false
	r.more = r.pieces[:0]
	for i, end := range ends {
		keep, err := r.s.keep(hashes[i])
		switch {
		case err != nil:
			return err
		case !keep:
			r.dropped++
		case kept:
			last := &r.more[len(r.more)-1]
			*last = buffered[begin-len(*last) : end]
		default:
			r.more = append(r.more, buffered[begin:end])
		}
		begin, kept = end, keep
	}
	r.pieces = r.more
	return nil
}

const noColumns = "a row of the base snapshot lacks columns of the key"

// head takes the beginning of a row, or more of it.
func (r *Rows) head(part []byte, whole bool) error {
	known := r.scan(part)
	if !known && whole {
		return refuse(r.s.t, noColumns)
	}
	if !known {
		return r.hold(part)
	}
	h, err := r.hash()
	if err != nil {
		return err
	}
	keep, err := r.s.keep(h)
	if err != nil {
		return err
	}
	if !keep {
		r.dropped++
		r.held, r.skip = r.held[:0], !whole
		return r.forget()
	}
	r.inside = !whole
	if len(r.held) == 0 && r.spill == nil {
		r.out = part
		return nil
	}
	return r.giveBack(part)
}

// scan gathers the key's fields and reports whether they are complete.
func (r *Rows) scan(part []byte) bool {
	for len(part) > 0 {
		end := bytes.IndexByte(part, '\t')
		if end < 0 && part[len(part)-1] == '\n' {
			end = len(part) - 1 // nowhere else: COPY escapes those in values
		}
		field := part
		if end >= 0 {
			field = part[:end]
		}
		if i := slices.Index(r.s.at, r.column); i >= 0 {
			r.fields[i] = append(r.fields[i], field...)
		}
		if end < 0 {
			return false
		}
		r.column++
		part = part[end+1:]
		if r.column > r.s.last {
			return true
		}
	}
	return false
}

// hold keeps a part of a row until its key is known.
func (r *Rows) hold(part []byte) error {
	if len(r.held)+len(part) <= heldRow {
		r.held = append(r.held, part...)
		return nil
	}
	if r.spill == nil {
		f, err := os.CreateTemp("", "tidemark-row-*")
		if err != nil {
			return err
		}
		r.spill = f
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	if _, err := r.spill.Write(r.held); err != nil {
		return err
	}
	r.held = append(r.held[:0], part...)
	return nil
}

// giveBack gives what was held of a row, and its newest part.
func (r *Rows) giveBack(part []byte) error {
	if r.spill != nil {
		if _, err := r.spill.Seek(0, io.SeekStart); err != nil {
			return err
		}
		r.back = r.spill
	}
	r.out = append(r.held, part...)
	r.held = nil
	return nil
}

// forget drops what was held.
func (r *Rows) forget() error {
	if r.spill == nil {
		return nil
	}
	f := r.spill
	r.spill = nil
	return f.Close()
}

// Close frees the temporary file.
func (r *Rows) Close() error { return r.forget() }

// hash ends the scan of a row and returns the hash of its key.
func (r *Rows) hash() (hash, error) {
	key := r.key[:0]
	for i, field := range r.fields {
		plain, ok := unescape(field)
		if !ok {
			return hash{}, refuse(r.s.t, "a row of the base snapshot has no key")
		}
		key = appendKey(key, plain)
		r.fields[i] = field[:0]
	}
	r.key, r.column = key, 0
	return r.s.f.sum(key), nil
}

// keep decides about the row with a key.
func (s *Snapshot) keep(h hash) (bool, error) {
	if !s.f.mine(h) || s.t.emptyAt > 0 {
		return false, nil
	}
	e := s.t.keys.find(h)
	switch {
	case e == nil:
		return true, nil
	case !e.is(flagBefore):
		return false, refuse(s.t, "a row is inserted that the base snapshot has already")
	}
	s.met.Add(1)
	return e.inOrder(), nil
}

// unescape returns a field of COPY's text format as it was, in its own memory; false for null.
func unescape(field []byte) ([]byte, bool) {
	i := bytes.IndexByte(field, '\\')
	if i < 0 {
		return field, true
	}
	if len(field) == 2 && field[1] == 'N' {
		return nil, false
	}
	n := i
	for ; i < len(field); i++ {
		c := field[i]
		if c == '\\' && i+1 < len(field) {
			i++
			if c = field[i]; plain[c] != 0 {
				c = plain[c]
			}
		}
		field[n] = c
		n++
	}
	return field[:n], true
}

// plain has what each letter after a backslash stands for (https://www.postgresql.org/docs/current/sql-copy.html).
var plain = [256]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}
