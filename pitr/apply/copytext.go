package apply

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"

	"tidemark/pitr/pgbinary"
	"tidemark/segment"
)

// escapes has the letter that follows a backslash for each byte that COPY's text format must escape
// (https://www.postgresql.org/docs/current/sql-copy.html), and 0 for the others.
var escapes = [256]byte{'\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v'}

// appendEscaped appends a value in COPY's text form.
func appendEscaped(dst, v []byte) []byte {
	from := 0
	for i := 0; i < len(v); {
		if i+8 <= len(v) && plain(binary.LittleEndian.Uint64(v[i:])) {
			i += 8
			continue
		}
		for end := min(i+8, len(v)); i < end; i++ {
			if e := escapes[v[i]]; e != 0 {
				dst = append(append(dst, v[from:i]...), '\\', e)
				from = i + 1
			}
		}
	}
	return append(dst, v[from:]...)
}

// plain reports whether none of eight bytes is a backslash or at most a carriage return: nothing to escape among them.
func plain(w uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	backslash := w ^ ones*'\\'
	return ((w-ones*('\r'+1))&^w|(backslash-ones)&^backslash)&highs == 0
}

// rowsOf are operations of a buffer, to be given as rows for COPY.
type rowsOf struct {
	buffer *buffer
	ops    []op // left
}

// text appends the next row in text format.
func (r *rowsOf) text(dst []byte) ([]byte, error) {
	if len(r.ops) == 0 {
		return dst, io.EOF
	}
	o := &r.ops[0]
	at := o.start
	for i, n := range r.buffer.lens[o.value : o.value+o.stmt.params()] {
		if i > 0 {
			dst = append(dst, '\t')
		}
		if n < 0 {
			dst = append(dst, '\\', 'N')
			continue
		}
		dst = appendEscaped(dst, r.buffer.arena[at:at+int(n)])
		at += int(n)
	}
	r.ops = r.ops[1:]
	return append(dst, '\n'), nil
}

// binary appends the next row in binary format. It ends before the first that has none.
func (r *rowsOf) binary(dst []byte) ([]byte, error) {
	if len(r.ops) == 0 {
		return dst, io.EOF
	}
	o := &r.ops[0]
	began, at, kinds := len(dst), o.start, r.buffer.table.binary
	dst = pgbinary.AppendCount(dst, len(kinds))
	for i, n := range r.buffer.lens[o.value : o.value+len(kinds)] {
		if n < 0 {
			dst = pgbinary.AppendNull(dst)
			continue
		}
		var ok bool
		if dst, ok = kinds[i].AppendSized(dst, r.buffer.arena[at:at+int(n)]); !ok {
			return dst[:began], io.EOF
		}
		at += int(n)
	}
	r.ops = r.ops[1:]
	return dst, nil
}

// valuesReader gives one row as COPY text without holding its large values.
func valuesReader(values []segment.Value) io.Reader {
	var parts []io.Reader
	for i, v := range values {
		if i > 0 {
			parts = append(parts, strings.NewReader("\t"))
		}
		switch {
		case v.Large != nil:
			parts = append(parts, &escapeReader{from: io.NewSectionReader(v.Large, 0, v.Large.Size())})
		case v.Kind == segment.Text:
			parts = append(parts, bytes.NewReader(appendEscaped(nil, v.Data)))
		default:
			parts = append(parts, strings.NewReader(`\N`))
		}
	}
	return io.MultiReader(append(parts, strings.NewReader("\n"))...)
}

// escapeReader escapes what it reads.
type escapeReader struct {
	from io.Reader
	raw  [32 << 10]byte
	text []byte
	rest []byte
}

func (r *escapeReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		n, err := r.from.Read(r.raw[:])
		if n == 0 && err != nil {
			return 0, err
		}
		r.text = appendEscaped(r.text[:0], r.raw[:n])
		r.rest = r.text
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
