package objectstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// List implements Store. Only folders that can hold a wanted key are read, one at a time.
func (s *fileStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		w := &walker{store: s, prefix: prefix, after: after, yield: yield}
		if w.walk(ctx, prefix[:strings.LastIndexByte(prefix, '/')+1]) {
			if err := s.sameRoot("list", prefix); err != nil {
				yield(Info{}, err)
			}
		}
	}
}

// walker yields the objects of a folder tree in byte order of their keys.
type walker struct {
	store         *fileStore
	prefix, after string
	yield         func(Info, error) bool
}

// walk lists one folder, named by what its keys begin with ("" or "a/b/"). It says whether to go on.
func (w *walker) walk(ctx context.Context, folder string) bool {
	if err := contextError(ctx, "list", w.prefix); err != nil {
		return w.fail(err)
	}
	names, err := w.wanted(folder)
	if err != nil {
		return w.fail(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			if !w.walk(ctx, folder+name) {
				return false
			}
			continue
		}
		info, err := os.Stat(w.store.path(folder + name))
		if errors.Is(err, os.ErrNotExist) { // deleted since the folder was read
			continue
		}
		if err != nil {
			return w.fail(fileError("list", folder+name, err))
		}
		if !w.yield(Info{Key: folder + name, Size: info.Size(), Modified: info.ModTime()}, nil) {
			return false
		}
	}
	return true
}

func (w *walker) fail(err error) bool {
	w.yield(Info{}, err)
	return false
}

// wanted returns the names in a folder that are, or may hold, wanted keys. Folders bear a slash at the
// end, which also puts them where their keys belong: "a-b" is less than "a/c".
func (w *walker) wanted(folder string) ([]string, error) {
	path := filepath.Join(w.store.root, filepath.FromSlash(folder))
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // an archive not begun, or a folder that nobody has put anything into
	}
	if err != nil {
		return nil, fileError("list", folder, err)
	}
	entries, err := f.ReadDir(-1)
	_ = f.Close()
	if err != nil {
		if kind := classifyFile(err); kind == ErrNotFound {
			return nil, nil
		}
		return nil, fileError("list", folder, err)
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		name := entry.Name()
		if keyFault(name) != "" {
			continue // not ours
		}
		dir := isDir(path, entry)
		if dir {
			name += "/"
		}
		if w.wants(folder+name, dir) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func isDir(path string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.IsDir()
	}
	info, err := os.Stat(filepath.Join(path, entry.Name()))
	return err == nil && info.IsDir()
}

// wants says whether a key, or any key that begins with a folder's, is asked for.
func (w *walker) wants(key string, dir bool) bool {
	if dir {
		return (strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)) &&
			(key > w.after || strings.HasPrefix(w.after, key))
	}
	return strings.HasPrefix(key, w.prefix) && key > w.after
}
