package loader

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// verifierBudget is the most instructions that the verifier of any kernel may look
// at for one program: far below the million that it allows, so that it never decides
// whether a host can be protected. What each kernel needs, and how far that may
// grow, is kept by make test-vm, which reads the attributes.
const verifierBudget = 50_000

// TestEveryProgramLoads has the verifier look at every program with every setting
// that it may be loaded with.
func TestEveryProgramLoads(t *testing.T) {
	for suffix, limit := range map[string]uint32{"": 0, ",limit": 1000} {
		netnstest.Run(t, func() {
			d := openAnew(t, limit)
			for v, programs := range d.programs {
				for name, prog := range programsOf(programs) {
					countsVerified(t, fmt.Sprintf("%s/l2=%d%s", name, v.l2Len, suffix), prog)
				}
			}
			early := openEarly(t, d)
			countsVerified(t, "xdp_early/l2=14"+suffix, early.objs.Early)
		})
	}
}

// openAnew opens the datapath with programs and maps of its own.
func openAnew(t testing.TB, sourceLimit uint32) *Datapath {
	t.Helper()
	opts := testOptions()
	opts.SourceLimit, opts.log = sourceLimit, ebpf.LogLevelStats
	d, err := Open(opts)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func countsVerified(t *testing.T, name string, prog *ebpf.Program) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		n := verified(t, prog)
		if n == 0 || n > verifierBudget {
			t.Errorf("%d verified instructions, want 1 to %d", n, verifierBudget)
		}
		t.Attr("verified_instructions", strconv.Itoa(n))
	})
}

var processed = regexp.MustCompile(`(?m)^processed (\d+) insns`)

