package loader

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
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

// story is a block of packets in docs/forwarding.md.
type story struct {
	name    string
	rules   rules
	managed string // an interface beside eth0 and the tunnel
	hops    []hop
}

// readStories reads the page.
func readStories(t *testing.T) []story {
	t.Helper()
	page, err := os.ReadFile("../../docs/forwarding.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []story
	open := false
	for line := range strings.Lines(string(page)) {
		switch line = strings.TrimSpace(line); {
		case line == "```packets":
			open = true
			out = append(out, story{rules: rules{}})
		case strings.HasPrefix(line, "```"):
			open = false
		case open:
			if err := out[len(out)-1].add(line); err != nil {
				t.Fatalf("docs/forwarding.md: %q: %v", line, err)
			}
		}
	}
	return out
}

func (s *story) add(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "#":
		s.name = rest
	case "managed":
		s.managed = rest
	case "allow", "deny":
		return s.rule(word == "deny", strings.Fields(rest))
	default:
		from, to, ok := strings.Cut(line, "=>")
		on, sent, ok1 := strings.Cut(from, ":")
		at, seen, ok2 := strings.Cut(to, ":")
		if !ok || !ok1 || !ok2 {
			return errors.New("is no packet and what comes of it")
		}
		h := hop{on, strings.TrimSpace(sent), strings.TrimSpace(at), strings.TrimSpace(seen), fine}
		for reason := fine + 1; reason < bpfobj.PlexusDropReasonDROP_REASONS; reason++ {
			if h.at == reason.String() {
				h.dropped = reason
			}
		}
		s.hops = append(s.hops, h)
	}
	return nil
}

// rule takes "in tcp 8080", "out any", "in tcp 80 from peer".
func (s *story) rule(deny bool, words []string) error {
	key := all(0, policy.Ingress)
	if len(words) < 2 || words[0] != "in" && words[0] != "out" {
		return errors.New("a rule begins with its direction")
	}
	if words[0] == "out" {
		key.Direction = policy.Egress
	}
	if len(words) > 3 {
		key.Identity = 300
	}
	if words[1] != "any" {
		n, err := strconv.ParseUint(words[2], 10, 16)
		if err != nil || words[1] != "tcp" {
			return fmt.Errorf("port of tcp: %w", err)
		}
		key = port(key.Identity, key.Direction, tcp, uint16(n))
	}
	s.rules[key] = policy.Entry{Deny: deny, Rule: policy.RuleID(len(s.rules) + 1)}
	return nil
}

// TestForwarding plays what docs/forwarding.md shows, in both families.
func TestForwarding(t *testing.T) {
	stories := readStories(t)
	if len(stories) < 18 {
		t.Fatalf("the page has %d blocks of packets", len(stories))
	}
	for _, managed := range []string{"", "eth1", "docker0"} {
		netnstest.Run(t, func() {
			s := newSite(t, strings.Fields(managed)...)
			for _, story := range stories {
				if story.managed != managed {
					continue
				}
				for i := range places {
					t.Run(families[i].name+"/"+story.name, func(t *testing.T) { s.tell(t, places[i], story) })
				}
			}
		})
	}
}

// tell starts with no flow known, here and in the kernel's own tracking.
func (s *site) tell(t *testing.T, at map[string]string, what story) {
	outer := s.t
	s.t, s.at = t, at
	defer func() { s.t = outer }()
	s.load(what.rules.set())
	s.forget()
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
	for _, h := range what.hops {
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
			s.load(rules{port(0, policy.Ingress, tcp, 8080): {Rule: 1}}.set())
			s.takes(hop{"eth0", "tcp syn R:1000 > H:8080", "port0", "tcp R:1000 > C:80", fine})
			s.takes(hop{"port0", "tcp synack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine})
			s.load(rules{all(0, policy.Egress): {Rule: 2}, all(0, policy.Ingress): {Rule: 3, Deny: true}}.set())
			s.takes(hop{"port0", "tcp ack C:80 > R:1000", "", "tcp H:8080 > R:1000", denied})
			s.takes(hop{"eth0", "tcp ack R:1000 > H:8080", "", "tcp R:1000 > H:8080", denied})
			s.load(rules{port(0, policy.Ingress, tcp, 8080): {Rule: 1}}.set())
			s.takes(hop{"port0", "tcp ack C:80 > R:1000", "eth0", "tcp H:8080 > R:1000", fine})
		}
	})
}

// TestErrorsOfTheHostItself has the host refuse a packet that does not fit the
// container's cable: its error quotes the packet as the remote host sent it.
func TestErrorsOfTheHostItself(t *testing.T) {
	netnstest.Run(t, func() {
		s := newSite(t)
		s.load(rules{port(0, policy.Ingress, tcp, 8080): {Rule: 1}}.set())
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
