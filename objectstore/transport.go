package objectstore

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// defaultStall is how long a request may make no progress at all, in either direction, before it is given
// up. It bounds silence, not duration: a slow upload that moves goes on.
const defaultStall = 60 * time.Second

// tuneTransport bounds every wait of a transport: for a connection, for a handshake, and for the next
// byte.
func tuneTransport(stall time.Duration) func(*http.Transport) {
	dialer := &net.Dialer{Timeout: min(10*time.Second, stall), KeepAlive: 15 * time.Second}
	return func(t *http.Transport) {
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &stallConn{Conn: conn, stall: stall}, nil
		}
		t.TLSHandshakeTimeout = min(10*time.Second, stall)
		t.IdleConnTimeout = stall / 2 // before its last read's deadline
		t.MaxIdleConnsPerHost = 16
		t.DisableCompression = true
		t.ForceAttemptHTTP2 = false
	}
}

// stallConn gives every read and write a deadline. A write renews the pending read's too: the answer to a
// long upload may come late, but not after silence.
type stallConn struct {
	net.Conn
	stall time.Duration
}

// Read reads, giving up after silence.
func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write writes in steps, so that each step's progress counts.
func (c *stallConn) Write(p []byte) (int, error) {
	const step = 64 << 10
	done := 0
	for {
		if err := c.SetDeadline(time.Now().Add(c.stall)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:min(done+step, len(p))])
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// plainNetError is the innermost useful text of a network error: without the URL, without the SDK's
// wrapping.
func plainNetError(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "no answer: the connection stalled"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Error()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return printable(strings.TrimSpace(err.Error()))
}
