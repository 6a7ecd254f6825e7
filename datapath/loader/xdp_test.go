package loader

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// What the early stage returns.
const (
	xdpDrop = uint32(1) // XDP_DROP
	xdpPass = uint32(2) // XDP_PASS
)

// earlyHost is a host with the early stage.
type earlyHost struct {
	*host
	early *Early
}

func newEarlyHost(t testing.TB) earlyHost {
	t.Helper()
	h := newHost(t)
	return earlyHost{h, openEarly(t, h.Datapath)}
}

func openEarly(t testing.TB, d *Datapath) *Early {
	t.Helper()
	e, err := d.OpenEarly()
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// fromWire feeds a frame to the early stage by the way that packets take.
func (h earlyHost) fromWire(frame []byte) uint32 {
	h.t.Helper()
	return h.run(h.early.objs.Entry, frame)
}

// Identities of the CIDR peers in earlyRules.
const (
	earlyDenied = 1<<24 | 1
	earlyInside = 1<<24 | 2
)

// earlyRules deny the wide CIDR of either family, and allow the narrow one in it
// and what we open ourselves.
func earlyRules() bpfmap.Ruleset {
	set := rules{
		all(earlyDenied, policy.Ingress): {Deny: true, Rule: 7},
		all(earlyInside, policy.Ingress): {Rule: 8},
		all(300, policy.Ingress):         {Rule: 9},
		all(0, policy.Egress):            {Rule: 10},
	}.set()
	set.Prefixes = make(map[netip.Prefix]mesh.Identity)
	for _, f := range families {
		set.Prefixes[netip.MustParsePrefix(f.wide)] = earlyDenied
		set.Prefixes[netip.MustParsePrefix(f.cidr)] = earlyInside
	}
	return set
}

// known is an address of a peer inside the wide CIDR, by family.
var known = map[string]string{"IPv4": "203.0.113.9", "IPv6": "2001:db8:3::9"}

func (h earlyHost) prepare() {
	h.t.Helper()
	for _, f := range families {
		h.peers(map[string]datapath.Peer{mesh.HostPrefix(netip.MustParseAddr(known[f.name])).String(): {Identity: 300}})
	}
	if err := h.maps.Pinholes.Apply([]datapath.Pinhole{hole(policy.Ingress, 2022, "")}, nil); err != nil {
		h.t.Fatal(err)
	}
	h.load(earlyRules())
}

func TestEarlyStage(t *testing.T) {
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		h.prepare()
		for _, f := range families {
			in := packet{src: f.inCIDR, dst: f.us, proto: tcp, sport: 1000, dport: 22, flags: syn}
			from := func(p packet, change func(*packet)) packet { change(&p); return p }
			for _, tt := range []struct {
				name  string
				p     packet
				early uint32
				late  uint32
			}{
				{"denied", in, xdpDrop, drop},
				{"denied UDP", from(in, func(p *packet) { p.proto = udp }), xdpDrop, drop},
				{"denied ping", from(in, func(p *packet) { p.proto, p.icmp = f.icmp, [2]uint8{f.echo} }), xdpDrop, drop},
				{"denied behind one tag", from(in, func(p *packet) { p.vlan = 1 }), xdpDrop, drop},
				{"denied behind two tags", from(in, func(p *packet) { p.vlan = 2 }), xdpDrop, drop},
				{"denied, in the middle of a connection", from(in, func(p *packet) { p.flags = ack }), xdpDrop, drop},
				{"allowed inside", from(in, func(p *packet) { p.src = f.narrow }), xdpPass, pass},
				{"a peer inside", from(in, func(p *packet) { p.src = known[f.name] }), xdpPass, pass},
				{"a stranger", from(in, func(p *packet) { p.src = f.stranger }), xdpPass, drop},
				{"by a pinhole", from(in, func(p *packet) { p.dport = 2022 }), xdpPass, pass},
				{"shorter than it says", from(in, func(p *packet) { p.cut = 1 }), xdpPass, drop},
				{"SCTP", from(in, func(p *packet) { p.proto, p.chunk = sctp, 1 }), xdpPass, drop},
				{"no ports", from(in, func(p *packet) { p.proto = 47 }), xdpPass, drop},
				{"an answer to a ping", from(in, func(p *packet) { p.proto, p.icmp = f.icmp, [2]uint8{f.echoReply} }), xdpPass, drop},
				{"three tags", from(in, func(p *packet) { p.vlan = 3 }), xdpPass, pass},
			} {
				t.Run(f.name+"/"+tt.name, func(t *testing.T) { h.with(t).expect(tt.p, tt.early, tt.late) })
			}
			h.t = t
		}
	})
}

