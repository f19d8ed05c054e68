package objectstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Put implements Store.
func (s *fileStore) Put(ctx context.Context, key string, data []byte) error {
	if err := checkKey("put", key); err != nil {
		return err
	}
	target := s.path(key)
	if _, err := os.Lstat(target); err == nil {
		return s.existing(key, target)
	}
	temp, err := s.writeTemp(ctx, key, data)
	if err != nil {
		return err
	}
	defer os.Remove(temp) // its second name, or what a failed put leaves
	return s.place(key, temp, target)
}

// place gives the finished temp file its name and makes the name durable.
func (s *fileStore) place(key, temp, target string) error {
	err := s.inDir(filepath.Dir(target), func() error { return s.publish(temp, target) })
	switch {
	case err == nil:
		if err = syncDir(filepath.Dir(target)); err == nil {
			// Only now is it certain where the name was made.
			err = s.sameRoot("put", key)
		}
		if err != nil {
			return putError(key, err)
		}
		s.saw(key)
		return nil
	case errors.Is(err, os.ErrExist):
		return s.existing(key, target)
	}
	return putError(key, err)
}

// existing answers a put of a key that is there. The folder is synced first: its name may come from an
// earlier attempt of ours that failed after placing it, and a caller that finds its own bytes counts on
// them being durable.
func (s *fileStore) existing(key, target string) error {
	if info, err := os.Lstat(target); err == nil && info.IsDir() {
		return newError("put", key, ErrInvalidKey, "other keys begin with it and a slash")
	}
	if err := s.ensureDir(filepath.Dir(target)); err != nil {
		return putError(key, err)
	}
	if err := syncDir(filepath.Dir(target)); err != nil {
		return putError(key, err)
	}
	s.saw(key)
	return newError("put", key, ErrExists, "")
}

// putError is fileError for puts, where a missing or misplaced folder is no "no such object".
func putError(key string, err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return newError("put", key, ErrInvalidKey, "a part of it is an object itself")
	}
	if _, ours := errors.AsType[*opError](err); ours {
		return err
	}
	err = fileError("put", key, err)
	if errors.Is(err, ErrNotFound) {
		return &opError{op: "put", key: key, kind: ErrUnavailable, detail: "the folder has gone", cause: err}
	}
	return err
}

// writeTemp puts data into a new temp file, durable and read back, and returns its path.
func (s *fileStore) writeTemp(ctx context.Context, key string, data []byte) (path string, err error) {
	var f *os.File
	folder := filepath.Join(s.root, tempFolder)
	path = filepath.Join(folder, rand.Text())
	err = s.inDir(folder, func() error {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
		return err
	})
	if err != nil {
		return "", putError(key, err)
	}
	err = fillTemp(ctx, key, f, data)
	if info, statErr := f.Stat(); statErr == nil {
		s.sweep(info.ModTime())
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr // NFS reports a failed write here
	}
	if err != nil {
		_ = os.Remove(path)
		return "", putError(key, err)
	}
	return path, nil
}

// fillTemp writes, syncs and reads back.
func fillTemp(ctx context.Context, key string, f *os.File, data []byte) error {
	const step = 1 << 20
	for at := 0; at < len(data); at += step {
		if err := contextError(ctx, "put", key); err != nil {
			return err
		}
		if _, err := f.Write(data[at:min(at+step, len(data))]); err != nil {
			return err
		}
	}
	if err := contextError(ctx, "put", key); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return confirmFile(key, f, data)
}

// confirmFile compares size and content of the file with data.
func confirmFile(key string, f *os.File, data []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != int64(len(data)) {
		return newError("put", key, ErrMismatch, "%d bytes instead of %d", info.Size(), len(data))
	}
	buf := make([]byte, min(64<<10, len(data)))
	for at := 0; at < len(data); {
		n, err := f.ReadAt(buf[:min(len(buf), len(data)-at)], int64(at))
		if err != nil {
			return err
		}
		if !bytes.Equal(buf[:n], data[at:at+n]) {
			return newError("put", key, ErrMismatch, "after byte %d", at)
		}
		at += n
	}
	return nil
}

// publish gives a temp file its name, never replacing anything: link(2), or where the file system has no
// hard links (SMB, FAT) a rename that refuses to replace. The error is os.ErrExist if the name is taken.
func publish(temp, target string) error {
	err := os.Link(temp, target)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrExist):
		// NFS: a repeated request can report EEXIST for the link that its first copy made.
		if sameFile(temp, target) {
			return nil
		}
		return err
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EPERM),
		errors.Is(err, syscall.EMLINK), errors.Is(err, syscall.EINVAL):
		return publishByRename(temp, target)
	}
	return err
}

// publishByRename is publish without hard links.
func publishByRename(temp, target string) error {
	err := renameNoReplace(temp, target)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EOPNOTSUPP) {
		return &opError{op: "put", kind: ErrUnsupported,
			detail: "the file system can neither hard-link nor rename without replacing, so nothing guards an object from being overwritten"}
	}
	return err
}

func sameFile(a, b string) bool {
	infoA, errA := os.Lstat(a)
	infoB, errB := os.Lstat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// inDir does what makes a name in a folder, making the folder first: again if somebody has removed it since
// we last looked.
func (s *fileStore) inDir(dir string, do func() error) error {
	for first := true; ; first = false {
		err := s.ensureDir(dir)
		if err == nil {
			err = do()
		}
		if !first || !errors.Is(err, os.ErrNotExist) {
			return err
		}
		s.forgetDirs()
	}
}

// ensureDir makes a folder of the archive durable, with all above it that are missing.
func (s *fileStore) ensureDir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ensureDirLocked(dir)
}

func (s *fileStore) ensureDirLocked(dir string) error {
	if dir == s.root {
		if err := s.sameRootLocked("put", ""); err != nil {
			return err
		}
	}
	if s.synced[dir] {
		return nil
	}
	parent := filepath.Dir(dir)
	if dir == s.root {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			s.synced[dir] = true // made by others: its durability is theirs
			return nil
		}
		if err := makeAbove(parent); err != nil {
			return err
		}
	} else if err := s.ensureDirLocked(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// Also if it was there: another process may have made it a moment ago and not synced it yet.
	if err := syncDir(parent); err != nil {
		return err
	}
	s.synced[dir] = true
	return nil
}

// makeAbove makes the missing folders above the archive's own.
func makeAbove(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeAbove(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func (s *fileStore) forgetDirs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.synced)
}

// syncDir makes the names in a folder durable. Some network file systems have no such call and say
// EINVAL or EOPNOTSUPP; their names are durable when the server has answered.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		err = nil
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// sweep removes temp files that a crash left, once in a while. now is the file server's own time, taken
// from a file just written, so that clocks that differ do no harm. A file that can't be removed now is
// tried again an hour later, and takes nothing but room until then.
func (s *fileStore) sweep(now time.Time) {
	s.mu.Lock()
	due := now.Sub(s.swept) >= sweepEvery
	if due {
		s.swept = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	entries, err := os.ReadDir(filepath.Join(s.root, tempFolder))
	if err != nil {
		return
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && now.Sub(info.ModTime()) > tempStale {
			_ = os.Remove(filepath.Join(s.root, tempFolder, entry.Name()))
		}
	}
}