// verified returns how many instructions the verifier looked at, as its log says.
// Kernels since 5.16 tell it without one too, and must tell the same.
func verified(t *testing.T, prog *ebpf.Program) int {
	t.Helper()
	m := processed.FindStringSubmatch(prog.VerifierLog)
	if m == nil {
		t.Fatalf("no number in the log of the verifier: %q", prog.VerifierLog)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	info, err := prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	if told, known := info.VerifiedInstructions(); known && int(told) != n {
		t.Errorf("the kernel tells %d verified instructions, and its log %d", told, n)
	}
	return n
}

// families are the addresses that every table runs with.
var families = []struct {
	name                               string
	us, peer, stranger, inCIDR, narrow string
	peerPrefix, wide, cidr             string
	world                              mesh.Identity
	icmp                               uint8
	echo, echoReply                    uint8
}{
	{"IPv4", "192.0.2.1", "192.0.2.9", "198.51.100.7", "203.0.113.7", "203.0.113.130", "192.0.2.9/32", "203.0.113.0/24", "203.0.113.128/25", 9, icmp4, 8, 0},
	{"IPv6", "2001:db8::1", "2001:db8::9", "2001:db8:2::7", "2001:db8:3::7", "2001:db8:3:1::7", "2001:db8::9/128", "2001:db8:3::/48", "2001:db8:3:1::/64", 10, icmp6, 128, 129},
}

// outcome is what a packet meets, as events tell it.
type outcome struct {
	Verdict  uint32
	Reason   bpfobj.PlexusDropReason
	Identity uint32
	Rule     uint32
}

// judge feeds the first packet of a flow and returns what the program and its
// one event say.
func (h *host) judge(d policy.Direction, p packet) outcome {
	h.t.Helper()
	feed := h.fromNetdev
	if d == policy.Egress {
		feed = h.toNetdev
	}
	h.drain()
	out := outcome{Verdict: feed(p.frame())}
	events := h.drain()
	if len(events) != 1 {
		h.t.Fatalf("%d events for the first packet of a flow, want 1: %+v", len(events), events)
	}
	e := events[0]
	if (e.Reason != 0) != (out.Verdict == drop) || policy.Direction(e.Direction) != d || e.Reply != 0 {
		h.t.Errorf("event %+v does not tell verdict %d of direction %s", e, out.Verdict, d)
	}
	out.Reason, out.Identity, out.Rule = bpfobj.PlexusDropReason(e.Reason), e.Identity, e.Rule
	return out
}

func allowed(id mesh.Identity, rule uint32) outcome { return outcome{pass, 0, uint32(id), rule} }
func byDefault(id mesh.Identity) outcome {
	return outcome{drop, bpfobj.PlexusDropReasonDROP_POLICY, uint32(id), 0}
}
func byRule(id mesh.Identity, rule uint32) outcome {
	return outcome{drop, bpfobj.PlexusDropReasonDROP_POLICY_DENY, uint32(id), rule}
}

func TestPolicyVerdicts(t *testing.T) {
	const (
		in, out = policy.Ingress, policy.Egress
		peer    = mesh.Identity(1<<16 | 300)
		wide    = mesh.Identity(1<<24 | 1)
		narrow  = mesh.Identity(1<<24 | 2)
	)
	rules := map[policy.Key]policy.Entry{
		port(peer, in, tcp, 22): {Rule: 1},
		{Identity: peer, Direction: in, Protocol: tcp, Port: 8080, PortBits: 12}: {Rule: 2}, // 8080 to 8095
		port(peer, in, tcp, 8085):                      {Rule: 3, Deny: true},
		{Identity: peer, Direction: in, Protocol: udp}: {Rule: 4},
		port(0, in, udp, 53):                           {Rule: 5, Deny: true},
		port(0, in, tcp, 443):                          {Rule: 6},
		port(peer, in, tcp, 443):                       {Rule: 7, Deny: true},
		all(wide, in):                                  {Rule: 8},
		port(0, out, tcp, 443):                         {Rule: 9},
		all(peer, out):                                 {Rule: 10},
		{Identity: peer, Direction: in, Protocol: icmp4, Port: 8 << 8, PortBits: 8}:   {Rule: 11},
		{Identity: peer, Direction: in, Protocol: icmp6, Port: 128 << 8, PortBits: 8}: {Rule: 11},
		port(peer, in, sctp, 3868):                       {Rule: 12},
		{Identity: narrow, Direction: in, Protocol: tcp}: {Rule: 13, Deny: true},
		{Identity: peer, Direction: in, Protocol: 47}:    {Rule: 14},
	}
	netnstest.Run(t, func() {
		h := newHost(t)
		for _, f := range families {
			h.peers(map[string]datapath.Peer{f.peerPrefix: {Identity: peer}})
			h.load(bpfmap.Ruleset{Entries: rules, Prefixes: map[netip.Prefix]mesh.Identity{
				netip.MustParsePrefix(f.wide): wide, netip.MustParsePrefix(f.cidr): narrow,
			}})
			for i, tt := range []struct {
				name   string
				d      policy.Direction
				packet packet
				want   outcome
			}{
				{"one port", in, packet{src: f.peer, proto: tcp, dport: 22, flags: syn}, allowed(peer, 1)},
				{"another port", in, packet{src: f.peer, proto: tcp, dport: 23, flags: syn}, byDefault(peer)},
				{"another protocol", in, packet{src: f.peer, proto: sctp, dport: 22, chunk: 1}, byDefault(peer)},
				{"another peer", in, packet{src: f.stranger, proto: tcp, dport: 22, flags: syn}, byDefault(f.world)},
				{"first of a range", in, packet{src: f.peer, proto: tcp, dport: 8080, flags: syn}, allowed(peer, 2)},
				{"last of a range", in, packet{src: f.peer, proto: tcp, dport: 8095, flags: syn}, allowed(peer, 2)},
				{"behind a range", in, packet{src: f.peer, proto: tcp, dport: 8096, flags: syn}, byDefault(peer)},
				{"denied in an allowed range", in, packet{src: f.peer, proto: tcp, dport: 8085, flags: syn}, byRule(peer, 3)},
				{"any port of a protocol", in, packet{src: f.peer, proto: udp, dport: 9999}, allowed(peer, 4)},
				{"denied to anyone, allowed to the peer", in, packet{src: f.peer, proto: udp, dport: 53}, byRule(peer, 5)},
				{"allowed to anyone", in, packet{src: f.stranger, proto: tcp, dport: 443, flags: syn}, allowed(f.world, 6)},
				{"allowed to anyone, denied to the peer", in, packet{src: f.peer, proto: tcp, dport: 443, flags: syn}, byRule(peer, 7)},
				{"any protocol of a CIDR peer", in, packet{src: f.inCIDR, proto: tcp, dport: 9, flags: syn}, allowed(wide, 8)},
				{"any protocol without ports", in, packet{src: f.inCIDR, proto: 50}, allowed(wide, 8)},
				{"narrower CIDR", in, packet{src: f.narrow, proto: tcp, dport: 9, flags: syn}, byRule(narrow, 13)},
				{"narrower CIDR, nothing said", in, packet{src: f.narrow, proto: udp, dport: 9}, byDefault(narrow)},
				{"out, to anyone", out, packet{dst: f.stranger, proto: tcp, dport: 443, flags: syn}, allowed(f.world, 9)},
				{"out, another port", out, packet{dst: f.stranger, proto: tcp, dport: 444, flags: syn}, byDefault(f.world)},
				{"out, everything to a peer", out, packet{dst: f.peer, proto: udp, dport: 7}, allowed(peer, 10)},
				{"echo by type", in, packet{src: f.peer, proto: f.icmp, icmp: [2]uint8{f.echo}, id: 5}, allowed(peer, 11)},
				{"another type", in, packet{src: f.peer, proto: f.icmp, icmp: [2]uint8{f.echo + 12}}, byDefault(peer)},
				{"SCTP", in, packet{src: f.peer, proto: sctp, dport: 3868, chunk: 1}, allowed(peer, 12)},
				{"GRE", in, packet{src: f.peer, proto: 47}, allowed(peer, 14)},
			} {
				t.Run(f.name+"/"+tt.name, func(t *testing.T) {
					h.t = t
					p := tt.packet
					p.sport = uint16(20000 + i)
					if p.src == "" {
						p.src = f.us
					} else {
						p.dst = f.us
					}
					if diff := cmp.Diff(tt.want, h.judge(tt.d, p)); diff != "" {
						t.Errorf("outcome (-want +got):\n%s", diff)
					}
				})
			}
			h.t = t
		}
	})
}

// TestLongestPrefixNames shows that the narrowest entry names a peer, and that
// the families share one trie without meeting in it.
func TestLongestPrefixNames(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.peers(map[string]datapath.Peer{
			"10.0.0.0/8": {Identity: 300}, "10.1.0.0/16": {Identity: 301}, "10.1.2.3/32": {Identity: 302},
			"0.0.0.0/0": {Identity: 303}, "2001:db8::/32": {Identity: 304}, "2001:db8:1::/48": {Identity: 305},
		})
		h.load(rules{all(0, policy.Ingress): {Rule: 1}}.set())
		for src, want := range map[string]uint32{
			"10.9.9.9": 300, "10.1.9.9": 301, "10.1.2.3": 302, "11.0.0.1": 303,
			"2001:db8:2::1": 304, "2001:db8:1::1": 305, "2001:db9::1": 10,
		} {
			dst := "192.0.2.1"
			if netip.MustParseAddr(src).Is6() {
				dst = "2001:db8::1"
			}
			got := h.judge(policy.Ingress, packet{src: src, dst: dst, proto: udp, dport: 9})
			if got.Identity != want || got.Verdict != pass {
				t.Errorf("%s: identity %d, verdict %d; want %d and a pass", src, got.Identity, got.Verdict, want)
			}
		}
	})
}

