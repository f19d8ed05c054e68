package objectstore

import "golang.org/x/sys/unix"

// renameNoReplace renames, with os.ErrExist if there is something under the new name.
func renameNoReplace(from, to string) error {
	return unix.RenamexNp(from, to, unix.RENAME_EXCL)
}
