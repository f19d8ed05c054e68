package segment

import (
	"encoding/binary"
	"math/bits"
)

// isWord has letters and digits, and every byte outside ASCII.
var isWord = func() (t [256]bool) {
	for i := range t {
		b := byte(i)
		t[i] = b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z' || b >= 0x80
	}
	return t
}()

// wordEnd returns where the word that i stands in ends.
func wordEnd(b []byte, i int) int {
	for i < len(b) && isWord[b[i]] {
		i++
	}
	return i
}

// commonPrefix returns how many bytes a and b begin with in common.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)>>3
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// integerDigits is the most digits of an integer that is stepped from.
const integerDigits = 18

// difference returns v less prev, where both are integers and it fits into a byte.
func difference(prev, v []byte) (int8, bool) {
	if d := len(v) - len(prev); d < -1 || d > 1 {
		return 0, false
	}
	b, ok := integer(v)
	if !ok {
		return 0, false
	}
	a, ok := integer(prev)
	return int8(b - a), ok && b-a == int64(int8(b-a))
}

// integer reads digits that strconv.AppendInt would write again.
func integer(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > integerDigits || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	for _, c := range b {
		if c -= '0'; c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	return n, true
}

const (
	hexDigits = "0123456789abcdef"
	noHex     = 0xff
	uuidSize  = 36
)

var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = noHex
	}
	for i, c := range []byte(hexDigits) {
		t[c] = byte(i)
	}
	return t
}()

// isUUID reports whether v is a UUID as PostgreSQL shows it.
func isUUID(v []byte) bool {
	return len(v) == uuidSize && v[8] == '-' && v[13] == '-' && v[18] == '-' && v[23] == '-' &&
		allHex(v[:8]) && allHex(v[9:13]) && allHex(v[14:18]) && allHex(v[19:23]) && allHex(v[24:])
}

// isHex reports whether v is a bytea of at least a byte in its hexadecimal form.
func isHex(v []byte) bool {
	return len(v) >= 4 && len(v)%2 == 0 && v[0] == '\\' && v[1] == 'x' && allHex(v[2:])
}

func allHex(b []byte) bool {
	or := byte(0)
	for _, c := range b {
		or |= hexValue[c]
	}
	return or < 16
}

// appendHex appends the bytes that an even number of hexadecimal digits stand for.
func appendHex(dst, digits []byte) []byte {
	for ; len(digits) >= 2; digits = digits[2:] {
		dst = append(dst, hexValue[digits[0]]<<4|hexValue[digits[1]])
	}
	return dst
}

// appendDigits is the reverse.
func appendDigits(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}
