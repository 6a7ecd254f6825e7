package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// siteSetup makes what a container engine makes: a bridge with two cables, and
// published ports. Behind port0 is a container, behind port1 a guest with a
// routed address. The far ends are wires for the test to speak on.
const siteSetup = `
set -e
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects
echo 0 > /proc/sys/net/ipv4/conf/default/send_redirects
cable() {
	ip link add $1 type veth peer name far$1
	echo 1 > /proc/sys/net/ipv6/conf/far$1/disable_ipv6
	ip link set far$1 up
}
cable eth0
cable eth1
cable port0
cable port1
ip link add docker0 type bridge
ip link set port0 master docker0
ip link set port1 master docker0
for dev in eth0 eth1 port0 port1 docker0; do ip link set $dev up; done
ip addr add 192.0.2.1/24 dev eth0
ip addr add 2001:db8::1/64 dev eth0 nodad
ip addr add 198.51.100.1/24 dev eth1
ip addr add 2001:db8:5::1/64 dev eth1 nodad
ip addr add 172.30.0.1/24 dev docker0
ip addr add fd00:30::1/64 dev docker0 nodad
ip route add 203.0.113.2 dev docker0
ip route add 2001:db8:9::2 dev docker0
for a in 192.0.2.8 192.0.2.9 192.0.2.254 2001:db8::8 2001:db8::9 2001:db8::fe; do ip neigh add $a dev eth0 lladdr 02:00:00:00:00:09; done
for a in 198.51.100.7 2001:db8:5::7; do ip neigh add $a dev eth1 lladdr 02:00:00:00:00:07; done
for a in 172.30.0.2 fd00:30::2; do ip neigh add $a dev docker0 lladdr 02:00:00:00:00:02; done
for a in 203.0.113.2 2001:db8:9::2; do ip neigh add $a dev docker0 lladdr 02:00:00:00:00:03; done
bridge fdb add 02:00:00:00:00:02 dev port0 master static
bridge fdb add 02:00:00:00:00:03 dev port1 master static
nft -f - <<'RULES'
table inet published {
	chain ports {
		meta nfproto ipv4 tcp dport 8080 dnat ip to 172.30.0.2:80
		meta nfproto ipv6 tcp dport 8080 dnat ip6 to [fd00:30::2]:80
		meta nfproto ipv4 udp dport 8053 dnat ip to 172.30.0.2:53
		meta nfproto ipv6 udp dport 8053 dnat ip6 to [fd00:30::2]:53
		meta nfproto ipv4 tcp dport 9090 dnat ip to 192.0.2.8:80
		meta nfproto ipv6 tcp dport 9090 dnat ip6 to [2001:db8::8]:80
	}
	chain prerouting {
		type nat hook prerouting priority dstnat
		fib daddr type local jump ports
	}
	chain output {
		type nat hook output priority -100
		fib daddr type local jump ports
		meta nfproto ipv4 udp dport 5300 dnat ip to 192.0.2.8:53
		meta nfproto ipv6 udp dport 5300 dnat ip6 to [2001:db8::8]:53
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr 172.30.0.0/24 oifname != "docker0" masquerade
		ip6 saddr fd00:30::/64 oifname != "docker0" masquerade
		ip saddr 172.30.0.2 ip daddr 172.30.0.2 masquerade
		ip6 saddr fd00:30::2 ip6 daddr fd00:30::2 masquerade
	}
}
RULES
echo 1 > /proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal
`

// places are who speaks on the wires: a remote host R and a server S beside eth0,
// a router X there, T behind eth1, the host H itself and D on its bridge, a
// container C, a guest G, and in the tunnel a peer P and our own address M.
var places = []map[string]string{
	{"R": "192.0.2.9", "S": "192.0.2.8", "X": "192.0.2.254", "T": "198.51.100.7", "H": "192.0.2.1", "C": "172.30.0.2", "D": "172.30.0.1",
		"G": "203.0.113.2", "P": "10.210.0.2", "M": "10.210.0.1"},
	{"R": "2001:db8::9", "S": "2001:db8::8", "X": "2001:db8::fe", "T": "2001:db8:5::7", "H": "2001:db8::1", "C": "fd00:30::2", "D": "fd00:30::1",
		"G": "2001:db8:9::2", "P": "fd00::2", "M": "fd00::1"},
}

