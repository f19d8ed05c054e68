package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPUOf reads the processor time that a living process has used, in steps of 10 ms (proc(5)).
func CPUOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	i := strings.LastIndexByte(string(text), ')') // the name may hold anything
	fields := strings.Fields(string(text)[i+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
