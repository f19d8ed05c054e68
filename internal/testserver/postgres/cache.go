package postgres

import (
	"os"
	"path/filepath"
)

// Cached returns a folder of the cache that outlives the tests. Where it isn't there, fill makes what belongs in it,
// in an empty folder that is renamed into place when it is whole. Several processes may ask at once.
func Cached(name string, fill func(dir string) error) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	home := filepath.Join(cache, name)
	unlock, err := lockFile(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(home); err == nil {
		return home, nil
	}
	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return "", err
	}
	if err := fill(work); err != nil {
		return "", err
	}
	return home, os.Rename(work, home)
}

// cacheDir is the user's cache folder; root's own is closed to the user that servers run as.
func cacheDir() (string, error) {
	dir := "/var/cache"
	if os.Getuid() != 0 {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return "", err
		}
	}
	dir = filepath.Join(dir, "tidemark-test")
	return dir, os.MkdirAll(dir, 0o755)
}