func (h earlyHost) with(t testing.TB) earlyHost {
	h.t = t
	return h
}

// expect feeds a packet to both stages.
func (h earlyHost) expect(p packet, early, late uint32) {
	h.t.Helper()
	h.forget()
	if got := h.fromWire(p.frame()); got != early {
		h.t.Errorf("the early stage returns %d, want %d", got, early)
	}
	if got := h.fromNetdev(p.frame()); got != late {
		h.t.Errorf("the late stage returns %d, want %d", got, late)
	}
}

// TestEarlyStageReadsSimplePackets lists what it passes up although it would be denied.
func TestEarlyStageReadsSimplePackets(t *testing.T) {
	four, six := families[0], families[1]
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		h.prepare()
		for name, p := range map[string]packet{
			"options":              {src: four.inCIDR, dst: four.us, proto: udp, dport: 9, options: 4},
			"first fragment":       {src: four.inCIDR, dst: four.us, proto: udp, dport: 9, fragment: fragment{id: 1, more: true}},
			"later fragment":       {src: four.inCIDR, dst: four.us, proto: udp, dport: 9, fragment: fragment{id: 1, offset: 64}},
			"extension header":     {src: six.inCIDR, dst: six.us, proto: udp, dport: 9, extensions: []uint8{destinationOptions}},
			"IPv6, first fragment": {src: six.inCIDR, dst: six.us, proto: udp, dport: 9, extensions: []uint8{fragmentHeader}, fragment: fragment{id: 1, more: true}},
			"mapped address":       {src: "::ffff:203.0.113.7", dst: six.us, proto: udp, dport: 9},
			"ICMP error":           {src: four.inCIDR, dst: four.us, proto: icmp4, icmp: [2]uint8{3, 4}, payload: packet{src: four.us, dst: four.inCIDR, proto: udp}.ip()},
		} {
			t.Run(name, func(t *testing.T) { h.with(t).expect(p, xdpPass, drop) })
		}
		nd := packet{src: six.inCIDR, dst: six.us, proto: icmp6, icmp: [2]uint8{135}, hops: 255}
		t.Run("neighbour discovery", func(t *testing.T) { h.with(t).expect(nd, xdpPass, pass) })
		h.t = t
	})
}

// TestEarlyStageKnowsFlows has this host open flows to a denied peer: what answers
// passes, in the tables of flows that open and of open ones, and in none of them
// what the peer opens.
func TestEarlyStageKnowsFlows(t *testing.T) {
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		h.prepare()
		for _, f := range families {
			for _, proto := range []uint8{tcp, udp, f.icmp} {
				out := packet{src: f.us, dst: f.inCIDR, proto: proto, sport: 1000, dport: 443, flags: syn, icmp: [2]uint8{f.echo}, id: 5}
				if h.toNetdev(out.frame()) != pass {
					t.Fatalf("%s: protocol %d out was denied", f.name, proto)
				}
				for range 3 {
					if got := h.fromWire(out.reply().frame()); got != xdpPass {
						t.Errorf("%s: an answer of protocol %d has verdict %d of the early stage", f.name, proto, got)
					}
					if got := h.fromNetdev(out.reply().frame()); got != pass {
						t.Errorf("%s: an answer of protocol %d has verdict %d", f.name, proto, got)
					}
					out.flags = ack
					h.toNetdev(out.frame())
				}
			}
			back := packet{src: f.inCIDR, dst: f.us, proto: tcp, sport: 443, dport: 1001, flags: syn}
			if got := h.fromWire(back.frame()); got != xdpDrop {
				t.Errorf("%s: what the peer opens has verdict %d", f.name, got)
			}
		}
	})
}

