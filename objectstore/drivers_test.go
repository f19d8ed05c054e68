package objectstore_test

import (
	"crypto/rand"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	s3server "tidemark/internal/testserver/s3"
	"tidemark/objectstore"
	"tidemark/objectstore/faulty"
	"tidemark/objectstore/storetest"
)

func open(t *testing.T, rawURL string) objectstore.Store {
	t.Helper()
	s, err := objectstore.Open(t.Context(), rawURL)
	require.NoError(t, err)
	return s
}

func TestMem(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store { return open(t, "mem://"+rand.Text()) })
}

func TestFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store {
		return open(t, "file://"+filepath.Join(t.TempDir(), "not", "yet", "there"))
	})
}

func TestS3(t *testing.T) {
	server := s3server.Start(t)
	server.Setenv(t)
	storetest.Run(t, func(t *testing.T) objectstore.Store { return open(t, server.S3URL(rand.Text())) })
}

func TestMinio(t *testing.T) {
	server := s3server.Start(t)
	server.Setenv(t)
	storetest.Run(t, func(t *testing.T) objectstore.Store { return open(t, server.MinioURL(rand.Text())) })
}

// Decorators change nothing about a store that works.
func TestDecorated(t *testing.T) {
	reg := prometheus.NewRegistry()
	storetest.Run(t, func(t *testing.T) objectstore.Store {
		s := faulty.New(objectstore.NewMem())
		return objectstore.Retry(objectstore.Metrics(s, reg), objectstore.RetryOptions{})
	})
}
