package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

func TestJoinShowLeave(t *testing.T) {
	p := newPlane(t)
	before := p.content()
	e, err := Join(t.Context(), request(p.token(registry.TokenOptions{Labels: map[string]string{"app": "web"}}), "web-1"))
	p.must(err)
	if e.Node != "web-1" || e.Cluster != vms || e.Server || e.Namespace != "default" || len(e.Pools) != 2 || !e.Pools[0].Contains(e.Mesh4) || !e.Pools[1].Contains(e.Mesh6) {
		t.Errorf("enrolled as %+v", e)
	}
	if v, _ := e.Labels.Get("k8s", "app"); v != "web" {
		t.Errorf("labels %v", e.Labels)
	}
	dir := t.TempDir()
	p.must(Save(dir, e))
	loaded, err := Load(dir)
	p.must(err)
	if diff := cmp.Diff(e, loaded, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("saved and loaded: %s", diff)
	}

	seen, err := ReportAddresses(t.Context(), loaded, []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1")})
	if len(seen) != 1 || err != nil { // no server has an IPv6 address
		t.Errorf("seen at %v, %v", seen, err)
	}
	nodes, err := p.Nodes(t.Context())
	p.must(err)
	if want := netip.MustParseAddr("127.0.0.2"); nodes[0].Host.LastSeen != want || nodes[0].Host.Seen[1] != loopback {
		t.Errorf("the server has seen it at %v", nodes[0].Host.Seen)
	}

	p.must(Leave(t.Context(), loaded))
	after := p.content()
	for key := range after {
		if _, was := before[key]; !was && !strings.HasPrefix(key, schema.RevokedPrefix) && !strings.HasPrefix(key, schema.TokensPrefix) {
			t.Errorf("left behind: %s", key)
		}
	}
	if err := Leave(t.Context(), loaded); !errors.Is(err, &control.Error{Code: control.CodeNotFound}) {
		t.Errorf("leaving again: %v", err)
	}
	if _, err := ReportAddresses(t.Context(), loaded, []netip.Addr{loopback}); !errors.Is(err, &control.Error{Code: control.CodeForbidden}) {
		t.Errorf("showing after leaving: %v", err)
	}
	p.must(Remove(dir))
	if _, err := Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("load after removal: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}

func TestRefusals(t *testing.T) {
	p := newPlane(t)
	ctx := t.Context()
	usedUp, revoked := p.token(registry.TokenOptions{}), p.token(registry.TokenOptions{})
	_, err := Join(ctx, request(usedUp, "taken"))
	p.must(err)
	p.must(p.RevokeToken(ctx, revoked.ID()))
	expired := p.token(registry.TokenOptions{TTL: time.Second})
	good := p.token(registry.TokenOptions{Uses: 5})

	strange, err := ca.New("other")
	p.must(err)
	foreign := good
	foreign.CAHash = strange.Hash()
	unknown, err := token.New(good.Servers, good.CAHash)
	p.must(err)
	other := good
	other.Servers = []string{strings.Replace(p.address, "127.0.0.1", "127.0.0.3", 1), closedPort(t)}
	ahead, behind, little := request(good, "n"), request(good, "n"), request(good, "fine")
	ahead.now = func() time.Time { return time.Now().Add(time.Hour) }
	behind.now = func() time.Time { return time.Now().Add(-time.Hour) }
	little.now = func() time.Time { return time.Now().Add(-4 * time.Minute) }
	wait(t, func() bool {
		list, err := p.Tokens(ctx)
		p.must(err)
		for _, l := range list {
			if l.ID == expired.ID() {
				return l.State == registry.TokenExpired
			}
		}
		return false
	})
	before := p.content()
	for name, tt := range map[string]struct {
		r    Request
		says []string
	}{
		"expired":             {request(expired, "n"), []string{"has expired at", "plexus token create"}},
		"used up":             {request(usedUp, "n"), []string{"is used up: it was good for 1 host"}},
		"revoked":             {request(revoked, "n"), []string{"was revoked at"}},
		"unknown":             {request(unknown, "n"), []string{"not known to this mesh"}},
		"of another mesh":     {request(foreign, "n"), []string{"the server at " + p.address + " is not of this token's mesh"}},
		"name in use":         {request(good, "taken"), []string{"node name taken is in use", "--node-name"}},
		"bad name":            {request(good, "a/b"), []string{`node name "a/b" is malformed`}},
		"clock an hour ahead": {ahead, []string{"the clock of this host is 1h0m0s ahead of that of server " + p.address, "set the clock"}},
		"clock an hour slow":  {behind, []string{"the clock of this host is 1h0m0s behind that of server"}},
		"every server fails":  {request(other, "n"), []string{"127.0.0.3", "nothing listens there", other.Servers[1]}},
	} {
		_, err := Join(ctx, tt.r)
		for _, says := range tt.says {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want %q", name, err, says)
			}
		}
		if err != nil && strings.Contains(err.Error(), tt.r.Token.Secret()) {
			t.Errorf("%s: the error holds the secret", name)
		}
	}
	p.unchanged(before)
	if _, err := Join(ctx, little); err != nil {
		t.Errorf("a clock four minutes slow: %v", err)
	}
}

func wait(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		time.Sleep(20 * time.Millisecond) // polling with a deadline
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A server with the right CA but at another address, or with a certificate that
// is no server's, is not talked to.
func TestServerMustBeWhereItSays(t *testing.T) {
	p := newPlane(t)
	tok := p.token(registry.TokenOptions{})
	spy := &recorder{}
	elsewhere := p.serveAt("127.0.0.4:0", spy)
	key, err := ca.NewKey()
	p.must(err)
	csr, err := ca.NewRequest(key)
	p.must(err)
	hostCert, err := p.authority.Host(csr, "s1")
	p.must(err)
	p.write(key, hostCert.PEM)
	for _, address := range []string{elsewhere, p.serve(spy)} {
		tok.Servers = []string{address}
		if _, err := Join(t.Context(), request(tok, "n")); err == nil || !strings.Contains(err.Error(), "verify certificate of server 127.0.0.") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if spy.called {
		t.Error("the secret was sent")
	}
}

// recorder remembers whether it was asked to enrol.
type recorder struct {
	hosts
	called bool
}

func (r *recorder) Enrol(context.Context, control.JoinRequest, netip.Addr) (control.JoinResponse, error) {
	r.called = true
	return control.JoinResponse{}, errors.New("planted")
}

// A server that falls silent after enrolling costs no second use of the token.
func TestNextServerAfterALostAnswer(t *testing.T) {
	p := newPlane(t)
	tok := p.token(registry.TokenOptions{})
	tok.Servers = []string{p.serve(silent{p.Service}), p.address}
	e, err := Join(t.Context(), request(tok, "n"))
	p.must(err)
	nodes, err := p.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Host.Mesh4 != e.Mesh4 {
		t.Errorf("%+v, %v", nodes, err)
	}
	if _, err := ReportAddresses(t.Context(), e, []netip.Addr{loopback}); err != nil {
		t.Errorf("the second certificate does not count: %v", err)
	}
}

// silent enrols, and then fails as a server does that loses its connection.
type silent struct{ hosts }

func (s silent) Enrol(ctx context.Context, r control.JoinRequest, source netip.Addr) (control.JoinResponse, error) {
	if _, err := s.hosts.Enrol(ctx, r, source); err != nil {
		return control.JoinResponse{}, err
	}
	return control.JoinResponse{}, context.DeadlineExceeded
}

// A connection that breaks after the server has enrolled the host costs nothing
// either, also where there is no other server.
func TestSameServerAfterABrokenConnection(t *testing.T) {
	p := newPlane(t)
	tok := p.token(registry.TokenOptions{})
	tok.Servers = []string{p.serve(&breaking{hosts: p.Service})}
	e, err := Join(t.Context(), request(tok, "n"))
	p.must(err)
	if nodes, err := p.Nodes(t.Context()); err != nil || len(nodes) != 1 || nodes[0].Host.Mesh4 != e.Mesh4 {
		t.Errorf("%+v, %v", nodes, err)
	}
}

// breaking enrols, and breaks the connection the first time.
type breaking struct {
	hosts
	broken bool
}

func (b *breaking) Enrol(ctx context.Context, r control.JoinRequest, source netip.Addr) (control.JoinResponse, error) {
	got, err := b.hosts.Enrol(ctx, r, source)
	if !b.broken {
		b.broken = true
		panic(http.ErrAbortHandler)
	}
	return got, err
}

func TestConcurrentJoinsUseATokenExactly(t *testing.T) {
	const uses, tries = 4, 10
	p := newPlane(t)
	tok := p.token(registry.TokenOptions{Uses: uses})
	var wg sync.WaitGroup
	errs := make([]error, tries)
	for i := range tries {
		wg.Go(func() { _, errs[i] = Join(t.Context(), request(tok, fmt.Sprintf("h%d", i))) })
	}
	wg.Wait()
	joined := 0
	for _, err := range errs {
		switch {
		case err == nil:
			joined++
		case !errors.Is(err, &control.Error{Code: control.CodeTokenUsedUp}):
			t.Error(err)
		}
	}
	users, err := p.store.Users(t.Context())
	p.must(err)
	if joined != uses || len(users) != uses+2 { // and root, and the server
		t.Errorf("%d joined, users %v", joined, users)
	}
}

func TestHostCertificateSpeaksForItsHostAlone(t *testing.T) {
	p := newPlane(t)
	tok := p.token(registry.TokenOptions{Uses: 2})
	a, err := Join(t.Context(), request(tok, "a"))
	p.must(err)
	_, err = Join(t.Context(), request(tok, "b"))
	p.must(err)
	cfg, err := TLS(a)
	p.must(err)
	before := p.content()
	conn := newConnection(p.address, cfg)
	defer conn.close()
	for _, path := range []string{control.PathLeave, control.PathSeen} {
		err := conn.post(t.Context(), path, map[string]string{"node": "b"}, &struct{}{})
		if !errors.Is(err, &control.Error{Code: control.CodeInvalid}) {
			t.Errorf("%s for another: %v", path, err)
		}
	}
	cfg = cfg.Clone()
	cfg.Certificates = nil
	bare := newConnection(p.address, cfg)
	defer bare.close()
	for _, path := range []string{control.PathLeave, control.PathSeen} {
		if err := bare.post(t.Context(), path, struct{}{}, &struct{}{}); !errors.Is(err, &control.Error{Code: control.CodeForbidden}) {
			t.Errorf("%s without a certificate: %v", path, err)
		}
	}
	p.unchanged(before)
}

func TestNotAPlexusServer(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = srv.Serve(plain) }() // ends with Close
	t.Cleanup(func() { srv.Close() })
	tok, err := token.New([]string{plain.Addr().String()}, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), request(tok, "n")); err == nil || !strings.Contains(err.Error(), "something else listens there") {
		t.Errorf("got %v", err)
	}
}

func TestDamagedStateIsNamed(t *testing.T) {
	p := newPlane(t)
	tok := p.token(registry.TokenOptions{Uses: 2})
	e, err := Join(t.Context(), request(tok, "a"))
	p.must(err)
	other, err := Join(t.Context(), request(tok, "b"))
	p.must(err)
	for name, damage := range map[string]func(dir string) error{
		"no key":        func(dir string) error { return os.Remove(filepath.Join(dir, keyFile)) },
		"another's key": func(dir string) error { return os.WriteFile(filepath.Join(dir, keyFile), other.KeyPEM, 0o600) },
		"another's certificate": func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, keyFile), other.KeyPEM, 0o600), os.WriteFile(filepath.Join(dir, certFile), other.CertificatePEM, 0o600))
		},
		"half a file": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, enrolmentFile), []byte(`{"node":`), 0o600)
		},
	} {
		dir := t.TempDir()
		p.must(Save(dir, e))
		p.must(damage(dir))
		if _, err := Load(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	info, err := func() (os.FileInfo, error) {
		dir := t.TempDir()
		p.must(Save(dir, e))
		return os.Stat(filepath.Join(dir, keyFile))
	}()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
}
