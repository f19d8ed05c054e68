package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

var errDelta = errors.New("the delta frame is wrong")

// deltaDecoder undoes what deltaEncoder does. Its memory is used again for the next frame.
type deltaDecoder struct {
	streams          [deltaStreams][]byte
	columns          []deltaColumn
	codes, text, bin []byte // unread bytes of the streams
	out              []byte
	limit            int // the raw length
}

// isDelta reports whether stored, which stands for so many raw bytes, is a delta frame.
func isDelta(stored []byte, raw int) bool {
	return len(stored) != raw && len(stored) > 0 && stored[0] == deltaMagic
}

// decode turns a delta frame into exactly raw bytes, in buf's memory where that is large enough.
func (u *deltaDecoder) decode(buf, stored []byte, raw int) ([]byte, error) {
	columns, sum, err := u.load(stored, raw)
	if err != nil {
		return nil, err
	}
	if buf, err = u.expand(buf, columns, raw); err != nil {
		return nil, err
	}
	if checksum(buf) != sum {
		return nil, errors.New("the delta frame gives other tuples than were written")
	}
	return buf, nil
}

// expand makes raw bytes of tuples of so many columns from the streams.
func (u *deltaDecoder) expand(buf []byte, columns, raw int) ([]byte, error) {
	if cap(buf) < raw+editSlack {
		buf = make([]byte, 0, raw+editSlack)
	}
	u.out, u.limit = buf[:0], raw
	u.columns = resetColumns(u.columns, columns)
	for column := 0; len(u.codes) > 0 || column > 0; {
		if !u.value(&u.columns[column]) {
			return nil, errDelta
		}
		if column++; column == columns {
			column = 0
		}
	}
	if len(u.out) != raw || len(u.text) > 0 || len(u.bin) > 0 {
		return nil, fmt.Errorf("the delta frame gives %d bytes instead of %d", len(u.out), raw)
	}
	return u.out, nil
}

// load decompresses the streams. sum is the checksum of the tuples: that of the stored bytes says nothing of how they were encoded.
func (u *deltaDecoder) load(stored []byte, raw int) (columns int, sum uint32, err error) {
	n64, n := binary.Uvarint(stored[1:])
	if n <= 0 || n64 == 0 || n64 > maxColumns || len(stored) < 1+n+deltaHead {
		return 0, 0, errDelta
	}
	head := stored[1+n:]
	body, total := head[deltaHead:], 0
	for i := range u.streams {
		size, length := int(binary.LittleEndian.Uint32(head[8*i:])), int(binary.LittleEndian.Uint32(head[8*i+4:]))
		if total += length; size > len(body) || size > length || total > raw {
			return 0, 0, errDelta
		}
		if u.streams[i], err = decompress(u.streams[i], body[:size], length); err != nil {
			return 0, 0, err
		}
		body = body[size:]
	}
	if len(body) > 0 {
		return 0, 0, errDelta
	}
	u.codes, u.text, u.bin = u.streams[0], u.streams[1], u.streams[2]
	return int(n64), binary.LittleEndian.Uint32(head[8*deltaStreams:]), nil
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
func (u *deltaDecoder) number() (uint64, bool) {
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
func (u *deltaDecoder) value(c *deltaColumn) bool {
	code, ok := take(&u.codes, 1)
	if !ok || len(u.out) >= u.limit {
		return false
	}
	switch k := code[0]; {
	case k <= deltaUnchanged:
		u.out = append(u.out, k)
		return true
	case k >= deltaShort:
		return u.plain(c, uint64(k-deltaShort))
	case k == deltaPlain:
		n, ok := u.number()
		return ok && u.plain(c, n)
	case k == deltaUUID || k == deltaHex:
		return u.binary(c, k)
	case c.count == 0:
		return false
	case k == deltaStep:
		return u.step(c)
	case k == deltaEdit:
		return u.edit(c)
	case k >= deltaRecall && int(k) < deltaRecall+c.known():
		p := c.recall(int(k - deltaRecall))
		return u.begin(c, p.to-p.from) && u.append(u.out[p.from:p.to])
	}
	return false
}

// begin writes the tag of a value of size bytes, for which there must be room, and remembers its place.
func (u *deltaDecoder) begin(c *deltaColumn, size int) bool {
	u.out = binary.AppendUvarint(u.out, uint64(size)+2)
	c.add(span{len(u.out), len(u.out) + size})
	return len(u.out)+size <= u.limit
}

// append writes bytes of a value, if there is room.
func (u *deltaDecoder) append(b []byte) bool {
	if len(b) > u.limit-len(u.out) {
		return false
	}
	u.out = append(u.out, b...)
	return true
}

func (u *deltaDecoder) plain(c *deltaColumn, n uint64) bool {
	b, ok := take(&u.text, n)
	return ok && u.begin(c, len(b)) && u.append(b)
}

func (u *deltaDecoder) binary(c *deltaColumn, code byte) bool {
	n := uint64(16)
	if code == deltaHex {
		var ok bool
		if n, ok = u.number(); !ok {
			return false
		}
	}
	b, ok := take(&u.bin, n)
	switch {
	case !ok:
		return false
	case code == deltaHex && u.begin(c, 2+2*len(b)):
		u.out = appendDigits(append(u.out, `\x`...), b)
		return true
	case code == deltaUUID && u.begin(c, uuidSize):
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

func (u *deltaDecoder) step(c *deltaColumn) bool {
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

// editSlack is by how many bytes more than the raw length the output may be while a value is edited: its tag may turn out shorter
// than the room that was left for it.
const editSlack = binary.MaxVarintLen64

// edit writes the value before with words replaced. The tag stands before a value whose length is known only after it: room
// is left as the value before needed.
func (u *deltaDecoder) edit(c *deltaColumn) bool {
	p := c.recall(0)
	start := len(u.out)
	var tag [binary.MaxVarintLen64]byte
	guess := binary.PutUvarint(tag[:], uint64(p.to-p.from)+2)
	u.out = append(u.out, tag[:guess]...)
	u.limit += editSlack
	ok := u.edits(p)
	u.limit -= editSlack
	if !ok {
		return false
	}
	size := len(u.out) - start - guess
	n := binary.PutUvarint(tag[:], uint64(size)+2)
	if start+n+size > u.limit {
		return false
	}
	if n > guess {
		u.out = append(u.out, tag[:n-guess]...)
	}
	if n != guess {
		copy(u.out[start+n:start+n+size], u.out[start+guess:start+guess+size])
		u.out = u.out[:start+n+size]
	}
	copy(u.out[start:], tag[:n])
	c.add(span{start + n, start + n + size})
	return true
}

// edits writes a value by the one before.
func (u *deltaDecoder) edits(before span) bool {
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