// TestEarlyStageRecallsFlows has flows to a denied peer that programs have not noted: what
// the agent makes known, and what was in the tables before the stage was opened.
func TestEarlyStageRecallsFlows(t *testing.T) {
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		h.prepare()
		for _, f := range families {
			out := packet{src: f.us, dst: f.inCIDR, proto: tcp, sport: 1000, dport: 443, flags: syn}
			h.toNetdev(out.frame())
			if err := h.maps.Flows.Recall(); err != nil {
				t.Fatal(err)
			}
			if got := h.fromWire(out.reply().frame()); got != xdpPass {
				t.Errorf("%s: an answer to a flow from before has verdict %d", f.name, got)
			}
			h.forget()
			if err := h.maps.Flows.Recall(); err != nil {
				t.Fatal(err)
			}
			seeded := datapath.Flow{
				Direction: policy.Egress, Protocol: tcp, Expires: time.Hour,
				Local: netip.AddrPortFrom(netip.MustParseAddr(f.us), 1000), Remote: netip.AddrPortFrom(netip.MustParseAddr(f.inCIDR), 443),
			}
			if err := h.maps.Flows.Seed([]datapath.Flow{seeded}); err != nil {
				t.Fatal(err)
			}
			if got := h.fromWire(out.reply().frame()); got != xdpPass {
				t.Errorf("%s: an answer to a flow that the agent knows of has verdict %d", f.name, got)
			}
		}
	})
}

// TestEarlyStageRecallsWhatOpensMeanwhile has flows move from the table of opening ones
// to that of open ones while both are read.
func TestEarlyStageRecallsWhatOpensMeanwhile(t *testing.T) {
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		h.prepare()
		f := families[0]
		for i := range uint16(40) {
			out := packet{src: f.us, dst: f.inCIDR, proto: tcp, sport: 1000 + i, dport: 443, flags: syn}
			h.forget()
			h.toNetdev(out.frame())
			h.fromNetdev(out.reply().frame())
			recalled := make(chan error, 1)
			go func() { recalled <- h.maps.Flows.Recall() }()
			out.flags = ack
			for h.opened(t) == 0 {
				h.toNetdev(out.frame())
			}
			if err := <-recalled; err != nil {
				t.Fatal(err)
			}
			if got := h.fromWire(out.reply().frame()); got != xdpPass {
				t.Fatalf("flow %d: an answer has verdict %d of the early stage", i, got)
			}
		}
	})
}

// opened returns how many flows are in the table of open ones.
func (h *host) opened(t testing.TB) (n int) {
	t.Helper()
	flows, err := h.maps.Flows.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		if f.Open {
			n++
		}
	}
	return n
}

// TestEarlyStageMovesWithFlows has a flow come in by the interface that went
// through the tunnel until now: the late stage continues it, so the early one may
// not drop it.
func TestEarlyStageMovesWithFlows(t *testing.T) {
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		f := families[0]
		h.prepare()
		h.peers(map[string]datapath.Peer{
			f.us + "/32": {Identity: 301, Flags: datapath.PeerLocal}, f.inCIDR + "/32": {Identity: 302, Flags: datapath.PeerNode},
		})
		out := packet{src: f.us, dst: f.inCIDR, proto: tcp, sport: 1000, dport: 443, flags: syn}
		h.toTunnel(out.frame())
		h.fromTunnel(out.reply().frame())
		out.flags = ack
		if h.toTunnel(out.frame()) != pass {
			t.Fatal("flow was not opened through the tunnel")
		}
		if err := h.maps.IPCache.Apply(nil, []netip.Prefix{netip.MustParsePrefix(f.inCIDR + "/32")}); err != nil {
			t.Fatal(err)
		}
		answer := out.reply()
		if got := h.fromWire(answer.frame()); got != xdpPass {
			t.Errorf("the early stage returns %d for a flow that left the tunnel", got)
		}
		if got := h.fromNetdev(answer.frame()); got != pass {
			t.Errorf("the late stage returns %d for a flow that left the tunnel", got)
		}
	})
}

// TestEarlyStageFollowsThePolicy changes what is in force, as a version would that
// knows of no early stage.
func TestEarlyStageFollowsThePolicy(t *testing.T) {
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		h.prepare()
		p := packet{src: families[0].inCIDR, dst: families[0].us, proto: tcp, dport: 22, flags: syn}
		open := earlyRules()
		open.Entries[all(earlyDenied, policy.Ingress)] = policy.Entry{Rule: 1}
		for i, tt := range []struct {
			rules       bpfmap.Ruleset
			early, late uint32
		}{{open, xdpPass, pass}, {earlyRules(), xdpDrop, drop}, {allowAll().set(), xdpPass, pass}, {earlyRules(), xdpDrop, drop}} {
			h.load(tt.rules)
			t.Run(fmt.Sprint(i), func(t *testing.T) { h.with(t).expect(p, tt.early, tt.late) })
		}
		h.t = t
		if err := h.early.objs.Stage.Delete(uint32(0)); err != nil { // as the kernel does when the agent dies
			t.Fatal(err)
		}
		h.expect(p, xdpPass, drop)
	})
}

