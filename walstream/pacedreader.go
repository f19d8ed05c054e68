package walstream

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// PacedReader reads a connection in large pieces while much arrives, as the stream is read: the server sends 8 KiB at a
// time, and a reader that wakes up for each costs both sides more than the rows do. One goroutine reads.
type PacedReader struct {
	conn  net.Conn
	pace  pacer
	ended atomic.Bool
}

// NewPacedReader reads conn, whose read deadline it sets from then on. The caller still owns conn, and closes it.
func NewPacedReader(conn net.Conn) *PacedReader {
	return &PacedReader{conn: conn, pace: newPacer(conn, false)}
}

// Read waits for at least one byte. After End it returns os.ErrDeadlineExceeded.
func (r *PacedReader) Read(p []byte) (int, error) {
	for {
		if now := time.Now(); r.pace.due(now) {
			if err := r.conn.SetReadDeadline(r.pace.next(now)); err != nil {
				return 0, err
			}
		}
		if r.ended.Load() { // looked at after the deadline was set: End's may be gone
			return 0, os.ErrDeadlineExceeded
		}
		r.pace.before()
		n, err := r.conn.Read(p)
		if n > 0 {
			r.pace.read(n)
			return n, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
	}
}

// End ends the Read under way and all later ones. Any goroutine may call it.
func (r *PacedReader) End() {
	r.ended.Store(true)
	_ = r.conn.SetReadDeadline(time.Unix(1, 0)) // a connection that is closed ends them as well
}