// site is a host that forwards, in one family's addresses.
type site struct {
	*host
	wires map[string]wire
	at    map[string]string
}

// wire is the far end of a device.
type wire struct {
	send func(p packet) error
	next func(until time.Time) []byte // from the IP header on; nil in the end
}

// newSite loads the datapath on eth0, the tunnel and whatever else is governed.
func newSite(t testing.TB, governed ...string) *site {
	t.Helper()
	sh := exec.Command("sh", "-c", siteSetup)
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("set up: %v\n%s", err, out)
	}
	s := &site{host: newHost(t), wires: map[string]wire{}}
	s.wires["tunnel"] = tunnelWire(newTUN(t, "plexus0", "10.210.0.1/16", "fd00::1/64"))
	for name, router := range map[string]string{"eth0": "eth0", "eth1": "eth1", "port0": "docker0", "port1": "docker0"} {
		s.wires[name] = cableWire(t, name, router)
	}
	links := []datapath.Link{{Name: "plexus0", Tunnel: true}, {Name: "eth0"}}
	for _, name := range governed {
		links = append(links, datapath.Link{Name: name})
	}
	s.peers(map[string]datapath.Peer{
		"192.0.2.1/32": {Identity: 301, Flags: datapath.PeerLocal}, "2001:db8::1/128": {Identity: 301, Flags: datapath.PeerLocal},
		"10.210.0.1/32": {Identity: 301, Flags: datapath.PeerLocal | datapath.PeerMesh}, "fd00::1/128": {Identity: 301, Flags: datapath.PeerLocal | datapath.PeerMesh},
		"10.210.0.2/32": {Identity: 300, Flags: datapath.PeerMesh}, "fd00::2/128": {Identity: 300, Flags: datapath.PeerMesh},
	})
	if err := s.EnsureLinks(links); err != nil {
		t.Fatal(err)
	}
	return s
}

// cableWire speaks on the far end of a cable to a device whose packets are for router.
func cableWire(t testing.TB, name, router string) wire {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	far := linkByName(t, "far"+name)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: far.Attrs().Index}); err != nil { // ETH_P_ALL, in network order
		t.Fatal(err)
	}
	f, mac := os.NewFile(uintptr(fd), name), linkByName(t, router).Attrs().HardwareAddr
	t.Cleanup(func() { _ = f.Close() })
	send := func(p packet) error {
		frame := p.frame()
		copy(frame, mac)
		frame[6] = 2 // a bridge wants a source
		_, err := f.Write(frame)
		return err
	}
	return wire{send, func(until time.Time) []byte {
		for {
			b := readBefore(f, until)
			if b == nil {
				return nil
			}
			if ethertype := binary.BigEndian.Uint16(b[12:]); ethertype == 0x0800 || ethertype == 0x86dd {
				return b[14:]
			}
		}
	}}
}

func tunnelWire(f *os.File) wire {
	return wire{
		func(p packet) error { _, err := f.Write(p.ip()); return err },
		func(until time.Time) []byte { return readBefore(f, until) },
	}
}

