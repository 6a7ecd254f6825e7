package registry

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

var vms = mesh.Cluster{Name: "vms", ID: 7}

// planted is a real store whose next call of an operation can be made to fail.
type planted struct {
	*kvstore.Client
	mu     sync.Mutex
	fail   map[string]error // before the call is made
	broken map[string]error // after it was made
	pass   map[string]int   // calls that succeed first
	after  func()           // is called after every commit; optional
}

// later makes pop let one more call of op pass first.
func (p *planted) later(op string) { p.pass[op]++ }

func (p *planted) pop(m map[string]error, op string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m[op] != nil && p.pass[op] > 0 {
		p.pass[op]--
		return nil
	}
	err := m[op]
	delete(m, op)
	return err
}

func (p *planted) Get(ctx context.Context, key string) (kvstore.KV, bool, error) {
	if key == schema.ConfigKey {
		if err := p.pop(p.fail, "read settings"); err != nil {
			return kvstore.KV{}, false, err
		}
	}
	return p.Client.Get(ctx, key)
}

func (p *planted) EnsureUser(ctx context.Context, name string, grants []schema.Grant) error {
	if err := p.pop(p.fail, "ensure user"); err != nil {
		return err
	}
	return errors.Join(p.Client.EnsureUser(ctx, name, grants), p.pop(p.broken, "ensure user"))
}

func (p *planted) DeleteUser(ctx context.Context, name string) error {
	if err := p.pop(p.fail, "delete user"); err != nil {
		return err
	}
	return p.Client.DeleteUser(ctx, name)
}

func (p *planted) Commit(ctx context.Context, conds []kvstore.Cond, ops []kvstore.Op) (bool, error) {
	if err := p.pop(p.fail, "commit"); err != nil {
		return false, err
	}
	ok, err := p.Client.Commit(ctx, conds, ops)
	if p.after != nil {
		p.after()
	}
	if late := p.pop(p.broken, "commit"); late != nil {
		return false, late
	}
	return ok, err
}

type fixture struct {
	*Service
	t     testing.TB
	store *planted
	etcd  *kvtest.Server
}

func newMesh(t testing.TB, pool4 string) *fixture {
	t.Helper()
	etcd := kvtest.StartAuth(t)
	f := &fixture{t: t, etcd: etcd, store: &planted{Client: etcd.Client(t), fail: map[string]error{}, broken: map[string]error{}, pass: map[string]int{}}}
	authority, err := ca.New(vms.Name)
	f.must(err)
	f.Service, err = New(Options{Store: f.store, CA: authority, Logger: kvtest.Logger(t), Disconnect: etcd.Disconnect})
	f.must(err)
	config, err := schema.EncodeMeshConfig(schema.MeshConfig{
		Cluster: vms, Pool4: netip.MustParsePrefix(pool4), Pool6: netip.MustParsePrefix("fd01:2:3::/64"), Version: schema.Version,
		Etcd: []string{etcd.Endpoint()}, Servers: []string{"192.0.2.1:7443"},
	})
	f.must(err)
	ok, err := f.store.Client.Commit(t.Context(), nil, []kvstore.Op{
		kvstore.OpPut(schema.ConfigKey, config, 0), kvstore.OpPut(schema.EnrolmentKey, []byte("1"), 0),
	})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) token(o TokenOptions) token.Token {
	f.t.Helper()
	text, _, err := f.CreateToken(f.t.Context(), o)
	f.must(err)
	tok, err := token.Parse(text)
	f.must(err)
	return tok
}

// content is everything that etcd holds: keys with values, and users.
func (f *fixture) content() map[string]string {
	f.t.Helper()
	out := make(map[string]string)
	for _, prefix := range []string{"cilium/", "plexus/"} {
		kvs, _, err := f.store.List(f.t.Context(), prefix)
		f.must(err)
		for _, kv := range kvs {
			out[kv.Key] = string(kv.Value)
		}
	}
	users, err := f.store.Users(f.t.Context())
	f.must(err)
	for _, u := range users {
		out["user "+u] = ""
	}
	return out
}

func (f *fixture) unchanged(before map[string]string) {
	f.t.Helper()
	if diff := cmp.Diff(before, f.content()); diff != "" {
		f.t.Errorf("something is left behind: %s", diff)
	}
}

func wgKey(s string) mesh.Key {
	var k mesh.Key
	copy(k[:], s)
	return k
}

func joinRequest(t testing.TB, tok token.Token, node string, addresses ...string) control.JoinRequest {
	t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ca.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	r := control.JoinRequest{
		Protocol: control.Protocol, TokenID: tok.ID(), Secret: tok.Secret(), Node: node,
		Key: wgKey(node).String(), Port: 51871, Version: "1", CSR: string(csr),
	}
	for _, a := range addresses {
		r.Addresses = append(r.Addresses, netip.MustParseAddr(a))
	}
	return r
}

// user is the etcd user of an enrolled host.
func (f *fixture) user(node string) string {
	f.t.Helper()
	kv, found, err := f.store.Get(f.t.Context(), schema.HostKey(node))
	f.must(err)
	if !found {
		f.t.Fatalf("host %s is not enrolled", node)
	}
	h, err := schema.DecodeHost(node, kv.Value)
	f.must(err)
	return h.User()
}

func (f *fixture) join(node, address string) control.JoinResponse {
	f.t.Helper()
	resp, err := f.Enrol(f.t.Context(), joinRequest(f.t, f.token(TokenOptions{}), node, address), netip.MustParseAddr(address))
	f.must(err)
	return resp
}

func code(c control.Code) error { return &control.Error{Code: c} }
