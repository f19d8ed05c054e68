package segment

import (
	"encoding/binary"
	"errors"
	"math"
)

var (
	errShort  = errors.New("a field is cut off")
	errVarint = errors.New("a number is malformed")
	errRange  = errors.New("a number is out of range")
)

// cursor reads fields from bytes. The first failure sticks in err, and every read after it gives zero.
type cursor struct {
	b   []byte
	pos int
	err error
}

func (c *cursor) rest() int { return len(c.b) - c.pos }

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.pos = len(c.b)
}

func (c *cursor) byte() byte {
	if c.pos >= len(c.b) {
		c.fail(errShort)
		return 0
	}
	c.pos++
	return c.b[c.pos-1]
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b[c.pos:])
	switch {
	case n > 0:
		c.pos += n
		return v
	case n == 0:
		c.fail(errShort)
	default:
		c.fail(errVarint)
	}
	return 0
}

func (c *cursor) svarint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// limited reads a uvarint of at most limit.
func (c *cursor) limited(limit uint64) uint64 {
	v := c.uvarint()
	if v > limit {
		c.fail(errRange)
		return 0
	}
	return v
}

func (c *cursor) uint32() uint32 { return uint32(c.limited(math.MaxUint32)) }

func (c *cursor) int64() int64 { return int64(c.limited(math.MaxInt64)) }

func (c *cursor) int32() int32 {
	v := c.svarint()
	if v < math.MinInt32 || v > math.MaxInt32 {
		c.fail(errRange)
		return 0
	}
	return int32(v)
}

// bytes returns the next n bytes, not copied.
func (c *cursor) bytes(n int) []byte {
	if n > c.rest() {
		c.fail(errShort)
		return nil
	}
	c.pos += n
	return c.b[c.pos-n : c.pos]
}

func (c *cursor) string() string {
	n := c.limited(maxOpSize)
	return string(c.bytes(int(n)))
}

func appendSvarint(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v)<<1^uint64(v>>63))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
