package objectstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// storeMetrics are the numbers that Metrics keeps.
type storeMetrics struct {
	requests *prometheus.CounterVec   // by op and outcome
	bytes    *prometheus.CounterVec   // by direction
	seconds  *prometheus.HistogramVec // by op
}

func newStoreMetrics(reg prometheus.Registerer) *storeMetrics {
	return &storeMetrics{
		requests: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_store_requests_total",
			Help: "Requests to the archive's store, by operation and outcome. A list counts once, a get when its body is closed.",
		}, []string{"op", "outcome"})),
		bytes: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tidemark_store_bytes_total",
			Help: "Bytes of objects sent to and received from the archive's store.",
		}, []string{"direction"})),
		seconds: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tidemark_store_request_seconds",
			Help:    "Duration of requests to the archive's store in seconds; a get's includes its reader's own pace.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"op"})),
	}
}

// register registers a collector, or gives the one that an earlier store has registered.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		panic(err) // a name used twice for different things: a mistake in this program
	}
	return c
}

// Metrics returns store with its requests counted and timed: tidemark_store_requests_total{op,outcome},
// tidemark_store_bytes_total{direction} and tidemark_store_request_seconds{op}. Stores that share a
// registry share the numbers. Put it under Retry to count attempts.
func Metrics(store Store, reg prometheus.Registerer) Store {
	return &meteredStore{inner: store, m: newStoreMetrics(reg)}
}

type meteredStore struct {
	inner Store
	m     *storeMetrics
}

var _ Store = (*meteredStore)(nil)

// observe counts a finished request.
func (s *meteredStore) observe(op string, began time.Time, err error) {
	s.m.requests.WithLabelValues(op, outcome(err)).Inc()
	s.m.seconds.WithLabelValues(op).Observe(time.Since(began).Seconds())
}

// outcome is the label for an error.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case isContextError(err):
		return "canceled"
	case errors.Is(err, ErrNotFound):
		return "not_found"
	case errors.Is(err, ErrExists):
		return "exists"
	case errors.Is(err, ErrMismatch):
		return "mismatch"
	case errors.Is(err, ErrDenied):
		return "denied"
	case errors.Is(err, ErrFull):
		return "full"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	}
	return "error"
}

// Put implements Store.
func (s *meteredStore) Put(ctx context.Context, key string, data []byte) error {
	began := time.Now()
	err := s.inner.Put(ctx, key, data)
	s.observe("put", began, err)
	if err == nil {
		s.m.bytes.WithLabelValues("sent").Add(float64(len(data)))
	}
	return err
}

// Get implements Store.
func (s *meteredStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	began := time.Now()
	inner, err := s.inner.Get(ctx, key, offset, length)
	if err != nil {
		s.observe("get", began, err)
		return nil, err
	}
	return &meteredBody{inner: inner, store: s, began: began}, nil
}

// meteredBody counts what is read of a get, and the get when it is closed.
type meteredBody struct {
	inner  io.ReadCloser
	store  *meteredStore
	began  time.Time
	read   int64
	failed error
	closed bool
}

// Read implements io.Reader.
func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.inner.Read(p)
	b.read += int64(n)
	if err != nil && err != io.EOF {
		b.failed = err
	}
	return n, err
}

// Close implements io.Closer.
func (b *meteredBody) Close() error {
	err := b.inner.Close()
	if !b.closed {
		b.closed = true
		b.store.observe("get", b.began, b.failed)
		b.store.m.bytes.WithLabelValues("received").Add(float64(b.read))
	}
	return err
}

// Stat implements Store.
func (s *meteredStore) Stat(ctx context.Context, key string) (Info, error) {
	began := time.Now()
	info, err := s.inner.Stat(ctx, key)
	s.observe("stat", began, err)
	return info, err
}

// List implements Store.
func (s *meteredStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		began := time.Now()
		var failed error
		defer func() { s.observe("list", began, failed) }()
		for info, err := range s.inner.List(ctx, prefix, after) {
			failed = err
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// Delete implements Store.
func (s *meteredStore) Delete(ctx context.Context, key string) error {
	began := time.Now()
	err := s.inner.Delete(ctx, key)
	s.observe("delete", began, err)
	return err
}

// String implements Store.
func (s *meteredStore) String() string { return s.inner.String() }
