package segment

import (
	"encoding/binary"
)

// Delta encoding turns the tuples of a frame into three streams that say how each value differs from an earlier one
// of its column. Where rows look alike they are a quarter of the tuples, and what zstd gets is mostly what is new
// (docs/format/segment.md, "Delta frames"; docs/decisions/delta-frames.md).
const (
	deltaMagic   = 0x01 // first byte of a delta frame; a zstd frame begins with 0x28
	deltaStreams = 3    // codes, text, binary
	deltaHead    = 8*deltaStreams + 4

	deltaNull      = 0 // as the tags of tuples
	deltaUnchanged = 1
	deltaPlain     = 2  // uvarint length; the bytes are in the text stream
	deltaUUID      = 3  // 16 bytes in the binary stream
	deltaHex       = 4  // uvarint n; n bytes in the binary stream, shown as \x and 2n digits
	deltaStep      = 5  // 1 byte: the difference to the integer before
	deltaEdit      = 6  // edits of the value before
	deltaRecall    = 8  // + k: the value before k others
	deltaMemory    = 4  // values of a column that are remembered: a power of two
	deltaShort     = 16 // + n: n bytes in the text stream, at most deltaLongest
	deltaLongest   = 255 - deltaShort
)

// What the writer tries.
const (
	deltaLook     = 8 << 10 // raw bytes, or an eighth of the frame, after which it looks whether it pays
	deltaSmallest = 512     // raw bytes of a frame
	deltaColumns  = 1600    // PostgreSQL's MaxTupleAttributeNumber
	recallLongest = 64      // bytes of a value that is compared with more than the one before
	editShortest  = 4       // bytes of an edited value
	editLongest   = 16 << 10
	editPatience  = 8 // edits in vain until only one value in editRetry is tried
	editRetry     = 16
)

// span is a value's place in the tuples.
type span struct{ from, to int }

// deltaColumn remembers the last values of a column.
type deltaColumn struct {
	past  [deltaMemory]span
	count int // values so far; NULL is none
	vain  int // edits in a row that did not pay
}

// recall returns the value before k others, which must be there.
func (c *deltaColumn) recall(k int) span { return c.past[(c.count-1-k)&(deltaMemory-1)] }

// known is the number of values that can be recalled.
func (c *deltaColumn) known() int { return min(c.count, deltaMemory) }

func (c *deltaColumn) add(s span) {
	c.past[c.count&(deltaMemory-1)] = s
	c.count++
}

// deltaEncoder encodes frames. Its memory is used again for the next.
type deltaEncoder struct {
	codes, text, bin []byte
	sum              uint32 // of the tuples
	columns          []deltaColumn
}

// resetColumns forgets all columns, of which there are n now.
func resetColumns(columns []deltaColumn, n int) []deltaColumn {
	if cap(columns) < n {
		return make([]deltaColumn, n)
	}
	columns = columns[:n]
	clear(columns)
	return columns
}

// encode takes whole tuples of so many columns. It returns false where they are not worth it, or are not whole.
func (f *deltaEncoder) encode(raw []byte, columns int) bool {
	if len(raw) < deltaSmallest || columns == 0 || columns > deltaColumns {
		return false
	}
	f.codes, f.text, f.bin = f.codes[:0], f.text[:0], f.bin[:0]
	f.columns = resetColumns(f.columns, columns)
	column, look := 0, max(len(raw)/8, deltaLook)
	for at := 0; at < len(raw); {
		tag, n := uint64(raw[at]), 1
		if tag >= 0x80 {
			if tag, n = binary.Uvarint(raw[at:]); n <= 0 || tag-2 > uint64(len(raw)) {
				return false
			}
		}
		at += n
		if tag < 2 {
			f.codes = append(f.codes, byte(tag))
		} else {
			end := at + int(tag-2)
			if end > len(raw) {
				return false
			}
			f.value(raw, &f.columns[column], span{at, end})
			at = end
		}
		if column++; column == columns {
			column = 0
		}
		if at >= look {
			if !f.pays(at) {
				return false
			}
			look = len(raw)
		}
	}
	f.sum = checksum(raw)
	return column == 0 && f.pays(len(raw))
}

// pays reports whether what was made of so many bytes is enough smaller.
func (f *deltaEncoder) pays(raw int) bool {
	return len(f.codes)+len(f.text)+len(f.bin)+deltaHead < raw*3/4
}

func (f *deltaEncoder) value(raw []byte, c *deltaColumn, s span) {
	v := raw[s.from:s.to]
	if !f.recalled(raw, c, v) && !f.binary(v) && !f.edited(raw, c, v) {
		f.plain(v)
	}
	c.add(s)
}

