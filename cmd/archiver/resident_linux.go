package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// forgetStart unmaps the program's code and constants, which come back from the page cache as they are used. Starting up
// touches most of them once (each access maps 64 KiB around it), the stream a small part; all of it would stay resident.
// Where that can't be done, the program just looks larger.
func forgetStart() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range unchangedMappings(string(smaps), exe) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// unchangedMappings reads those of a file that can't be written to and of which no page has become the process's own:
// nothing is lost when they are unmapped (proc(5), madvise(2)).
func unchangedMappings(smaps, file string) (found []mapping) {
	var open mapping
	for line := range strings.Lines(smaps) {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[0] == "Anonymous:":
			if open.to > 0 && f[1] == "0" {
				found = append(found, open)
			}
			open = mapping{}
		case len(f) >= 6 && len(f[1]) == 4:
			open = mapping{}
			if f[5] == file && len(f) == 6 && f[1][1] == '-' && f[1][3] == 'p' {
				open = parseRange(f[0])
			}
		}
	}
	return found
}

// parseRange reads two hexadecimal addresses; zero if they aren't.
func parseRange(s string) mapping {
	a, b, _ := strings.Cut(s, "-")
	from, err := strconv.ParseUint(a, 16, 64)
	if err != nil {
		return mapping{}
	}
	to, err := strconv.ParseUint(b, 16, 64)
	if err != nil || to <= from {
		return mapping{}
	}
	return mapping{uintptr(from), uintptr(to)}
}
