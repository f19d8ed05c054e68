// Package faulty wraps a store with faults that are switched on and off: lost answers, a store that is
// cut off, slowness, damaged and truncated bytes. It also counts requests. For tests and benchmarks.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"sync"
	"time"

	"tidemark/objectstore"
)

// When says on which side of the store's own work a put fails.
type When int

const (
	// Before fails a put without a byte landing.
	Before When = iota
	// After fails a put whose bytes have landed: its answer is lost.
	After
)

// Store passes requests on to another store, unless told otherwise. It is safe for concurrent use.
type Store struct {
	inner objectstore.Store

	mu       sync.Mutex
	cut      bool
	restored chan struct{} // closed by Restore; nil when hanging is off
	slow     time.Duration
	puts     int // puts since the last FailPut
	failing  map[int]When
	breakAt  int64 // gets break off after so many bytes, once; < 0: never
	onPut    func(key string) error
	requests map[string]int
}

var _ objectstore.Store = (*Store)(nil)

// New returns inner without faults.
func New(inner objectstore.Store) *Store {
	return &Store{inner: inner, failing: map[int]When{}, breakAt: -1, requests: map[string]int{}}
}

// FailPut makes the nth put from now on (1 is the next) fail with ErrUnavailable.
func (s *Store) FailPut(n int, when When) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing[s.puts+n] = when
}

// OnPut calls f before each put and returns its error, if any, instead of putting. nil switches it off.
func (s *Store) OnPut(f func(key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onPut = f
}

// Cut makes every request fail with ErrUnavailable, also open bodies, until Restore.
func (s *Store) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
}

// Hang makes every request wait until Restore or the end of its context, like a mount without a server.
func (s *Store) Hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.restored == nil {
		s.restored = make(chan struct{})
	}
}

// Restore ends Cut and Hang.
func (s *Store) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = false
	if s.restored != nil {
		close(s.restored)
		s.restored = nil
	}
}

// Slow makes every request take d longer; 0 ends it.
func (s *Store) Slow(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = d
}

// BreakGet makes the next get's body break off with ErrUnavailable after n bytes.
func (s *Store) BreakGet(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breakAt = n
}

// Requests returns how many requests were made since the last call, by operation (put, get, stat, list,
// delete).
func (s *Store) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := maps.Clone(s.requests)
	clear(s.requests)
	return counted
}

func unavailable(op, key, why string) error {
	return fmt.Errorf("%s %s: %w: %s", op, key, objectstore.ErrUnavailable, why)
}

// enter counts a request and applies slowness, hanging and cutting.
func (s *Store) enter(ctx context.Context, op, key string) error {
	s.mu.Lock()
	s.requests[op]++
	slow, restored := s.slow, s.restored
	s.mu.Unlock()
	if slow > 0 {
		timer := time.NewTimer(slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if restored != nil {
		select {
		case <-restored:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.reachable(op, key)
}

func (s *Store) reachable(op, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return unavailable(op, key, "cut off")
	}
	return nil
}

// Put implements objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte) error {
	if err := s.enter(ctx, "put", key); err != nil {
		return err
	}
	s.mu.Lock()
	s.puts++
	when, fails := s.failing[s.puts]
	delete(s.failing, s.puts)
	onPut := s.onPut
	s.mu.Unlock()
	if onPut != nil {
		if err := onPut(key); err != nil {
			return err
		}
	}
	if fails && when == Before {
		return unavailable("put", key, "made to fail before it landed")
	}
	err := s.inner.Put(ctx, key, data)
	if fails {
		return unavailable("put", key, "made to lose its answer")
	}
	return err
}

// Get implements objectstore.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := s.enter(ctx, "get", key); err != nil {
		return nil, err
	}
	inner, err := s.inner.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &body{inner: inner, store: s, key: key, breakAt: s.breakAt}
	s.breakAt = -1
	return b, nil
}

// body breaks off where it is told to, or when the store is cut off.
type body struct {
	inner   io.ReadCloser
	store   *Store
	key     string
	breakAt int64 // bytes until it breaks off, < 0: never
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if err := b.store.reachable("get", b.key); err != nil {
		return 0, err
	}
	if b.breakAt < 0 {
		return b.inner.Read(p)
	}
	if b.breakAt == 0 {
		return 0, errors.Join(unavailable("get", b.key, "made to break off"), io.ErrUnexpectedEOF)
	}
	n, err := b.inner.Read(p[:min(int64(len(p)), b.breakAt)])
	b.breakAt -= int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error { return b.inner.Close() }

// Stat implements objectstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objectstore.Info, error) {
	if err := s.enter(ctx, "stat", key); err != nil {
		return objectstore.Info{}, err
	}
	return s.inner.Stat(ctx, key)
}

// List implements objectstore.Store. It fails in the middle when the store is cut off there.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		if err := s.enter(ctx, "list", prefix); err != nil {
			yield(objectstore.Info{}, err)
			return
		}
		for info, err := range s.inner.List(ctx, prefix, after) {
			if err == nil {
				err = s.reachable("list", prefix)
			}
			if err != nil {
				yield(objectstore.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Delete implements objectstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.enter(ctx, "delete", key); err != nil {
		return err
	}
	return s.inner.Delete(ctx, key)
}

// String implements objectstore.Store.
func (s *Store) String() string { return s.inner.String() }
