package loader

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// What a test run cannot make: tags that the kernel keeps beside the packet, and
// packets larger than a frame. Real devices do.

// TestTagsBesideThePacket sends tagged frames. On the way in the kernel takes
// the outer tag out of a frame before any program sees it; on the way out it is
// beside the packet until the device has it.
func TestTagsBesideThePacket(t *testing.T) {
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				cable, d := newCable(t, "plx0"), openWith(t, how.forbidTCX)
				h := newHostOf(t, d)
				h.load(rules{port(0, policy.Ingress, udp, 7): {Rule: 1}, port(0, policy.Egress, udp, 8): {Rule: 2}}.set())
				if err := d.EnsureLinks([]datapath.Link{{Name: "plx0"}}); err != nil {
					t.Fatal(err)
				}
				for _, f := range families {
					for tags := range 3 {
						in := packet{src: f.peer, dst: f.us, proto: udp, sport: uint16(tags), vlan: tags}
						h.meets(in, 7, fine, cable.send)
						h.meets(in, 8, undecided, cable.send)
						pusher := newPusher(t, tags, cable.near)
						out := packet{src: f.us, dst: f.peer, proto: udp, sport: uint16(tags)}
						h.meets(out, 8, fine, pusher.send)
						h.meets(out, 7, undecided, pusher.send)
						if err := netlink.LinkDel(pusher.near); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
		})
	}
}

// meets sends the first packet of a flow and waits for what the programs say.
func (h *host) meets(p packet, port uint16, want bpfobj.PlexusDropReason, send func(packet) error) {
	h.t.Helper()
	h.drain()
	p.dport = port
	if err := send(p); err != nil {
		h.t.Fatal(err)
	}
	e := h.event(func(e *bpfobj.PlexusFlowEvent) bool {
		return e.Src == bpfobj.AddrOf(netip.MustParseAddr(p.src)) && e.Sport == bpfobj.NetworkOrder(p.sport) && e.Dport == bpfobj.NetworkOrder(port)
	})
	if e == nil {
		h.t.Errorf("no event of %+v", p)
	} else if got := bpfobj.PlexusDropReason(e.Reason); got != want {
		h.t.Errorf("%+v: %s, want %s", p, got, want)
	}
}

// newHostOf reads the events of a datapath.
func newHostOf(t testing.TB, d *Datapath) *host {
	t.Helper()
	r, err := ringbuf.NewReader(d.objs.PlexusEventsV1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return &host{t: t, Datapath: d, events: r}
}

// newPusher makes a cable whose packets leave by another device, with tags that
// the kernel keeps beside them (the inner of two is in the packet).
func newPusher(t testing.TB, tags int, to netlink.Link) *cable {
	t.Helper()
	c := newCable(t, "push")
	insns := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	for range tags {
		insns = append(insns, asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, 0x0081), asm.Mov.Imm(asm.R3, 100), asm.FnSkbVlanPush.Call())
	}
	insns = append(insns, asm.Mov.Imm(asm.R1, int32(to.Attrs().Index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: insns, License: "GPL"})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer prog.Close()
	if err := netlink.QdiscAdd(clsact(c.near.Attrs().Index)); err != nil {
		t.Fatal(err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: c.near.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL},
		Fd:          prog.FD(), Name: "push", DirectAction: true,
	}
	if err := netlink.FilterAdd(filter); err != nil {
		t.Fatal(err)
	}
	return c
}

// bulk is how much a connection carries: enough for packets to grow.
const bulk = 16 << 20

// TestLargePackets has TCP connections in both directions between this namespace and
// another one, over frames of 1500 and of 9000 bytes, in packets of up to
// 64 KiB (GSO, GRO), and where the kernel has BIG TCP, of more: these say 0 in
// their length field.
func TestLargePackets(t *testing.T) {
	netnstest.Run(t, func() {
		far := newFar(t)
		h := newHost(t)
		h.load(rules{port(0, policy.Ingress, tcp, 7000): {Rule: 1}, port(0, policy.Egress, tcp, 7000): {Rule: 2}}.set())
		if err := h.EnsureLinks([]datapath.Link{{Name: "plx0"}}); err != nil {
			t.Fatal(err)
		}
		for _, size := range []struct{ mtu, gso int }{{1500, 65536}, {9000, 65536}, {1500, 200_000}} {
			limits := far.resize(size.mtu, size.gso)
			for i, f := range families {
				largest := watchLargest(t, "plx0")
				far.transfer(f.us, f.peer, false)
				far.transfer(f.us, f.peer, true)
				got := largest()
				t.Logf("MTU %d: %s has packets of up to %d bytes, of %d", size.mtu, f.name, got, limits[i])
				if got <= size.mtu || limits[i] > 65536 && got <= 65536+14 {
					t.Errorf("MTU %d: %s has packets of up to %d bytes alone, of %d", size.mtu, f.name, got, limits[i])
				}
			}
		}
		flows, err := h.maps.Flows.List()
		if err != nil {
			t.Fatal(err)
		}
		var total uint64
		for _, f := range flows {
			if f.Protocol == tcp {
				total += f.RxBytes + f.TxBytes
			}
		}
		if want := uint64(3 * 2 * 2 * bulk); total < want {
			t.Errorf("flows count %d bytes, and carried %d", total, want)
		}
		for _, c := range h.counters() {
			if c.Reason != "forwarded" && c.Reason != "policy denied" {
				t.Errorf("dropped: %+v", c)
			}
		}
	})
}

// far is the other end of a cable, in a namespace of its own.
type far struct {
	t        testing.TB
	ns, here netns.NsHandle
}

func newFar(t testing.TB) *far {
	t.Helper()
	f := &far{t: t}
	var err error
	if f.here, err = netns.Get(); err != nil {
		t.Fatal(err)
	}
	if f.ns, err = netns.New(); err != nil {
		t.Fatal(err)
	}
	f.home()
	t.Cleanup(func() { _ = f.ns.Close(); _ = f.here.Close() })
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "plx0"}, PeerName: "plx0", PeerNamespace: netlink.NsFd(f.ns)}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	f.address("192.0.2.1/24", "2001:db8::1/64")
	f.visit(func() { f.address("192.0.2.9/24", "2001:db8::9/64") })
	return f
}

