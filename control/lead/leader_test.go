package lead

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

var (
	vms    = mesh.Cluster{Name: "vms", ID: 7}
	layout = schema.Layout{Cluster: "vms"}
	seen   = netip.MustParseAddr("192.0.2.11")
)

type fixture struct {
	t         *testing.T
	etcd      *kvtest.Server
	store     *kvstore.Client
	registry  *registry.Service
	authority *ca.Authority
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, etcd: kvtest.StartAuth(t)}
	f.store = f.etcd.Client(t)
	var err error
	f.authority, err = ca.New("vms")
	f.must(err)
	f.registry, err = registry.New(registry.Options{Store: f.store, CA: f.authority, Logger: kvtest.Logger(t)})
	f.must(err)
	config, err := schema.EncodeMeshConfig(schema.MeshConfig{
		Cluster: vms, Pool4: control.DefaultPool4, Pool6: control.NewPool6(), Version: schema.Version,
		Etcd: []string{f.etcd.Endpoint()}, Servers: []string{"192.0.2.1:7443"},
	})
	f.must(err)
	_, err = f.store.Commit(t.Context(), nil, []kvstore.Op{kvstore.OpPut(schema.ConfigKey, config, 0), kvstore.OpPut(schema.EnrolmentKey, []byte("1"), 0)})
	f.must(err)
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) enrol(node string) {
	f.t.Helper()
	key, err := ca.NewKey()
	f.must(err)
	csr, err := ca.NewRequest(key)
	f.must(err)
	c := mesh.Claim{Node: node, Addresses: []netip.Addr{seen}, Port: 51871, Version: "1"}
	copy(c.Key[:], node)
	_, err = f.registry.EnrolServer(f.t.Context(), registry.ServerHost{Claim: c, CSR: csr, Namespace: "default"})
	f.must(err)
}

// run leads as node until the returned function is called.
func (f *fixture) run(node string) (stop func()) {
	f.t.Helper()
	l, err := New(Options{Store: f.etcd.Client(f.t), Hosts: f.registry, Policies: f.registry, Cluster: vms, Node: node, Logger: kvtest.Logger(f.t)})
	f.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("leader %s: %v", node, err)
		}
	})
	f.t.Cleanup(stop)
	return stop
}

func (f *fixture) wait(what string, done func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !done(); {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond) // polling with a deadline
	}
}

func (f *fixture) get(key string) (kvstore.KV, bool) {
	f.t.Helper()
	kv, found, err := f.store.Get(f.t.Context(), key)
	f.must(err)
	return kv, found
}

// claims writes a claim of port as its host does, and waits for the fact.
func (f *fixture) claims(node string, port uint16) {
	f.t.Helper()
	c := mesh.Claim{Node: node, Addresses: []netip.Addr{seen}, Port: port, Version: "1"}
	copy(c.Key[:], node)
	value, err := schema.EncodeClaim(c)
	f.must(err)
	kv, _ := f.get(schema.HostKey(node))
	host, err := schema.DecodeHost(node, kv.Value)
	f.must(err)
	_, err = f.etcd.ClientAs(f.t, host.User()).Put(f.t.Context(), schema.ClaimKey(node), value, 0)
	f.must(err)
	f.wait("the claim becomes a fact", func() bool {
		kv, _ := f.get(layout.Node(node))
		n, err := schema.DecodeNode(vms, node, kv.Value)
		f.must(err)
		return n.Port == port && slices.Equal(n.Addresses, []netip.Addr{seen})
	})
}

func TestLeaderAnnouncesAfterFacts(t *testing.T) {
	f := newFixture(t)
	f.enrol("a")
	// As if a server died before it settled: the node record is missing.
	f.must(f.store.Delete(t.Context(), layout.Node("a")))
	f.run("s1")
	f.wait("a heartbeat", func() bool { _, found := f.get(schema.HeartbeatKey); return found })
	node, found := f.get(layout.Node("a"))
	if !found {
		t.Fatal("the fact is not restored")
	}
	for _, r := range schema.Resources() {
		canary, found := f.get(layout.Synced(r))
		if _, err := schema.DecodeTime(canary.Key, canary.Value); err != nil || !found || canary.CreateRevision <= node.ModRevision {
			t.Errorf("canary %s: %+v, %v", r, canary, err)
		}
	}
	kv, _ := f.get(schema.ClusterConfigKey("vms"))
	config, err := schema.DecodeClusterConfig("vms", kv.Value)
	if err != nil || config.ID != 7 || !config.SyncedCanaries || config.Cached || config.MaxClusters != 255 {
		t.Errorf("cluster config %+v, %v", config, err)
	}
	beat, _ := f.get(schema.HeartbeatKey)
	if at, err := schema.DecodeTime(beat.Key, beat.Value); err != nil || time.Since(at) > time.Minute {
		t.Errorf("heartbeat %v, %v", at, err)
	}
}

func TestLeadershipMovesAndFactsStand(t *testing.T) {
	f := newFixture(t)
	f.enrol("a")
	stop := f.run("s1")
	f.wait("a leader", func() bool { _, found := f.get(schema.HeartbeatKey); return found })
	f.claims("a", 1001)
	stop()
	if kv, found := f.get(layout.Node("a")); !found {
		t.Errorf("the fact is gone without a leader: %v", kv)
	}
	f.run("s2")
	f.claims("a", 1002)
}

func TestLeaderSurvivesAnOutage(t *testing.T) {
	f := newFixture(t)
	f.enrol("a")
	f.run("s1")
	f.claims("a", 1001)
	f.etcd.Restart(t)
	f.claims("a", 1002)
}

// unwell fails to settle until it has been asked a few times, and to sweep always.
type unwell struct {
	mu    sync.Mutex
	asked int
}

func (u *unwell) Settle(context.Context) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asked++; u.asked < 3 {
		return 0, errors.New("planted")
	}
	return 0, nil
}
func (u *unwell) Sweep(context.Context) error { return errors.New("planted") }

// Nothing is announced before the facts are right, but the mesh shows that it
// lives, and what cannot be swept holds up neither.
func TestDutiesAreTriedAgain(t *testing.T) {
	f := newFixture(t)
	u := &unwell{}
	l, err := New(Options{Store: f.store, Hosts: u, Policies: f.registry, Cluster: vms, Node: "s1", Logger: kvtest.Logger(t)})
	f.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.serve(ctx, nil) }()
	var config kvstore.KV
	f.wait("the cluster config", func() (found bool) { config, found = f.get(schema.ClusterConfigKey("vms")); return found })
	cancel()
	<-done
	if u.asked < 3 {
		t.Errorf("asked %d times before announcing", u.asked)
	}
	if beat, found := f.get(schema.HeartbeatKey); !found || beat.CreateRevision > config.CreateRevision {
		t.Error("no heartbeat while the facts are not right")
	}
}