func readBefore(f *os.File, until time.Time) []byte {
	b := make([]byte, 4096)
	_ = f.SetReadDeadline(until)
	n, err := f.Read(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

// read builds a packet from words: "tcp syn R:1000 > H:8080", "udp R:1000 > H:53",
// "ping C > S", "error X > H about tcp C:80 > R:1000".
func (s *site) read(words string) packet {
	s.t.Helper()
	words, quoted, isError := strings.Cut(words, " about ")
	f := strings.Fields(words)
	p := packet{checked: true, proto: map[string]uint8{"tcp": tcp, "udp": udp}[f[0]], payload: []byte("data")}
	if len(f) == 5 {
		p.flags = map[string]uint8{"syn": syn, "ack": ack, "synack": syn | ack, "rst": rst | ack}[f[1]]
	}
	p.src, p.sport = s.address(f[len(f)-3])
	p.dst, p.dport = s.address(f[len(f)-1])
	if p.proto != 0 {
		return p
	}
	kinds := map[string][2]uint8{"ping": {8, 0}, "pong": {0, 0}, "error": {3, 1}}
	p.proto, p.id = icmp4, 77
	if p.v6() {
		kinds, p.proto = map[string][2]uint8{"ping": {128, 0}, "pong": {129, 0}, "error": {1, 3}}, icmp6
	}
	p.icmp = kinds[f[0]]
	if isError {
		p.id, p.payload = 0, s.read(quoted).ip()
	}
	return p
}

func (s *site) address(name string) (string, uint16) {
	s.t.Helper()
	name, number, _ := strings.Cut(name, ":")
	n, err := strconv.ParseUint("0"+number, 10, 16)
	if err != nil || s.at[name] == "" {
		s.t.Fatalf("address %q: %v", name, err)
	}
	return s.at[name], uint16(n)
}

// name is the reverse of address.
func (s *site) name(a []byte) string {
	addr, _ := netip.AddrFromSlice(a)
	for name, known := range s.at {
		if netip.MustParseAddr(known) == addr {
			return name
		}
	}
	return addr.String()
}

// write says in the words of read what a packet is.
func (s *site) write(b []byte) string {
	proto, body, src, dst, later := b[9], b[int(b[0]&15)*4:], b[12:16], b[16:20], binary.BigEndian.Uint16(b[6:])&0x1fff != 0
	if b[0]>>4 == 6 {
		proto, body, src, dst, later = b[6], b[40:], b[8:24], b[24:40], false
	}
	if proto == fragmentHeader {
		proto, body, later = body[0], body[8:], binary.BigEndian.Uint16(body[2:])&0xfff8 != 0
	}
	from, to, kind := s.name(src), s.name(dst), map[uint8]string{tcp: "tcp", udp: "udp"}[proto]
	switch {
	case later:
		return fmt.Sprintf("later fragment %s > %s", from, to)
	case kind != "":
		return fmt.Sprintf("%s %s:%d > %s:%d", kind, from, binary.BigEndian.Uint16(body), to, binary.BigEndian.Uint16(body[2:]))
	}
	switch body[0] {
	case 8, 128:
		return fmt.Sprintf("ping %s > %s", from, to)
	case 0, 129:
		return fmt.Sprintf("pong %s > %s", from, to)
	case 1, 2, 3:
		return fmt.Sprintf("error %s > %s about %s", from, to, s.write(body[8:]))
	}
	return fmt.Sprintf("protocol %d type %d %s > %s", proto, body[0], from, to)
}

// sees waits for the next packet on a wire; the host's upkeep of links is none.
func (s *site) sees(on, want string) {
	s.t.Helper()
	until := time.Now().Add(2 * time.Second)
	for {
		b := s.wires[on].next(until)
		switch {
		case b == nil:
			s.t.Errorf("%s: nothing arrives, want %s", on, want)
			return
		case upkeep(b):
			continue
		}
		if got := s.write(b); got != want {
			s.t.Errorf("%s: %s arrives, want %s", on, got, want)
		}
		return
	}
}

// upkeep reports multicast and neighbour discovery.
func upkeep(b []byte) bool {
	if b[0]>>4 == 4 {
		return b[16] >= 224
	}
	return b[24] == 0xff || b[6] == icmp6 && b[40] >= 133 && b[40] <= 137
}

// drops waits for the event of a drop; want is what the program saw.
func (s *site) drops(want string, reason bpfobj.PlexusDropReason) {
	s.t.Helper()
	p := s.read(want)
	e := s.event(func(e *bpfobj.PlexusFlowEvent) bool {
		return bpfobj.PlexusDropReason(e.Reason) == reason && e.Src == bpfobj.AddrOf(netip.MustParseAddr(p.src)) &&
			e.Dst == bpfobj.AddrOf(netip.MustParseAddr(p.dst))
	})
	if e == nil {
		s.t.Errorf("no event of a drop (%s) of %s", reason, want)
	}
}

// event waits for an event; nil if none of that kind comes. Few events wake their
// reader, so it looks by itself.
func (h *host) event(wanted func(*bpfobj.PlexusFlowEvent) bool) *bpfobj.PlexusFlowEvent {
	h.t.Helper()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		h.events.SetDeadline(time.Now().Add(10 * time.Millisecond))
		rec, err := h.events.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			h.t.Fatal(err)
		}
		e := new(bpfobj.PlexusFlowEvent)
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, e); err != nil {
			h.t.Fatal(err)
		}
		if wanted(e) {
			return e
		}
	}
	return nil
}
