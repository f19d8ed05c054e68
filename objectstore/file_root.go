package objectstore

import (
	"errors"
	"os"
)

// folderGone is what is said when the folder that the archive was in isn't there, or is another one. Where a file system was unmounted
// an empty folder is left: whatever is put there hides behind the archive when it comes back, and a name that is missing there
// was never deleted.
const folderGone = "the folder that held it has gone, or another one is in its place: is its file system mounted?"

// sameRoot makes sure that the folder is the one that this store has worked with. One in its place counts as that, such as
// after a mount, if it has the object that was seen last.
func (s *fileStore) sameRoot(op, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sameRootLocked(op, key)
}

func (s *fileStore) sameRootLocked(op, key string) error {
	info, err := os.Stat(s.root)
	if err == nil && s.home != nil && os.SameFile(info, s.home) {
		return nil
	}
	if s.witness != "" {
		if _, missing := os.Lstat(s.path(s.witness)); missing != nil {
			return newError(op, key, ErrUnavailable, folderGone)
		}
	}
	if err != nil {
		return nil // nothing is known of it yet: its absence is what the caller makes of it
	}
	clear(s.synced)
	s.home = info
	return nil
}

// saw remembers an object that is there, so that the folder is known by it.
func (s *fileStore) saw(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.witness = key
}

// notFound is the error of a read: what isn't there has gone with its folder if that has.
func (s *fileStore) notFound(op, key string, err error) error {
	if errors.Is(err, ErrNotFound) {
		if gone := s.sameRoot(op, key); gone != nil {
			return gone
		}
	}
	return err
}
