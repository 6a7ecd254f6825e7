package loader

import (
	"encoding/binary"
	"testing"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

func TestHeadersOnTheWay(t *testing.T) {
	v4 := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 1000, dport: 22, flags: syn}
	v6 := packet{src: "2001:db8::9", dst: "2001:db8::1", proto: tcp, sport: 1000, dport: 22, flags: syn}
	with := func(p packet, change func(*packet)) packet {
		change(&p)
		return p
	}
	repeat := func(n int) []uint8 { return make([]uint8, n) } // hop-by-hop, n times
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Ingress, tcp, 22): {Rule: 1}, port(0, policy.Ingress, udp, 53): {Rule: 1}}.set())
		for _, tt := range []struct {
			name string
			p    packet
			want bpfobj.PlexusDropReason
		}{
			{"IPv4", v4, bpfobj.PlexusDropReasonDROP_NONE},
			{"IPv4 with options", with(v4, func(p *packet) { p.options = 4 }), bpfobj.PlexusDropReasonDROP_NONE},
			{"IPv4 with all options", with(v4, func(p *packet) { p.options = 40 }), bpfobj.PlexusDropReasonDROP_NONE},
			{"options do not hide the port", with(v4, func(p *packet) { p.options = 40; p.dport = 23 }), bpfobj.PlexusDropReasonDROP_POLICY},
			{"IPv6", v6, bpfobj.PlexusDropReasonDROP_NONE},
			{"hop-by-hop", with(v6, func(p *packet) { p.extensions = []uint8{hopByHop} }), bpfobj.PlexusDropReasonDROP_NONE},
			{"every extension", with(v6, func(p *packet) {
				p.extensions = []uint8{hopByHop, destinationOptions, routing, authentication, destinationOptions}
			}), bpfobj.PlexusDropReasonDROP_NONE},
			{"extensions do not hide the port", with(v6, func(p *packet) {
				p.extensions = []uint8{hopByHop, destinationOptions, routing, authentication, destinationOptions}
				p.dport = 23
			}), bpfobj.PlexusDropReasonDROP_POLICY},
			{"whole packet with a fragment header", with(v6, func(p *packet) { p.extensions = []uint8{fragmentHeader} }), bpfobj.PlexusDropReasonDROP_NONE},
			{"8 extensions", with(v6, func(p *packet) { p.extensions = repeat(8) }), bpfobj.PlexusDropReasonDROP_NONE},
			{"9 extensions", with(v6, func(p *packet) { p.extensions = repeat(9) }), bpfobj.PlexusDropReasonDROP_EXTENSION_HEADERS},
			{"one VLAN tag", with(v4, func(p *packet) { p.vlan = 1 }), bpfobj.PlexusDropReasonDROP_NONE},
			{"two VLAN tags", with(v6, func(p *packet) { p.vlan = 2 }), bpfobj.PlexusDropReasonDROP_NONE},
			{"tags do not hide the port", with(v6, func(p *packet) { p.vlan = 2; p.dport = 23 }), bpfobj.PlexusDropReasonDROP_POLICY},
			{"IPv4-mapped source", with(v6, func(p *packet) { p.src = "::ffff:192.0.2.9" }), bpfobj.PlexusDropReasonDROP_MAPPED_ADDRESS},
			{"IPv4-mapped destination", with(v6, func(p *packet) { p.dst = "::ffff:192.0.2.1" }), bpfobj.PlexusDropReasonDROP_MAPPED_ADDRESS},
		} {
			t.Run(tt.name, func(t *testing.T) {
				h.t = t
				h.forget()
				if got := h.judge(policy.Ingress, tt.p); got.Reason != tt.want {
					t.Errorf("reason %q, want %q", got.Reason, tt.want)
				}
			})
		}
		h.t = t
	})
}

