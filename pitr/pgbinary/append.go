package pgbinary

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
)

var order = binary.BigEndian

// Append appends the binary format of a value that was written as text. It reports false, with dst as it was, if
// the text is not in the one form that is known.
func (k Kind) Append(dst, text []byte) (_ []byte, ok bool) {
	switch k {
	case Raw:
		return append(dst, text...), true
	case JSONB:
		return append(append(dst, 1), text...), true
	case Bool:
		switch string(text) {
		case "t":
			return append(dst, 1), true
		case "f":
			return append(dst, 0), true
		}
	case Int2:
		v, ok := integer(text, math.MaxInt16)
		return when(ok, dst, order.AppendUint16(dst, uint16(v)))
	case Int4:
		v, ok := integer(text, math.MaxInt32)
		return when(ok, dst, order.AppendUint32(dst, uint32(v)))
	case Int8:
		v, ok := integer(text, math.MaxInt64)
		return when(ok, dst, order.AppendUint64(dst, uint64(v)))
	case OID:
		v, ok := digits(text, math.MaxUint32)
		return when(ok && (v == 0 || text[0] != '0'), dst, order.AppendUint32(dst, uint32(v)))
	case Float4:
		v, ok := float(text, 32)
		return when(ok, dst, order.AppendUint32(dst, math.Float32bits(float32(v))))
	case Float8:
		v, ok := float(text, 64)
		return when(ok, dst, order.AppendUint64(dst, math.Float64bits(v)))
	case Numeric:
		return appendNumeric(dst, text)
	case UUID:
		return appendUUID(dst, text)
	case Bytea:
		return appendBytea(dst, text)
	case Date:
		v, ok := date(text)
		return when(ok, dst, order.AppendUint32(dst, uint32(v)))
	case Time:
		v, rest, ok := clock(text)
		return when(ok && len(rest) == 0, dst, order.AppendUint64(dst, uint64(v)))
	case Timestamp, Zoned:
		v, ok := timestamp(text, k == Zoned)
		return when(ok, dst, order.AppendUint64(dst, uint64(v)))
	}
	return dst, false
}

func when(ok bool, before, after []byte) ([]byte, bool) {
	if !ok {
		return before, false
	}
	return after, true
}

// digits reads a number without sign, of at most limit.
func digits(text []byte, limit uint64) (v uint64, ok bool) {
	if len(text) == 0 || len(text) > 19 {
		return 0, false
	}
	for _, c := range text {
		if c -= '0'; c > 9 {
			return 0, false
		}
		v = v*10 + uint64(c)
	}
	return v, v <= limit
}

// integer reads a number whose largest value is limit, and whose smallest is one further from zero.
func integer(text []byte, limit uint64) (int64, bool) {
	if len(text) > 0 && text[0] == '-' {
		v, ok := digits(text[1:], limit+1)
		return -int64(v), ok
	}
	v, ok := digits(text, limit)
	return int64(v), ok
}

// float reads the shortest text that gives the value again, which reading finds exactly here as there.
func float(text []byte, bits int) (float64, bool) {
	switch string(text) {
	case "NaN":
		return math.Float64frombits(0x7ff8 << 48), true // as the server makes it
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	for _, c := range text { // more is a number to ParseFloat
		if (c < '0' || c > '9') && c != '.' && c != 'e' && c != '-' && c != '+' {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(string(text), bits)
	if v == 0 { // the server refuses what is too small for its type
		mantissa, _, _ := bytes.Cut(text, []byte("e"))
		return v, err == nil && !bytes.ContainsAny(mantissa, "123456789")
	}
	return v, err == nil
}

func appendUUID(dst, text []byte) ([]byte, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return dst, false
	}
	var v [16]byte
	n := 0
	for i := 0; i < len(text); i += 2 {
		if text[i] == '-' {
			i++
		}
		high, low := nibbles[text[i]], nibbles[text[i+1]]
		if high|low > 15 {
			return dst, false
		}
		v[n] = high<<4 | low
		n++
	}
	return append(dst, v[:]...), true
}

// nibbles has the value of each hexadecimal digit, and 255 for what is none.
var nibbles = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	for i, c := range "0123456789abcdef" {
		t[c] = byte(i)
	}
	return t
}()

func appendBytea(dst, text []byte) ([]byte, bool) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return dst, false
	}
	after, err := hex.AppendDecode(dst, text[2:])
	return when(err == nil, dst, after)
}

// What stands for the sign of a numeric (src/backend/utils/adt/numeric.c).
const (
	negative    = 0x4000
	notANumber  = 0xC000
	posInfinity = 0xD000
	negInfinity = 0xF000
)

const maxScale = 0x3FFF // of a numeric: the most digits after the point

// appendNumeric gives digits to the base of 10000, and how many decimal digits are shown after the point.
func appendNumeric(dst, text []byte) ([]byte, bool) {
	special := func(sign uint64) ([]byte, bool) { return order.AppendUint64(dst, sign<<16), true }
	switch string(text) {
	case "NaN":
		return special(notANumber)
	case "Infinity":
		return special(posInfinity)
	case "-Infinity":
		return special(negInfinity)
	}
	sign := uint16(0)
	if len(text) > 0 && text[0] == '-' {
		sign, text = negative, text[1:]
	}
	point := len(text)
	for i, c := range text {
		if c == '.' && point == len(text) && i+1 < len(text) {
			point = i
		} else if c < '0' || c > '9' {
			return dst, false
		}
	}
	if point == 0 {
		return dst, false
	}
	whole, part := text[:point], text[min(point+1, len(text)):]
	groups, partGroups := (len(whole)+3)/4, (len(part)+3)/4
	if groups > math.MaxInt16+1 || len(part) > maxScale {
		return dst, false
	}
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	count, weight, zeros := 0, 0, 0
	group := func(n, v int) { // the n-th to the right of the first, which has the weight groups-1
		switch {
		case v == 0:
			zeros++
			return
		case count == 0:
			weight, zeros = groups-1-n, 0
		}
		for ; zeros > 0; zeros-- {
			dst = append(dst, 0, 0)
			count++
		}
		dst = order.AppendUint16(dst, uint16(v))
		count++
	}
	for n := range groups {
		v := 0
		for i := max(0, len(whole)-4*(groups-n)); i < len(whole)-4*(groups-n-1); i++ {
			v = v*10 + int(whole[i]-'0')
		}
		group(n, v)
	}
	for n := range partGroups {
		v := 0
		for i := 4 * n; i < 4*n+4; i++ {
			v *= 10
			if i < len(part) {
				v += int(part[i] - '0')
			}
		}
		group(groups+n, v)
	}
	if count == 0 {
		sign = 0
	}
	head := dst[at:]
	order.PutUint16(head, uint16(count))
	order.PutUint16(head[2:], uint16(int16(weight)))
	order.PutUint16(head[4:], sign)
	order.PutUint16(head[6:], uint16(len(part)))
	return dst, true
}
