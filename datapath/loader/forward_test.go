package loader

import (
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// Short names for the reasons of policy.
const (
	undecided = bpfobj.PlexusDropReasonDROP_POLICY
	denied    = bpfobj.PlexusDropReasonDROP_POLICY_DENY
)

// hop is one packet: sent on a wire, and seen on another or dropped. What
// is seen of a dropped packet is what the program saw.
type hop struct {
	on, sent string
	at, seen string
	dropped  bpfobj.PlexusDropReason
}

// worldIn and worldOut are keys of one TCP port, for anybody.
func worldIn(p uint16) policy.Key  { return port(0, policy.Ingress, tcp, p) }
func worldOut(p uint16) policy.Key { return port(0, policy.Egress, tcp, p) }

// forwardStories are told in both families. Examples of docs/forwarding.md.
var forwardStories = []struct {
	name     string
	rules    rules
	governed []string // beside eth0 and the tunnel
	hops     []hop
}{
	{"a published port is judged by its own number", rules{worldIn(8080): {Rule: 1}}, nil, []hop{
		{"eth0", "tcp syn R:1000 > H:8080", "port0", "tcp R:1000 > C:80", fine},
		{"port0", "tcp synack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine},
		{"eth0", "tcp ack R:1000 > H:8080", "port0", "tcp R:1000 > C:80", fine},
		{"port0", "tcp ack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine},
	}},
	{"the container's port opens nothing", rules{worldIn(80): {Rule: 1}}, nil, []hop{
		{"eth0", "tcp syn R:1000 > H:8080", "", "tcp R:1000 > H:8080", undecided},
	}},
	{"a denied port stays shut", rules{all(0, policy.Ingress): {Rule: 1}, worldIn(8080): {Rule: 2, Deny: true}}, nil, []hop{
		{"eth0", "tcp syn R:1000 > H:8080", "", "tcp R:1000 > H:8080", denied},
	}},
	{"a container's way out", rules{worldOut(443): {Rule: 1}}, nil, []hop{
		{"port0", "tcp syn C:1000 > S:443", "eth0", "tcp H:1000 > S:443", fine},
		{"eth0", "tcp synack S:443 > H:1000", "port0", "tcp S:443 > C:1000", fine},
		{"port0", "tcp ack C:1000 > S:443", "eth0", "tcp H:1000 > S:443", fine},
		{"port0", "tcp syn C:1000 > S:444", "", "tcp H:1000 > S:444", undecided},
		{"port0", "ping C > S", "", "ping H > S", undecided},
	}},
	{"a container's ping", rules{all(0, policy.Egress): {Rule: 1}}, nil, []hop{
		{"port0", "ping C > S", "eth0", "ping H > S", fine},
		{"eth0", "pong S > H", "port0", "pong S > C", fine},
	}},
	{"a port published for another host needs both directions", rules{worldIn(9090): {Rule: 1}, worldOut(80): {Rule: 2}}, nil, []hop{
		{"eth0", "tcp syn R:1000 > H:9090", "eth0", "tcp R:1000 > S:80", fine},
		{"eth0", "tcp synack S:80 > R:1000", "eth0", "tcp H:9090 > R:1000", fine},
		{"eth0", "tcp ack R:1000 > H:9090", "eth0", "tcp R:1000 > S:80", fine},
	}},
	{"a port published for another host, without the way on", rules{worldIn(9090): {Rule: 1}}, nil, []hop{
		{"eth0", "tcp syn R:1000 > H:9090", "", "tcp R:1000 > S:80", undecided},
	}},
	{"a port published for another host, without the way in", rules{worldOut(80): {Rule: 1}}, nil, []hop{
		{"eth0", "tcp syn R:1000 > H:9090", "", "tcp R:1000 > H:9090", undecided},
	}},
	{"a guest with an address of its own", rules{worldIn(22): {Rule: 1}, worldOut(443): {Rule: 2}}, nil, []hop{
		{"eth0", "tcp syn R:1000 > G:22", "port1", "tcp R:1000 > G:22", fine},
		{"port1", "tcp synack G:22 > R:1000", "eth0", "tcp G:22 > R:1000", fine},
		{"port1", "tcp syn G:1000 > S:443", "eth0", "tcp G:1000 > S:443", fine},
		{"eth0", "tcp synack S:443 > G:1000", "port1", "tcp S:443 > G:1000", fine},
		{"eth0", "tcp syn R:1001 > G:23", "", "tcp R:1001 > G:23", undecided},
		{"port1", "tcp syn G:1001 > S:22", "", "tcp G:1001 > S:22", undecided},
	}},
	{"what stays on the host is not judged", rules{}, nil, []hop{
		{"port1", "tcp syn G:1000 > H:8080", "port0", "tcp G:1000 > C:80", fine},
		{"port0", "tcp synack C:80 > G:1000", "port1", "tcp H:8080 > G:1000", fine},
	}},
	{"errors about a published port, both ways", rules{worldIn(8080): {Rule: 1}}, nil, []hop{
		{"eth0", "tcp syn R:1000 > H:8080", "port0", "tcp R:1000 > C:80", fine},
		{"port0", "tcp synack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine},
		{"eth0", "error X > H about tcp ack H:8080 > R:1000", "port0", "error X > C about tcp C:80 > R:1000", fine},
		{"port0", "error C > R about tcp ack R:1000 > C:80", "eth0", "error H > R about tcp R:1000 > H:8080", fine},
		{"eth0", "error X > H about tcp ack H:8080 > R:1001", "", "error X > H", undecided},
	}},
	{"errors about a container's way out", rules{worldOut(443): {Rule: 1}}, nil, []hop{
		{"port0", "tcp syn C:1000 > S:443", "eth0", "tcp H:1000 > S:443", fine},
		{"eth0", "error X > H about tcp ack H:1000 > S:443", "port0", "error X > C about tcp C:1000 > S:443", fine},
	}},
	{"a published port in the tunnel", rules{port(300, policy.Ingress, tcp, 8080): {Rule: 1}}, nil, []hop{
		{"tunnel", "tcp syn P:1000 > M:8080", "port0", "tcp P:1000 > C:80", fine},
		{"port0", "tcp synack C:80 > P:1000", "tunnel", "tcp M:8080 > P:1000", fine},
		{"eth0", "tcp syn R:1000 > H:8080", "", "tcp R:1000 > H:8080", undecided},
	}},
	{"the container's port opens nothing in the tunnel", rules{port(300, policy.Ingress, tcp, 80): {Rule: 1}}, nil, []hop{
		{"tunnel", "tcp syn P:1000 > M:8080", "", "tcp P:1000 > M:8080", undecided},
	}},
	{"a container's way into the tunnel", rules{port(300, policy.Egress, tcp, 443): {Rule: 1}}, nil, []hop{
		{"port0", "tcp syn C:1000 > P:443", "tunnel", "tcp M:1000 > P:443", fine},
		{"tunnel", "tcp synack P:443 > M:1000", "port0", "tcp P:443 > C:1000", fine},
		{"port0", "tcp syn C:1001 > P:444", "", "tcp M:1001 > P:444", undecided},
	}},
	{"a router's two interfaces need both directions", rules{worldIn(443): {Rule: 1}, worldOut(443): {Rule: 2}}, []string{"eth1"}, []hop{
		{"eth0", "tcp syn R:1000 > T:443", "eth1", "tcp R:1000 > T:443", fine},
		{"eth1", "tcp synack T:443 > R:1000", "eth0", "tcp T:443 > R:1000", fine},
		{"eth0", "tcp ack R:1000 > T:443", "eth1", "tcp R:1000 > T:443", fine},
		{"eth1", "tcp ack T:443 > R:1000", "eth0", "tcp T:443 > R:1000", fine},
	}},
	{"a router without the way on", rules{worldIn(443): {Rule: 1}}, []string{"eth1"}, []hop{
		{"eth0", "tcp syn R:1000 > T:443", "", "tcp R:1000 > T:443", undecided},
	}},
	{"a router without the way in", rules{worldOut(443): {Rule: 1}}, []string{"eth1"}, []hop{
		{"eth0", "tcp syn R:1000 > T:443", "", "tcp R:1000 > T:443", undecided},
	}},
	{"a governed bridge asks for the container's port too", rules{worldIn(8080): {Rule: 1}, worldOut(80): {Rule: 2}}, []string{"docker0"}, []hop{
		{"eth0", "tcp syn R:1000 > H:8080", "port0", "tcp R:1000 > C:80", fine},
		{"port0", "tcp synack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine},
		{"eth0", "tcp ack R:1000 > H:8080", "port0", "tcp R:1000 > C:80", fine},
	}},
	{"a governed bridge without the way on", rules{worldIn(8080): {Rule: 1}}, []string{"docker0"}, []hop{
		{"eth0", "tcp syn R:1000 > H:8080", "", "tcp R:1000 > C:80", undecided},
	}},
}

func TestForwarding(t *testing.T) {
	for _, governed := range [][]string{nil, {"eth1"}, {"docker0"}} {
		netnstest.Run(t, func() {
			s := newSite(t, governed...)
			for _, story := range forwardStories {
				if !slices.Equal(story.governed, governed) {
					continue
				}
				for i := range places {
					t.Run(families[i].name+"/"+story.name, func(t *testing.T) { s.tell(t, places[i], story.rules, story.hops) })
				}
			}
		})
	}
}

// tell starts with no flow known, here and in the kernel's own tracking.
func (s *site) tell(t *testing.T, at map[string]string, r rules, hops []hop) {
	outer := s.t
	s.t, s.at = t, at
	defer func() { s.t = outer }()
	s.load(r.set())
	s.forget()
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
	for _, h := range hops {
		s.takes(h)
	}
}

func (s *site) takes(h hop) {
	s.t.Helper()
	if err := s.wires[h.on].send(s.read(h.sent)); err != nil {
		s.t.Fatalf("send %s on %s: %v", h.sent, h.on, err)
	}
	if h.dropped == fine {
		s.sees(h.at, h.seen)
	} else {
		s.drops(h.seen, h.dropped)
	}
}

// TestForwardedFlowsFollowPolicy takes a permission away under a flow that both
// sides of a published port keep using.
func TestForwardedFlowsFollowPolicy(t *testing.T) {
	netnstest.Run(t, func() {
		s := newSite(t)
		for _, s.at = range places {
			s.load(rules{worldIn(8080): {Rule: 1}}.set())
			s.takes(hop{"eth0", "tcp syn R:1000 > H:8080", "port0", "tcp R:1000 > C:80", fine})
			s.takes(hop{"port0", "tcp synack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine})
			s.load(rules{all(0, policy.Egress): {Rule: 2}, all(0, policy.Ingress): {Rule: 3, Deny: true}}.set())
			s.takes(hop{"port0", "tcp ack C:80 > R:1000", "", "tcp H:8080 > R:1000", denied})
			s.takes(hop{"eth0", "tcp ack R:1000 > H:8080", "", "tcp R:1000 > H:8080", denied})
			s.load(rules{worldIn(8080): {Rule: 1}}.set())
			s.takes(hop{"port0", "tcp ack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine})
		}
	})
}

// TestErrorsOfTheHostItself has the host refuse a packet that does not fit the
// container's cable: its error quotes the packet as the remote host sent it.
func TestErrorsOfTheHostItself(t *testing.T) {
	netnstest.Run(t, func() {
		s := newSite(t)
		s.load(rules{worldIn(8080): {Rule: 1}}.set())
		for _, route := range []string{"172.30.0.2/32", "fd00:30::2/128"} {
			if out, err := exec.Command("ip", "route", "add", route, "dev", "docker0", "mtu", "1280").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		for _, s.at = range places {
			s.takes(hop{"eth0", "tcp syn R:1000 > H:8080", "port0", "tcp R:1000 > C:80", fine})
			s.takes(hop{"port0", "tcp synack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine})
			large := s.read("tcp ack R:1000 > H:8080")
			large.payload = make([]byte, 1400)
			large.fragment.dont = true
			if err := s.wires["eth0"].send(large); err != nil {
				t.Fatal(err)
			}
			s.sees("eth0", "error H > R about tcp R:1000 > H:8080")
		}
	})
}

// TestForwardedFragments: programs see fragments, before the kernel's own tracking
// joins them on the way in and after it has cut again on the way out.
func TestForwardedFragments(t *testing.T) {
	in, out := port(0, policy.Ingress, udp, 8053), port(0, policy.Egress, udp, 53)
	netnstest.Run(t, func() {
		s := newSite(t)
		s.load(rules{in: {Rule: 1}, out: {Rule: 2}}.set())
		for _, s.at = range places {
			s.sendFragments("eth0", "udp R:1000 > H:8053")
			s.sees("port0", "udp R:1000 > C:53")
			s.sees("port0", "later fragment R > C")
			s.sendFragments("port0", "udp C:53 > R:1000")
			s.sees("eth0", "udp H:8053 > R:1000")
			s.sees("eth0", "later fragment H > R")
			s.sendFragments("port0", "udp C:1000 > S:53")
			s.sees("eth0", "udp H:1000 > S:53")
			s.sees("eth0", "later fragment H > S")
			s.sendFragments("eth0", "udp R:1000 > H:8054")
			s.drops("udp R:1000 > H:8054", undecided)
			s.drops("udp R:1000 > H:8054", undecided) // the later one has the ports of the first
		}
	})
}

// sendFragments sends a datagram of 1900 bytes in two parts; no cable takes it whole.
func (s *site) sendFragments(on, words string) {
	s.t.Helper()
	p := s.read(words)
	p.payload = make([]byte, 1892)
	whole := p.transport()
	for _, part := range []fragment{{id: 9, more: true}, {id: 9, offset: 1200}} {
		p.fragment, p.raw = part, whole[part.offset:]
		if part.more {
			p.raw = whole[:1200]
		}
		p.extensions = []uint8{fragmentHeader}
		if err := s.wires[on].send(p); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestLocalOutputWithDNAT: what the host's own programs send is judged by where
// it goes after destination NAT, and the answer finds its way back.
func TestLocalOutputWithDNAT(t *testing.T) {
	netnstest.Run(t, func() {
		s := newSite(t)
		for _, s.at = range places {
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addrPort(s.at["R"], 5300)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ours := strings.Replace("udp H:N > S:53", "N", strconv.Itoa(conn.LocalAddr().(*net.UDPAddr).Port), 1)
			s.load(rules{port(0, policy.Egress, udp, 5300): {Rule: 1}}.set())
			if _, err := conn.Write(numbered(1)); err != nil {
				t.Fatal(err)
			}
			s.drops(ours, undecided)
			s.load(rules{port(0, policy.Egress, udp, 53): {Rule: 2}}.set())
			if _, err := conn.Write(numbered(1)); err != nil {
				t.Fatal(err)
			}
			s.sees("eth0", ours)
			answer := s.read(ours).reply()
			answer.payload = numbered(2)
			if err := s.wires["eth0"].send(answer); err != nil || !arrives(conn, 2) {
				t.Errorf("the answer was lost (%v)", err)
			}
		}
	})
}
