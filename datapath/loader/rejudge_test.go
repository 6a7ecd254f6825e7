package loader

import (
	"fmt"
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

// talk is a flow with two packets of it, in the order in which its sides speak.
type talk struct {
	*host
	opened  policy.Direction
	packets [2][]byte
	feed    [2]func([]byte) uint32
}

// newTalk opens a flow. Afterwards the local side or the remote one speaks first.
func newTalk(h *host, us, peer string, opened policy.Direction, weSpeakFirst bool) talk {
	h.t.Helper()
	first := packet{src: peer, dst: us, proto: tcp, sport: 1000, dport: 22, flags: syn}
	in, out := h.fromNetdev, h.toNetdev
	if opened == policy.Egress {
		first.src, first.dst = us, peer
		in, out = out, in
	}
	if in(first.frame()) != pass || out(first.reply().frame()) != pass {
		h.t.Fatal("flow was not opened")
	}
	h.drain()
	first.flags = ack
	k := talk{h, opened, [2][]byte{first.frame(), first.reply().frame()}, [2]func([]byte) uint32{in, out}}
	if weSpeakFirst == (opened == policy.Ingress) {
		k.packets[0], k.packets[1] = k.packets[1], k.packets[0]
		k.feed[0], k.feed[1] = k.feed[1], k.feed[0]
	}
	return k
}

// expect has both sides speak once.
func (k talk) expect(want uint32, when string) {
	k.t.Helper()
	for i, p := range k.packets {
		if got := k.feed[i](p); got != want {
			k.t.Errorf("%s: packet %d has verdict %d, want %d", when, i, got, want)
		}
	}
}

// apply puts a policy in force that says e about the flow, and leaves the other
// direction open: nothing may be let in again through that.
func (k talk) apply(key policy.Key, e policy.Entry) uint32 {
	k.t.Helper()
	return k.load(rules{all(0, 1-k.opened): {Rule: 99}, key: e}.set())
}

// TestNewPolicyJudgesKnownFlows runs through every combination of the direction
// in which a flow was opened and the side that first speaks after the change.
func TestNewPolicyJudgesKnownFlows(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		for _, f := range families {
			for _, opened := range []policy.Direction{policy.Ingress, policy.Egress} {
				for _, weSpeakFirst := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/we speak first %v", f.name, opened, weSpeakFirst), func(t *testing.T) {
						h.t = t
						h.forget()
						h.load(rules{port(0, opened, tcp, 22): {Rule: 1}}.set())
						k := newTalk(h, f.us, f.peer, opened, weSpeakFirst)
						k.checkAllowed()
						k.checkDenied()
						k.apply(port(0, opened, tcp, 22), policy.Entry{Rule: 4})
						k.expect(pass, "allowed again")
					})
				}
			}
		}
		h.t = t
	})
}

// checkAllowed changes the rule that allows the flow.
func (k talk) checkAllowed() {
	k.t.Helper()
	rev := k.apply(all(0, k.opened), policy.Entry{Rule: 2})
	k.expect(pass, "still allowed")
	if flow := k.flow(); flow.Rule != 2 || flow.Revision != rev || flow.Direction != k.opened {
		k.t.Errorf("judged again: %+v, want rule 2 of revision %d", flow, rev)
	}
	if ev := k.drain(); len(ev) != 1 || ev[0].Rule != 2 || ev[0].Revision != rev {
		k.t.Errorf("events of a changed rule: %+v", ev)
	}
}

// checkDenied takes the permission away: both sides are cut, and stay so.
func (k talk) checkDenied() {
	k.t.Helper()
	k.apply(port(0, k.opened, tcp, 22), policy.Entry{Rule: 3, Deny: true})
	for range 2 {
		k.expect(drop, "denied")
	}
	ev := k.drain()
	if len(ev) != 4 {
		k.t.Fatalf("%d events of 4 drops: %+v", len(ev), ev)
	}
	for _, e := range ev {
		if e.Rule != 3 || bpfobj.PlexusDropReason(e.Reason) != bpfobj.PlexusDropReasonDROP_POLICY_DENY || policy.Direction(e.Direction) != k.opened {
			k.t.Errorf("event of a denied flow: %+v", e)
		}
	}
	if flows, err := k.maps.Flows.List(); err != nil || len(flows) != 0 {
		k.t.Errorf("a denied flow is listed: %+v, %v", flows, err)
	}
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
