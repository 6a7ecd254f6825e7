package loader

import (
	"net/netip"
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

func addrPort(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

// TestNewPolicyJudgesKnownFlows runs through every combination of the direction
// in which a flow was opened and the side that first speaks after the change.
func TestNewPolicyJudgesKnownFlows(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		for _, f := range families {
			for _, opened := range []policy.Direction{policy.Ingress, policy.Egress} {
				for _, weSpeakFirst := range []bool{false, true} {
					h.forget()
					// Whatever the flow's direction, the other one stays open throughout:
					// the flow must not be let in again through it.
					other := rules{all(0, 1-opened): {Rule: 99}}
					first := packet{src: f.peer, dst: f.us, proto: tcp, sport: 1000, dport: 22, flags: syn}
					feed, back := h.fromNetdev, h.toNetdev
					if opened == policy.Egress {
						first.src, first.dst = f.us, f.peer
						feed, back = h.toNetdev, h.fromNetdev
					}
					with := func(more rules) rules {
						for k, v := range other {
							more[k] = v
						}
						return more
					}
					h.load(with(rules{port(0, opened, tcp, 22): {Rule: 1}}).set())
					reply := first.reply()
					if feed(first.frame()) != pass || back(reply.frame()) != pass {
						t.Fatal("flow was not opened")
					}
					first.flags, reply.flags = ack, ack
					speak := []func([]byte) uint32{feed, back}
					packets := []packet{first, reply}
					if weSpeakFirst == (opened == policy.Ingress) {
						speak[0], speak[1] = speak[1], speak[0]
						packets[0], packets[1] = packets[1], packets[0]
					}

					h.drain()
					rev := h.load(with(rules{all(0, opened): {Rule: 2}}).set())
					for i := range packets {
						if got := speak[i](packets[i].frame()); got != pass {
							t.Errorf("%s %s: still allowed, packet %d: verdict %d", f.name, opened, i, got)
						}
					}
					if flow := h.flow(); flow.Rule != 2 || flow.Revision != rev || flow.Direction != opened {
						t.Errorf("%s %s: judged again: %+v, want rule 2 of revision %d", f.name, opened, flow, rev)
					}
					if ev := h.drain(); len(ev) != 1 || ev[0].Rule != 2 || ev[0].Revision != rev {
						t.Errorf("%s %s: events of a changed rule: %+v", f.name, opened, ev)
					}

					h.load(with(rules{port(0, opened, tcp, 22): {Rule: 3, Deny: true}}).set())
					for range 2 {
						for i := range packets {
							if got := speak[i](packets[i].frame()); got != drop {
								t.Errorf("%s %s: denied, packet %d: verdict %d", f.name, opened, i, got)
							}
						}
					}
					ev := h.drain()
					if len(ev) != 4 || ev[0].Rule != 3 || bpfobj.PlexusDropReason(ev[3].Reason) != bpfobj.PlexusDropReasonDROP_POLICY_DENY || policy.Direction(ev[3].Direction) != opened {
						t.Errorf("%s %s: events of a denied flow: %+v", f.name, opened, ev)
					}
					if flows, err := h.maps.Flows.List(); err != nil || len(flows) != 0 {
						t.Errorf("%s %s: a denied flow is listed: %+v, %v", f.name, opened, flows, err)
					}

					h.load(with(rules{port(0, opened, tcp, 22): {Rule: 4}}).set())
					for i := range packets {
						if got := speak[i](packets[i].frame()); got != pass {
							t.Errorf("%s %s: allowed again, packet %d: verdict %d", f.name, opened, i, got)
						}
					}
				}
			}
		}
	})
}

// TestUnchangedVerdictIsSilent shows that judging again tells nobody anything
// where nothing has changed.
func TestUnchangedVerdictIsSilent(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Ingress): {Rule: 1}}.set())
		p := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 1000, dport: 22, flags: ack}
		h.fromNetdev(p.frame())
		h.drain()
		rev, err := h.maps.Policy.Rejudge()
		if err != nil {
			t.Fatal(err)
		}
		if h.fromNetdev(p.frame()) != pass || h.flow().Revision != rev {
			t.Errorf("flow %+v, want revision %d", h.flow(), rev)
		}
		if ev := h.drain(); len(ev) != 0 {
			t.Errorf("events: %+v", ev)
		}
	})
}

// TestPeerChangesJudgeKnownFlows shows that a revoked identity, or an address
// that becomes a mesh address, cuts at once.
func TestPeerChangesJudgeKnownFlows(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		for _, f := range families {
			h.forget()
			h.peers(map[string]datapath.Peer{f.peerPrefix: {Identity: 300}})
			h.load(rules{all(300, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 2}}.set())
			p := packet{src: f.peer, dst: f.us, proto: tcp, sport: 1000, dport: 22, flags: syn}
			if h.fromNetdev(p.frame()) != pass {
				t.Fatal("flow was not opened")
			}
			p.flags = ack
			if err := h.maps.IPCache.Apply(nil, []netip.Prefix{netip.MustParsePrefix(f.peerPrefix)}); err != nil {
				t.Fatal(err)
			}
			h.drain()
			if h.toNetdev(p.reply().frame()) != drop || h.fromNetdev(p.frame()) != drop {
				t.Errorf("%s: flow of a removed peer was let through", f.name)
			}
			if ev := h.drain(); len(ev) != 2 || ev[0].Identity != uint32(f.world) || ev[0].Reply != 1 || ev[1].Reply != 0 {
				t.Errorf("%s: events %+v", f.name, ev)
			}
			h.peers(map[string]datapath.Peer{f.peerPrefix: {Identity: 300}})
			if h.fromNetdev(p.frame()) != pass {
				t.Errorf("%s: flow of a peer that is back was dropped", f.name)
			}
			h.peers(map[string]datapath.Peer{f.peerPrefix: {Identity: 300, Flags: datapath.PeerMesh}})
			h.drain()
			h.toNetdev(p.reply().frame())
			if ev := h.drain(); len(ev) != 1 || bpfobj.PlexusDropReason(ev[0].Reason) != bpfobj.PlexusDropReasonDROP_PLAINTEXT {
				t.Errorf("%s: plaintext to what became a mesh address: %+v", f.name, ev)
			}
		}
	})
}

// TestConnectionAfterDenial shows that a flow that was cut does not stand in the
// way of a new one.
func TestConnectionAfterDenial(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Ingress): {Rule: 1}}.set())
		p := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 1000, dport: 22, flags: syn}
		h.fromNetdev(p.frame())
		h.load(rules{all(0, policy.Egress): {Rule: 2}}.set())
		mid := p
		mid.flags = ack
		if h.fromNetdev(mid.frame()) != drop || h.toNetdev(mid.reply().frame()) != drop {
			t.Fatal("flow was not cut")
		}
		if got := h.judge(policy.Ingress, p); got != byDefault(9) {
			t.Errorf("opened again from outside: %+v", got)
		}
		ours := p.reply()
		ours.flags = syn
		if got := h.judge(policy.Egress, ours); got != allowed(9, 2) {
			t.Errorf("opened from our side: %+v", got)
		}
		if h.fromNetdev(mid.frame()) != pass || h.flow().Direction != policy.Egress {
			t.Errorf("answer to the new connection: flow %+v", h.flow())
		}
	})
}
