// Package peak measures what memory a program takes at most.
package peak

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"
)

// Watch follows a process's high-water mark of resident memory. The function it returns ends
// that and gives the mark in bytes. getrusage won't do: a child's ru_maxrss begins with its parent's.
func Watch(pid int) func(*os.ProcessState) int64 {
	var peak int64
	var watching sync.WaitGroup
	stop := make(chan struct{})
	watching.Add(1)
	go func() {
		defer watching.Done()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			peak = max(peak, highWaterMark(pid))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func(*os.ProcessState) int64 {
		close(stop)
		watching.Wait()
		return peak
	}
}

// highWaterMark reads VmHWM; 0 when the process is gone.
func highWaterMark(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
