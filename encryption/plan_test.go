package encryption_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/mesh"
)

const self = "m/self"

// node returns a node of cluster m whose key starts with key; 0 is none.
func node(name string, key byte, addrs ...string) mesh.Node {
	n := mesh.Node{Name: name, Cluster: mesh.Cluster{Name: "m", ID: 1}, Key: mesh.Key{key}, Port: 51871}
	for _, a := range addrs {
		n.Addresses = append(n.Addresses, netip.MustParseAddr(a))
	}
	return n
}

func behind(prefix, host string) mesh.Endpoint {
	return mesh.Endpoint{Prefix: netip.MustParsePrefix(prefix), Host: netip.MustParseAddr(host), Key: mesh.EncryptedWireGuard}
}

// describe renders a plan, a line a peer or refusal.
func describe(peers map[mesh.Key]encryption.Peer, refused []encryption.Refusal) string {
	var lines []string
	for _, p := range peers {
		lines = append(lines, fmt.Sprintf("%s %s %v", p.Node, p.Endpoint, p.AllowedIPs))
	}
	slices.Sort(lines)
	for _, r := range refused {
		lines = append(lines, "! "+r.String())
	}
	return strings.Join(lines, "\n")
}

func TestPlan(t *testing.T) {
	me := node("self", 1, "192.0.2.1", "2001:db8::1")
	key2, key1 := mesh.Key{2}.String(), mesh.Key{1}.String()
	for _, tt := range []struct {
		name      string
		nodes     []mesh.Node
		endpoints []mesh.Endpoint
		want      string
	}{
		{"alone", []mesh.Node{me}, []mesh.Endpoint{behind("10.0.0.1/32", "192.0.2.1")}, ""},
		{"prefixes of either address, sorted, once",
			[]mesh.Node{me, node("b", 2, "2001:db8::2", "192.0.2.2")},
			[]mesh.Endpoint{behind("fd00::2/128", "192.0.2.2"), behind("10.0.0.2/32", "2001:db8::2"), behind("10.0.0.2/32", "192.0.2.2"), behind("10.9.8.7/16", "192.0.2.2")},
			"m/b 192.0.2.2:51871 [10.0.0.2/32 10.9.0.0/16 fd00::2/128]"},
		{"nobody's endpoint", []mesh.Node{me, node("b", 2, "192.0.2.2")}, []mesh.Endpoint{behind("10.0.0.9/32", "192.0.2.9")}, "m/b 192.0.2.2:51871 []"},
		{"only IPv6", []mesh.Node{me, node("b", 2, "2001:db8::2")}, nil, "m/b [2001:db8::2]:51871 []"},
		{"no common family", []mesh.Node{node("self", 1, "192.0.2.1"), node("b", 2, "2001:db8::2")}, nil,
			"! node m/b: it has no node address of a family that this host has"},
		{"we know no address of our own", []mesh.Node{node("b", 2, "2001:db8::2")}, nil, "m/b [2001:db8::2]:51871 []"},
		{"duplicate key", []mesh.Node{me, node("b", 2, "192.0.2.2"), node("c", 2, "192.0.2.3")}, nil,
			"! node m/b: its WireGuard key " + key2 + " is published by m/b and m/c: make new keys on all but one\n" +
				"! node m/c: its WireGuard key " + key2 + " is published by m/b and m/c: make new keys on all but one"},
		{"our key", []mesh.Node{me, node("b", 1, "192.0.2.2")}, nil,
			"! node m/b: it publishes the WireGuard key " + key1 + " of this host: make a new key on it"},
		{"no key, no address", []mesh.Node{me, node("b", 0, "192.0.2.2"), node("c", 0, "192.0.2.3"), node("d", 4)}, nil,
			"! node m/b: it has published no WireGuard key\n! node m/c: it has published no WireGuard key\n! node m/d: it has no node address"},
		{"disputed prefix", []mesh.Node{me, node("b", 2, "192.0.2.2"), node("c", 3, "192.0.2.3")},
			[]mesh.Endpoint{behind("10.0.0.9/32", "192.0.2.2"), behind("10.0.0.9/32", "192.0.2.3"), behind("10.0.0.0/24", "192.0.2.3")},
			"m/b 192.0.2.2:51871 []\nm/c 192.0.2.3:51871 [10.0.0.0/24]\n" +
				"! prefix 10.0.0.9/32 of node m/b: it is claimed by m/b and m/c\n! prefix 10.0.0.9/32 of node m/c: it is claimed by m/b and m/c"},
		{"disputed with us", []mesh.Node{me, node("b", 2, "192.0.2.2")},
			[]mesh.Endpoint{behind("10.0.0.1/32", "192.0.2.1"), behind("10.0.0.1/32", "192.0.2.2")},
			"m/b 192.0.2.2:51871 []\n! prefix 10.0.0.1/32 of node m/b: it is claimed by m/b and m/self"},
		{"disputed with a refused node", []mesh.Node{me, node("b", 2, "192.0.2.2"), node("c", 0, "192.0.2.3")},
			[]mesh.Endpoint{behind("10.0.0.9/32", "192.0.2.2"), behind("10.0.0.9/32", "192.0.2.3")},
			"m/b 192.0.2.2:51871 []\n! node m/c: it has published no WireGuard key\n" +
				"! prefix 10.0.0.9/32 of node m/b: it is claimed by m/b and m/c\n! prefix 10.0.0.9/32 of node m/c: it is claimed by m/b and m/c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := describe(encryption.Plan(tt.nodes, tt.endpoints, self, encryption.Options{}))
			want := strings.Split(tt.want, "\n")
			slices.SortFunc(want, refusalsLast)
			lines := strings.Split(got, "\n")
			slices.SortFunc(lines, refusalsLast)
			if diff := cmp.Diff(want, lines); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// refusalsLast orders lines of describe.
func refusalsLast(a, b string) int {
	if x, y := strings.HasPrefix(a, "!"), strings.HasPrefix(b, "!"); x != y {
		if x {
			return 1
		}
		return -1
	}
	return strings.Compare(a, b)
}

func TestPlanOptions(t *testing.T) {
	n := node("b", 2, "192.0.2.2", "2001:db8::2")
	n.Port = 0
	peers, _ := encryption.Plan([]mesh.Node{n}, nil, self, encryption.Options{Families: encryption.IPv6, Keepalive: 25 * time.Second})
	want := map[mesh.Key]encryption.Peer{{2}: {Node: "m/b", Key: mesh.Key{2}, Endpoint: netip.MustParseAddrPort("[2001:db8::2]:51871"), Keepalive: 25 * time.Second}}
	if diff := cmp.Diff(want, peers, cmp.Comparer(encryption.Peer.Equal)); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
}

// world draws a small mesh in which names, keys, addresses and prefixes collide.
func world(r *rand.Rand) (nodes []mesh.Node, endpoints []mesh.Endpoint) {
	for i := range 1 + r.IntN(6) {
		name := fmt.Sprintf("n%d", i)
		if i == 0 {
			name = "self"
		}
		nodes = append(nodes, node(name, byte(r.IntN(7)), fmt.Sprintf("192.0.2.%d", r.IntN(7)), fmt.Sprintf("2001:db8::%d", r.IntN(7))))
	}
	for range r.IntN(12) {
		endpoints = append(endpoints, behind(fmt.Sprintf("10.0.0.%d/%d", r.IntN(8), 30+r.IntN(3)), fmt.Sprintf("192.0.2.%d", r.IntN(7))))
	}
	return nodes, endpoints
}

// TestPlanProperties checks on random meshes what must hold of every plan.
func TestPlanProperties(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		nodes, endpoints := world(r)
		peers, refused := encryption.Plan(nodes, endpoints, self, encryption.Options{})
		checkSafe(t, seed, nodes, peers, refused)
		want := describe(peers, refused)
		r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		r.Shuffle(len(endpoints), func(i, j int) { endpoints[i], endpoints[j] = endpoints[j], endpoints[i] })
		if got := describe(encryption.Plan(nodes, endpoints, self, encryption.Options{})); got != want {
			t.Fatalf("seed %d: the plan depends on order:\n%s\n\n%s", seed, want, got)
		}
		if t.Failed() {
			return
		}
	}
}

// checkSafe: each key has one holder, which is not us; each prefix has one peer;
// each other node is a peer or refused, never both.
func checkSafe(t *testing.T, seed uint64, nodes []mesh.Node, peers map[mesh.Key]encryption.Peer, refused []encryption.Refusal) {
	t.Helper()
	holders, outcome := make(map[mesh.Key]int), make(map[string]int)
	for _, n := range nodes {
		holders[n.Key]++
	}
	owner := make(map[netip.Prefix]string)
	for key, p := range peers {
		outcome[p.Node]++
		if key != p.Key || key.IsZero() || holders[key] != 1 || p.Node == self || !p.Endpoint.IsValid() {
			t.Errorf("seed %d: unsafe peer %+v", seed, p)
		}
		for _, a := range p.AllowedIPs {
			if owner[a] != "" {
				t.Errorf("seed %d: %s belongs to %s and %s", seed, a, owner[a], p.Node)
			}
			owner[a] = p.Node
		}
	}
	for _, r := range refused {
		if !r.Prefix.IsValid() {
			outcome[r.Node]++
		} else if owner[r.Prefix] != "" {
			t.Errorf("seed %d: refused prefix %s is with %s", seed, r.Prefix, owner[r.Prefix])
		}
	}
	for _, n := range nodes {
		if n.ID() != self && outcome[n.ID()] != 1 {
			t.Errorf("seed %d: node %s has %d outcomes, want one", seed, n.ID(), outcome[n.ID()])
		}
	}
}

func TestMTU(t *testing.T) {
	for _, tt := range []struct {
		uplink, want int
		warns        bool
	}{{1500, 1420, false}, {9000, 8920, false}, {1360, 1280, false}, {1359, 1280, true}, {1280, 1280, true}, {0, 1280, true}} {
		got, warning := encryption.MTU(tt.uplink, encryption.Overhead)
		if got != tt.want || (warning != "") != tt.warns {
			t.Errorf("MTU(%d) = %d, %q; want %d, a warning %t", tt.uplink, got, warning, tt.want, tt.warns)
		}
	}
}

func BenchmarkPlan5000(b *testing.B) {
	var nodes []mesh.Node
	var endpoints []mesh.Endpoint
	for i := range 5000 {
		host := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
		n := mesh.Node{Name: fmt.Sprint(i), Addresses: []netip.Addr{host}, Key: mesh.Key{1, byte(i >> 8), byte(i)}}
		nodes = append(nodes, n)
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})} {
			endpoints = append(endpoints, mesh.Endpoint{Prefix: mesh.HostPrefix(a), Host: host})
		}
	}
	for b.Loop() {
		if peers, _ := encryption.Plan(nodes, endpoints, "/0", encryption.Options{}); len(peers) != 4999 {
			b.Fatalf("%d peers", len(peers))
		}
	}
}
