package loader

import (
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// BenchmarkDropTC floods one end of a veth pair with packets of a denied prefix, and
// reports how many a second are dropped there. The kernel itself makes the frames
// and redirects them into the pair (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18), so
// that dropping them is most of the work. Nobody reads the events.
func BenchmarkDropTC(b *testing.B) {
	netnstest.Run(b, func() {
		h := newHost(b)
		denied := mesh.Identity(1<<24 | 1)
		h.load(bpfmap.Ruleset{
			Entries:  rules{all(denied, policy.Ingress): {Deny: true, Rule: 1}, all(0, policy.Ingress): {Rule: 2}},
			Prefixes: map[netip.Prefix]mesh.Identity{netip.MustParsePrefix("203.0.113.0/24"): denied},
		})
		flood := newFlood(b)
		if err := h.EnsureLinks([]datapath.Link{{Name: floodTarget}}); err != nil {
			b.Fatal(err)
		}
		h.dropAll(b, flood) // not in b.Run, whose goroutine would be outside the namespace
	})
}

// floodTarget is the interface that a flood reaches.
const floodTarget = "flood1"

// newFlood makes a veth pair, and a program that sends what it is fed into it.
func newFlood(b *testing.B) *ebpf.Program {
	b.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "flood0"}, PeerName: floodTarget}); err != nil {
		b.Fatal(err)
	}
	receiveInBatches(b, floodTarget)
	var index int
	for _, name := range []string{floodTarget, "flood0"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			b.Fatal(err)
		}
		index = l.Attrs().Index
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() })
	return p
}

// receiveInBatches turns generic receive offload on: only with it or with a program
// of its own does a veth take redirected frames.
func receiveInBatches(b *testing.B, device string) {
	b.Helper()
	const setGRO = 0x2c // ETHTOOL_SGRO
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{setGRO, 1}
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		b.Fatalf("turn receive offload of %s on: %v", device, errno)
	}
}

// dropAll floods with b.N packets, all of which must be dropped and counted.
func (h *host) dropAll(b *testing.B, flood *ebpf.Program) {
	b.Helper()
	const liveFrames = 2 // BPF_F_TEST_XDP_LIVE_FRAMES
	frame := packet{src: "203.0.113.7", dst: "192.0.2.1", proto: udp, sport: 4000, dport: 53, payload: make([]byte, 18)}.frame()
	before, start := h.dropped(b), time.Now()
	for left := b.N; left > 0; left -= chunk {
		opts := &ebpf.RunOptions{Data: frame, Repeat: uint32(min(left, chunk)), Flags: liveFrames}
		if _, err := flood.Run(opts); err != nil {
			b.Fatal(err)
		}
	}
	n, took := h.dropped(b)-before, time.Since(start)
	if n < uint64(b.N)/10*9 { // a few may still be on their way
		b.Fatalf("%d of %d packets were dropped and counted", n, b.N)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(n)/took.Seconds(), "drops/s")
}

func (h *host) dropped(b *testing.B) (n uint64) {
	b.Helper()
	all, err := h.maps.Counters.List()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range all {
		if c.Reason == "denied by rule" {
			n += c.Packets
		}
	}
	return n
}
