package loader

import (
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// groups are addresses of many hosts, and of none.
var groups = []struct {
	name, us, peer, peerPrefix string
	everybody                  []string // multicast and broadcast
	loopback, loopbackPrefix   string
	world                      mesh.Identity
}{
	{"IPv4", "192.0.2.1", "192.0.2.9", "192.0.2.9/32", []string{"224.0.0.251", "239.1.2.3", "255.255.255.255", "192.0.2.255"}, "127.0.0.1", "127.0.0.0/8", 9},
	{"IPv6", "2001:db8::1", "2001:db8::9", "2001:db8::9/128", []string{"ff02::fb", "ff05::2", "ff3e::8000:1"}, "::1", "::1/128", 10},
}

// TestMulticastAndBroadcast: what comes in is judged by who sends it, what goes out by
// the address of the group, which is the world's.
func TestMulticastAndBroadcast(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		for _, g := range groups {
			h.peers(map[string]datapath.Peer{g.peerPrefix: {Identity: 300}})
			for _, group := range g.everybody {
				in := packet{src: g.peer, dst: group, proto: udp, sport: 5353, dport: 5353}
				out := packet{src: g.us, dst: group, proto: udp, sport: 5353, dport: 5353}
				h.forget()
				h.load(rules{port(300, policy.Ingress, udp, 5353): {Rule: 1}}.set())
				if got := h.judge(policy.Ingress, in); got != allowed(300, 1) {
					t.Errorf("%s to %s: %+v", g.peer, group, got)
				}
				if got := h.judge(policy.Egress, out); got != byDefault(g.world) {
					t.Errorf("out to %s, without a rule: %+v", group, got)
				}
				h.forget()
				h.load(rules{port(g.world, policy.Egress, udp, 5353): {Rule: 2}}.set())
				if got := h.judge(policy.Ingress, in); got != byDefault(300) {
					t.Errorf("%s to %s, without a rule: %+v", g.peer, group, got)
				}
				if got := h.judge(policy.Egress, out); got != allowed(g.world, 2) {
					t.Errorf("out to %s: %+v", group, got)
				}
				if got := h.judge(policy.Ingress, packet{src: g.peer, dst: g.us, proto: udp, sport: 5353, dport: 5353}); got != byDefault(300) {
					t.Errorf("answer of a member to what was sent to %s: %+v", group, got)
				}
			}
		}
	})
}

// TestLoopbackFromOutside: an address of the loopback device is one of this host,
// and comes from nowhere else.
func TestLoopbackFromOutside(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 1}}.set())
		for _, g := range groups {
			h.peers(map[string]datapath.Peer{g.loopbackPrefix: {Identity: 301, Flags: datapath.PeerLocal}})
			for _, proto := range []uint8{tcp, udp, sctp} {
				got := h.judge(policy.Ingress, packet{src: g.loopback, dst: g.us, proto: proto, sport: 9, dport: 22, flags: syn, chunk: 1})
				if got.Reason != bpfobj.PlexusDropReasonDROP_LOCAL_SOURCE {
					t.Errorf("from %s, protocol %d: %+v", g.loopback, proto, got)
				}
			}
		}
	})
}

// TestSCTPStates follows associations as TestTCPStates does connections.
func TestSCTPStates(t *testing.T) {
	const initiate, data, abort, shutdown, over = 1, 0, 6, 7, 14
	type chunk struct {
		out   bool
		chunk uint8
		state string
	}
	opening := []chunk{{false, initiate, "syn"}, {true, 2, "syn"}, {false, 10, "established"}, {true, 11, "established"}}
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Ingress, sctp, 3868): {Rule: 1}}.set())
		for _, f := range families {
			for name, story := range map[string][]chunk{
				"opened":            append(opening[:4:4], chunk{false, data, "established"}, chunk{true, 3, "established"}),
				"opening repeated":  append(opening[:1:1], chunk{false, initiate, "syn"}),
				"aborted":           append(opening[:4:4], chunk{true, abort, "closing"}),
				"shut down":         append(opening[:4:4], chunk{false, shutdown, "established"}, chunk{true, 8, "established"}, chunk{false, over, "closing"}),
				"refused":           append(opening[:1:1], chunk{true, abort, "closing"}),
				"opened once again": append(opening[:4:4], chunk{true, abort, "closing"}, chunk{false, initiate, "syn"}),
			} {
				h.forget()
				for i, c := range story {
					p := packet{src: f.peer, dst: f.us, proto: sctp, sport: 2905, dport: 3868}
					feed := h.fromNetdev
					if c.out {
						p, feed = p.reply(), h.toNetdev
					}
					p.chunk = c.chunk
					if got := feed(p.frame()); got != pass || h.flow().State != c.state {
						t.Errorf("%s, %s, chunk %d: verdict %d, state %q, want %q", f.name, name, i, got, h.flow().State, c.state)
					}
				}
			}
			back := packet{src: f.us, dst: f.peer, proto: sctp, sport: 3868, dport: 2905, chunk: initiate}
			if got := h.judge(policy.Egress, back); got != byDefault(f.world) {
				t.Errorf("%s: an association back through theirs: %+v", f.name, got)
			}
		}
	})
}
