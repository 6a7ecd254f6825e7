package loader

import (
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// newTUN makes a device whose packets have no link header, as WireGuard's have
// none. What is written to the file arrives on it; what leaves it can be read.
func newTUN(t testing.TB, name string, addrs ...string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { _ = f.Close() })
	dev := linkByName(t, name)
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(dev, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestBareIPDevice feeds the variant without a link header with real packets, in
// both directions and both families.
func TestBareIPDevice(t *testing.T) {
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				wire, d := newTUN(t, "plxtun0", "10.210.0.1/16", "fd00::1/64"), openWith(t, how.forbidTCX)
				h := &host{t: t, Datapath: d}
				h.peers(map[string]datapath.Peer{
					"10.210.0.2/32": {Identity: 300, Flags: datapath.PeerMesh}, "10.210.0.1/32": {Identity: 301, Flags: datapath.PeerMesh | datapath.PeerLocal},
					"fd00::2/128": {Identity: 300, Flags: datapath.PeerMesh}, "fd00::1/128": {Identity: 301, Flags: datapath.PeerMesh | datapath.PeerLocal},
				})
				h.load(rules{port(300, policy.Ingress, udp, 7): {Rule: 1}}.set())
				if err := d.EnsureLinks([]datapath.Link{{Name: "plxtun0", Tunnel: true}}); err != nil {
					t.Fatal(err)
				}
				for i, a := range []struct{ us, peer, stranger string }{
					{"10.210.0.1", "10.210.0.2", "10.210.0.3"}, {"fd00::1", "fd00::2", "fd00::3"},
				} {
					sock, n := listen(t, a.us), uint32(i*10)
					p := packet{src: a.peer, dst: a.us, proto: udp, sport: 9, dport: 7, payload: numbered(n), checked: true}
					if _, err := wire.Write(p.ip()); err != nil || !arrives(sock, n) {
						t.Errorf("allowed datagram from %s was dropped (%v): %+v", a.peer, err, h.counters())
					}
					if _, err := sock.WriteToUDPAddrPort([]byte("answer"), addrPort(a.peer, 9)); err != nil {
						t.Errorf("answer to %s: %v", a.peer, err)
					}
					if !leaves(wire, "answer") {
						t.Errorf("answer to %s did not leave: %+v", a.peer, h.counters())
					}
					p.src = a.stranger
					if _, err := wire.Write(p.ip()); err != nil || arrives(sock, n) {
						t.Errorf("datagram from %s passed (%v)", a.stranger, err)
					}
				}
				drops := map[string]bool{}
				for _, c := range h.counters() {
					drops[c.Reason] = c.Tunnel
				}
				if !drops["unknown tunnel source"] || !drops["forwarded"] {
					t.Errorf("counters: %+v", h.counters())
				}
			})
		})
	}
}

func (h *host) counters() []datapath.Counter {
	h.t.Helper()
	cs, err := h.maps.Counters.List()
	if err != nil {
		h.t.Fatal(err)
	}
	return cs
}

// leaves reports whether a packet that ends so leaves within a second.
func leaves(wire *os.File, end string) bool {
	b := make([]byte, 2048)
	_ = wire.SetReadDeadline(time.Now().Add(time.Second))
	for {
		n, err := wire.Read(b)
		if err != nil {
			return false
		}
		if n > len(end) && string(b[n-len(end):n]) == end {
			return true
		}
	}
}
