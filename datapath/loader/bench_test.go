package loader

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// chunk is how many packets one call of the kernel feeds to a program: it takes a
// few milliseconds, less than other work on the machine leaves it for.
const chunk = 1 << 14

// empty loads a program that lets every packet pass: what a test run costs by itself.
func empty(b *testing.B) *ebpf.Program {
	b.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() })
	return p
}

// above reports what a packet costs above an empty program. Both run in turn, and
// neighbours are compared, so that what else the machine does harms them alike. It
// is the kernel's own time (BPF_PROG_TEST_RUN), without the packet's way through
// the kernel and with everything in the cache.
func above(b *testing.B, prog *ebpf.Program, frame []byte) {
	b.Helper()
	nothing := empty(b)
	time := func(p *ebpf.Program) float64 {
		verdict, took, err := p.Benchmark(frame, chunk, nil)
		if err != nil || verdict != pass {
			b.Fatalf("verdict %d, %v: want the packet to pass", verdict, err)
		}
		return float64(took.Nanoseconds())
	}
	var base, more []float64
	for left := b.N; left > 0 || len(more) < 4; left -= chunk {
		e := time(nothing)
		base, more = append(base, e), append(more, time(prog)-e)
	}
	b.ReportMetric(0, "ns/op") // of Go, which says nothing here
	b.ReportMetric(middle(base), "ns-empty")
	b.ReportMetric(middle(more), "ns-above-empty")
}

// middle is the mean of the middle half: as sturdy as a median, and finer than the
// whole nanoseconds that the kernel tells.
func middle(samples []float64) float64 {
	slices.Sort(samples)
	half := samples[len(samples)/4 : len(samples)-len(samples)/4]
	var sum float64
	for _, s := range half {
		sum += s
	}
	return sum / float64(len(half))
}

// ends are the addresses of a flow.
type ends struct{ us, peer string }

// The flows that packets are measured of, by family: on an interface, and in the
// tunnel.
var (
	onNetdev = map[string]ends{"IPv4": {"192.0.2.1", "192.0.2.9"}, "IPv6": {"2001:db8::1", "2001:db8::9"}}
	inTunnel = map[string]ends{"IPv4": {"10.210.0.1", "10.210.0.2"}, "IPv6": {"fd00::1", "fd00::2"}}
)

// benchHost is a host under a policy of 1000 rules, with those flows open.
func benchHost(b testing.TB) *host {
	b.Helper()
	h := newHost(b)
	h.peers(map[string]datapath.Peer{
		"10.210.0.1/32": {Identity: 301, Flags: datapath.PeerLocal | datapath.PeerMesh}, "fd00::1/128": {Identity: 301, Flags: datapath.PeerLocal | datapath.PeerMesh},
		"10.210.0.2/32": {Identity: 300, Flags: datapath.PeerMesh}, "fd00::2/128": {Identity: 300, Flags: datapath.PeerMesh},
		"192.0.2.1/32": {Identity: 301, Flags: datapath.PeerLocal}, "2001:db8::1/128": {Identity: 301, Flags: datapath.PeerLocal},
	})
	many := rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 1}}
	for i := range uint16(1000) {
		many[port(300, policy.Ingress, tcp, 1000+i)] = policy.Entry{Rule: 2}
	}
	h.load(many.set())
	return h
}

// cachedAfter is how many packets a flow has when a CPU knows it (CACHE_AFTER).
const cachedAfter = 8

// direction is one program, and how a packet gets to it.
type direction struct {
	program  string
	outgoing bool
	flows    map[string]ends
	feed     func([]byte) uint32
	back     func([]byte) uint32 // what answers meet
	prog     *ebpf.Program
}

func (h *host) directions() []direction {
	p := h.programs[ethernet]
	return []direction{
		{"from_netdev", false, onNetdev, h.fromNetdev, h.toNetdev, p.FromNetdev},
		{"to_netdev", true, onNetdev, h.toNetdev, h.fromNetdev, p.ToNetdev},
		{"from_tunnel", false, inTunnel, h.fromTunnel, h.toTunnel, p.FromTunnel},
		{"to_tunnel", true, inTunnel, h.toTunnel, h.fromTunnel, p.ToTunnel},
	}
}

// open opens a flow and returns a packet in the middle of it, in this direction.
func (d direction) open(t testing.TB, family string, proto uint8) packet {
	t.Helper()
	e := d.flows[family]
	p := packet{src: e.peer, dst: e.us, proto: proto, sport: 40000, dport: 443}
	if d.outgoing {
		p.src, p.dst = p.dst, p.src
	}
	first := p
	if proto == tcp {
		first.flags, p.flags = syn, ack
	}
	verdicts := []uint32{d.feed(first.frame()), d.back(first.reply().frame())}
	for len(verdicts) < cachedAfter { // the third opens the flow, the last makes the CPU know it
		verdicts = append(verdicts, d.feed(p.frame()))
	}
	for i, verdict := range verdicts {
		if verdict != pass {
			t.Fatalf("packet %d of an opened flow to %s, %s: verdict %d, want it to pass", i, d.program, family, verdict)
		}
	}
	return p
}

// BenchmarkEstablished is a plain packet of a flow that both sides know. Its short
// way looks into arrays alone (TestShortWayNeedsNoTable).
func BenchmarkEstablished(b *testing.B) {
	netnstest.Run(b, func() {
		h := benchHost(b)
		onOneCPU(b)
		h.eachFlow(b, func(name string, d direction, p packet) {
			b.Run(name, func(b *testing.B) { above(b, d.prog, p.frame()) })
		})
	})
}

// BenchmarkLongWay is a packet of the same flows that the short way leaves to the
// long one, which looks into the table of flows: it has options, or a header with
// some.
func BenchmarkLongWay(b *testing.B) {
	netnstest.Run(b, func() {
		h := benchHost(b)
		onOneCPU(b)
		h.eachFlow(b, func(name string, d direction, p packet) {
			b.Run(name, func(b *testing.B) { above(b, d.prog, p.long().frame()) })
		})
	})
}

// long returns the packet with options, which the short way does not read.
func (p packet) long() packet {
	p.options, p.extensions = 4, []uint8{destinationOptions}
	return p
}

// BenchmarkOpening is a packet that opens a connection against a known flow: it is
// judged as new each time, and leaves the flow that is there alone. Nobody reads
// its events, so that most find the ring full.
func BenchmarkOpening(b *testing.B) {
	netnstest.Run(b, func() {
		h := benchHost(b)
		for _, d := range h.directions() {
			for _, f := range families {
				p := d.open(b, f.name, tcp).reply()
				p.flags = syn
				b.Run(d.program+"/"+f.name, func(b *testing.B) { above(b, d.reverse(h), p.frame()) })
			}
		}
	})
}

// reverse is the program that packets the other way meet.
func (d direction) reverse(h *host) *ebpf.Program {
	for _, o := range h.directions() {
		if o.outgoing != d.outgoing && o.flows["IPv4"] == d.flows["IPv4"] {
			return o.prog
		}
	}
	return nil
}
