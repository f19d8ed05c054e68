package pipeline

import "context"

// buffers is a pool of a fixed number of part buffers, made when first needed. An empty pool blocks the
// stream's reader: memory stays flat however slow the store is.
type buffers struct {
	size int
	free chan []byte
}

func newBuffers(count, size int) *buffers {
	b := &buffers{size: size, free: make(chan []byte, count)}
	for range count {
		b.free <- nil
	}
	return b
}

// get returns an empty buffer, waiting until one is free or ctx ends.
func (b *buffers) get(ctx context.Context) ([]byte, error) {
	select {
	case buf := <-b.free:
		return b.made(buf), nil
	default:
	}
	select {
	case buf := <-b.free:
		return b.made(buf), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b *buffers) made(buf []byte) []byte {
	if buf == nil {
		buf = make([]byte, 0, b.size)
	}
	return buf[:0]
}

// put gives a buffer back.
func (b *buffers) put(buf []byte) { b.free <- buf }
