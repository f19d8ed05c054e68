package pgbinary

import (
	"bytes"
	"io"
)

// CopyOptions makes a COPY ... FROM STDIN take the binary format.
const CopyOptions = " (FORMAT binary)"

const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // no flags, no extension
	copyTrailer = "\xff\xff"
)

// CopyReader is what a COPY reads.
type CopyReader struct {
	next    func(dst []byte) ([]byte, error)
	row     []byte
	rest    []byte // of row, or header or trailer, not read yet
	trailer []byte
	ended   error
}

// NewCopyReader reads the rows that next appends, in binary format, until it returns io.EOF or another error.
func NewCopyReader(next func(dst []byte) ([]byte, error)) *CopyReader {
	return &CopyReader{next: next, rest: []byte(copyHeader), trailer: []byte(copyTrailer)}
}

// NewTextReader does the same with rows in text format, which stand alone.
func NewTextReader(next func(dst []byte) ([]byte, error)) *CopyReader { return &CopyReader{next: next} }

// Read fills p if there is enough to do so.
func (r *CopyReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.rest) == 0 && !r.more() {
			break
		}
		c := copy(p[n:], r.rest)
		r.rest = r.rest[c:]
		n += c
	}
	if n == 0 && len(p) > 0 {
		return 0, r.ended
	}
	return n, nil
}

// more gets what is to be read next.
func (r *CopyReader) more() bool {
	if r.ended != nil {
		return false
	}
	r.row, r.ended = r.next(r.row[:0])
	if r.rest = r.row; r.ended == io.EOF {
		r.rest = r.trailer
	}
	return len(r.rest) > 0 && (r.ended == nil || r.ended == io.EOF)
}

// AppendCount begins a row of so many values.
func AppendCount(dst []byte, values int) []byte { return order.AppendUint16(dst, uint16(values)) }

// AppendNull appends a value that is null, with what says so.
func AppendNull(dst []byte) []byte { return order.AppendUint32(dst, 0xFFFFFFFF) }

// AppendSized appends a value behind its size, or reports false as Append does.
func (k Kind) AppendSized(dst, text []byte) (_ []byte, ok bool) {
	at := len(dst)
	dst, ok = k.Append(append(dst, 0, 0, 0, 0), text)
	if !ok {
		return dst[:at], false
	}
	order.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst, true
}

// CopyText turns rows of COPY's text format into those of the binary format.
type CopyText struct {
	Kinds []Kind // of the columns

	value []byte // without escapes
}

// Append appends a row that was written as a line, without its end. It reports false, with dst as it was, if one of the values is in
// no form that is known, or the line isn't such a row.
func (t *CopyText) Append(dst, line []byte) (_ []byte, ok bool) {
	began := len(dst)
	dst = AppendCount(dst, len(t.Kinds))
	escapes := bytes.IndexByte(line, '\\') >= 0
	for i, k := range t.Kinds {
		text := line
		if end := bytes.IndexByte(line, '\t'); i < len(t.Kinds)-1 {
			if end < 0 {
				return dst[:began], false
			}
			text, line = line[:end], line[end+1:]
		} else if end >= 0 {
			return dst[:began], false
		}
		if escapes && bytes.IndexByte(text, '\\') >= 0 {
			if len(text) == 2 && text[1] == 'N' {
				dst = AppendNull(dst)
				continue
			}
			if t.value, ok = unescape(t.value[:0], text); !ok {
				return dst[:began], false
			}
			text = t.value
		}
		if dst, ok = k.AppendSized(dst, text); !ok {
			return dst[:began], false
		}
	}
	return dst, true
}

// unescaped has the byte that a letter behind a backslash stands for, among those that COPY TO writes.
var unescaped = [256]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\\': '\\'}

func unescape(dst, text []byte) ([]byte, bool) {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return append(dst, text...), true
		}
		if i+1 == len(text) || unescaped[text[i+1]] == 0 {
			return dst, false
		}
		dst = append(append(dst, text[:i]...), unescaped[text[i+1]])
		text = text[i+2:]
	}
}
