package objectstore

import (
	"context"
	"errors"
	"io"
)

// MaxGetAll is the largest object that GetAll reads, in bytes.
const MaxGetAll = 1 << 30

// GetAll reads a whole object into memory. ErrNotFound if there is no such key; an object larger than
// MaxGetAll is refused.
func GetAll(ctx context.Context, s Store, key string) ([]byte, error) {
	r, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, MaxGetAll+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxGetAll {
		return nil, newError("get", key, errRefused, "it is larger than 1 GiB")
	}
	return data, nil
}

// GetRange reads length bytes of an object from offset, fewer only where the object ends.
func GetRange(ctx context.Context, s Store, key string, offset int64, length int) ([]byte, error) {
	buf := make([]byte, length)
	n, err := readRange(ctx, s, key, offset, buf)
	return buf[:n], err
}

// readRange fills buf from offset, less only where the object ends.
func readRange(ctx context.Context, s Store, key string, offset int64, buf []byte) (int, error) {
	r, err := s.Get(ctx, key, offset, int64(len(buf)))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil // ReadFull's own words for an object that ended; a body that broke off has another error
	}
	return n, err
}

// ReaderAt reads an object by ranges: each ReadAt is one request. It is good for as long as ctx is.
func ReaderAt(ctx context.Context, s Store, key string) io.ReaderAt {
	return readerAt(func(p []byte, offset int64) (int, error) {
		if offset < 0 {
			return 0, errors.New("negative offset")
		}
		n, err := readRange(ctx, s, key, offset, p)
		if err == nil && n < len(p) {
			err = io.EOF
		}
		return n, err
	})
}

type readerAt func(p []byte, offset int64) (int, error)

// ReadAt implements io.ReaderAt.
func (r readerAt) ReadAt(p []byte, offset int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return r(p, offset)
}
