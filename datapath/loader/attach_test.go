package loader

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// attachments are the two ways to attach that a host may ask for. Where the kernel
// has no tcx, both must come to clsact, as TestAttachAndDetach checks.
var attachments = []struct {
	name      string
	forbidTCX bool
}{{"tcx", false}, {"clsact", true}}

// cable is a veth pair whose near end is governed and whose far end is a wire.
type cable struct {
	t    testing.TB
	near netlink.Link
	wire int // packet socket at the far end
}

func newCable(t testing.TB, name string) *cable {
	t.Helper()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "far" + name}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	near, far := linkByName(t, name), linkByName(t, "far"+name)
	addr, _ := netlink.ParseAddr("192.0.2.1/24")
	for _, err := range []error{netlink.AddrAdd(near, addr), netlink.LinkSetUp(near), netlink.LinkSetUp(far)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: far.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	return &cable{t: t, near: near, wire: fd}
}

func linkByName(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// send puts a packet on the wire towards the near end.
func (c *cable) send(p packet) error {
	frame := p.frame()
	copy(frame, c.near.Attrs().HardwareAddr)
	return unix.Send(c.wire, frame, 0)
}

// judged returns how many packets the programs have seen, in one direction.
func judged(t testing.TB, d *Datapath, direction policy.Direction) uint64 {
	t.Helper()
	counters, err := d.Maps().Counters.List()
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, c := range counters {
		if c.Direction == direction {
			n += c.Packets
		}
	}
	return n
}

// listen opens a socket for what arrives at the near end.
func listen(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addrPort(addr, 7)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// arrives reads one datagram and reports whether it came within a second.
func arrives(c *net.UDPConn, want uint32) bool {
	var b [64]byte
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	for {
		n, err := c.Read(b[:])
		if err != nil {
			return false
		}
		if n >= 4 && binary.BigEndian.Uint32(b[:]) == want {
			return true
		}
	}
}

func numbered(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// attachable is a datagram that the test policy allows to arrive.
func attachable(n uint32) packet {
	return packet{src: "192.0.2.9", dst: "192.0.2.1", proto: udp, sport: 7, dport: 7, payload: numbered(n)}
}

func openWith(t testing.TB, forbidTCX bool) *Datapath {
	t.Helper()
	opts := testOptions()
	opts.ForbidTCX = forbidTCX
	return shared.open(t, opts)
}

func allowAll() rules {
	return rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 2}}
}

func TestAttachAndDetach(t *testing.T) {
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				wire, d := newCable(t, "plx.0"), openWith(t, how.forbidTCX)
				links := []datapath.Link{{Name: "plx.0"}}
				for range 2 { // again is no change
					if err := d.EnsureLinks(links); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := d.ListLinks(); err != nil || !cmp.Equal(got, links) {
					t.Errorf("links %v, %v; want %v", got, err, links)
				}
				if got, want := attachedBy(t, wire.near), wayTo(t, how.forbidTCX); got != want {
					t.Errorf("attached by %s, want %s", got, want)
				}
				sock := listen(t, "192.0.2.1")
				if err := wire.send(attachable(1)); err != nil || arrives(sock, 1) {
					t.Errorf("a packet passed without a policy (%v)", err)
				}
				if _, err := d.Maps().Policy.Load(allowAll().set()); err != nil {
					t.Fatal(err)
				}
				if err := wire.send(attachable(2)); err != nil || !arrives(sock, 2) {
					t.Errorf("an allowed packet was dropped (%v)", err)
				}
				before := judged(t, d, policy.Egress)
				if _, err := sock.WriteToUDPAddrPort([]byte("out"), addrPort("192.0.2.9", 7)); err != nil {
					t.Fatal(err)
				}
				if n := judged(t, d, policy.Egress) - before; n == 0 { // ARP at least
					t.Error("nothing that left was judged")
				}
				if err := d.PruneLinks(nil); err != nil {
					t.Fatal(err)
				}
				if got, err := d.ListLinks(); err != nil || len(got) != 0 {
					t.Errorf("links after pruning: %v, %v", got, err)
				}
				seen := judged(t, d, policy.Ingress)
				if err := wire.send(attachable(3)); err != nil || !arrives(sock, 3) || judged(t, d, policy.Ingress) != seen {
					t.Errorf("a packet met a program on a link that was pruned (%v)", err)
				}
			})
		})
	}
}

// attachedBy returns by which ways the programs are attached in both directions.
func attachedBy(t testing.TB, dev netlink.Link) string {
	t.Helper()
	var ways []string
	for _, h := range hooks(dev.Attrs().Name, dev.Attrs().Index) {
		if _, err := os.Stat(tcxPin(testRoot, h)); err == nil {
			ways = append(ways, "tcx")
		}
		f, err := findFilter(h)
		if err != nil {
			t.Fatal(err)
		}
		if f != nil {
			ways = append(ways, "clsact")
		}
	}
	return strings.Join(ways, " ")
}

// wayTo returns what attachedBy should. The loader tries tcx; here the version of
// the kernel says whether it has it, so that a loader which cannot tell is found out.
func wayTo(t testing.TB, forbidTCX bool) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	if forbidTCX || major < 6 || major == 6 && minor < 6 {
		return "clsact clsact"
	}
	return "tcx tcx"
}

