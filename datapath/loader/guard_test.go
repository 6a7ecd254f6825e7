package loader

import (
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// TestGuards feeds packets that no policy can allow, under one that allows all.
func TestGuards(t *testing.T) {
	const (
		forwarded   = bpfobj.PlexusDropReasonDROP_NONE
		outside     = bpfobj.PlexusDropReasonDROP_MESH_SOURCE_OUTSIDE
		plaintext   = bpfobj.PlexusDropReasonDROP_PLAINTEXT
		local       = bpfobj.PlexusDropReasonDROP_LOCAL_SOURCE
		source      = bpfobj.PlexusDropReasonDROP_TUNNEL_SOURCE
		destination = bpfobj.PlexusDropReasonDROP_TUNNEL_DESTINATION
	)
	addresses := []struct{ name, us, node, stranger, mesh, ours string }{
		{"IPv4", "192.0.2.1", "192.0.2.9", "198.51.100.7", "10.210.0.2", "10.210.0.1"},
		{"IPv6", "2001:db8::1", "2001:db8::9", "2001:db8:2::7", "fd00::2", "fd00::1"},
	}
	netnstest.Run(t, func() {
		h := newHost(t)
		for _, a := range addresses {
			bits := map[string]string{"IPv4": "/32", "IPv6": "/128"}[a.name]
			h.peers(map[string]datapath.Peer{
				a.us + bits: {Identity: 300, Flags: datapath.PeerLocal}, a.node + bits: {Identity: 301},
				a.mesh + bits: {Identity: 301, Flags: datapath.PeerMesh}, a.ours + bits: {Identity: 300, Flags: datapath.PeerLocal | datapath.PeerMesh},
			})
			h.load(rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 1}}.set())
			for i, tt := range []struct {
				name     string
				feed     func([]byte) uint32
				src, dst string
				want     bpfobj.PlexusDropReason
			}{
				{"node address outside", h.fromNetdev, a.node, a.us, forwarded},
				{"stranger outside", h.fromNetdev, a.stranger, a.us, forwarded},
				{"mesh address outside", h.fromNetdev, a.mesh, a.us, outside},
				{"our node address as source", h.fromNetdev, a.us, a.us, local},
				{"our mesh address as source", h.fromNetdev, a.ours, a.ours, local},
				{"to a node address", h.toNetdev, a.us, a.node, forwarded},
				{"to a mesh address, plain", h.toNetdev, a.us, a.mesh, plaintext},
				{"mesh address in the tunnel", h.fromTunnel, a.mesh, a.ours, forwarded},
				{"node address in the tunnel", h.fromTunnel, a.node, a.ours, source},
				{"stranger in the tunnel", h.fromTunnel, a.stranger, a.ours, source},
				{"our mesh address in the tunnel", h.fromTunnel, a.ours, a.ours, source},
				{"into the tunnel", h.toTunnel, a.ours, a.mesh, forwarded},
				{"into the tunnel, to a stranger", h.toTunnel, a.ours, a.stranger, destination},
				{"into the tunnel, to ourselves", h.toTunnel, a.ours, a.ours, destination},
			} {
				t.Run(a.name+"/"+tt.name, func(t *testing.T) {
					h.t = t
					h.drain()
					verdict := tt.feed(packet{src: tt.src, dst: tt.dst, proto: tcp, sport: uint16(i), dport: 22, flags: syn}.frame())
					ev := h.drain()
					if len(ev) != 1 || bpfobj.PlexusDropReason(ev[0].Reason) != tt.want || (verdict == drop) != (tt.want != forwarded) {
						t.Errorf("verdict %d, events %+v; want %s", verdict, ev, tt.want)
					}
				})
			}
			h.t = t
		}
	})
}

// TestNeighbourDiscovery shows that ND passes on a link under any policy, even
// from our own address (duplicate address detection), and is judged in the tunnel.
func TestNeighbourDiscovery(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.peers(map[string]datapath.Peer{"fe80::1/128": {Identity: 1, Flags: datapath.PeerLocal}, "fd00::2/128": {Identity: 300, Flags: datapath.PeerMesh}})
		h.load(rules{all(0, policy.Ingress): {Deny: true, Rule: 1}, all(0, policy.Egress): {Deny: true, Rule: 1}}.set())
		for kind := uint8(133); kind <= 137; kind++ {
			for _, src := range []string{"fe80::9", "::", "fe80::1"} {
				nd := packet{src: src, dst: "ff02::1", proto: icmp6, icmp: [2]uint8{kind}, hops: 255, payload: make([]byte, 24)}
				if h.fromNetdev(nd.frame()) != pass || h.toNetdev(nd.frame()) != pass || h.toTunnel(nd.frame()) != pass {
					t.Errorf("type %d from %s was dropped", kind, src)
				}
			}
			nd := packet{src: "fd00::2", dst: "fd00::1", proto: icmp6, hops: 255, icmp: [2]uint8{kind}}
			if h.fromTunnel(nd.frame()) != drop {
				t.Errorf("type %d out of the tunnel passed", kind)
			}
		}
		if ev := h.drain(); len(ev) != 5 {
			t.Errorf("%d events, want those of the 5 drops", len(ev))
		}
		for name, p := range map[string]packet{
			"type 132":              {hops: 255, icmp: [2]uint8{132}},
			"type 138":              {hops: 255, icmp: [2]uint8{138}},
			"what crossed a router": {hops: 254, icmp: [2]uint8{135}},
			"a fragment":            {hops: 255, icmp: [2]uint8{135}, extensions: []uint8{fragmentHeader}, fragment: fragment{more: true}},
		} {
			p.src, p.dst, p.proto = "fe80::9", "ff02::1", icmp6
			if h.fromNetdev(p.frame()) != drop {
				t.Errorf("%s passed as neighbour discovery", name)
			}
		}
	})
}

func TestCountersCountEverything(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Ingress, udp, 53): {Rule: 1}}.set())
		p := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: udp, sport: 9, dport: 53}
		for range 3 {
			h.fromNetdev(p.frame())
		}
		h.toNetdev(p.reply().frame())
		p.dport = 54
		h.fromNetdev(p.frame())
		h.fromTunnel(p.frame())
		arp := append(make([]byte, 12), 0x08, 0x06)
		h.fromNetdev(append(arp, make([]byte, 28)...))
		got, err := h.maps.Counters.List()
		if err != nil {
			t.Fatal(err)
		}
		want := []datapath.Counter{
			{Direction: policy.Ingress, Reason: "forwarded", Packets: 4, Bytes: 3*28 + 28},
			{Direction: policy.Egress, Reason: "forwarded", Packets: 1, Bytes: 28},
			{Direction: policy.Ingress, Reason: "policy denied", Packets: 1, Bytes: 28},
			{Direction: policy.Ingress, Reason: "unknown tunnel source", Tunnel: true, Packets: 1, Bytes: 28},
		}
		if len(got) != len(want) {
			t.Fatalf("counters %+v, want %+v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("counter %+v, want %+v", got[i], want[i])
			}
		}
	})
}

// TestFullRingIsCounted fills the ring of events, which nobody reads.
func TestFullRingIsCounted(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		p := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: udp, sport: 9, dport: 53}
		const packets = 1<<20/72 + 1 // more than fit, whatever the ring's own headers take
		for range packets {
			h.fromNetdev(p.frame())
		}
		lost, err := h.maps.Counters.EventsLost()
		if err != nil || lost == 0 {
			t.Errorf("%d events lost, %v", lost, err)
		}
		if got := uint64(len(h.drain())); got+lost != packets {
			t.Errorf("%d events read and %d lost, of %d", got, lost, packets)
		}
	})
}
