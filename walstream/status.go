package walstream

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"

	"tidemark/internal/fault"
	"tidemark/segment"
)

const (
	statusInterval = 5 * time.Second        // at most; a third of wal_sender_timeout if that is less
	ackSpacing     = 10 * time.Millisecond  // between statuses that carry a new position
	replySpacing   = 100 * time.Millisecond // between answers: a server shutting down asks without pause
	writeLimit     = 30 * time.Second       // a write that takes longer breaks the connection
)

// status tells the server where we are, from its own goroutine: neither a handler that stalls nor a
// slow upload makes the server give us up. The durable position stands in all three fields.
type status struct {
	conn     net.Conn
	interval time.Duration

	durable atomic.Uint64 // what the owner acknowledged
	sent    atomic.Uint64 // the highest position that the server sent us
	told    atomic.Uint64 // what the server knows
	failed  atomic.Pointer[error]

	news  chan struct{} // a new position
	asked chan struct{} // the server wants an answer
	stop  chan struct{}
	done  chan struct{}

	buf []byte // what is written: by run, after end by farewell
}

func newStatus(conn net.Conn, confirmed segment.LSN, senderTimeout time.Duration) *status {
	s := &status{
		conn:     conn,
		interval: statusInterval,
		news:     make(chan struct{}, 1),
		asked:    make(chan struct{}, 1),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	if third := senderTimeout / 3; third > 0 && third < s.interval {
		s.interval = third
	}
	s.told.Store(uint64(confirmed))
	return s
}

// acknowledge raises the durable position.
func (s *status) acknowledge(lsn segment.LSN) {
	if raise(&s.durable, uint64(lsn)) {
		poke(s.news)
	}
}

// received raises what the server sent. A position that was durable before it was sent can be told now.
func (s *status) received(lsn segment.LSN) {
	if raise(&s.sent, uint64(lsn)) && s.durable.Load() > s.told.Load() {
		poke(s.news)
	}
}

// reply asks for an answer to the server soon.
func (s *status) reply() { poke(s.asked) }

func raise(v *atomic.Uint64, to uint64) bool {
	for {
		old := v.Load()
		if to <= old {
			return false
		}
		if v.CompareAndSwap(old, to) {
			return true
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// run sends statuses until end is called or a write fails.
func (s *status) run() {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last, due time.Time
	soon := func(spacing time.Duration) {
		if t := last.Add(spacing); t.Before(due) {
			due = t
			timer.Reset(time.Until(due))
		}
	}
	for {
		select {
		case <-s.stop:
			return
		case <-s.news:
			soon(ackSpacing)
		case <-s.asked:
			soon(replySpacing)
		case now := <-timer.C:
			if err := s.send(now, now.Add(writeLimit)); err != nil {
				s.failed.Store(&err)
				return
			}
			last, due = now, now.Add(s.interval)
			timer.Reset(s.interval)
		}
	}
}

// end stops the goroutine; a write that hangs until the deadline is ended by closing the connection.
func (s *status) end(deadline time.Time) {
	close(s.stop)
	select {
	case <-s.done:
	case <-time.After(time.Until(deadline)):
		_ = s.conn.Close() // it is beyond help; the error that counts is the write's
		<-s.done
	}
}

// farewell sends the last status, CopyDone and Terminate. Call it after end.
func (s *status) farewell(deadline time.Time) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.write(s.advance(), time.Now(), deadline, 'c', 'X')
}

func (s *status) send(now, deadline time.Time) error {
	return s.write(s.advance(), now, deadline)
}

// advance returns the position to tell: what is durable, never above what was sent on this
// connection, never below what was told before.
func (s *status) advance() uint64 {
	raise(&s.told, min(s.durable.Load(), s.sent.Load()))
	return s.told.Load()
}

// write sends a standby status update as CopyData, then empty messages of the types given.
func (s *status) write(pos uint64, now, deadline time.Time, then ...byte) error {
	b := append(s.buf[:0], 'd', 0, 0, 0, 4+1+3*8+8+1, 'r')
	for range 3 { // written, flushed, applied
		b = binary.BigEndian.AppendUint64(b, pos)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(segment.TimestampOf(now)))
	b = append(b, 0) // no answer wanted
	for _, typ := range then {
		b = append(b, typ, 0, 0, 0, 4)
	}
	s.buf = b
	err := s.conn.SetWriteDeadline(deadline)
	if err == nil {
		_, err = s.conn.Write(b)
	}
	if err != nil {
		return fault.Wrap(flat{err}, fault.Unreachable, "the connection is made again", "telling the server our position")
	}
	return nil
}

// err returns why statuses stopped, nil while they don't.
func (s *status) err() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}
