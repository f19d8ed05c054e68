package objectstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	s3server "tidemark/internal/testserver/s3"
	"tidemark/objectstore"
)

func s3URLs(server *s3server.Server) map[string]string {
	return map[string]string{"s3": server.S3URL(rand.Text()), "minio": server.MinioURL(rand.Text())}
}

// A real server goes away and comes back: the retried put lands once.
func TestOutage(t *testing.T) {
	server := s3server.Start(t)
	server.Setenv(t)
	for name, rawURL := range s3URLs(server) {
		t.Run(name, func(t *testing.T) {
			var failures atomic.Int64
			failed := make(chan struct{}, 1000)
			bare := open(t, rawURL)
			s := objectstore.Retry(bare, objectstore.RetryOptions{
				FirstWait: 20 * time.Millisecond, MaxWait: 100 * time.Millisecond, MaxElapsed: time.Minute,
				Notify: func(objectstore.RetryEvent) { failures.Add(1); failed <- struct{}{} },
			})
			data := bytes.Repeat([]byte("tide"), 1<<20)
			require.NoError(t, s.Put(t.Context(), "before", data))
			require.NoError(t, server.Stop())
			require.ErrorIs(t, bare.Put(t.Context(), "during", data), objectstore.ErrUnavailable)
			done := make(chan error, 1)
			go func() { done <- s.Put(t.Context(), "during", data) }()
			<-failed
			<-failed
			require.NoError(t, server.Restart(t.Context()))
			require.NoError(t, <-done)
			for _, key := range []string{"before", "during"} {
				got, err := objectstore.GetAll(t.Context(), s, key)
				require.NoError(t, err)
				require.True(t, bytes.Equal(data, got))
			}
			require.GreaterOrEqual(t, failures.Load(), int64(2))
		})
	}
}

// A server that hangs doesn't hold on to a caller whose time is up.
func TestFrozenServer(t *testing.T) {
	server := s3server.Start(t)
	server.Setenv(t)
	for name, rawURL := range s3URLs(server) {
		t.Run(name, func(t *testing.T) {
			s := open(t, rawURL)
			require.NoError(t, s.Put(t.Context(), "k", nil))
			require.NoError(t, server.Freeze(t.Context()))
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := s.Stat(ctx, "k")
			require.NoError(t, server.Thaw())
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// The test server answers 500 or 409 now and then when an object is put into a folder that another request is
// just emptying. Retry gets over it.
func TestRetriedServerErrors(t *testing.T) {
	server := s3server.Start(t)
	server.Setenv(t)
	for name, rawURL := range s3URLs(server) {
		t.Run(name, func(t *testing.T) {
			s := objectstore.Retry(open(t, rawURL), objectstore.RetryOptions{FirstWait: time.Millisecond, MaxElapsed: time.Minute})
			group, ctx := errgroup.WithContext(t.Context())
			for worker := range 8 {
				group.Go(func() error {
					for i := range 20 {
						key := fmt.Sprintf("folder/%d-%d", worker, i)
						if err := s.Put(ctx, key, []byte(key)); err != nil {
							return err
						}
						if err := s.Delete(ctx, key); err != nil {
							return err
						}
					}
					return nil
				})
			}
			require.NoError(t, group.Wait())
		})
	}
}

func TestRealServerRefusals(t *testing.T) {
	server := s3server.Start(t)
	server.Setenv(t)
	for name, rawURL := range map[string]string{
		"s3":    "s3://no-such-bucket/x?region=us-east-1&endpoint=" + server.Endpoint,
		"minio": "minio://" + server.Address + "/no-such-bucket/x?tls=false",
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, rawURL)
			require.ErrorIs(t, s.Put(t.Context(), "k", nil), objectstore.ErrInvalidURL)
			_, err := s.Get(t.Context(), "k", 0, -1)
			require.ErrorIs(t, err, objectstore.ErrInvalidURL)
			for _, err := range s.List(t.Context(), "", "") {
				require.ErrorIs(t, err, objectstore.ErrInvalidURL)
			}
		})
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
	t.Setenv("MINIO_ROOT_PASSWORD", "wrong-secret")
	for name, rawURL := range s3URLs(server) {
		t.Run(name+" wrong secret", func(t *testing.T) {
			err := open(t, rawURL).Put(t.Context(), "k", nil)
			require.ErrorIs(t, err, objectstore.ErrDenied)
			require.NotContains(t, err.Error(), "wrong-secret")
		})
	}
}
