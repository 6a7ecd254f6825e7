package loader

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// benchmark feeds one frame b.N times and reports the kernel's own time for a packet.
func benchmark(b *testing.B, prog *ebpf.Program, frame []byte) {
	b.Helper()
	const most = 1 << 20 // repetitions that one call may run without a signal
	for left := b.N; left > 0; left -= most {
		_, err := prog.Run(&ebpf.RunOptions{Data: frame, Repeat: uint32(min(left, most))})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPacket compares a packet of a known flow with one that opens a flow,
// under a policy of 1000 entries. Nobody reads the events of the latter, so that
// most find the ring full. Repetitions cost what a program costs, without the way
// of a packet through the kernel.
func BenchmarkPacket(b *testing.B) {
	netnstest.Run(b, func() {
		h := newHost(b)
		many := rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 1}}
		for i := range uint16(1000) {
			many[port(300, policy.Ingress, tcp, 1000+i)] = policy.Entry{Rule: 2}
		}
		h.load(many.set())
		for _, f := range families {
			known := packet{src: f.peer, dst: f.us, proto: tcp, sport: 1000, dport: 22, flags: ack}
			// A packet that opens a connection against a known flow is judged as new
			// each time, and leaves the flow that is there alone.
			opens := packet{src: f.us, dst: f.peer, proto: tcp, sport: 22, dport: 1000, flags: syn}
			h.fromNetdev(known.frame())
			b.Run(f.name+"/known", func(b *testing.B) { benchmark(b, h.programs[ethernet].FromNetdev, known.frame()) })
			b.Run(f.name+"/new", func(b *testing.B) { benchmark(b, h.programs[ethernet].ToNetdev, opens.frame()) })
		}
	})
}
