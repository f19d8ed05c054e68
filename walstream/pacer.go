package walstream

import (
	"net"
	"time"
)

// The walsender flushes after each message, so a reader that is woken for each of them spends its time on
// waking up. When much arrives, TCP is told to wake us for 64 KiB or after 20 ms; a Unix socket,
// which has no such mark, is left alone for a moment before it is read.
const (
	idleTick    = 50 * time.Millisecond
	busyTick    = 20 * time.Millisecond
	lowWater    = 64 << 10
	unixNap     = 300 * time.Microsecond
	manyReads   = 16 // reads within a tick that make the stream busy
	fewFrames   = 8  // frames within a tick below which it is idle again, if they are small
	smallestNap = 32 << 10
)

// pacer decides how long to wait for more before reading.
type pacer struct {
	raw   net.Conn // below TLS
	mark  bool     // the socket has a low-water mark
	naps  bool     // it is a Unix socket
	busy  bool
	until time.Time // end of this tick

	reads, frames, bytes int // in this tick
	last                 int // bytes of the last read
}

// newPacer makes a pacer for conn. For low latency it only keeps the ticks.
func newPacer(conn net.Conn, lowLatency bool) pacer {
	if lowLatency {
		return pacer{}
	}
	p := pacer{raw: gathers(conn)}
	if p.raw == nil {
		return p
	}
	p.mark = setLowWater(p.raw, 1)
	_, p.naps = p.raw.(*net.UnixConn)
	return p
}

// due reports whether the tick has ended.
func (p *pacer) due(now time.Time) bool { return !now.Before(p.until) }

// next begins a tick and returns its end.
func (p *pacer) next(now time.Time) time.Time {
	if p.busy && p.frames < fewFrames && p.bytes < lowWater {
		p.idle()
	}
	p.reads, p.frames, p.bytes = 0, 0, 0
	p.until = now.Add(idleTick)
	if p.busy {
		p.until = now.Add(busyTick)
	}
	return p.until
}

// before waits where that makes the next read larger.
func (p *pacer) before() {
	if p.busy && p.naps && p.last < smallestNap {
		nap(unixNap)
	}
}

func (p *pacer) frame() { p.frames++ }

// read notes a read of n bytes.
func (p *pacer) read(n int) {
	p.last = n
	p.bytes += n
	if p.reads++; p.busy || p.reads < manyReads || !(p.mark || p.naps) {
		return
	}
	p.busy = true
	p.until = time.Time{} // the shorter tick begins now
	if p.mark {
		p.mark = setLowWater(p.raw, lowWater)
	}
}

// idle makes every byte wake us again.
func (p *pacer) idle() {
	if p.busy = false; p.mark {
		p.mark = setLowWater(p.raw, 1)
	}
}
