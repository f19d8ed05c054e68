package segment

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in PostgreSQL's write-ahead log, in bytes. It prints as X/Y, two hexadecimal
// halves, as pg_lsn does. LSNs are only comparable within one history.
type LSN uint64

// ParseLSN reads the X/Y form. Unlike pg_lsn's input it refuses anything before or after it.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok || !isHex32(hi) || !isHex32(lo) {
		return 0, fmt.Errorf("%q is not an LSN of the form 16/B374D848", s)
	}
	h, _ := strconv.ParseUint(hi, 16, 32)
	l, _ := strconv.ParseUint(lo, 16, 32)
	return LSN(h<<32 | l), nil
}

func isHex32(s string) bool {
	if s == "" || len(s) > 8 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// String returns the X/Y form with upper-case digits, as PostgreSQL prints it.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// Hex returns 16 upper-case hexadecimal digits: object names made of it sort in LSN order.
func (l LSN) Hex() string { return fmt.Sprintf("%016X", uint64(l)) }

// MarshalText implements encoding.TextMarshaler with the X/Y form.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler for the X/Y form.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	if err == nil {
		*l = v
	}
	return err
}
