package walstream

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// connected are the two ends of a connection, of kind tcp, unix or tls.
func connected(t *testing.T, kind string) (server, client net.Conn) {
	t.Helper()
	network, address := "tcp", "127.0.0.1:0"
	if kind == "unix" {
		network, address = kind, filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	defer l.Close()
	client, err = dialSockets((&net.Dialer{}).DialContext)(t.Context(), network, l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	if kind == "tls" {
		cert, key := certificate(t)
		server = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}})
		encrypted := tls.Client(client, &tls.Config{InsecureSkipVerify: true}) // a test's own certificate
		shaken := make(chan error, 1)
		go func() { shaken <- server.(*tls.Conn).HandshakeContext(t.Context()) }()
		require.NoError(t, encrypted.HandshakeContext(t.Context()))
		require.NoError(t, <-shaken)
		client = encrypted
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

// TestPacedReader gets everything that arrives, also the few bytes behind many that are too few for the mark, while the
// connection stays open; and it can be ended, busy or idle.
func TestPacedReader(t *testing.T) {
	for _, kind := range []string{"tcp", "unix", "tls"} {
		server, client := connected(t, kind)
		r := NewPacedReader(client)
		require.NotNil(t, r.pace.raw, kind)
		sent := make(chan error, 1)
		const tail = "the end"
		go func() {
			piece := make([]byte, 8<<10)
			for range 1000 {
				if _, err := server.Write(piece); err != nil {
					sent <- err
					return
				}
			}
			_, err := server.Write([]byte(tail))
			sent <- err
		}()
		got := make([]byte, 1000*8<<10+len(tail))
		_, err := io.ReadFull(r, got)
		require.NoError(t, err)
		require.NoError(t, <-sent)
		require.Equal(t, tail, string(got[len(got)-len(tail):]))
		ended := make(chan error, 1)
		go func() {
			_, err := r.Read(got)
			ended <- err
		}()
		r.End()
		require.ErrorIs(t, <-ended, os.ErrDeadlineExceeded)
		_, err = server.Write([]byte("too late"))
		require.NoError(t, err)
		_, err = r.Read(got)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		server, client = connected(t, kind)
		r = NewPacedReader(client)
		require.NoError(t, server.Close())
		_, err = r.Read(got)
		require.ErrorIs(t, err, io.EOF)
	}
}
