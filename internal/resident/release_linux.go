package resident

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Release gives back the memory that holds the program's own code and constants. The kernel brings in again what is
// used, 64 KiB around each place; two thirds of what a start needs, such as the set-up of libraries, is never used again
// (https://man7.org/linux/man-pages/man2/madvise.2.html, MADV_DONTNEED of a private mapping of a file).
func Release() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	mappings, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mappings)) {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			return fmt.Errorf("/proc/self/maps: %q: %w", line, err)
		}
		if !strings.HasSuffix(line, " "+self+"\n") || strings.Contains(mode, "w") {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}