func TestNoPolicyMeansDeny(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		hole := datapath.Pinhole{Direction: policy.Ingress, Protocol: tcp, Port: 22}
		if err := h.maps.Pinholes.Apply([]datapath.Pinhole{hole}, nil); err != nil {
			t.Fatal(err)
		}
		p := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 1000, dport: 23, flags: syn}
		if got := h.judge(policy.Ingress, p); got.Reason != bpfobj.PlexusDropReasonDROP_NO_POLICY {
			t.Errorf("without a policy: %+v", got)
		}
		p.dport = 22
		if got := h.judge(policy.Ingress, p); got.Verdict != pass {
			t.Errorf("pinhole without a policy: %+v", got)
		}
	})
}

func TestPinholes(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		deny := rules{all(0, policy.Ingress): {Deny: true, Rule: 3}, all(0, policy.Egress): {Deny: true, Rule: 4}}
		h.load(deny.set())
		holes := []datapath.Pinhole{
			{Direction: policy.Ingress, Protocol: tcp, Port: 22},
			{Direction: policy.Egress, Protocol: udp, Port: 51871},
			{Direction: policy.Ingress, Protocol: icmp6, Port: 143 << 8},
			{Direction: policy.Egress, Protocol: 2},
		}
		if err := h.maps.Pinholes.Apply(holes, nil); err != nil {
			t.Fatal(err)
		}
		ssh := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 1000, dport: 22, flags: syn}
		out := packet{src: "2001:db8::1", dst: "2001:db8::9", proto: udp, sport: 51871, dport: 51871}
		for name, got := range map[string]uint32{
			"ssh":           h.fromNetdev(ssh.frame()),
			"ssh answer":    h.toNetdev(ssh.reply().frame()),
			"tunnel":        h.toNetdev(out.frame()),
			"tunnel answer": h.fromNetdev(out.reply().frame()),
			"MLD report":    h.fromNetdev(packet{src: "fe80::9", dst: "ff02::16", proto: icmp6, icmp: [2]uint8{143}}.frame()),
			"IGMP":          h.toNetdev(packet{src: "192.0.2.1", dst: "224.0.0.22", proto: 2}.frame()),
		} {
			if got != pass {
				t.Errorf("%s: verdict %d, want a pass", name, got)
			}
		}
		if got := h.judge(policy.Egress, packet{src: "192.0.2.1", dst: "192.0.2.9", proto: tcp, sport: 9, dport: 22, flags: syn}); got.Rule != 4 {
			t.Errorf("a pinhole of the other direction: %+v", got)
		}
		if err := h.maps.Pinholes.Apply(nil, holes[:1]); err != nil {
			t.Fatal(err)
		}
		ssh.flags = ack
		if got := h.fromNetdev(ssh.frame()); got != drop {
			t.Error("a flow outlived its pinhole")
		}
	})
}
