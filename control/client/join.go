package client

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// Time limits of one server, and how far the clocks may be apart: a new
// certificate begins that long before the server's now.
const (
	dialTimeout    = 5 * time.Second
	requestTimeout = 20 * time.Second
	maxSkew        = ca.Backdate
)

// Request is what a host needs to join.
type Request struct {
	Token     token.Token
	Node      string
	Addresses []netip.Addr // node addresses, preferred first; counted where a server sees them
	Advertise []netip.Addr // node addresses chosen by the administrator: they take the place of Addresses, and are remembered
	Key       mesh.Key     // WireGuard public key
	Port      uint16       // WireGuard UDP port; default mesh.WireGuardPort
	Version   string       // of the agent

	now func() time.Time // for tests of wrong clocks; default time.Now
}

// Join makes this host part of the token's mesh, through the first of its
// servers that answers. It writes nothing; see [Save].
//
// The error says what is wrong in words. An answer of the mesh is a
// [control.Error], a wrong clock a [ClockError]; with [ca.ErrForeign] some
// server is not of the token's mesh.
func Join(ctx context.Context, r Request) (control.Enrolment, error) {
	r.Port = cmp.Or(r.Port, mesh.WireGuardPort)
	if len(r.Advertise) > 0 {
		r.Addresses = r.Advertise
	}
	if r.now == nil {
		r.now = time.Now
	}
	key, err := ca.NewKey()
	if err != nil {
		return control.Enrolment{}, fmt.Errorf("make key of host %s: %w", r.Node, err)
	}
	body, err := r.body(key)
	if err != nil {
		return control.Enrolment{}, err
	}
	var failures []error
	for _, server := range r.Token.Servers {
		e, err := r.through(ctx, server, attempt{key, body})
		if err == nil {
			return e, nil
		}
		if ctx.Err() != nil || final(err) {
			return control.Enrolment{}, err
		}
		failures = append(failures, err)
	}
	return control.Enrolment{}, errors.Join(failures...)
}

// final reports whether no other server would answer otherwise.
func final(err error) bool {
	if clock := (*ClockError)(nil); errors.As(err, &clock) {
		return true
	}
	var answer *control.Error
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Code {
	case control.CodeUnavailable, control.CodeInternal, control.CodeTooMany:
		return false
	}
	return true
}

func (r Request) body(key *ecdsa.PrivateKey) (control.JoinRequest, error) {
	csr, err := ca.NewRequest(key)
	if err != nil {
		return control.JoinRequest{}, err
	}
	body := control.JoinRequest{
		Protocol: control.Protocol, TokenID: r.Token.ID(), Secret: r.Token.Secret(),
		Node: r.Node, Addresses: r.Addresses, Key: r.Key.String(), Port: r.Port, Version: r.Version, CSR: string(csr),
	}
	return body, body.Validate()
}

// attempt is the same for every server, so that a second one recognises a host
// whose first server fell silent after enrolling it.
type attempt struct {
	key  *ecdsa.PrivateKey
	body control.JoinRequest
}

func (r Request) through(ctx context.Context, server string, a attempt) (control.Enrolment, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	p := &pin{server: server, hash: r.Token.CAHash}
	conn := newConnection(server, p.config())
	defer conn.close()
	if err := r.checkClock(ctx, conn); err != nil {
		return control.Enrolment{}, err
	}
	if err := p.verifyAt(r.now()); err != nil {
		return control.Enrolment{}, err
	}
	var got control.JoinResponse
	err := conn.post(ctx, control.PathJoin, a.body, &got)
	if answer := (*control.Error)(nil); err != nil && !errors.As(err, &answer) {
		// The host may be enrolled and only the answer lost: asked again with the
		// same keys, the server gives it once more.
		err = conn.post(ctx, control.PathJoin, a.body, &got)
	}
	if err != nil {
		return control.Enrolment{}, err
	}
	e, err := r.enrolment(got, a.key, p)
	if err != nil {
		return e, fmt.Errorf("read answer of server %s: %w", server, err)
	}
	return e, nil
}

// enrolment checks that the answer is what was asked for.
func (r Request) enrolment(got control.JoinResponse, key *ecdsa.PrivateKey, p *pin) (control.Enrolment, error) {
	labels, err := identity.ParseLabels(got.Labels)
	if err != nil {
		return control.Enrolment{}, err
	}
	keyPEM, err := ca.KeyPEM(key)
	if err != nil {
		return control.Enrolment{}, err
	}
	e := control.Enrolment{
		Node: r.Node, Cluster: mesh.Cluster{Name: got.Cluster, ID: got.ClusterID},
		Mesh4: got.Mesh4, Mesh6: got.Mesh6, Pools: got.Pools,
		Identity: mesh.Identity(got.Identity), Labels: labels, Namespace: got.Namespace,
		Etcd: got.Etcd, Servers: got.Servers, Advertise: r.Advertise,
		CertificatePEM: []byte(got.Certificate), KeyPEM: keyPEM, CAPEM: []byte(got.CA),
	}
	return e, errors.Join(p.check(e.CAPEM), check(e), r.checkPeriod(e))
}

// checkPeriod makes sure that the certificate counts by this host's clock.
func (r Request) checkPeriod(e control.Enrolment) error {
	cert, err := ca.ParseCertificate(e.CertificatePEM)
	if err != nil {
		return err
	}
	if now := r.now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return fmt.Errorf("the certificate is good from %s to %s only: check the clocks of host and server",
			cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
	}
	return nil
}
