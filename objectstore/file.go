package objectstore

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fileStore keeps each object as a file below a folder, on a local disk or a network mount.
//
// A put writes a temp file in <root>/.tmp, syncs it, reads it back, and gives it its name with link(2) or
// a rename that refuses to replace; then it syncs the folder. A reader never sees a part of an object,
// and a crash leaves at worst a temp file, which a later put removes once it is a day old.
type fileStore struct {
	root    string
	publish func(temp, target string) error

	mu      sync.Mutex
	synced  map[string]bool // folders known to be durable: made, and their parents synced
	swept   time.Time       // file server's time of the last look for stale temp files
	home    os.FileInfo     // the root, as it was when it was last known to be the archive's; nil before
	witness string          // an object that was there; "": none was seen yet
}

var _ Store = (*fileStore)(nil)

const (
	tempFolder = ".tmp"
	tempStale  = 24 * time.Hour // no put takes that long
	sweepEvery = time.Hour
	dirMode    = 0o750 // archives hold what the database holds: nothing for others
	fileMode   = 0o640
)

func newFileStore(loc *location) (*fileStore, error) {
	// Below what is a file nothing can be made.
	for dir := loc.path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return nil, invalidURL("%s is a file, not a folder", dir)
		}
		if !errors.Is(err, syscall.ENOTDIR) {
			break
		}
	}
	return &fileStore{root: loc.path, publish: publish, synced: map[string]bool{}}, nil
}

// path is where an object lies. The key was checked.
func (s *fileStore) path(key string) string {
	return filepath.Join(s.root, filepath.FromSlash(key))
}

// Get implements Store.
func (s *fileStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := checkGet(ctx, key, offset); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path(key))
	if err != nil {
		return nil, s.notFound("get", key, fileError("get", key, err))
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = fileError("get", key, err)
	case info.IsDir():
		err = newError("get", key, ErrNotFound, "")
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	s.saw(key)
	want := spanLength(info.Size(), offset, length)
	span := struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, want), f}
	return newBody(ctx, key, span, want, classifyFileRead), nil
}

// Stat implements Store.
func (s *fileStore) Stat(ctx context.Context, key string) (Info, error) {
	if err := checkKey("stat", key); err != nil {
		return Info{}, err
	}
	if err := contextError(ctx, "stat", key); err != nil {
		return Info{}, err
	}
	info, err := os.Stat(s.path(key))
	if err != nil {
		return Info{}, s.notFound("stat", key, fileError("stat", key, err))
	}
	if info.IsDir() {
		return Info{}, newError("stat", key, ErrNotFound, "")
	}
	s.saw(key)
	return Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Delete implements Store. Folders that become empty stay: removing one could race with a put into it.
func (s *fileStore) Delete(ctx context.Context, key string) error {
	if err := checkKey("delete", key); err != nil {
		return err
	}
	if err := contextError(ctx, "delete", key); err != nil {
		return err
	}
	info, err := os.Lstat(s.path(key))
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		err = os.Remove(s.path(key))
	}
	if err = s.notFound("delete", key, fileError("delete", key, err)); errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.witness == key {
			s.witness = "" // the next object that is seen is the next one
		}
	}
	return err
}

// String implements Store.
func (s *fileStore) String() string {
	return (&url.URL{Scheme: "file", Path: s.root}).String()
}

// fileError gives a file system error one of this package's kinds. Its text has no absolute path: the
// key says which object.
func fileError(op, key string, err error) error {
	if err == nil {
		return nil
	}
	kind := classifyFile(err)
	detail := ""
	if errno, ok := errors.AsType[syscall.Errno](err); ok && kind != ErrNotFound {
		detail = errno.Error()
	} else if kind == ErrUnavailable {
		detail = strings.TrimSpace(err.Error())
	}
	return &opError{op: op, key: key, kind: kind, detail: detail, cause: err}
}

func classifyFile(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return ErrNotFound
	case errors.Is(err, os.ErrExist):
		return ErrExists
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return ErrDenied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ErrFull
	case errors.Is(err, syscall.ENAMETOOLONG):
		return ErrInvalidKey
	}
	// EIO, ESTALE, ETIMEDOUT and the like: what a mount gives while its server is away.
	return ErrUnavailable
}

// classifyFileRead is classifyFile for a file that is open: one that ends before the size it had is
// damaged, not out of reach.
func classifyFileRead(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrMismatch
	}
	return classifyFile(err)
}