func (f *far) home() {
	f.t.Helper()
	if err := netns.Set(f.here); err != nil {
		f.t.Fatal(err)
	}
}

// visit calls fn in the other namespace.
func (f *far) visit(fn func()) {
	f.t.Helper()
	if err := netns.Set(f.ns); err != nil {
		f.t.Fatal(err)
	}
	defer f.home()
	fn()
}

func (f *far) address(addrs ...string) {
	f.t.Helper()
	dev := linkByName(f.t, "plx0")
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			f.t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(dev, addr); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		f.t.Fatal(err)
	}
}

// resize changes both ends, and returns how large packets of each family may be.
// More than 64 KiB are possible from Linux 5.19, and of IPv4 from 6.3.
func (f *far) resize(mtu, gso int) (limits [2]int) {
	f.t.Helper()
	change := func() {
		dev := linkByName(f.t, "plx0")
		if err := netlink.LinkSetMTU(dev, mtu); err != nil {
			f.t.Fatal(err)
		}
		if gso > 65536 { // older kernels refuse, or do not know the attribute
			for _, set := range []func(netlink.Link, int) error{
				netlink.LinkSetGSOMaxSize, netlink.LinkSetGROMaxSize, netlink.LinkSetGSOIPv4MaxSize, netlink.LinkSetGROIPv4MaxSize,
			} {
				_ = set(dev, gso)
			}
		}
		got := linkByName(f.t, "plx0").Attrs()
		limits = [2]int{int(got.GSOIPv4MaxSize), int(got.GSOMaxSize)}
	}
	f.visit(change)
	change()
	return limits
}

// transfer has one side connect to the other and send.
func (f *far) transfer(us, them string, weConnect bool) {
	f.t.Helper()
	listen := func(addr string) (l net.Listener) {
		l, err := net.Listen("tcp", net.JoinHostPort(addr, "7000"))
		if err != nil {
			f.t.Fatal(err)
		}
		return l
	}
	dial := func(addr string) net.Conn {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "7000"), 5*time.Second)
		if err != nil {
			f.t.Fatal(err)
		}
		return c
	}
	var l net.Listener
	var c net.Conn
	if weConnect {
		f.visit(func() { l = listen(them) })
		c = dial(them)
	} else {
		l = listen(us)
		f.visit(func() { c = dial(us) })
	}
	defer l.Close()
	received := make(chan int64, 1)
	go func() {
		in, err := l.Accept()
		if err != nil {
			received <- -1
			return
		}
		n, _ := io.Copy(io.Discard, in)
		received <- n
	}()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err := c.Write(make([]byte, bulk)) // all at once, so that packets are as large as they may be
	c.Close()
	if n := <-received; err != nil || n != bulk {
		f.t.Errorf("%d of %d bytes arrived: %v", n, bulk, err)
	}
}

// watchLargest watches a device. The function that it returns ends that, and
// tells how long the largest packet was, with its link header.
func watchLargest(t testing.TB, name string) func() int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: linkByName(t, name).Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	done, longest := make(chan struct{}), make(chan int, 1)
	go func() {
		largest := 0
		for {
			n, _, err := unix.Recvfrom(fd, make([]byte, 64), unix.MSG_TRUNC)
			largest = max(largest, n)
			select {
			case <-done:
				longest <- largest
				return
			default:
			}
			if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
				longest <- -1
				return
			}
		}
	}()
	return func() int {
		defer unix.Close(fd)
		close(done)
		return <-longest
	}
}
