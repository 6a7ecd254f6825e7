package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// ErrForeign says that no certificate of a chain is the CA that was pinned.
var ErrForeign = errors.New("certificate chain does not hold the pinned mesh CA")

// FindPinned returns the CA of chain whose public key hashes to hash. It is the
// only trust that a joining host has before it has joined.
func FindPinned(chain []*x509.Certificate, hash [32]byte) (*x509.Certificate, error) {
	for _, c := range chain {
		if c.IsCA && Hash(c) == hash {
			return c, nil
		}
	}
	return nil, ErrForeign
}

// VerifyServer checks that leaf is a server's of this CA, good for the host name
// or address name at time now. A [x509.CertificateInvalidError] whose Reason is
// Expired means that a clock or a lifetime is the cause.
func VerifyServer(leaf, authority *x509.Certificate, name string, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, DNSName: name, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("verify certificate of server %s: %w", name, err)
	}
	return nil
}

// Pool returns the certificates of a PEM file as roots of trust.
func Pool(data []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("decode mesh CA: no certificate")
	}
	return pool, nil
}
