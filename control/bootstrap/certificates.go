package bootstrap

import (
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/internal/atomicfile"
	"github.com/plexusmesh/plexus/kvstore/embedded"
)

// files are the paths of a server's certificates.
type files struct {
	dir                   string
	cert, key             string // of its listeners
	clientCert, clientKey string // with which it is etcd's administrator
	ca                    string
}

func filesIn(stateDir string) files {
	dir := filepath.Join(stateDir, "server")
	in := func(name string) string { return filepath.Join(dir, name) }
	return files{dir, in("server.crt"), in("server.key"), in("client.crt"), in("client.key"), in("ca.crt")}
}

func (f files) etcd() *embedded.Files { return &embedded.Files{Cert: f.cert, Key: f.key, CA: f.ca} }

// clientTLS is how the server speaks to etcd. It reads the certificate at every
// handshake.
func (f files) clientTLS() (*tls.Config, error) {
	authority, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, fmt.Errorf("read mesh CA: %w", err)
	}
	pool, err := ca.Pool(authority)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(f.clientCert, f.clientKey)
			return &cert, err
		},
	}, nil
}

// ensure makes the server's certificates, or makes them anew when they are past
// two thirds of their life or lack an address.
func (f files) ensure(authority *ca.Authority, names ca.ServerNames) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("make directory of server certificates: %w", err)
	}
	if err := atomicfile.Write(f.ca, authority.CertPEM(), 0o644); err != nil {
		return err
	}
	if !fresh(f.cert, f.key, names.Addresses) {
		err := issue(f.cert, f.key, func(pub *ecdsa.PublicKey) (ca.Certificate, error) { return authority.Server(pub, names) })
		if err != nil {
			return err
		}
	}
	if fresh(f.clientCert, f.clientKey, nil) {
		return nil
	}
	return issue(f.clientCert, f.clientKey, func(pub *ecdsa.PublicKey) (ca.Certificate, error) {
		return authority.ServerClient(pub, names.Node)
	})
}

func issue(certFile, keyFile string, sign func(*ecdsa.PublicKey) (ca.Certificate, error)) error {
	key, err := ca.NewKey()
	if err != nil {
		return fmt.Errorf("make key of server: %w", err)
	}
	keyPEM, err := ca.KeyPEM(key)
	if err != nil {
		return err
	}
	cert, err := sign(&key.PublicKey)
	if err != nil {
		return err
	}
	return errors.Join(atomicfile.Write(keyFile, keyPEM, 0o600), atomicfile.Write(certFile, cert.PEM, 0o644))
}

// fresh reports whether the certificate in certFile is good for a while longer,
// for all addresses, and of the key in keyFile.
func fresh(certFile, keyFile string, addresses []netip.Addr) bool {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return false
	}
	life := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)
	if time.Now().After(pair.Leaf.NotBefore.Add(life * 2 / 3)) {
		return false
	}
	for _, a := range addresses {
		if pair.Leaf.VerifyHostname(a.String()) != nil {
			return false
		}
	}
	return true
}
