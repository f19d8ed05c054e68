package walstream

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// socket is what a connection was dialled as. Below TLS it can read ahead: the server makes a TLS record of whatever it
// flushes, a message of the stream or 8 KiB, and crypto/tls reads little more than one from its connection at a time.
type socket struct {
	net.Conn
	ahead []byte // room for what is read ahead; nil: nothing is
	r, w  int    // what of it was read, and not taken yet
}

// aheadSize is how much is read ahead, in bytes.
const aheadSize = 64 << 10

// dialSockets has dial's connections made sockets.
func dialSockets(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &socket{Conn: conn}, nil
	}
}

func (s *socket) Read(p []byte) (int, error) {
	if s.ahead == nil {
		return s.Conn.Read(p)
	}
	if s.r == s.w {
		n, err := s.Conn.Read(s.ahead)
		if s.r, s.w = 0, n; n == 0 {
			return 0, err
		}
	}
	n := copy(p, s.ahead[s.r:s.w])
	s.r += n
	return n, nil
}

// gathers returns the connection below conn that a pacer can have gather: what it brings at once must be taken at
// once. nil if there is none. From then on conn is read by one goroutine.
func gathers(conn net.Conn) net.Conn {
	if t, encrypted := conn.(*tls.Conn); encrypted {
		s, ok := t.NetConn().(*socket)
		if !ok {
			return nil
		}
		if s.ahead == nil {
			s.ahead = make([]byte, aheadSize)
		}
		return s.Conn
	}
	if s, ok := conn.(*socket); ok {
		return s.Conn
	}
	return conn
}
