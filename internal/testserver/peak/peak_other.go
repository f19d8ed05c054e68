//go:build !linux

package peak

import (
	"os"
	"syscall"
)

// Watch gives the high-water mark of resident memory, in bytes, as getrusage tells it at the end.
func Watch(int) func(*os.ProcessState) int64 {
	return func(state *os.ProcessState) int64 {
		usage, ok := state.SysUsage().(*syscall.Rusage)
		if !ok {
			return 0
		}
		return usage.Maxrss // bytes on macOS
	}
}