func (f *deltaEncoder) plain(v []byte) {
	if len(v) <= deltaLongest {
		f.codes = append(f.codes, deltaShort+byte(len(v)))
	} else {
		f.codes = binary.AppendUvarint(append(f.codes, deltaPlain), uint64(len(v)))
	}
	f.text = append(f.text, v...)
}

// recalled writes a value that its column had shortly before, or an integer that is near to the one before.
func (f *deltaEncoder) recalled(raw []byte, c *deltaColumn, v []byte) bool {
	known := c.known()
	if known == 0 {
		return false
	}
	last := c.recall(0)
	if string(raw[last.from:last.to]) == string(v) {
		f.codes = append(f.codes, deltaRecall)
		return true
	}
	if step, ok := difference(raw[last.from:last.to], v); ok {
		f.codes = append(f.codes, deltaStep, byte(step))
		return true
	}
	if len(v) > recallLongest {
		return false
	}
	for k := 1; k < known; k++ {
		if p := c.recall(k); string(raw[p.from:p.to]) == string(v) {
			f.codes = append(f.codes, deltaRecall+byte(k))
			return true
		}
	}
	return false
}

// binary writes a value whose digits are hexadecimal.
func (f *deltaEncoder) binary(v []byte) bool {
	if isUUID(v) {
		for _, p := range [...]span{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}} {
			f.bin = appendHex(f.bin, v[p.from:p.to])
		}
		f.codes = append(f.codes, deltaUUID)
		return true
	}
	if isHex(v) {
		f.bin = appendHex(f.bin, v[2:])
		f.codes = binary.AppendUvarint(append(f.codes, deltaHex), uint64(len(v)/2-1))
		return true
	}
	return false
}

// edited writes a value by words of the one before that it has replaced. If that isn't much shorter than the value,
// it takes back what it wrote.
func (f *deltaEncoder) edited(raw []byte, c *deltaColumn, v []byte) bool {
	if c.count == 0 || len(v) < editShortest || len(v) > editLongest || c.vain >= editPatience && c.count%editRetry != 0 {
		return false
	}
	codes, text := len(f.codes), len(f.text)
	f.codes = append(f.codes, deltaEdit)
	last := c.recall(0)
	prev, most := raw[last.from:last.to], codes+text+8
	var e edit
	for {
		same := commonPrefix(v[e.at:], prev[e.before:])
		if e.at+same == len(v) { // what prev has more is left out
			f.codes = binary.AppendUvarint(f.codes, uint64(same)<<1)
			c.vain = 0
			return true
		}
		f.replace(&e, prev, v, same)
		if len(f.codes)+len(f.text) > most+e.at*5/8 {
			f.codes, f.text = f.codes[:codes], f.text[:text]
			c.vain++
			return false
		}
	}
}

// edit is how far a value and the one before it have been compared.
type edit struct {
	at, before int
	word       []byte // the last one written
}

// replace writes that, after same bytes in common, the word at which they end is replaced by another; or the whole rest, where
// no word is.
func (f *deltaEncoder) replace(e *edit, prev, v []byte, same int) {
	word := e.at + same
	for word > e.at && isWord[v[word-1]] {
		word--
	}
	kept := word - e.at
	end, before := wordEnd(v, e.at+same), wordEnd(prev, e.before+kept)
	if end == word && before == e.before+kept {
		end = len(v)
	}
	f.codes = binary.AppendUvarint(f.codes, uint64(kept)<<1|1)
	if w := v[word:end]; len(w) > 0 && string(w) == string(e.word) {
		f.codes = append(f.codes, 0)
	} else {
		f.codes = binary.AppendUvarint(f.codes, uint64(len(w))+1)
		f.text = append(f.text, w...)
		e.word = w
	}
	e.at, e.before = end, before
}

// appendTo encodes what encode left, by columns of that number.
func (f *deltaEncoder) appendTo(dst []byte, columns int) []byte {
	dst = binary.AppendUvarint(append(dst, deltaMagic), uint64(columns))
	head := len(dst)
	dst = append(dst, make([]byte, deltaHead)...)
	for i, s := range [deltaStreams][]byte{f.codes, f.text, f.bin} {
		start := len(dst)
		dst = compress(dst, s)
		binary.LittleEndian.PutUint32(dst[head+8*i:], uint32(len(dst)-start))
		binary.LittleEndian.PutUint32(dst[head+8*i+4:], uint32(len(s)))
	}
	binary.LittleEndian.PutUint32(dst[head+8*deltaStreams:], f.sum)
	return dst
}
