package pgoutput

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"tidemark/segment"
)

const (
	maxString = 1 << 20 // bounds the names in a message, which are below 64 bytes
	maxPrefix = 1 << 20 // of a logical message's prefix, which anybody chooses freely, no more is held and passed on
)

// Error says at which byte of which message the decoding stopped, and why.
type Error struct {
	Type   byte  // the message's type byte, 0 for an empty message
	Offset int64 // in bytes from the message's type byte
	Reason string
}

// Error names type, offset and reason.
func (e *Error) Error() string {
	return fmt.Sprintf("pgoutput message %q: byte %d: %s", e.Type, e.Offset, e.Reason)
}

// cursor reads one message of a known size whose bytes may be handed over in pieces. The first error
// sticks: after it every read returns zero, and end and fail return it. So a fixed part can be
// read field by field and checked once, before anything is told to the Sink.
type cursor struct {
	buf  []byte // unread bytes at hand
	rest int    // bytes of the message not yet at hand
	size int    // of the whole message
	typ  byte
	more func() ([]byte, error)
	err  error

	scratch [8]byte
}

func (c *cursor) reset(head []byte, size int, more func() ([]byte, error)) {
	c.buf, c.rest, c.size = head, size-len(head), size
	c.typ, c.more, c.err = 0, more, nil
}

// left is the number of unread bytes of the message.
func (c *cursor) left() int { return len(c.buf) + c.rest }

// fail makes an Error at the current offset, unless an error was there before.
func (c *cursor) fail(format string, args ...any) error {
	return c.failAt(c.size-c.left(), format, args...)
}

func (c *cursor) failAt(offset int, format string, args ...any) error {
	if c.err == nil {
		c.err = &Error{Type: c.typ, Offset: int64(offset), Reason: fmt.Sprintf(format, args...)}
	}
	return c.err
}

// end returns the first error, or one if bytes are left over.
func (c *cursor) end() error {
	if c.err == nil && c.left() > 0 {
		return c.fail("%d bytes left over", c.left())
	}
	return c.err
}

// refill gets the next piece once buf is used up; false at the end of the message or on an error.
func (c *cursor) refill() bool {
	if c.err != nil || c.rest == 0 {
		return false
	}
	b, err := c.more()
	switch {
	case err != nil:
		c.err = err
		return false
	case len(b) == 0 || len(b) > c.rest:
		c.fail("a piece of %d bytes where %d are missing", len(b), c.rest)
		return false
	}
	c.buf, c.rest = b, c.rest-len(b)
	return true
}

// take returns the next n bytes, n <= 8; zeros after an error. They are valid until the next call.
func (c *cursor) take(n int) []byte {
	if len(c.buf) >= n {
		b := c.buf[:n]
		c.buf = c.buf[n:]
		return b
	}
	return c.takeSlow(n)
}

func (c *cursor) takeSlow(n int) []byte {
	c.scratch = [8]byte{}
	if c.err != nil {
		return c.scratch[:n]
	}
	if c.left() < n {
		c.fail("the message ends where %d bytes are due, %d are left", n, c.left())
		c.buf, c.rest = nil, 0
		return c.scratch[:n]
	}
	for got := 0; got < n; {
		if len(c.buf) == 0 && !c.refill() {
			c.buf, c.rest = nil, 0
			c.scratch = [8]byte{}
			break
		}
		m := copy(c.scratch[got:n], c.buf)
		c.buf = c.buf[m:]
		got += m
	}
	return c.scratch[:n]
}

func (c *cursor) uint8() uint8   { return c.take(1)[0] }
func (c *cursor) uint16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cursor) uint32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cursor) uint64() uint64 { return binary.BigEndian.Uint64(c.take(8)) }

func (c *cursor) lsn() segment.LSN             { return segment.LSN(c.uint64()) }
func (c *cursor) timestamp() segment.Timestamp { return segment.Timestamp(c.uint64()) }

// count reads a 16-bit number of columns.
func (c *cursor) count() int {
	n := int16(c.uint16())
	if c.err == nil && n < 0 {
		c.failAt(c.size-c.left()-2, "%d columns", n)
	}
	return max(0, int(n))
}

// length reads the 32-bit length of something that lies wholly in the message.
func (c *cursor) length(what string) int {
	n := int32(c.uint32())
	if c.err == nil && (n < 0 || int(n) > c.left()) {
		c.failAt(c.size-c.left()-4, "%s of %d bytes where %d are left", what, n, c.left())
	}
	return int(n)
}

// cstring reads up to a zero byte. The result is valid until the next read.
func (c *cursor) cstring() []byte {
	if i := bytes.IndexByte(c.buf, 0); i >= 0 {
		b := c.buf[:i]
		c.buf = c.buf[i+1:]
		return b
	}
	return c.cstringSlow()
}

func (c *cursor) cstringSlow() []byte {
	start := c.size - c.left()
	s := c.upToZero(maxString+1, true)
	if len(s) > maxString {
		c.failAt(start, "a string of more than %d bytes", maxString)
		return nil
	}
	return s
}

// prefix reads up to a zero byte and returns at most the first maxPrefix bytes. They are valid until the next read.
func (c *cursor) prefix() []byte {
	if i := bytes.IndexByte(c.buf, 0); i >= 0 {
		b := c.buf[:min(i, maxPrefix)]
		c.buf = c.buf[i+1:]
		return b
	}
	return c.upToZero(maxPrefix, false)
}

// upToZero reads up to a zero byte, which may lie in a later piece, and returns at most the first limit bytes; strict, it
// reads no further than these.
func (c *cursor) upToZero(limit int, strict bool) []byte {
	if c.err != nil {
		return nil
	}
	start := c.size - c.left()
	var s []byte
	for {
		piece, rest, found := bytes.Cut(c.buf, []byte{0})
		s = append(s, piece[:min(len(piece), limit-len(s))]...)
		c.buf = rest
		if found || strict && len(s) == limit {
			return s
		}
		if !c.refill() {
			c.failAt(start, "a string without an end")
			return nil
		}
	}
}
