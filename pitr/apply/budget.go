package apply

import (
	"errors"
	"sync"
)

// budget bounds the bytes that the workers hold.
type budget struct {
	mu    sync.Mutex
	free  int
	size  int
	freed chan struct{} // gets a token when something came back
}

func newBudget(size int) *budget {
	return &budget{free: size, size: size, freed: make(chan struct{}, 1)}
}

var errStopped = errors.New("stopped")

// take waits until n bytes are free. More than the whole budget waits for all of it. Only one
// goroutine takes.
func (b *budget) take(n int, stopped <-chan struct{}) error {
	n = min(n, b.size)
	for {
		b.mu.Lock()
		if b.free >= n {
			b.free -= n
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		select {
		case <-b.freed:
		case <-stopped:
			return errStopped
		}
	}
}

func (b *budget) give(n int) {
	b.mu.Lock()
	b.free += min(n, b.size)
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}
