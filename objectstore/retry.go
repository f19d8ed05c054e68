package objectstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// RetryOptions limit how Retry goes on. The zero value is usable.
type RetryOptions struct {
	// MaxElapsed is how long one operation may go without progress, attempts and waits together;
	// 0 means 15 minutes, less than 0 no limit.
	MaxElapsed time.Duration
	// FirstWait is the wait after the first failure (0: 200 ms). Waits grow by half each time, with half
	// of their length left to chance, up to MaxWait (0: 30 s).
	FirstWait, MaxWait time.Duration
	// Notify is told of each failure that will be retried, before the wait. May be nil. It may be called
	// by several goroutines.
	Notify func(RetryEvent)
}

// RetryEvent is a failure that will be retried.
type RetryEvent struct {
	Op      string // put, get, stat, list, delete
	Key     string // or the prefix of a list
	Attempt int    // from 1
	Err     error
	Wait    time.Duration // until the next attempt
}

// Retry returns store with every ErrUnavailable retried, and nothing else.
//
//   - A put whose outcome was unknown and that then finds the key taken compares the object with data: its
//     own bytes are success, others are ErrExists.
//   - A get whose body breaks off goes on where it was, since objects never change.
//   - A list goes on after the last key given out.
//
// The error after the last attempt is that attempt's.
func Retry(store Store, opts RetryOptions) Store {
	if opts.MaxElapsed == 0 {
		opts.MaxElapsed = 15 * time.Minute
	}
	if opts.FirstWait == 0 {
		opts.FirstWait = 200 * time.Millisecond
	}
	if opts.MaxWait == 0 {
		opts.MaxWait = 30 * time.Second
	}
	return &retryStore{inner: store, opts: opts}
}

type retryStore struct {
	inner Store
	opts  RetryOptions
}

var _ Store = (*retryStore)(nil)

// pacer decides, for one operation, whether and when to try again.
type pacer struct {
	opts    RetryOptions
	op, key string
	waits   *backoff.ExponentialBackOff
	began   time.Time // of the time without progress
	attempt int
}

func (r *retryStore) pacer(op, key string) *pacer {
	p := &pacer{opts: r.opts, op: op, key: key}
	p.progress()
	return p
}

// progress starts the clock and the waits anew.
func (p *pacer) progress() {
	p.waits = &backoff.ExponentialBackOff{
		InitialInterval: p.opts.FirstWait, MaxInterval: p.opts.MaxWait, Multiplier: 1.5, RandomizationFactor: 0.5,
	}
	p.waits.Reset()
	p.began, p.attempt = time.Now(), 0
}

// pause waits before another attempt, or returns the error to give up with.
func (p *pacer) pause(ctx context.Context, err error) error {
	if !errors.Is(err, ErrUnavailable) {
		return err
	}
	if ended := contextError(ctx, p.op, p.key); ended != nil {
		return ended
	}
	p.attempt++
	wait := p.waits.NextBackOff()
	if p.opts.MaxElapsed > 0 && time.Since(p.began)+wait > p.opts.MaxElapsed {
		return err
	}
	if p.opts.Notify != nil {
		p.opts.Notify(RetryEvent{Op: p.op, Key: p.key, Attempt: p.attempt, Err: err, Wait: wait})
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return contextError(ctx, p.op, p.key)
	}
}

// do repeats attempt until it succeeds or pause gives up.
func (r *retryStore) do(ctx context.Context, op, key string, attempt func() error) error {
	p := r.pacer(op, key)
	for {
		err := attempt()
		if err == nil {
			return nil
		}
		if err := p.pause(ctx, err); err != nil {
			return err
		}
	}
}

// Put implements Store.
func (r *retryStore) Put(ctx context.Context, key string, data []byte) error {
	unknown := false // an earlier attempt may have landed
	return r.do(ctx, "put", key, func() error {
		err := r.inner.Put(ctx, key, data)
		if unknown && errors.Is(err, ErrExists) {
			same, readErr := holds(ctx, r.inner, key, data)
			switch {
			case errors.Is(readErr, ErrNotFound):
				return newError("put", key, ErrUnavailable, "the store says that it exists and then that it doesn't")
			case readErr != nil:
				return readErr
			case same:
				return nil
			}
		}
		unknown = unknown || errors.Is(err, ErrUnavailable)
		return err
	})
}

// Get implements Store.
func (r *retryStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	p := r.pacer("get", key)
	b := &resumingBody{
		open: func(done int64) (io.ReadCloser, error) {
			rest := length
			if length >= 0 {
				rest = length - done
			}
			return r.inner.Get(ctx, key, offset+done, rest)
		},
		pause:    func(err error) error { return p.pause(ctx, err) },
		progress: p.progress,
	}
	if err := b.reopen(); err != nil {
		return nil, err
	}
	return b, nil
}

// resumingBody reads an object, opening it again where it was after a failure.
type resumingBody struct {
	open     func(done int64) (io.ReadCloser, error)
	pause    func(error) error
	progress func()
	inner    io.ReadCloser
	done     int64
}

func (b *resumingBody) reopen() error {
	for {
		inner, err := b.open(b.done)
		if err == nil {
			b.inner = inner
			return nil
		}
		if err := b.pause(err); err != nil {
			return err
		}
	}
}

// Read implements io.Reader.
func (b *resumingBody) Read(p []byte) (int, error) {
	for {
		if b.inner == nil {
			if err := b.reopen(); err != nil {
				return 0, err
			}
		}
		n, err := b.inner.Read(p)
		b.done += int64(n)
		if err == nil || err == io.EOF || !errors.Is(err, ErrUnavailable) {
			return n, err
		}
		_ = b.inner.Close()
		b.inner = nil
		if n > 0 {
			b.progress()
			return n, nil
		}
		if err := b.pause(err); err != nil {
			b.open = func(int64) (io.ReadCloser, error) { return nil, err }
			b.pause = func(err error) error { return err }
			return 0, err
		}
	}
}

// Close implements io.Closer.
func (b *resumingBody) Close() error {
	if b.inner == nil {
		return nil
	}
	return b.inner.Close()
}

// Stat implements Store.
func (r *retryStore) Stat(ctx context.Context, key string) (info Info, err error) {
	err = r.do(ctx, "stat", key, func() error {
		info, err = r.inner.Stat(ctx, key)
		return err
	})
	return info, err
}

// List implements Store.
func (r *retryStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		after := after // each range over the sequence begins anew
		p := r.pacer("list", prefix)
		for {
			var failed error
			for info, err := range r.inner.List(ctx, prefix, after) {
				if err != nil {
					failed = err
					break
				}
				if p.attempt > 0 {
					p.progress()
				}
				p.began = time.Now()
				after = info.Key
				if !yield(info, nil) {
					return
				}
			}
			if failed == nil {
				return
			}
			if err := p.pause(ctx, failed); err != nil {
				yield(Info{}, err)
				return
			}
		}
	}
}

// Delete implements Store.
func (r *retryStore) Delete(ctx context.Context, key string) error {
	return r.do(ctx, "delete", key, func() error { return r.inner.Delete(ctx, key) })
}

// String implements Store.
func (r *retryStore) String() string { return r.inner.String() }
