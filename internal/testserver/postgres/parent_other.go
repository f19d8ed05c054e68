//go:build !linux

package postgres

import "syscall"

// endWithParent has no counterpart outside Linux: there a server outlives a test that is killed.
func endWithParent(*syscall.SysProcAttr) {}
