package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
)

// TLS returns how an enrolled host speaks to servers, of etcd and of the join
// API: it trusts its mesh's CA alone and shows its certificate.
func TLS(e control.Enrolment) (*tls.Config, error) {
	cert, err := tls.X509KeyPair(e.CertificatePEM, e.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("read certificate of host %s: %w", e.Node, err)
	}
	pool, err := ca.Pool(e.CAPEM)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{cert}}, nil
}

// Leave tells the mesh that this host is no longer part of it. From then on its
// certificate is refused. The host's own files stay; see [Remove].
func Leave(ctx context.Context, e control.Enrolment) error {
	cfg, err := TLS(e)
	if err != nil {
		return err
	}
	var failures []error
	for _, server := range e.Servers {
		err := leaveThrough(ctx, server, cfg)
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func leaveThrough(ctx context.Context, server string, cfg *tls.Config) error {
	conn := newConnection(server, cfg.Clone())
	defer conn.close()
	return conn.post(ctx, control.PathLeave, struct{}{}, &struct{}{})
}

// ReportAddresses shows this host to a server from each of its addresses, so
// that its claims to them can become facts. It returns those at which a server
// saw it; the error joins what hindered the others. An address of a family that
// no server has is left out: there is nobody to show it to.
func ReportAddresses(ctx context.Context, e control.Enrolment, addresses []netip.Addr) (seen []netip.Addr, err error) {
	cfg, err := TLS(e)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, a := range addresses {
		if !slices.ContainsFunc(e.Servers, func(s string) bool { return sameFamily(s, a) }) {
			continue
		}
		if err := report(ctx, e.Servers, reporter{a, cfg}); err != nil {
			failures = append(failures, fmt.Errorf("show address %s: %w", a, err))
			continue
		}
		seen = append(seen, a)
	}
	return seen, errors.Join(failures...)
}

type reporter struct {
	address netip.Addr
	cfg     *tls.Config
}

func report(ctx context.Context, servers []string, r reporter) error {
	var failures []error
	for _, server := range servers {
		if !sameFamily(server, r.address) {
			continue
		}
		err := r.show(ctx, server)
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func (r reporter) show(ctx context.Context, server string) error {
	conn := newConnection(server, r.cfg.Clone())
	defer conn.close()
	conn.from(r.address)
	var got control.SeenResponse
	if err := conn.post(ctx, control.PathSeen, struct{}{}, &got); err != nil {
		return err
	}
	if got.Address != r.address {
		return fmt.Errorf("server %s sees this host at %s instead: is there address translation between them?", server, got.Address)
	}
	return nil
}

// sameFamily reports whether server can be dialled from a. A name may be
// either: dialling decides.
func sameFamily(server string, a netip.Addr) bool {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return false
	}
	there, err := netip.ParseAddr(host)
	return err != nil || there.Unmap().Is4() == a.Unmap().Is4()
}
