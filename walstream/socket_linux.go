package walstream

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledgedLimit is how long sent data may stay unconfirmed by the peer's kernel before the
// connection counts as broken. Without it that takes a quarter of an hour.
const unacknowledgedLimit = time.Minute

// limitUnacknowledged is a net.Dialer.Control function.
func limitUnacknowledged(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	return c.Control(func(fd uintptr) {
		// An older kernel without the option has the long timeout, which is no reason to fail.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledgedLimit.Milliseconds()))
	})
}

// setLowWater makes the kernel report conn as readable only once n bytes are there; false if it can't.
func setLowWater(conn net.Conn, n int) bool {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return false
	}
	rc, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	err2 := error(nil)
	err = rc.Control(func(fd uintptr) { err2 = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n) })
	return err == nil && err2 == nil
}

// nap sleeps in the kernel: a Go timer would round up to a millisecond.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil) // waking early only means a smaller batch
}