// TestEarlyStageReports floods from a few sources: each is named, no event is
// without its packet, and every packet is counted.
func TestEarlyStageReports(t *testing.T) {
	const packets = 200
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		h.prepare()
		for _, f := range families {
			h.drain()
			dropped, reported := h.earlyCounters()
			p := packet{src: f.inCIDR, dst: f.us, proto: udp, sport: 7, dport: 9}
			for range packets {
				if h.fromWire(p.frame()) != xdpDrop {
					t.Fatal("the early stage passes a denied packet up")
				}
			}
			events := h.drain()
			if len(events) == 0 || len(events) > packets/2 {
				t.Fatalf("%s: %d events for %d packets of one source", f.name, len(events), packets)
			}
			got := outcome{drop, bpfobj.PlexusDropReason(events[0].Reason), events[0].Identity, events[0].Rule}
			if diff := cmp.Diff(byRule(earlyDenied, 7), got); diff != "" || events[0].Src.Netip().String() != f.inCIDR {
				t.Errorf("%s: from %s (-want +got):\n%s", f.name, events[0].Src.Netip(), diff)
			}
			d, r := h.earlyCounters()
			if d-dropped != packets || r-reported != uint64(len(events)) {
				t.Errorf("%s: %d counted, %d of them reported; want %d and %d", f.name, d-dropped, r-reported, packets, len(events))
			}
		}
		if n := judged(t, h.Datapath, policy.Ingress); n != packets*uint64(len(families)) {
			t.Errorf("%d packets counted by reason, want %d", n, packets*len(families))
		}
	})
}

func (h earlyHost) earlyCounters() (dropped, reported uint64) {
	h.t.Helper()
	dropped, reported, err := h.maps.Counters.Early()
	if err != nil {
		h.t.Fatal(err)
	}
	return dropped, reported
}

// TestEarlyStageAgrees has random policies judge random packets: what the early
// stage drops, the late one drops too, with the same words about it.
func TestEarlyStageAgrees(t *testing.T) {
	const cases = 60
	netnstest.Run(t, func() {
		h := newEarlyHost(t)
		h.peers(policyPeers())
		base, drops := rand.Uint64(), 0
		for i := range uint64(cases) {
			drops += h.agree(base + i)
		}
		if drops == 0 {
			t.Error("the early stage has dropped nothing at all")
		}
	})
}

// agree returns how many packets the early stage has dropped.
func (h earlyHost) agree(seed uint64) (drops int) {
	h.t.Helper()
	g := policyMaker{rand.New(rand.NewPCG(seed, 1))}
	policies, err := policy.Parse("random.yaml", []byte(g.file()))
	if err != nil {
		h.t.Fatalf("seed %d: %v", seed, err)
	}
	v := policy.Compile(policies, policy.Subject{Identity: policyPeer(0), Cluster: "vms"}, policy.World{})
	h.load(bpfmap.Ruleset{Entries: v.Entries, Prefixes: v.Prefixes})
	h.forget()
	for range 60 {
		d, remote, p := g.packet()
		if g.IntN(4) == 0 {
			p.flags = ack
		}
		if d == policy.Egress {
			h.toNetdev(p.frame()) // opens a flow, if it may
			p = p.reply()
		}
		if h.fromWire(p.frame()) != xdpDrop {
			continue
		}
		drops++
		want := outcome{drop, bpfobj.PlexusDropReasonDROP_POLICY_DENY, uint32(v.Identify(remote)), 0}
		got := h.judge(policy.Ingress, p)
		want.Rule = uint32(v.Judge(policy.Flow{Peer: v.Identify(remote), Protocol: p.proto, Port: flowOf(p, policy.Ingress).Port}).Rule)
		if diff := cmp.Diff(want, got); diff != "" {
			h.t.Fatalf("seed %d: dropped early, %s: late (-want +got):\n%s\n%+v", seed, remote, diff, p)
		}
	}
	return drops
}
