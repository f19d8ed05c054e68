package walstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/internal/testserver/postgres"
)

// Under TLS reads time out between ticks all the time: nothing may be lost by that.
func TestTLS(t *testing.T) {
	s := ownSource(t, postgres.Options{})
	writeCertificate(t, s.DataDir)
	require.NoError(t, s.Configure(map[string]string{"ssl": "on"}))
	require.NoError(t, s.Restart(postgres.Fast))
	s.cfg.DSN = strings.Replace(s.cfg.DSN, "sslmode=disable", "sslmode=require", 1)
	var err error
	s.conn, err = Connect(t.Context(), s.cfg.DSN)
	require.NoError(t, err)
	s.exec(t, "create table a (id int primary key, v text); alter table a alter v set storage external")
	s.prepare(t)
	r := s.start(t)
	require.IsType(t, &tls.Conn{}, r.conn)
	s.exec(t, "insert into a select g, 'v' from generate_series(1, 30000) g")
	s.exec(t, "insert into a values (0, repeat('0123456789', 1000000))")
	for range 3 {
		time.Sleep(150 * time.Millisecond) // some ticks with nothing to read
		s.exec(t, "update a set v = 'w' where id = 1")
	}
	events := r.waitFor(t, 5)
	require.Len(t, events[0], 30000)
	require.Equal(t, "I a N 0 "+hashed(strings.Repeat("0123456789", 1000000)), events[1][0])
	end := r.transactions()[4].commit.EndLSN
	r.Ack(end)
	r.stop(t)
	require.Equal(t, end, s.slot(t).ConfirmedFlush)
}

// certificate makes a self-signed certificate.
func certificate(t *testing.T) (cert []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return cert, key
}

// writeCertificate makes a certificate that the server's user owns.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	cert, key := certificate(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: cert},
		"server.key": {Type: "PRIVATE KEY", Bytes: der},
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
		require.NoError(t, os.Chown(path, int(owner.Uid), int(owner.Gid)))
	}
}