// TestTruncatedPackets cuts packets at every length: none passes. They carry a
// VLAN tag, as the kernel refuses to feed a program an IP frame without a whole
// IP header, and does not look behind a tag.
func TestTruncatedPackets(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Ingress): {Rule: 1}}.set())
		for _, p := range []packet{
			{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, dport: 22, flags: syn, options: 8, payload: []byte("data")},
			{src: "192.0.2.9", dst: "192.0.2.1", proto: udp, dport: 22},
			{src: "192.0.2.9", dst: "192.0.2.1", proto: icmp4, icmp: [2]uint8{8}},
			{src: "2001:db8::9", dst: "2001:db8::1", proto: tcp, dport: 22, flags: syn, extensions: []uint8{hopByHop, authentication, fragmentHeader}},
			{src: "2001:db8::9", dst: "2001:db8::1", proto: sctp, dport: 22, chunk: 1},
		} {
			p.vlan = 1
			whole := len(p.ip())
			if h.fromNetdev(p.frame()) != pass {
				t.Fatalf("whole packet was dropped: %x", p.frame())
			}
			for p.cut = 1; p.cut < whole; p.cut++ {
				if got := h.judge(policy.Ingress, p); got.Reason != bpfobj.PlexusDropReasonDROP_TRUNCATED {
					t.Errorf("protocol %d, %d bytes cut: %s", p.proto, p.cut, got.Reason)
				}
			}
		}
	})
}

// TestHeadersThatLie changes length fields, so that the transport header lies
// outside the packet that the IP header describes.
func TestHeadersThatLie(t *testing.T) {
	v4 := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, dport: 22, flags: syn}.frame()
	v6 := packet{src: "2001:db8::9", dst: "2001:db8::1", proto: tcp, dport: 22, flags: syn}.frame()
	change := func(frame []byte, at int, b ...byte) []byte {
		out := append([]byte(nil), frame...)
		copy(out[at:], b)
		return out
	}
	short := binary.BigEndian.AppendUint16(nil, 30)
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Ingress): {Rule: 1}}.set())
		for name, tt := range map[string]struct {
			frame []byte
			want  bpfobj.PlexusDropReason
		}{
			"version 5 in IPv4":              {change(v4, 14, 0x55), bpfobj.PlexusDropReasonDROP_MALFORMED},
			"version 4 in IPv6":              {change(v6, 14, 0x40), bpfobj.PlexusDropReasonDROP_MALFORMED},
			"header shorter than a header":   {change(v4, 14, 0x44), bpfobj.PlexusDropReasonDROP_MALFORMED},
			"packet shorter than its header": {change(v4, 16, 0, 19), bpfobj.PlexusDropReasonDROP_MALFORMED},
			"IPv4 longer than the frame":     {change(v4, 16, 1, 0), bpfobj.PlexusDropReasonDROP_TRUNCATED},
			"IPv6 longer than the frame":     {change(v6, 18, 1, 0), bpfobj.PlexusDropReasonDROP_TRUNCATED},
			"TCP header behind the end":      {change(v4, 16, short...), bpfobj.PlexusDropReasonDROP_TRUNCATED},
			"TCP header behind the IPv6 end": {change(v6, 18, 0, 10), bpfobj.PlexusDropReasonDROP_TRUNCATED},
			"IPv4 header in an IPv6 frame":   {append(change(v6, 0)[:14:14], v4[14:]...), bpfobj.PlexusDropReasonDROP_MALFORMED},
		} {
			h.drain()
			got := h.fromNetdev(tt.frame)
			ev := h.drain()
			if got != drop || len(ev) != 1 || bpfobj.PlexusDropReason(ev[0].Reason) != tt.want {
				t.Errorf("%s: verdict %d, events %+v; want %s", name, got, ev, tt.want)
			}
		}
		for name, frame := range map[string][]byte{
			"padded to the Ethernet minimum": append(v4[:len(v4):len(v4)], make([]byte, 6)...),
			"LLDP":                           append(append(make([]byte, 12), 0x88, 0xcc), make([]byte, 46)...),
			"802.3 frame":                    append(append(make([]byte, 12), 0, 46), make([]byte, 46)...),
		} {
			if got := h.fromNetdev(frame); got != pass {
				t.Errorf("%s: verdict %d, want a pass", name, got)
			}
		}
	})
}

