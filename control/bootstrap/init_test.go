package bootstrap

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/client"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

var vms = mesh.Cluster{Name: "vms", ID: 7}

func options(t *testing.T) Options {
	return Options{
		StateDir: t.TempDir(), Cluster: vms, Node: "s1", Addresses: []netip.Addr{server4, server6},
		Labels: map[string]string{"app": "control"}, Key: mesh.Key{1}, Version: "1", Logger: kvtest.Logger(t),
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs s until the returned function is called.
func run(t *testing.T, s *Server) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			check(t, err)
		case <-time.After(20 * time.Second):
			t.Fatal("the server does not stop")
		}
	}
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond) // polling with a deadline
	}
}

func TestInitJoinRestart(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	o := options(t)
	s, e, err := Init(t.Context(), o)
	check(t, err)
	stop := run(t, s)
	checkServer(t, s, e)
	checkPeerPort(t, o.StateDir, e)
	host := join(t, s)
	shown(t, s, host)
	stop()
	if !Made(o.StateDir) {
		t.Error("it does not remember to be a server")
	}

	s, err = Start(t.Context(), o.StateDir, kvtest.Logger(t))
	check(t, err)
	stop = run(t, s)
	shown(t, s, host)
	check(t, client.Leave(t.Context(), host))
	if nodes, err := s.Registry.Nodes(t.Context()); err != nil || len(nodes) != 1 {
		t.Errorf("after the host left: %+v, %v", nodes, err)
	}
	if err := s.Registry.RemoveNode(t.Context(), "s1", registry.Removal{}); !errors.Is(err, &control.Error{Code: control.CodeConflict}) {
		t.Errorf("the last server was removed: %v", err)
	}
	stop()
	check(t, Remove(o.StateDir))
	empty(t, o.StateDir)
}

// checkServer looks at what Init made.
func checkServer(t *testing.T, s *Server, e control.Enrolment) {
	t.Helper()
	if e.Node != "s1" || !e.Server || e.Mesh4 != netip.MustParseAddr("10.210.0.1") || !strings.HasPrefix(e.Etcd[0], "https://127.0.0.1:") {
		t.Errorf("enrolled as %+v", e)
	}
	nodes, err := s.Registry.Nodes(t.Context())
	check(t, err)
	if len(nodes) != 1 || !slices.Equal(nodes[0].Fact.Addresses, []netip.Addr{server4, server6}) || !nodes[0].Fact.Server {
		t.Errorf("facts: %+v", nodes)
	}
	cfg, err := client.TLS(e)
	check(t, err)
	for _, name := range []string{"192.0.2.1", "2001:db8::1", e.Mesh4.String(), e.Mesh6.String(), "localhost", "s1", "vms.mesh.cilium.io"} {
		cfg.ServerName = name
		c, err := tls.Dial("tcp", "192.0.2.1:2379", cfg)
		if err != nil {
			t.Errorf("etcd as %s: %v", name, err)
			continue
		}
		c.Close()
	}
	cfg.ServerName = ""
	for _, address := range []string{"192.0.2.1:2379", "[2001:db8::1]:2379", "192.0.2.1:7443", "[2001:db8::1]:7443"} {
		c, err := tls.Dial("tcp", address, cfg)
		if err != nil {
			t.Errorf("reach %s: %v", address, err)
			continue
		}
		c.Close()
	}
	if _, err := net.DialTimeout("tcp", "192.0.2.1:2380", time.Second); err == nil {
		t.Error("etcd's peer port is open to hosts")
	}
}

// checkPeerPort makes sure that no process of the server's machine, with or
// without a host's certificate, can speak to etcd as one of its members: what
// these say is written without asking which user it is.
func checkPeerPort(t *testing.T, stateDir string, e control.Enrolment) {
	t.Helper()
	host, err := client.TLS(e)
	check(t, err)
	own, err := filesIn(stateDir).clientTLS()
	check(t, err)
	for name, tt := range map[string]struct {
		scheme string
		cfg    *tls.Config
		open   bool
	}{
		"in plaintext":             {"http", nil, false},
		"without a certificate":    {"https", &tls.Config{RootCAs: host.RootCAs}, false},
		"with a host's":            {"https", host, false},
		"with the server's, as it": {"https", own, true},
	} {
		transport := &http.Transport{TLSClientConfig: tt.cfg}
		resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get(tt.scheme + "://127.0.0.1:2380/members")
		if err == nil {
			resp.Body.Close()
		}
		if opened := err == nil && resp.StatusCode == http.StatusOK; opened != tt.open {
			t.Errorf("peer port %s: open %v, %v; want open %v", name, opened, err, tt.open)
		}
		transport.CloseIdleConnections()
	}
}

