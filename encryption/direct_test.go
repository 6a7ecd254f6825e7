package encryption_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/mesh"
)

// open returns a node that takes all its addresses through the tunnel.
func open(name string, key byte, addrs ...string) mesh.Node {
	n := node(name, key, addrs...)
	n.Direct = n.Addresses
	return n
}

func TestDirect(t *testing.T) {
	me := open("self", 1, "192.0.2.1", "2001:db8::1")
	both := map[string]string{"m/self": "192.0.2.1 2001:db8::1", "m/b": "192.0.2.2 2001:db8::2"}
	alone := map[string]string{"m/self": "192.0.2.1 2001:db8::1"}
	far := open("b", 2, "192.0.2.2", "2001:db8::2")
	far.Cluster.Name = "other"
	part := node("b", 2, "192.0.2.2", "198.51.100.2")
	part.Direct = part.Addresses[:1]
	liar := node("b", 2, "192.0.2.2")
	liar.Direct = []netip.Addr{netip.MustParseAddr("192.0.2.77")}
	for _, tt := range []struct {
		name      string
		nodes     []mesh.Node
		endpoints []mesh.Endpoint
		want      map[string]string
	}{
		{"both families", []mesh.Node{me, open("b", 2, "192.0.2.2", "2001:db8::2")}, nil, both},
		{"twice the same", []mesh.Node{me, open("b", 2, "192.0.2.2", "2001:db8::2", "192.0.2.2")}, nil, both},
		{"this host is not known", []mesh.Node{open("b", 2, "192.0.2.2")}, nil, map[string]string{}},
		{"this host does not take part", []mesh.Node{node("self", 1, "192.0.2.1"), open("b", 2, "192.0.2.2")}, nil, map[string]string{}},
		{"the other does not", []mesh.Node{me, node("b", 2, "192.0.2.2")}, nil, alone},
		{"a family that this host has not", []mesh.Node{open("self", 1, "192.0.2.1"), open("b", 2, "192.0.2.2", "2001:db8::2")}, nil,
			map[string]string{"m/self": "192.0.2.1", "m/b": "192.0.2.2"}},
		{"an address that only translation has", []mesh.Node{me, part}, nil, map[string]string{"m/self": "192.0.2.1 2001:db8::1", "m/b": "192.0.2.2"}},
		{"an address that is not the node's", []mesh.Node{me, liar}, nil, alone},
		{"an address of two nodes", []mesh.Node{me, open("b", 2, "192.0.2.2"), node("c", 3, "192.0.2.2")}, nil, alone},
		{"ours, of another too", []mesh.Node{me, open("b", 2, "192.0.2.2"), node("c", 3, "192.0.2.1")}, nil, map[string]string{"m/self": "2001:db8::1"}},
		{"an endpoint at it", []mesh.Node{me, open("b", 2, "192.0.2.2")}, []mesh.Endpoint{behind("192.0.2.2/32", "192.0.2.2")}, alone},
		{"a prefix around it", []mesh.Node{me, open("b", 2, "192.0.2.2")}, []mesh.Endpoint{behind("192.0.2.0/24", "192.0.2.1")},
			map[string]string{"m/self": "192.0.2.1 2001:db8::1", "m/b": "192.0.2.2"}},
		{"a key of two", []mesh.Node{me, open("b", 2, "192.0.2.2"), node("c", 2, "192.0.2.3")}, nil, alone},
		{"no key", []mesh.Node{me, open("b", 0, "192.0.2.2")}, nil, alone},
		{"another cluster", []mesh.Node{me, far}, nil, alone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(map[string]string)
			for id, addrs := range encryption.Direct(tt.nodes, tt.endpoints, self) {
				for _, a := range addrs {
					if got[id] != "" {
						got[id] += " "
					}
					got[id] += a.String()
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("direct addresses (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDirectIsMutual: what one side sends into the tunnel, the other takes out
// of it and answers there.
func TestDirectIsMutual(t *testing.T) {
	worlds := [][]mesh.Node{
		{open("a", 1, "192.0.2.1", "2001:db8::1"), open("b", 2, "192.0.2.2")},
		{open("a", 1, "2001:db8::1"), open("b", 2, "192.0.2.2")},
		{open("a", 1, "192.0.2.1"), open("b", 2, "192.0.2.2", "192.0.2.3"), node("c", 3, "192.0.2.3")},
		{open("a", 1, "192.0.2.1"), open("b", 2, "192.0.2.2"), open("c", 2, "192.0.2.3")},
		{open("a", 1, "192.0.2.1", "2001:db8::1"), node("b", 2, "192.0.2.2", "2001:db8::2"), open("c", 3, "2001:db8::3")},
	}
	for i, nodes := range worlds {
		views := make(map[string]map[string][]netip.Addr)
		for _, n := range nodes {
			views[n.ID()] = encryption.Direct(nodes, nil, n.ID())
		}
		for a, view := range views {
			for b := range maps.Keys(view) {
				there, back := encryption.FamiliesOf(views[a][b]), encryption.FamiliesOf(views[b][a])
				if a != b && there != back {
					t.Errorf("world %d: %s reaches %s in families %b, and %[3]s reaches %[2]s in %[5]b", i, a, b, there, back)
				}
			}
		}
	}
}

func TestPeersMayUseTheirDirectAddresses(t *testing.T) {
	nodes := []mesh.Node{open("self", 1, "192.0.2.1"), open("b", 2, "192.0.2.2", "2001:db8::2"), node("c", 3, "192.0.2.3")}
	endpoints := []mesh.Endpoint{behind("10.0.0.2/32", "192.0.2.2"), behind("10.0.0.3/32", "192.0.2.3")}
	direct := encryption.Direct(nodes, endpoints, self)
	const want = "m/b 192.0.2.2:51871 [10.0.0.2/32 192.0.2.2/32]\nm/c 192.0.2.3:51871 [10.0.0.3/32]"
	if diff := cmp.Diff(want, describe(encryption.Plan(nodes, endpoints, self, encryption.Options{Direct: direct}))); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}
