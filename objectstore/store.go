// Package objectstore is the seam between Tidemark and where its bytes are kept: one small interface,
// drivers for local and network disks, S3 and MinIO, and decorators that retry and count.
package objectstore

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Store keeps immutable objects under slash-separated keys. Implementations are safe for concurrent use.
//
// Errors are tested with errors.Is against the sentinels below; they name the key and never hold a secret.
type Store interface {
	// Put creates key with exactly data, and returns only once the object is durable and the store has
	// confirmed its size and checksum. It never overwrites: ErrExists if the key is there, whatever it
	// holds. When an attempt's outcome is unknown (a lost answer), Put may return ErrExists for its own
	// bytes: callers that care compare. Put does not keep data after it returns.
	Put(ctx context.Context, key string, data []byte) error

	// Get reads length bytes of key from offset; length < 0 means to the end. Reading past the end gives
	// what is there. The caller closes the reader. ErrNotFound if there is no such key. A body that ends
	// early is an error (io.ErrUnexpectedEOF), never a silent short read.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// Stat returns the object's size. ErrNotFound if there is no such key.
	Stat(ctx context.Context, key string) (Info, error)

	// List yields the objects whose key starts with prefix and is greater than after, in ascending byte
	// order of the keys. It asks for more as it is consumed, at most 1,000 a request. An error ends it.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes key. Removing what is not there is no error.
	Delete(ctx context.Context, key string) error

	// String returns the archive's URL without secrets.
	String() string
}

// Info describes an object.
type Info struct {
	Key      string
	Size     int64 // bytes
	Modified time.Time
}

// Sentinels: every error of a Store that is one of these kinds matches it with errors.Is.
var (
	ErrNotFound    = errors.New("no such object")
	ErrExists      = errors.New("object exists")
	ErrMismatch    = errors.New("the store holds other bytes than were sent") // size or checksum after a Put
	ErrDenied      = errors.New("access denied")                              // credentials, bucket rights
	ErrUnavailable = errors.New("the store can't be reached")                 // worth retrying
	ErrInvalidURL  = errors.New("invalid archive URL")
	ErrInvalidKey  = errors.New("invalid object key")
	ErrUnsupported = errors.New("the store can't do what an archive needs") // such as create-only writes
)

// ErrFull says that the store has no room left. It also matches ErrUnavailable: once somebody has made
// room, the same request succeeds.
var ErrFull error = fullError{}

type fullError struct{}

func (fullError) Error() string        { return "the store is full" }
func (fullError) Is(target error) bool { return target == ErrUnavailable }
