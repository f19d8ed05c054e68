package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

var errUnfold = errors.New("the folded data is wrong")

// unfolder undoes what folder does. Its memory is used again for the next frame.
type unfolder struct {
	streams          [foldStreams][]byte
	columns          []foldColumn
	codes, text, bin []byte // unread bytes of the streams
	out              []byte
	limit            int // the raw length
}

// isFolded reports whether stored, which stands for so many raw bytes, is a folded frame.
func isFolded(stored []byte, raw int) bool {
	return len(stored) != raw && len(stored) > 0 && stored[0] == foldedMagic
}

// unfold turns a folded frame into exactly raw bytes, in buf's memory where that is large enough.
func (u *unfolder) unfold(buf, stored []byte, raw int) ([]byte, error) {
	columns, err := u.load(stored, raw)
	if err != nil {
		return nil, err
	}
	if cap(buf) < raw {
		buf = make([]byte, 0, raw)
	}
	u.out, u.limit = buf[:0], raw
	u.columns = resetColumns(u.columns, columns)
	for column := 0; len(u.codes) > 0 || column > 0; {
		if !u.value(&u.columns[column]) {
			return nil, errUnfold
		}
		if column++; column == columns {
			column = 0
		}
	}
	if len(u.out) != raw || len(u.text) > 0 || len(u.bin) > 0 {
		return nil, fmt.Errorf("unfolding gives %d bytes instead of %d", len(u.out), raw)
	}
	return u.out, nil
}

// load decompresses the streams.
func (u *unfolder) load(stored []byte, raw int) (columns int, err error) {
	n64, n := binary.Uvarint(stored[1:])
	if n <= 0 || n64 == 0 || n64 > maxColumns || len(stored) < 1+n+foldHead {
		return 0, errUnfold
	}
	head := stored[1+n:]
	body, total := head[foldHead:], 0
	for i := range u.streams {
		size, length := int(binary.LittleEndian.Uint32(head[8*i:])), int(binary.LittleEndian.Uint32(head[8*i+4:]))
		if total += length; size > len(body) || size > length || total > raw {
			return 0, errUnfold
		}
		if u.streams[i], err = decompress(u.streams[i], body[:size], length); err != nil {
			return 0, err
		}
		body = body[size:]
	}
	if len(body) > 0 {
		return 0, errUnfold
	}
	u.codes, u.text, u.bin = u.streams[0], u.streams[1], u.streams[2]
	return int(n64), nil
}

// take cuts n bytes off a stream; false if it hasn't got them.
func take(stream *[]byte, n uint64) ([]byte, bool) {
	if n > uint64(len(*stream)) {
		return nil, false
	}
	b := (*stream)[:n]
	*stream = (*stream)[n:]
	return b, true
}

// number reads a number from the codes.
func (u *unfolder) number() (uint64, bool) {
	if len(u.codes) > 0 && u.codes[0] < 0x80 {
		n := u.codes[0]
		u.codes = u.codes[1:]
		return uint64(n), true
	}
	v, n := binary.Uvarint(u.codes)
	if n <= 0 {
		return 0, false
	}
	u.codes = u.codes[n:]
	return v, true
}

// value writes the next value; false if it can't be one.
func (u *unfolder) value(c *foldColumn) bool {
	code, ok := take(&u.codes, 1)
	if !ok || len(u.out) >= u.limit {
		return false
	}
	switch k := code[0]; {
	case k <= foldUnchanged:
		u.out = append(u.out, k)
		return true
	case k >= foldShort:
		return u.plain(c, uint64(k-foldShort))
	case k == foldPlain:
		n, ok := u.number()
		return ok && u.plain(c, n)
	case k == foldUUID || k == foldHex:
		return u.binary(c, k)
	case c.count == 0:
		return false
	case k == foldStep:
		return u.step(c)
	case k == foldEdit:
		return u.edit(c)
	case k >= foldRecall && int(k) < foldRecall+c.known():
		p := c.recall(int(k - foldRecall))
		return u.begin(c, p.to-p.from) && u.append(u.out[p.from:p.to])
	}
	return false
}

// begin writes the tag of a value of size bytes, for which there must be room, and remembers its place.
func (u *unfolder) begin(c *foldColumn, size int) bool {
	u.out = binary.AppendUvarint(u.out, uint64(size)+2)
	c.add(span{len(u.out), len(u.out) + size})
	return len(u.out)+size <= u.limit
}

// append writes bytes of a value, if there is room.
func (u *unfolder) append(b []byte) bool {
	if len(b) > u.limit-len(u.out) {
		return false
	}
	u.out = append(u.out, b...)
	return true
}

func (u *unfolder) plain(c *foldColumn, n uint64) bool {
	b, ok := take(&u.text, n)
	return ok && u.begin(c, len(b)) && u.append(b)
}

func (u *unfolder) binary(c *foldColumn, code byte) bool {
	n := uint64(16)
	if code == foldHex {
		var ok bool
		if n, ok = u.number(); !ok {
			return false
		}
	}
	b, ok := take(&u.bin, n)
	switch {
	case !ok:
		return false
	case code == foldHex && u.begin(c, 2+2*len(b)):
		u.out = appendDigits(append(u.out, `\x`...), b)
		return true
	case code == foldUUID && u.begin(c, uuidSize):
		for i, p := range [...]span{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
			if i > 0 {
				u.out = append(u.out, '-')
			}
			u.out = appendDigits(u.out, b[p.from:p.to])
		}
		return true
	}
	return false
}

func (u *unfolder) step(c *foldColumn) bool {
	p := c.recall(0)
	before, ok := integer(u.out[p.from:p.to])
	by, more := take(&u.codes, 1)
	if !ok || !more || before+int64(int8(by[0])) < 0 {
		return false
	}
	var digits [integerDigits + 2]byte
	b := strconv.AppendInt(digits[:0], before+int64(int8(by[0])), 10)
	return u.begin(c, len(b)) && u.append(b)
}

// edit writes the value before with words replaced. The tag stands before a value whose length is known only after it: room
// is left as the value before needed.
func (u *unfolder) edit(c *foldColumn) bool {
	p := c.recall(0)
	start := len(u.out)
	var tag [binary.MaxVarintLen64]byte
	guess := binary.PutUvarint(tag[:], uint64(p.to-p.from)+2)
	if !u.append(tag[:guess]) || !u.edits(p) {
		return false
	}
	size := len(u.out) - start - guess
	n := binary.PutUvarint(tag[:], uint64(size)+2)
	if n != guess {
		if n > guess && !u.append(tag[:n-guess]) {
			return false
		}
		copy(u.out[start+n:start+n+size], u.out[start+guess:start+guess+size])
		u.out = u.out[:start+n+size]
	}
	copy(u.out[start:], tag[:n])
	c.add(span{start + n, start + n + size})
	return true
}

// edits writes a value by the one before.
func (u *unfolder) edits(before span) bool {
	var word []byte
	for {
		n, ok := u.number()
		if !ok || n>>1 > uint64(before.to-before.from) {
			return false
		}
		end := before.from + int(n>>1)
		if !u.append(u.out[before.from:end]) {
			return false
		}
		if n&1 == 0 {
			return true
		}
		before.from = wordEnd(u.out[:before.to], end)
		if n, ok = u.number(); !ok {
			return false
		}
		if n > 0 {
			if word, ok = take(&u.text, n-1); !ok {
				return false
			}
		}
		if !u.append(word) {
			return false
		}
	}
}
