package verify

import (
	"context"
	"fmt"
	"io"
	"iter"

	"tidemark/objectstore"
)

// without is a store that seems not to have some objects.
type without struct {
	objectstore.Store
	hidden map[string]bool
}

// Get implements objectstore.Store.
func (w without) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if w.hidden[key] {
		return nil, fmt.Errorf("%s: %w", key, objectstore.ErrNotFound)
	}
	return w.Store.Get(ctx, key, offset, length)
}

// Stat implements objectstore.Store.
func (w without) Stat(ctx context.Context, key string) (objectstore.Info, error) {
	if w.hidden[key] {
		return objectstore.Info{}, fmt.Errorf("%s: %w", key, objectstore.ErrNotFound)
	}
	return w.Store.Stat(ctx, key)
}

// List implements objectstore.Store.
func (w without) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		for info, err := range w.Store.List(ctx, prefix, after) {
			if err == nil && w.hidden[info.Key] {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
