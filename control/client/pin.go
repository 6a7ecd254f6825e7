package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/control/ca"
)

// pin trusts exactly the CA whose public key a token names. A connection is
// checked in two steps: who is there, at the handshake; and whether the
// certificate is in its time, by verifyAt, once the clocks have been compared
// through that connection.
type pin struct {
	server string
	hash   [32]byte

	mu        sync.Mutex
	leaf      *x509.Certificate
	authority *x509.Certificate
}

func (p *pin) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Replaced by the stricter VerifyConnection, which every handshake runs.
		InsecureSkipVerify: true,
		VerifyConnection:   p.verify,
	}
}

// verify checks who is there, at a time at which its certificate is good.
func (p *pin) verify(cs tls.ConnectionState) error {
	authority, err := ca.FindPinned(cs.PeerCertificates, p.hash)
	if err != nil {
		return fmt.Errorf("the server at %s is not of this token's mesh: %w", p.server, err)
	}
	host, _, err := net.SplitHostPort(p.server)
	if err != nil {
		return err
	}
	leaf := cs.PeerCertificates[0]
	if err := ca.VerifyServer(leaf, authority, host, latest(leaf.NotBefore, authority.NotBefore)); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaf, p.authority = leaf, authority
	return nil
}

// verifyAt checks that the server's certificate is good at now.
func (p *pin) verifyAt(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	host, _, err := net.SplitHostPort(p.server)
	if err != nil {
		return err
	}
	if err := ca.VerifyServer(p.leaf, p.authority, host, now); err != nil {
		return fmt.Errorf("%w; restart plexusd on the server to renew it", err)
	}
	return nil
}

// check makes sure that the CA which a server sends is the pinned one.
func (p *pin) check(caPEM []byte) error {
	cert, err := ca.ParseCertificate(caPEM)
	if err != nil {
		return err
	}
	if ca.Hash(cert) != p.hash {
		return errors.New("the CA is not the one that the token names")
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