func TestFragments(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Ingress, udp, 53): {Rule: 1}}.set())
		for _, f := range families {
			for i, tt := range []struct {
				name         string
				dport        uint16
				first        bool
				laterVerdict uint32
				laterReason  bpfobj.PlexusDropReason
			}{
				{"after the first", 53, true, pass, 0},
				{"after the first of a denied flow", 54, true, drop, bpfobj.PlexusDropReasonDROP_POLICY},
				{"without the first", 53, false, drop, bpfobj.PlexusDropReasonDROP_FRAGMENT},
			} {
				h.forget()
				p := packet{src: f.peer, dst: f.us, proto: udp, sport: 9, dport: tt.dport, payload: make([]byte, 16)}
				p.extensions = []uint8{fragmentHeader, destinationOptions}
				p.fragment = fragment{id: uint32(100 + i), more: true}
				if tt.first {
					h.fromNetdev(p.frame())
				}
				h.drain()
				later := p
				later.extensions = []uint8{fragmentHeader}
				later.proto = udp
				if f.name == "IPv6" {
					later.proto = destinationOptions // what the fragment header of a later one names
				}
				later.fragment.offset = 24
				got, ev := h.fromNetdev(later.frame()), h.drain()
				if got != tt.laterVerdict || (got == drop && (len(ev) != 1 || bpfobj.PlexusDropReason(ev[0].Reason) != tt.laterReason)) {
					t.Errorf("%s, %s: verdict %d, events %+v", f.name, tt.name, got, ev)
				}
				later.fragment.id += 1000
				if got := h.fromNetdev(later.frame()); got != drop {
					t.Errorf("%s, %s: a fragment of another packet: verdict %d", f.name, tt.name, got)
				}
			}
		}
	})
}

// TestICMPErrors shows that errors about a flow pass, whoever sends them, and
// others are judged.
func TestICMPErrors(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Egress, udp, 53): {Rule: 1}, port(0, policy.Ingress, tcp, 22): {Rule: 1},
			port(0, policy.Egress, icmp4, 8<<8): {Rule: 1}, port(0, policy.Egress, icmp6, 128<<8): {Rule: 1}}.set())
		for _, f := range families {
			h.forget()
			unreachable, quench := [2]uint8{3, 4}, uint8(4)
			if f.icmp == icmp6 {
				unreachable, quench = [2]uint8{2, 0}, 200
			}
			query := packet{src: f.us, dst: f.peer, proto: udp, sport: 1000, dport: 53}
			ping := packet{src: f.us, dst: f.peer, proto: f.icmp, icmp: [2]uint8{f.echo}, id: 77}
			in := packet{src: f.peer, dst: f.us, proto: tcp, sport: 1000, dport: 22, flags: syn}
			if h.toNetdev(query.frame()) != pass || h.toNetdev(ping.frame()) != pass || h.fromNetdev(in.frame()) != pass {
				t.Fatal("flows were not opened")
			}
			about := func(p packet, keep int) packet {
				e := packet{src: f.stranger, dst: f.us, proto: f.icmp, icmp: unreachable}
				e.payload = p.ip()[:keep]
				return e
			}
			header := map[string]int{"IPv4": 20, "IPv6": 40}[f.name]
			other := query
			other.sport = 1001
			wrongWay := query.reply()
			echo := about(query, header+8)
			echo.icmp[0] = quench
			out := about(in, header+8)
			out.src, out.dst = f.us, f.peer
			astray := out
			astray.dst = f.stranger
			guest := about(query, header+8)
			guest.dst = f.peer
			for _, tt := range []struct {
				name string
				got  uint32
				want uint32
			}{
				{"about our query", h.fromNetdev(about(query, header+8).frame()), pass},
				{"about our ping", h.fromNetdev(about(ping, header+8).frame()), pass},
				{"from us, about their connection", h.toNetdev(out.frame()), pass},
				{"from us, about their connection, to somebody else", h.toNetdev(astray.frame()), drop},
				{"about our query, to somebody behind us", h.fromNetdev(guest.frame()), drop},
				{"about another flow", h.fromNetdev(about(other, header+8).frame()), drop},
				{"about a packet that never went that way", h.fromNetdev(about(wrongWay, header+8).frame()), drop},
				{"with too little of the packet", h.fromNetdev(about(query, header+4).frame()), drop},
				{"with nothing of the packet", h.fromNetdev(about(query, 0).frame()), drop},
				{"of a type that is no error", h.fromNetdev(echo.frame()), drop},
			} {
				if tt.got != tt.want {
					t.Errorf("%s, %s: verdict %d, want %d", f.name, tt.name, tt.got, tt.want)
				}
			}
			h.load(rules{all(0, policy.Ingress): {Deny: true}, all(0, policy.Egress): {Deny: true}}.set())
			if got := h.fromNetdev(about(query, header+8).frame()); got != drop {
				t.Errorf("%s: about a flow that is denied now: verdict %d", f.name, got)
			}
			h.load(rules{port(0, policy.Egress, udp, 53): {Rule: 1}, port(0, policy.Ingress, tcp, 22): {Rule: 1},
				port(0, policy.Egress, icmp4, 8<<8): {Rule: 1}, port(0, policy.Egress, icmp6, 128<<8): {Rule: 1}}.set())
		}
	})
}
