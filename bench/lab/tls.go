package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tidemark/internal/testserver/postgres"
)

// TLS lets the server take encrypted connections, and returns the source's DSN for them.
func (src *Source) TLS() (string, error) {
	s := src.Server
	ctx := context.Background()
	if on, err := s.Query(ctx, "postgres", "SHOW ssl"); err != nil {
		return "", err
	} else if on == "off" {
		if err := enableTLS(s); err != nil {
			return "", err
		}
	}
	return strings.Replace(src.DSN(), "sslmode=disable", "sslmode=require", 1), nil
}

func enableTLS(s *postgres.Server) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	err = errors.Join(writeOwned(s.DataDir, "server.crt", "CERTIFICATE", cert), writeOwned(s.DataDir, "server.key", "EC PRIVATE KEY", secret))
	if err != nil {
		return err
	}
	if err := s.Configure(map[string]string{"ssl": "on"}); err != nil {
		return err
	}
	return s.Restart(postgres.Fast)
}

// writeOwned writes a PEM file that belongs to whom the folder belongs to.
func writeOwned(dir, name, kind string, der []byte) error {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of " + dir + " is not known")
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
