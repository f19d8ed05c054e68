package objectstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
)

// Probe finds out whether a store grants and does all that an archive needs: create, refuse to overwrite,
// read, list, delete. It puts one small object under probe/ and deletes it again. The error names the
// step that failed; a store that overwrites is an ErrUnsupported.
func Probe(ctx context.Context, s Store) error {
	key := "probe/" + rand.Text()
	if err := s.Put(ctx, key, []byte("tidemark probes this store\n")); err != nil {
		return fmt.Errorf("the store doesn't take an object: %w", err)
	}
	err := probeKept(ctx, s, key)
	if deleteErr := s.Delete(ctx, key); err == nil && deleteErr != nil {
		err = fmt.Errorf("the store doesn't delete an object, so nothing can ever expire: %w", deleteErr)
	}
	return err
}

func probeKept(ctx context.Context, s Store, key string) error {
	switch err := s.Put(ctx, key, []byte("other bytes\n")); {
	case err == nil:
		return newError("put", key, ErrUnsupported, "the server ignores If-None-Match and overwrote an object: two writers could destroy each other's work")
	case !errors.Is(err, ErrExists):
		return fmt.Errorf("the store doesn't answer a put of an object that exists: %w", err)
	}
	if _, err := GetAll(ctx, s, key); err != nil {
		return fmt.Errorf("the store doesn't give an object back: %w", err)
	}
	for info, err := range s.List(ctx, "probe/", "") {
		if err != nil {
			return fmt.Errorf("the store doesn't list: %w", err)
		}
		if info.Key == key {
			return nil
		}
	}
	return newError("list", "probe/", ErrUnsupported, "an object just put is not in the list")
}
