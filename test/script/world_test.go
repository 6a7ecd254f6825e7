// Package script tells flows from etcd's events to the state of a host's kernel
// as scripts. State, plan, conductor, the WireGuard and the route driver are the
// real ones; etcd, the kernel below them and the BPF maps are fakes that keep
// state. It runs no daemon and needs no root.
package script

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/route/routetest"
	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/encryption/wg/wgtest"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
)

const tunnel = "plexus0"

var cluster = mesh.Cluster{Name: "east", ID: 1}

// world is what outlives an agent: etcd and the kernel of the host self.
type world struct {
	kv     *kvtest.Store
	gates  *gates
	wg     *wgtest.Kernel
	routes *routetest.Kernel
	// What the kernel's maps hold, and which devices programs are attached to.
	ipcache  *shelf[netip.Prefix, datapath.Peer]
	policy   *shelf[policy.Key, policy.Entry]
	links    *shelf[string, bool]
	key      encryption.PrivateKey
	revision uint64

	agent *agent // nil while none runs
	log   io.Writer
}

func newWorld(log io.Writer) *world {
	return &world{
		kv: kvtest.NewStore(), wg: wgtest.New(tunnel), routes: routetest.New(tunnel, "eth0"),
		ipcache: newShelf[netip.Prefix, datapath.Peer](), policy: newShelf[policy.Key, policy.Entry](), links: newShelf[string, bool](),
		key: encryption.NewPrivateKey(), gates: &gates{closed: make(map[string]chan struct{})}, log: log,
	}
}

func (w *world) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.log, nil)) }

// local is what the host self knows of itself.
func local() plan.Local {
	self := node("self", 1)
	return plan.Local{
		Node: self.Name, Cluster: cluster, Mesh4: self.Mesh4, Mesh6: self.Mesh6, Device: tunnel,
		Pools:   []netip.Prefix{netip.MustParsePrefix("10.210.0.0/16"), netip.MustParsePrefix("fd00::/64")},
		Uplinks: []string{"eth0"}, Addresses: self.Addresses, MTU: 1500,
	}
}

// node is host n: all its addresses end in that number.
func node(name string, n int) mesh.Node {
	return mesh.Node{
		Name: name, Cluster: cluster, Port: mesh.WireGuardPort, Key: keyOf(name),
		Addresses: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n))},
		Mesh4:     netip.MustParseAddr(fmt.Sprintf("10.210.0.%d", n)),
		Mesh6:     netip.MustParseAddr(fmt.Sprintf("fd00::%d", n)),
	}
}

// keyOf is a key that the fake of WireGuard shows by the first letter of name.
func keyOf(name string) mesh.Key { return mesh.Key{name[0] - 'a' + 'A'} }

// gates hold back what etcd says under a prefix.
type gates struct {
	mu     sync.Mutex
	closed map[string]chan struct{}
}

func (g *gates) hold(prefix string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed[prefix] = make(chan struct{})
}

func (g *gates) release(prefix string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.closed[prefix])
	delete(g.closed, prefix)
}

func (g *gates) at(prefix string) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed[prefix]
}

// gatedLister is etcd behind the gates: each connection begins at one.
type gatedLister struct {
	kv    *kvtest.Store
	gates *gates
}

func (l gatedLister) ListAndWatch(ctx context.Context, prefix string) iter.Seq[kvstore.Event] {
	return func(yield func(kvstore.Event) bool) {
		for l.pass(ctx, prefix) && l.connection(ctx, prefix, yield) {
		}
	}
}

// pass waits until the gate of prefix is open; false if ctx ended.
func (l gatedLister) pass(ctx context.Context, prefix string) bool {
	if gate := l.gates.at(prefix); gate != nil {
		select {
		case <-ctx.Done():
		case <-gate:
		}
	}
	return ctx.Err() == nil
}

// connection yields what etcd says until the watch is lost. It reports whether
// the consumer wants more.
func (l gatedLister) connection(ctx context.Context, prefix string, yield func(kvstore.Event) bool) bool {
	for ev := range l.kv.ListAndWatch(ctx, prefix) {
		if !yield(ev) {
			return false
		}
		if ev.Type == kvstore.Lost {
			break
		}
	}
	return ctx.Err() == nil
}
