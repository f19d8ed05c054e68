package pipeline

import (
	"context"
	"sync"
)

// buffers is a pool of a bounded number of part buffers. One is made only where none that was given back is left: a
// store that keeps up needs two or three of them. An empty pool blocks the stream's reader: memory stays flat
// however slow the store is.
type buffers struct {
	size   int
	tokens chan struct{} // one for each buffer that may still be taken

	mu   sync.Mutex
	free [][]byte // those given back, the last one first
}

func newBuffers(count, size int) *buffers {
	b := &buffers{size: size, tokens: make(chan struct{}, count)}
	for range count {
		b.tokens <- struct{}{}
	}
	return b
}

// get returns an empty buffer, waiting until one is free or ctx ends.
func (b *buffers) get(ctx context.Context) ([]byte, error) {
	select {
	case <-b.tokens:
		return b.take(), nil
	default:
	}
	select {
	case <-b.tokens:
		return b.take(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b *buffers) take() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		buf := b.free[n-1]
		b.free = b.free[:n-1]
		return buf[:0]
	}
	return make([]byte, 0, b.size)
}

// put gives a buffer back.
func (b *buffers) put(buf []byte) {
	b.mu.Lock()
	b.free = append(b.free, buf)
	b.mu.Unlock()
	b.tokens <- struct{}{}
}
