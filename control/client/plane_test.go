package client

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/control/server"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

var (
	vms      = mesh.Cluster{Name: "vms", ID: 7}
	loopback = netip.MustParseAddr("127.0.0.1")
)

// plane is a whole server on loopback: etcd, registry and join API.
type plane struct {
	*registry.Service
	t         *testing.T
	etcd      *kvtest.Server
	store     *kvstore.Client
	authority *ca.Authority
	address   string
	cert, key string
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{t: t, etcd: kvtest.StartAuth(t)}
	p.store = p.etcd.Client(t)
	var err error
	p.authority, err = ca.New(vms.Name)
	p.must(err)
	p.Service, err = registry.New(registry.Options{Store: p.store, CA: p.authority, Logger: kvtest.Logger(t), Disconnect: p.etcd.Disconnect})
	p.must(err)
	p.certify(p.authority, loopback)
	p.address = p.serve(p.Service)
	config, err := schema.EncodeMeshConfig(schema.MeshConfig{
		Cluster: vms, Pool4: control.DefaultPool4, Pool6: control.NewPool6(), Version: schema.Version,
		Etcd: []string{p.etcd.Endpoint()}, Servers: []string{p.address},
	})
	p.must(err)
	_, err = p.store.Commit(t.Context(), nil, []kvstore.Op{
		kvstore.OpPut(schema.ConfigKey, config, 0), kvstore.OpPut(schema.EnrolmentKey, []byte("1"), 0),
	})
	p.must(err)
	return p
}

func (p *plane) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// certify makes the certificate that the next serve uses.
func (p *plane) certify(authority *ca.Authority, addresses ...netip.Addr) {
	p.t.Helper()
	key, err := ca.NewKey()
	p.must(err)
	cert, err := authority.Server(&key.PublicKey, ca.ServerNames{Cluster: vms.Name, Node: "s1", Addresses: addresses})
	p.must(err)
	p.write(key, cert.PEM)
}

func (p *plane) write(key *ecdsa.PrivateKey, certPEM []byte) {
	p.t.Helper()
	keyPEM, err := ca.KeyPEM(key)
	p.must(err)
	dir := p.t.TempDir()
	p.cert, p.key = filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	p.must(errors.Join(os.WriteFile(p.cert, certPEM, 0o600), os.WriteFile(p.key, keyPEM, 0o600),
		os.WriteFile(filepath.Join(dir, "ca"), p.authority.CertPEM(), 0o600)))
}

// hosts is what the join API asks.
type hosts interface {
	Enrol(ctx context.Context, r control.JoinRequest, source netip.Addr) (control.JoinResponse, error)
	Saw(ctx context.Context, node, serial string, address netip.Addr) error
	RemoveNode(ctx context.Context, node string, r registry.Removal) error
}

// serve runs the join API until the test ends, and returns its address.
func (p *plane) serve(h hosts) string { return p.serveAt("127.0.0.1:0", h) }

func (p *plane) serveAt(address string, h hosts) string {
	p.t.Helper()
	l, err := server.Listen(address)
	p.must(err)
	s, err := server.New(l, server.Options{
		Hosts: h, CertFile: p.cert, KeyFile: p.key, CAFile: filepath.Join(filepath.Dir(p.cert), "ca"), Logger: kvtest.Logger(p.t),
	})
	p.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("server: %v", err)
		}
	})
	return s.Address().String()
}

func (p *plane) token(o registry.TokenOptions) token.Token {
	p.t.Helper()
	text, _, err := p.CreateToken(p.t.Context(), o)
	p.must(err)
	tok, err := token.Parse(text)
	p.must(err)
	return tok
}

func (p *plane) content() map[string]string {
	p.t.Helper()
	out := make(map[string]string)
	for _, prefix := range []string{"cilium/", "plexus/"} {
		kvs, _, err := p.store.List(p.t.Context(), prefix)
		p.must(err)
		for _, kv := range kvs {
			out[kv.Key] = string(kv.Value)
		}
	}
	users, err := p.store.Users(p.t.Context())
	p.must(err)
	for _, u := range users {
		out["user "+u] = ""
	}
	return out
}

func (p *plane) unchanged(before map[string]string) {
	p.t.Helper()
	if diff := cmp.Diff(before, p.content()); diff != "" {
		p.t.Errorf("something is left behind on the server: %s", diff)
	}
}

func request(tok token.Token, node string) Request {
	r := Request{Token: tok, Node: node, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.11")}, Version: "1"}
	copy(r.Key[:], node)
	return r
}
