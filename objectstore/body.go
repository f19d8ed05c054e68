package objectstore

import (
	"context"
	"errors"
	"io"
)

// listPage is how many keys are asked for at once.
const listPage = 1000

// firstPage is how many keys the first request of a list asks for: most lists look for the newest root or
// for a short tail, and a full page is 300 KB of XML.
const firstPage = 100

// checkGet checks what every driver's Get is given.
func checkGet(ctx context.Context, key string, offset int64) error {
	if err := checkKey("get", key); err != nil {
		return err
	}
	if offset < 0 {
		return newError("get", key, ErrInvalidKey, "offset %d is negative", offset)
	}
	return contextError(ctx, "get", key)
}

// spanLength is how many bytes a Get of [offset, offset+length) gives of an object of that size;
// length < 0 means to the end.
func spanLength(size, offset, length int64) int64 {
	rest := max(size-offset, 0)
	if length < 0 {
		return rest
	}
	return min(length, rest)
}

// body gives out exactly the bytes that were promised, or an error.
type body struct {
	inner  io.ReadCloser
	left   int64
	failed error
	fail   func(error) error // makes the error of a failed read
}

// newBody wraps the reader of a Get that is to give want bytes. classify turns a read error into one of
// this package's kinds; nil means that the source can only end early.
func newBody(ctx context.Context, key string, inner io.ReadCloser, want int64, classify func(error) error) *body {
	fail := func(err error) error {
		if ended := contextError(ctx, "get", key); ended != nil {
			return ended
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			kind := ErrMismatch
			if classify != nil {
				kind = classify(io.ErrUnexpectedEOF)
			}
			return &opError{op: "get", key: key, kind: kind, detail: "the body ended early", cause: io.ErrUnexpectedEOF}
		}
		if classify == nil {
			return &opError{op: "get", key: key, kind: ErrUnavailable, detail: err.Error()}
		}
		return &opError{op: "get", key: key, kind: classify(err), detail: plainNetError(err), cause: err}
	}
	return &body{inner: inner, left: want, fail: fail}
}

// Read gives out the promised bytes, then io.EOF.
func (b *body) Read(p []byte) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.inner.Read(p)
	b.left -= int64(n)
	if err != nil && b.left > 0 {
		b.failed = b.fail(err)
		return n, b.failed
	}
	return n, nil
}

// Close releases the source.
func (b *body) Close() error { return b.inner.Close() }

// emptyBody is the reader of a Get that gives nothing.
func emptyBody() io.ReadCloser { return io.NopCloser(eofReader{}) }

type eofReader struct{}

// Read is always at the end.
func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }
