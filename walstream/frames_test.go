package walstream

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// wire builds what a server would send.
type wire struct{ b []byte }

func (w *wire) frame(typ byte, body ...[]byte) *wire {
	n := 4
	for _, b := range body {
		n += len(b)
	}
	w.b = binary.BigEndian.AppendUint32(append(w.b, typ), uint32(n))
	for _, b := range body {
		w.b = append(w.b, b...)
	}
	return w
}

func (w *wire) wal(msg []byte) *wire {
	return w.frame('d', append([]byte{'w'}, make([]byte, 24)...), msg)
}

func (w *wire) alive(lsn uint64, reply byte) *wire {
	b := binary.BigEndian.AppendUint64([]byte{'k'}, lsn)
	return w.frame('d', append(binary.BigEndian.AppendUint64(b, 7), reply))
}

func (w *wire) notice(typ byte, severity, code, message string) *wire {
	return w.frame(typ, []byte("S"+severity+"\x00V"+severity+"\x00C"+code+"\x00M"+message+"\x00\x00"))
}

func u32(v int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }
func u64(v int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }

func cat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

// tx is a transaction that inserts one value of each size.
func (w *wire) tx(lsn int, sizes ...int) *wire {
	w.wal(cat("B", u64(lsn), u64(1), u32(7)))
	w.wal(cat("R", u32(1), "public\x00t\x00d\x00\x01\x01v\x00", u32(25), u32(-1)))
	for _, n := range sizes {
		w.wal(cat("I", u32(1), "N\x00\x01t", u32(n), strings.Repeat("v", n)))
	}
	return w.wal(cat("C\x00", u64(lsn), u64(lsn+8), u64(1)))
}

// serve makes a Stream that is fed by feed and whose statuses go to the returned channel.
func serve(t *testing.T, feed func(net.Conn)) (*Stream, chan segment.LSN) {
	t.Helper()
	ours, theirs := net.Pipe()
	s := &Stream{log: slog.New(slog.DiscardHandler), conn: ours, src: ours, receiving: make(chan struct{}, 1)}
	s.receiving <- struct{}{}
	s.status = newStatus(ours, 5, 60*time.Second)
	go s.status.run()
	told := make(chan segment.LSN, 1000)
	go func() {
		defer close(told)
		for {
			b := make([]byte, 39)
			if _, err := io.ReadFull(theirs, b); err != nil || b[0] != 'd' {
				return
			}
			told <- segment.LSN(binary.BigEndian.Uint64(b[14:]))
		}
	}()
	go func() { feed(theirs) }()
	t.Cleanup(func() { _ = theirs.Close(); _ = s.Close(context.Background()) })
	return s, told
}

// However the bytes are split into reads, and however large the messages, the same arrives.
func TestFramesInAnySplit(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range 100 {
		size := 200 + rng.IntN(400)
		w := &wire{}
		var want []string
		for i := range 8 {
			var sizes []int
			var events []string
			for range rng.IntN(6) {
				n := []int{0, 1, 50, size - 42, size - 41, size - 40, size, size + 1, 3*size + 5, rng.IntN(2 * size)}[rng.IntN(10)]
				sizes = append(sizes, n)
				text := strings.Repeat("v", n)
				if n > 64 {
					text = hashed(text)
				}
				events = append(events, "I t N "+text)
			}
			w.tx(100*(i+1), sizes...)
			want = append(want, strings.Join(events, ";"))
			if rng.IntN(2) == 0 {
				w.alive(uint64(100*(i+1)+50), 0)
			}
			if rng.IntN(3) == 0 {
				w.notice('N', "NOTICE", "00000", "by the way").frame('S', []byte("TimeZone\x00UTC\x00"))
			}
		}
		most := 1 << (1 + rng.IntN(12))
		s, _ := serve(t, func(c net.Conn) {
			for b := w.b; len(b) > 0; {
				n := min(len(b), 1+rng.IntN(most))
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
				b = b[n:]
			}
			_ = c.Close()
		})
		rec := newRecorder()
		err := s.receiver(rec, size).run(t.Context())
		require.Equal(t, fault.Unreachable, fault.CodeOf(err), "round %d: %v", round, err)
		var got []string
		for _, tx := range rec.txs {
			got = append(got, strings.Join(tx.events, ";"))
		}
		require.Equal(t, want, got, "round %d", round)
		require.LessOrEqual(t, rec.largest, size)
	}
}

func TestGarbledStreams(t *testing.T) {
	huge := append([]byte{'d'}, u32(1<<30)...)
	for name, c := range map[string]struct {
		bytes []byte
		code  fault.Code
		want  string
	}{
		"short frame":        {[]byte{'d', 0, 0, 0, 3}, fault.Failed, "a frame 'd' of 4 bytes"},
		"negative frame":     {[]byte{'d', 0xff, 0, 0, 0}, fault.Failed, "garbled"},
		"unknown frame":      {(&wire{}).frame('?', []byte("x")).b, fault.Failed, "a frame '?'"},
		"empty data":         {(&wire{}).frame('d').b, fault.Failed, "an empty message"},
		"unknown data":       {(&wire{}).frame('d', []byte("xyz")).b, fault.Failed, "a message 'x' of 3 bytes"},
		"wal without text":   {(&wire{}).wal(nil).b, fault.Failed, "a message 'w' of 25 bytes"},
		"short keepalive":    {(&wire{}).frame('d', []byte("k123")).b, fault.Failed, "a message 'k' of 4 bytes"},
		"huge unknown":       {append(append([]byte{'E'}, u32(1<<30)...), make([]byte, 100)...), fault.Failed, "a frame 'E'"},
		"huge data":          {append(huge, make([]byte, 100)...), fault.Failed, "a frame 'd'"},
		"undecodable":        {(&wire{}).wal([]byte("Z")).b, fault.Failed, "near LSN 0/0: pgoutput message 'Z'"},
		"unreadable notice":  {(&wire{}).frame('N', []byte("Sx")).b, fault.Failed, "a notice that can't be read"},
		"end of copy":        {(&wire{}).frame('c').b, fault.Unreachable, "the server ended the stream"},
		"command complete":   {(&wire{}).frame('C', []byte("COPY 0\x00")).b, fault.Unreachable, "the server ended the stream"},
		"skipping changes":   {(&wire{}).notice('N', "WARNING", "55000", `skipped loading publication "p"`).b, fault.Gap, "the server skips changes"},
		"slot lost":          {(&wire{}).notice('E', "ERROR", "55000", "can no longer get changes").b, fault.Gap, "can no longer get changes"},
		"wal removed":        {(&wire{}).notice('E', "ERROR", "58P01", "requested WAL segment 1 has already been removed").b, fault.Gap, "removed"},
		"row over 1 GB":      {(&wire{}).notice('E', "ERROR", "XX000", "invalid memory alloc request size 1200000003").b, fault.Gap, "alloc request"},
		"shutdown":           {(&wire{}).notice('E', "FATAL", "57P01", "terminating connection").b, fault.Unreachable, "terminating"},
		"bad encoding":       {(&wire{}).notice('E', "ERROR", "22021", "invalid byte sequence").b, fault.Failed, "invalid byte"},
		"a bug of its own":   {(&wire{}).notice('E', "ERROR", "XX000", "unexpected duplicate for tablespace 0, relfilenode 17542").b, fault.Gap, "unexpected duplicate"},
		"something unheard":  {(&wire{}).notice('E', "ERROR", "XX000", "unexpected").b, fault.Failed, "unexpected"},
		"closed in a header": {[]byte{'d', 0}, fault.Unreachable, "closed the replication connection"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := serve(t, func(conn net.Conn) {
				_, _ = conn.Write(c.bytes)
				_ = conn.Close()
			})
			err := s.Receive(t.Context(), newRecorder())
			require.Equal(t, c.code, fault.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// The server is told what was acknowledged, never more than it sent, never less than before.
func TestPositionsTold(t *testing.T) {
	w := (&wire{}).tx(100, 1).alive(500, 0)
	more := make(chan []byte, 1)
	s, told := serve(t, func(c net.Conn) {
		_, _ = c.Write(w.b)
		for b := range more {
			_, _ = c.Write(b)
		}
	})
	defer close(more)
	rec := newRecorder()
	go func() { _ = s.Receive(context.Background(), rec) }()
	expect := func(want segment.LSN) {
		t.Helper()
		select {
		case got := <-told:
			require.Equal(t, want, got)
		case <-time.After(patience):
			require.Fail(t, "no status")
		}
	}
	expect(5) // the slot's own position, before anything is known
	rec.waitFor(t, 1)
	s.Ack(108)
	expect(108)
	s.Ack(50)
	s.Ack(108)
	eventually(t, "the keepalive", func() bool { rec.mu.Lock(); defer rec.mu.Unlock(); return len(rec.alive) == 1 })
	s.Ack(900)
	expect(500)
	require.Equal(t, segment.LSN(500), s.Acked())
	more <- (&wire{}).alive(700, 0).b
	expect(700)
	more <- (&wire{}).alive(300, 0).b // a position that goes back is passed on, and changes nothing
	more <- (&wire{}).alive(1000, 0).b
	expect(900)
	for range 5 {
		more <- (&wire{}).alive(1000, 1).b
	}
	eventually(t, "urgency", func() bool {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		return len(rec.alive) == 9 && rec.alive[8].Urgent && !rec.alive[4].Urgent
	})
	expect(900)
	require.Equal(t, segment.LSN(300), rec.alive[2].WALEnd)
}

// A server that neither reads nor leaves can't hold up Close.
func TestCloseIsBounded(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := &Stream{log: slog.New(slog.DiscardHandler), conn: ours, src: ours, receiving: make(chan struct{}, 1)}
	s.receiving <- struct{}{}
	s.status = newStatus(ours, 5, 0)
	go s.status.run()
	begun := time.Now()
	require.Error(t, s.Close(t.Context()))
	require.Less(t, time.Since(begun), 4*time.Second)
}

func TestStatusInterval(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 5 * time.Second, time.Minute: 5 * time.Second, 9 * time.Second: 3 * time.Second} {
		require.Equal(t, want, newStatus(nil, 0, timeout).interval)
	}
}

func TestUrgency(t *testing.T) {
	var a askedTimes
	now := time.Unix(1000, 0)
	for range 10 { // as with a wal_sender_timeout of a second
		now = now.Add(500 * time.Millisecond)
		require.False(t, a.add(now))
	}
	now = now.Add(100 * time.Millisecond)
	require.False(t, a.add(now))
	require.True(t, a.add(now.Add(100*time.Millisecond)))
}
