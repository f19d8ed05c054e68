//go:build !linux && !darwin

package objectstore

import "syscall"

// renameNoReplace is not to be had here.
func renameNoReplace(from, to string) error { return syscall.ENOSYS }
