//go:build !linux

package walstream

import (
	"net"
	"syscall"
	"time"
)

func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }

// setLowWater reports that the low-water mark isn't used on this system.
func setLowWater(net.Conn, int) bool { return false }

func nap(d time.Duration) { time.Sleep(d) }
