package objectstore

import (
	"bytes"
	"context"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// memStore keeps objects in memory, for tests.
type memStore struct {
	name    string
	mu      sync.RWMutex
	keys    []string // sorted
	objects map[string]memObject
}

type memObject struct {
	data     []byte
	modified time.Time
}

var _ Store = (*memStore)(nil)

var memRegistry = struct {
	sync.Mutex
	stores map[string]*memStore
}{stores: map[string]*memStore{}}

// openMem returns the process's store of that name, made at first use.
func openMem(name string) *memStore {
	memRegistry.Lock()
	defer memRegistry.Unlock()
	if s, ok := memRegistry.stores[name]; ok {
		return s
	}
	s := &memStore{name: name, objects: map[string]memObject{}}
	memRegistry.stores[name] = s
	return s
}

// NewMem returns an empty store in memory that no URL leads to, for tests.
func NewMem() Store {
	return &memStore{name: "unnamed", objects: map[string]memObject{}}
}

// Put implements Store.
func (s *memStore) Put(ctx context.Context, key string, data []byte) error {
	if err := checkKey("put", key); err != nil {
		return err
	}
	if err := contextError(ctx, "put", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := slices.BinarySearch(s.keys, key)
	if found {
		return newError("put", key, ErrExists, "")
	}
	s.keys = slices.Insert(s.keys, at, key)
	s.objects[key] = memObject{data: bytes.Clone(data), modified: time.Now()}
	return nil
}

// Get implements Store.
func (s *memStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := checkGet(ctx, key, offset); err != nil {
		return nil, err
	}
	s.mu.RLock()
	object, ok := s.objects[key]
	s.mu.RUnlock()
	if !ok {
		return nil, newError("get", key, ErrNotFound, "")
	}
	size := int64(len(object.data))
	offset = min(offset, size)
	want := spanLength(size, offset, length)
	body := io.NopCloser(bytes.NewReader(object.data[offset : offset+want]))
	return newBody(ctx, key, body, want, nil), nil
}

// Stat implements Store.
func (s *memStore) Stat(ctx context.Context, key string) (Info, error) {
	if err := checkKey("stat", key); err != nil {
		return Info{}, err
	}
	if err := contextError(ctx, "stat", key); err != nil {
		return Info{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	object, ok := s.objects[key]
	if !ok {
		return Info{}, newError("stat", key, ErrNotFound, "")
	}
	return Info{Key: key, Size: int64(len(object.data)), Modified: object.modified}, nil
}

// List implements Store.
func (s *memStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		for {
			if err := contextError(ctx, "list", prefix); err != nil {
				yield(Info{}, err)
				return
			}
			page := s.page(prefix, after)
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
			}
			if len(page) < listPage {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

// page returns at most listPage objects with the prefix, after a key.
func (s *memStore) page(prefix, after string) []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, found := slices.BinarySearch(s.keys, max(prefix, after))
	if found && s.keys[at] == after {
		at++
	}
	var page []Info
	for ; at < len(s.keys) && len(page) < listPage && strings.HasPrefix(s.keys[at], prefix); at++ {
		object := s.objects[s.keys[at]]
		page = append(page, Info{Key: s.keys[at], Size: int64(len(object.data)), Modified: object.modified})
	}
	return page
}

// Delete implements Store.
func (s *memStore) Delete(ctx context.Context, key string) error {
	if err := checkKey("delete", key); err != nil {
		return err
	}
	if err := contextError(ctx, "delete", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, found := slices.BinarySearch(s.keys, key); found {
		s.keys = slices.Delete(s.keys, at, at+1)
		delete(s.objects, key)
	}
	return nil
}

// String implements Store.
func (s *memStore) String() string { return "mem://" + s.name }
