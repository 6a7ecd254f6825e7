package loader

import (
	"testing"
	"time"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// member is this host and a direct peer in one family.
type member struct{ name, us, node, guest, group string }

var members = []member{
	{"IPv4", "192.0.2.1", "192.0.2.9", "172.16.0.2", "224.0.0.251"},
	{"IPv6", "2001:db8::1", "2001:db8::9", "fd77::2", "ff02::fb"},
}

// meet makes both known, the other as a direct peer or not.
func (h *host) meet(a member, direct bool) {
	h.t.Helper()
	bits, flags := map[string]string{"IPv4": "/32", "IPv6": "/128"}[a.name], datapath.PeerFlags(0)
	if direct {
		flags = datapath.PeerNode
	}
	h.peers(map[string]datapath.Peer{
		a.us + bits:   {Identity: 300, Flags: datapath.PeerLocal},
		a.node + bits: {Identity: 301, Flags: flags},
	})
}

// TestMembersSpeakInTheTunnel feeds packets between node addresses of members,
// under a policy that allows all.
func TestMembersSpeakInTheTunnel(t *testing.T) {
	const (
		forwarded = bpfobj.PlexusDropReasonDROP_NONE
		plaintext = bpfobj.PlexusDropReasonDROP_NODE_PLAINTEXT
		local     = bpfobj.PlexusDropReasonDROP_TUNNEL_LOCAL
	)
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 1}}.set())
		exempt := []datapath.Pinhole{
			{Direction: policy.Ingress, Protocol: udp, Port: 51871}, {Direction: policy.Egress, Protocol: tcp, Port: 7443},
		}
		if err := h.maps.Exemptions.Apply(exempt, nil); err != nil {
			t.Fatal(err)
		}
		for _, a := range members {
			h.meet(a, true)
			for i, tt := range []struct {
				name     string
				feed     func([]byte) uint32
				src, dst string
				proto    uint8
				port     uint16
				want     bpfobj.PlexusDropReason
			}{
				{"in, outside", h.fromNetdev, a.node, a.us, tcp, 22, plaintext},
				{"out, outside", h.toNetdev, a.us, a.node, tcp, 22, plaintext},
				{"in, exempt", h.fromNetdev, a.node, a.us, udp, 51871, forwarded},
				{"out, exempt the other way", h.toNetdev, a.us, a.node, udp, 51871, plaintext},
				{"out, exempt", h.toNetdev, a.us, a.node, tcp, 7443, forwarded},
				{"in, for a guest", h.fromNetdev, a.node, a.guest, tcp, 22, forwarded},
				{"in, for a group", h.fromNetdev, a.node, a.group, udp, 5353, forwarded},
				{"in, tunnel", h.fromTunnel, a.node, a.us, tcp, 22, forwarded},
				{"out, tunnel", h.toTunnel, a.us, a.node, tcp, 22, forwarded},
				{"out, tunnel, of a guest", h.toTunnel, a.guest, a.node, tcp, 22, local},
				{"in, tunnel, for a guest", h.fromTunnel, a.node, a.guest, tcp, 22, local},
			} {
				h.drain()
				verdict := tt.feed(packet{src: tt.src, dst: tt.dst, proto: tt.proto, sport: uint16(1000 + i), dport: tt.port, flags: syn}.frame())
				ev := h.drain()
				if len(ev) != 1 || bpfobj.PlexusDropReason(ev[0].Reason) != tt.want || (verdict == drop) != (tt.want != forwarded) {
					t.Errorf("%s, %s: verdict %d, events %+v; want %s", a.name, tt.name, verdict, ev, tt.want)
				}
			}
		}
	})
}

// TestFlowMovesWithItsPeer shows that a connection goes on in its direction when
// its packets begin to go through the tunnel, and when they leave it again,
// whichever side sends first, under a policy that would not allow the other.
func TestFlowMovesWithItsPeer(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(301, policy.Ingress, tcp, 22): {Rule: 1}}.set())
		for _, a := range members {
			h.forget()
			h.meet(a, false)
			in := packet{src: a.node, dst: a.us, proto: tcp, sport: 1000, dport: 22, flags: syn}
			h.fromNetdev(in.frame())
			in.flags = syn | ack
			h.toNetdev(in.reply().frame())
			in.flags = ack
			if h.fromNetdev(in.frame()) != pass || h.flow().State != "established" {
				t.Fatalf("%s: the connection did not open: %+v", a.name, h.flow())
			}
			h.meet(a, true)
			if h.toNetdev(in.reply().frame()) != drop || h.fromNetdev(in.frame()) != drop {
				t.Errorf("%s: it went on in plaintext", a.name)
			}
			if h.toTunnel(in.reply().frame()) != pass || h.fromTunnel(in.frame()) != pass {
				t.Errorf("%s: it did not go on in the tunnel", a.name)
			}
			if f := h.flow(); !f.Tunnel || f.Direction != policy.Ingress || f.Expires < 5*time.Hour {
				t.Errorf("%s: in the tunnel it is %+v", a.name, f)
			}
			h.meet(a, false)
			if h.toTunnel(in.reply().frame()) != drop {
				t.Errorf("%s: it went on in the tunnel", a.name)
			}
			if h.toNetdev(in.reply().frame()) != pass || h.fromNetdev(in.frame()) != pass {
				t.Errorf("%s: it did not go on outside", a.name)
			}
			other := in.reply()
			other.dport++
			if h.toTunnel(other.frame()) != drop || h.toNetdev(other.frame()) != drop {
				t.Errorf("%s: a connection that nobody opened went on", a.name)
			}
		}
	})
}

// openFlows counts the flows from which nothing is evicted.
func (h *host) openFlows() int {
	h.t.Helper()
	var key bpfobj.PlexusCtKey
	var value bpfobj.PlexusCtValue
	n, it := 0, h.objs.PlexusCtV2.Iterate()
	for it.Next(&key, &value) {
		n++
	}
	if it.Err() != nil {
		h.t.Fatal(it.Err())
	}
	return n
}

// TestOneWayFlowIsQuickToAnswer shows that what CPUs know of a flow without an
// answer hides none from it: the answer makes it live longer, and the next
// packet of its first side makes it an open one.
func TestOneWayFlowIsQuickToAnswer(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Egress, udp, 53): {Rule: 1}}.set())
		for _, f := range families {
			h.forget()
			q := packet{src: f.us, dst: f.peer, proto: udp, sport: 1000, dport: 53}
			for range 5 {
				h.toNetdev(q.frame())
			}
			if got := h.flow(); got.TxPackets != 5 || got.Expires > time.Minute {
				t.Errorf("%s: unanswered: %+v", f.name, got)
			}
			for range 3 {
				h.fromNetdev(q.reply().frame())
			}
			if got := h.flow(); got.RxPackets != 3 || got.Expires < 2*time.Minute {
				t.Errorf("%s: answered: %+v", f.name, got)
			}
			if n := h.openFlows(); n != 0 {
				t.Errorf("%s: %d open flows before the first side went on", f.name, n)
			}
			h.toNetdev(q.frame())
			if n := h.openFlows(); n != 1 || h.flow().TxPackets != 6 {
				t.Errorf("%s: %d open flows, %+v; want this one", f.name, n, h.flow())
			}
		}
	})
}
