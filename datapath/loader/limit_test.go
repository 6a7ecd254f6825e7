package loader

import (
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// newLimitedHost is a host where a stranger may open one flow a second, and one more
// at once, in both stages. It lets everything in.
func newLimitedHost(t testing.TB) earlyHost {
	t.Helper()
	d := openAnew(t, 1)
	h := earlyHost{hostOn(t, d), openEarly(t, d)}
	h.load(rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 2}}.set())
	h.peers(map[string]datapath.Peer{
		"192.0.2.9/32": {Identity: 300}, "2001:db8::9/128": {Identity: 300},
		"10.210.0.2/32": {Identity: 300, Flags: datapath.PeerMesh}, "10.210.0.1/32": {Identity: 301, Flags: datapath.PeerLocal | datapath.PeerMesh},
		"fd00::2/128": {Identity: 300, Flags: datapath.PeerMesh}, "fd00::1/128": {Identity: 301, Flags: datapath.PeerLocal | datapath.PeerMesh},
	})
	if err := h.maps.Pinholes.Apply([]datapath.Pinhole{hole(policy.Ingress, 2022, "")}, nil); err != nil {
		t.Fatal(err)
	}
	return h
}

// opens feeds first packets of n flows, from ports of their own, and returns what each
// stage says of the last.
func (h earlyHost) opens(n int, p packet) (early, late uint32) {
	h.t.Helper()
	for range n {
		p.sport++
		early, late = h.fromWire(p.frame()), h.fromNetdev(p.frame())
	}
	return early, late
}

// within is how many flows fit into the limit at once.
const within = 2

func TestSourceLimit(t *testing.T) {
	for _, f := range families {
		for _, proto := range []uint8{tcp, udp} {
			netnstest.Run(t, func() {
				h := newLimitedHost(t)
				from := packet{src: f.stranger, dst: f.us, proto: proto, sport: 1000, dport: 443, flags: syn}
				if early, late := h.opens(within, from); early != xdpPass || late != pass {
					t.Errorf("%s, protocol %d: verdicts %d and %d within the limit", f.name, proto, early, late)
				}
				h.drain()
				more := from
				more.sport = 2000
				if early, late := h.opens(1, more); early != xdpDrop || late != drop {
					t.Errorf("%s, protocol %d: verdicts %d and %d of one flow too many", f.name, proto, early, late)
				}
				for _, e := range h.drain() {
					if bpfobj.PlexusDropReason(e.Reason) != bpfobj.PlexusDropReasonDROP_RATE_LIMIT || uint32(f.world) != e.Identity {
						t.Errorf("%s, protocol %d: dropped as %s of identity %d", f.name, proto, bpfobj.PlexusDropReason(e.Reason), e.Identity)
					}
				}
				again := from
				again.sport++
				if early, late := h.fromWire(again.frame()), h.fromNetdev(again.frame()); early != xdpPass || late != pass {
					t.Errorf("%s, protocol %d: verdicts %d and %d of a flow that was let in before", f.name, proto, early, late)
				}
			})
		}
	}
}

// TestSourceLimitIsOfStrangers lists who and what has no limit.
func TestSourceLimitIsOfStrangers(t *testing.T) {
	const many = 5 * within
	for _, f := range families {
		netnstest.Run(t, func() {
			h := newLimitedHost(t)
			from := packet{src: f.stranger, dst: f.us, proto: tcp, sport: 1000, dport: 443, flags: syn}
			hole := from
			hole.dport = 2022
			h.opens(many, hole)
			if early, late := h.opens(1, from); early != xdpPass || late != pass {
				t.Errorf("%s: verdicts %d and %d after flows through a pinhole", f.name, early, late)
			}
			h.opens(within, from)
			member := from
			member.src = f.peer
			for name, p := range map[string]packet{"a pinhole": hole, "a member": member} {
				if early, late := h.opens(many, p); early != xdpPass || late != pass {
					t.Errorf("%s, %s: verdicts %d and %d", f.name, name, early, late)
				}
			}
			out := from.reply()
			out.flags = syn
			for range many {
				out.sport++
				if h.toNetdev(out.frame()) != pass || h.fromWire(out.reply().frame()) != xdpPass || h.fromNetdev(out.reply().frame()) != pass {
					t.Errorf("%s: what this host opens to a stranger who is over the limit is dropped", f.name)
				}
			}
			tunnel := packet{src: inTunnel[f.name].peer, dst: inTunnel[f.name].us, proto: tcp, sport: 1000, dport: 443, flags: syn}
			for range many {
				tunnel.sport++
				if h.fromTunnel(tunnel.frame()) != pass {
					t.Errorf("%s: a flow in the tunnel is dropped", f.name)
				}
			}
		})
	}
}

// TestSourceLimitIsOfOneSource shows whose flows count together: those of one IPv4
// address, and of one IPv6 /64, which a single host has to itself.
func TestSourceLimitIsOfOneSource(t *testing.T) {
	netnstest.Run(t, func() {
		h := newLimitedHost(t)
		for _, c := range []struct {
			source, other string
			late          uint32
		}{
			{"198.51.100.7", "198.51.100.8", pass},
			{"2001:db8:2::7", "2001:db8:2::1:8", drop},
			{"2001:db8:2:1::7", "2001:db8:2:2::7", pass},
			{"fe80::7", "fe80::8", pass},
		} {
			us := "192.0.2.1"
			if (packet{src: c.source}).v6() {
				us = "2001:db8::1"
			}
			p := packet{src: c.source, dst: us, proto: udp, sport: 1000, dport: 53}
			h.opens(within+1, p)
			p.src = c.other
			if _, late := h.opens(1, p); late != c.late {
				t.Errorf("after %s, verdict %d on %s; want %d", c.source, late, c.other, c.late)
			}
		}
	})
}