func join(t *testing.T, s *Server) control.Enrolment {
	t.Helper()
	text, _, err := s.Registry.CreateToken(t.Context(), registry.TokenOptions{Labels: map[string]string{"app": "web"}})
	check(t, err)
	tok, err := token.Parse(text)
	check(t, err)
	if !slices.Equal(tok.Servers, []string{"192.0.2.1:7443", "[2001:db8::1]:7443"}) {
		t.Errorf("token names %v", tok.Servers)
	}
	e, err := client.Join(t.Context(), client.Request{Token: tok, Node: "web-1", Addresses: []netip.Addr{host4, host6}, Key: mesh.Key{2}, Version: "1"})
	check(t, err)
	return e
}

// shown makes the host show itself, and looks for the facts with its own
// certificate through the addresses that it was given.
func shown(t *testing.T, s *Server, e control.Enrolment) {
	t.Helper()
	want := []netip.Addr{host4, host6}
	seen, err := client.ReportAddresses(t.Context(), e, want)
	check(t, err)
	if !slices.Equal(seen, want) {
		t.Errorf("seen at %v", seen)
	}
	cfg, err := client.TLS(e)
	check(t, err)
	store, err := kvstore.Open(kvstore.Options{Endpoints: e.Etcd, TLS: cfg, Logger: kvtest.Logger(t)})
	check(t, err)
	defer store.Close()
	wait(t, "the host's addresses become facts", func() bool {
		kv, _, err := store.Get(t.Context(), schema.Layout{Cluster: "vms"}.Node("web-1"))
		check(t, err)
		n, err := schema.DecodeNode(vms, "web-1", kv.Value)
		check(t, err)
		return slices.Equal(n.Addresses, want)
	})
	if kv, _, err := store.Get(t.Context(), schema.HeartbeatKey); err != nil || len(kv.Value) == 0 {
		t.Errorf("heartbeat: %s, %v", kv.Value, err)
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 0 {
		t.Errorf("left in %s: %v", dir, entries)
	}
}

func TestInitRefusals(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for name, tt := range map[string]struct {
		change func(*Options)
		says   string
	}{
		"cluster name": {func(o *Options) { o.Cluster.Name = "A B" }, "cluster name"},
		"cluster id":   {func(o *Options) { o.Cluster.ID = 200 }, "cluster id 200"},
		"node name":    {func(o *Options) { o.Node = "a/b" }, "node name"},
		"namespace":    {func(o *Options) { o.Namespace = "A" }, "namespace"},
		"label":        {func(o *Options) { o.Labels = map[string]string{"io.cilium.x": "y"} }, "label key"},
		"pool":         {func(o *Options) { o.Pool4 = netip.MustParsePrefix("192.0.0.0/16") }, "holds this host's own address 192.0.2.1"},
		"no address":   {func(o *Options) { o.Addresses = nil }, "--advertise"},
		"loopback":     {func(o *Options) { o.Advertise = []netip.Addr{netip.MustParseAddr("127.0.0.1")} }, "--advertise"},
		"no key":       {func(o *Options) { o.Key = mesh.Key{} }, "WireGuard key"},
		"same ports":   {func(o *Options) { o.Ports.API = 2379 }, "must differ"},
	} {
		o := options(t)
		tt.change(&o)
		s, _, err := Init(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		if s != nil {
			_ = s.Close()
		}
		empty(t, o.StateDir)
	}
}

func TestInitFailuresLeaveNothing(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, address := range []string{"0.0.0.0:7443", "192.0.2.1:2379", "127.0.0.1:2380"} {
		l, err := net.Listen("tcp", address)
		check(t, err)
		o := options(t)
		if _, _, err := Init(t.Context(), o); err == nil || !strings.Contains(err.Error(), "port is in use") {
			t.Errorf("%s is taken: %v", address, err)
		}
		check(t, l.Close())
		empty(t, o.StateDir)
	}
	o := options(t)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if s, _, err := Init(ctx, o); err == nil {
		_ = s.Close()
		t.Error("made a mesh in no time")
	}
	empty(t, o.StateDir)

	s, _, err := Init(t.Context(), o) // the failures above hold no port
	check(t, err)
	key, err := os.ReadFile(filepath.Join(o.StateDir, "ca", "ca.key"))
	check(t, err)
	check(t, s.Close())
	if _, _, err := Init(t.Context(), o); err == nil || !strings.Contains(err.Error(), "part of a mesh already") {
		t.Errorf("a second init: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(o.StateDir, "ca", "ca.key")); err != nil || string(after) != string(key) {
		t.Errorf("the CA was touched: %v", err)
	}
}

func TestStartWithoutInit(t *testing.T) {
	if _, err := Start(t.Context(), t.TempDir(), kvtest.Logger(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if Made(t.TempDir()) {
		t.Error("an empty directory is a server's")
	}
}