// TestRestartLosesNothing replaces the whole datapath under a stream. Every
// datagram must arrive, and every one must have been judged.
func TestRestartLosesNothing(t *testing.T) {
	const datagrams, restarts = 4000, 5
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				wire, d := newCable(t, "plx0"), openWith(t, how.forbidTCX)
				links := []datapath.Link{{Name: "plx0"}}
				if _, err := d.Maps().Policy.Load(allowAll().set()); err != nil {
					t.Fatal(err)
				}
				if err := d.EnsureLinks(links); err != nil {
					t.Fatal(err)
				}
				sock, before, lost := listen(t, "192.0.2.1"), judged(t, d, policy.Ingress), make(chan int, 1)
				go func() { lost <- stream(wire, sock, datagrams) }()
				for range restarts {
					if err := d.Close(); err != nil {
						t.Error(err)
					}
					d = openWith(t, how.forbidTCX)
					if err := d.EnsureLinks(links); err != nil {
						t.Error(err)
					}
				}
				if n := <-lost; n != 0 {
					t.Errorf("%d of %d datagrams were lost", n, datagrams)
				}
				if n := judged(t, d, policy.Ingress) - before; n < datagrams {
					t.Errorf("%d of %d datagrams were judged", n, datagrams)
				}
				if n := received(t, d); n != datagrams {
					t.Errorf("the flow counts %d of %d datagrams", n, datagrams)
				}
			})
		})
	}
}

// stream sends datagrams, each when the one before has arrived, and returns how
// many did not.
func stream(wire *cable, sock *net.UDPConn, n uint32) (lost int) {
	for i := range n {
		if err := wire.send(attachable(i)); err != nil || !arrives(sock, i) {
			lost++
		}
	}
	return lost
}

// TestLinkThatCameBack shows that a device of the same name is governed anew.
func TestLinkThatCameBack(t *testing.T) {
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				old, d := newCable(t, "plx0"), openWith(t, how.forbidTCX)
				links := []datapath.Link{{Name: "plx0"}}
				if err := d.EnsureLinks(links); err != nil {
					t.Fatal(err)
				}
				if err := netlink.LinkDel(old.near); err != nil {
					t.Fatal(err)
				}
				if err := d.EnsureLinks(links); err == nil || !strings.Contains(err.Error(), "plx0") {
					t.Errorf("error for a link that is gone: %v", err)
				}
				wire := newCable(t, "plx0")
				if err := d.EnsureLinks(links); err != nil {
					t.Fatal(err)
				}
				before := judged(t, d, policy.Ingress)
				if err := wire.send(attachable(1)); err != nil {
					t.Fatal(err)
				}
				sock := listen(t, "192.0.2.1")
				if arrives(sock, 1) || judged(t, d, policy.Ingress) == before {
					t.Error("the device that came back is not governed")
				}
				if err := netlink.LinkDel(wire.near); err != nil {
					t.Fatal(err)
				}
				if err := d.PruneLinks(nil); err != nil {
					t.Errorf("prune a link that is gone: %v", err)
				}
			})
		})
	}
}

// TestClassOfLinkCanChange swaps a netdev's programs for a tunnel's.
func TestClassOfLinkCanChange(t *testing.T) {
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				newCable(t, "plx0")
				d := openWith(t, how.forbidTCX)
				for _, tunnel := range []bool{false, true, false} {
					want := []datapath.Link{{Name: "plx0", Tunnel: tunnel}}
					if err := d.EnsureLinks(want); err != nil {
						t.Fatal(err)
					}
					if got, err := d.ListLinks(); err != nil || !cmp.Equal(got, want) {
						t.Errorf("links %v, %v; want %v", got, err, want)
					}
				}
			})
		})
	}
}

// TestWayOfAttachingCanChange moves between tcx and clsact, and judges each
// packet once.
func TestWayOfAttachingCanChange(t *testing.T) {
	netnstest.Run(t, func() {
		wire, links := newCable(t, "plx0"), []datapath.Link{{Name: "plx0"}}
		sock := listen(t, "192.0.2.1")
		for i, forbid := range []bool{true, false, true} {
			d := openWith(t, forbid)
			if _, err := d.Maps().Policy.Load(allowAll().set()); err != nil {
				t.Fatal(err)
			}
			if err := d.EnsureLinks(links); err != nil {
				t.Fatal(err)
			}
			before := received(t, d)
			if err := wire.send(attachable(uint32(i))); err != nil || !arrives(sock, uint32(i)) {
				t.Fatalf("datagram was lost (%v)", err)
			}
			if n := received(t, d) - before; n != 1 {
				t.Errorf("without tcx %v: judged %d times, want once", forbid, n)
			}
		}
	})
}

// received returns the packets that came in by the flow of the test.
func received(t testing.TB, d *Datapath) uint64 {
	t.Helper()
	flows, err := d.Maps().Flows.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		if f.Remote == addrPort("192.0.2.9", 7) {
			return f.RxPackets
		}
	}
	return 0
}
