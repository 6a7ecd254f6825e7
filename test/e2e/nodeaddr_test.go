package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// TestNodeAddresses has members talk by node addresses while the wire is watched.
func TestNodeAddresses(t *testing.T) {
	m := newTrio(t)
	for _, h := range m.hosts() {
		serve(t, h.Host, "5432")
	}
	m.led(t)
	for _, filter := range []string{"0", "1", "2"} {
		t.Run("encrypted with rp_filter="+filter, func(t *testing.T) {
			m.filterReverse(t, filter)
			m.watchNodes(t, func() { m.talkByNode(t) })
		})
	}
	t.Run("the source address is kept", m.testSource)
	t.Run("the MTU is the tunnel's", m.testNodeMTU)
	t.Run("a restart and a crash are not noticed", m.testNodeSurvival)
	t.Run("a stranger is not concerned", func(t *testing.T) {
		verdicts(t, m.stranger, map[string][]string{echoed: m.db.nodeServices(5432)})
	})
}

// led waits until every host leads the node addresses of the others into the
// tunnel, and says so.
func (m *trio) led(t *testing.T) {
	t.Helper()
	for _, h := range m.hosts() {
		lab.Eventually(t, settled, h.Name+" leads node addresses into the tunnel", func() error {
			st, err := h.client().Status(t.Context())
			if err != nil {
				return err
			}
			for _, p := range st.Peers {
				if want := m.named(p.Name).nodeAddrs(); !slices.Equal(p.NodeAddresses, want) {
					return fmt.Errorf("those of %s are %v; want %v", p.Name, p.NodeAddresses, want)
				}
			}
			return nil
		})
	}
}

func (m *trio) named(name string) *host {
	all := m.hosts()
	return all[slices.IndexFunc(all, func(h *host) bool { return h.Name == name })]
}

func (h *host) nodeAddrs() []netip.Addr { return []netip.Addr{h.Addr4, h.Addr6} }

// nodeServices are a port of the host over TCP and UDP at its node addresses.
func (h *host) nodeServices(port int) []string {
	return append(both(h.Addr4, h.Addr6, port), target("udp", h.Addr4, port), target("udp", h.Addr6, port))
}

// filterReverse sets reverse-path filtering everywhere.
func (m *trio) filterReverse(t *testing.T, value string) {
	t.Helper()
	for _, h := range m.hosts() {
		for _, dev := range []string{"all", lab.Device, "plexus0"} {
			h.must(t, "sysctl", "-qw", "net.ipv4.conf."+dev+".rp_filter="+value)
		}
	}
}

// must runs a command that has to succeed.
func (h *host) must(t *testing.T, argv ...string) {
	t.Helper()
	if err := h.Run(t.Context(), argv...); err != nil {
		t.Fatal(err)
	}
}

// talkByNode sends all that there is between all hosts, from the search for
// neighbours on: who answers no ARP is reached by nothing.
func (m *trio) talkByNode(t *testing.T) {
	t.Helper()
	for _, h := range m.hosts() {
		h.must(t, "ip", "neigh", "flush", "all")
	}
	var targets []string
	streams := []*program{stream(t, m.web.Host, target("tcp", m.db.Addr4, 5432)), stream(t, m.db.Host, target("udp", m.web.Addr6, 5432))}
	for _, from := range m.hosts() {
		targets = targets[:0]
		for _, to := range m.hosts() {
			if to == from {
				continue
			}
			targets = append(targets, to.nodeServices(5432)...)
			for _, a := range to.nodeAddrs() { // also in fragments
				from.must(t, "ping", "-c1", "-W5", "-s3000", a.String())
			}
		}
		verdicts(t, from.Host, map[string][]string{echoed: targets})
	}
	for i, s := range streams {
		s.finish(t).unharmed(t, fmt.Sprintf("stream %d by node address", i))
	}
}

// watchNodes is watch, and no frame between two members may be anything but
// WireGuard, the control plane, or the search for neighbours.
func (m *trio) watchNodes(t *testing.T, fn func()) {
	t.Helper()
	c, err := m.lab.Capture()
	if err != nil {
		t.Fatal(err)
	}
	fn()
	packets, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	tunnelled := 0
	for _, p := range packets {
		if isWireGuard(p.Data) {
			tunnelled++
		}
		if why := m.leak(p.Data); why != "" {
			t.Errorf("plaintext on the wire: %s in % x", why, p.Data[:min(len(p.Data), 128)])
		}
	}
	if tunnelled < 50 {
		t.Errorf("%d of %d frames are WireGuard data; want the traffic", tunnelled, len(packets))
	}
}

// leak says what of a frame between members should have been encrypted.
func (m *trio) leak(frame []byte) string {
	if why := m.plaintext(frame); why != "" {
		return why
	}
	src, dst, payload := ipOf(frame)
	if !m.isMember(src) || !m.isMember(dst) || exemptOnWire(frame, payload) {
		return ""
	}
	return fmt.Sprintf("a packet from %s to %s", src, dst)
}

func (m *trio) isMember(a netip.Addr) bool {
	return slices.ContainsFunc(m.hosts(), func(h *host) bool { return slices.Contains(h.nodeAddrs(), a) })
}

// exemptOnWire knows ARP, neighbour discovery, WireGuard, the join API and etcd.
func exemptOnWire(frame, payload []byte) bool {
	const icmpv6, udp, tcp = 58, 17, 6
	protocol := byte(0)
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0806:
		return true
	case 0x0800:
		protocol = frame[ethernetLen+9]
	case 0x86dd:
		protocol = frame[ethernetLen+6]
	}
	if len(payload) < 8 {
		return false
	}
	ports := []uint16{binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])}
	switch protocol {
	case icmpv6:
		return payload[0] >= 133 && payload[0] <= 137
	case udp:
		return ports[0] == 51871 && ports[1] == 51871
	case tcp:
		return slices.ContainsFunc(ports, func(p uint16) bool { return p == 7443 || p == 2379 })
	}
	return false
}

// testSource: programs that choose no address speak from the one that they spoke
// from before there was a tunnel.
func (m *trio) testSource(t *testing.T) {
	held := []*program{stream(t, m.web.Host, target("tcp", m.db.Addr4, 5432)), stream(t, m.web.Host, target("udp", m.db.Addr6, 5432))}
	want := map[string]bool{m.web.Addr4.String(): false, m.web.Addr6.String(): false}
	for _, f := range ask[[]api.FlowEntry](t, m.db, "bpf", "ct", "list") {
		local, remote := netip.MustParseAddrPort(f.Local), netip.MustParseAddrPort(f.Remote)
		if local.Port() != 5432 || !slices.Contains(m.db.nodeAddrs(), local.Addr()) {
			continue
		}
		if _, known := want[remote.Addr().String()]; known {
			want[remote.Addr().String()] = true
		} else if remote.Addr() == m.web.mesh4 || remote.Addr() == m.web.mesh6 {
			t.Errorf("web speaks to %s from %s", local, remote)
		}
	}
	if diff := cmp.Diff(map[string]bool{m.web.Addr4.String(): true, m.web.Addr6.String(): true}, want); diff != "" {
		t.Errorf("from which web was seen to speak (-want +got):\n%s", diff)
	}
	for _, s := range held {
		s.finish(t).unharmed(t, "a flow by node address")
	}
}

// testNodeMTU reads what the kernel makes of the way that a connection takes.
func (m *trio) testNodeMTU(t *testing.T) {
	s := stream(t, m.web.Host, target("tcp", m.db.Addr4, 5432))
	out, err := m.web.Output(t.Context(), "ss", "-tinO", "dst", m.db.Addr4.String())
	if err != nil || !bytes.Contains(out, []byte("pmtu:1420")) {
		t.Errorf("connection by node address: %s, %v; want a path MTU of 1420", out, err)
	}
	s.finish(t).unharmed(t, "TCP by node address")
}

// testNodeSurvival stops, starts and kills a daemon under flows.
func (m *trio) testNodeSurvival(t *testing.T) {
	flows := map[string]*program{}
	for _, to := range m.db.nodeServices(5432) {
		flows["web to "+to] = stream(t, m.web.Host, to)
	}
	for _, to := range m.web.nodeServices(5432) {
		flows["db to "+to] = stream(t, m.db.Host, to)
	}
	if err := m.web.daemon.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.web.start(t)
	m.converge(t)
	if err := m.web.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	m.web.start(t)
	m.converge(t)
	for name, s := range flows {
		s.finish(t).unharmed(t, name)
	}
}

// TestNodeAddressesInMotion joins a host, and turns its setting off and on, under
// connections that stay.
func TestNodeAddressesInMotion(t *testing.T) {
	hosts, stranger, l := newHosts(t, 3)
	m := &trio{lab: l, server: hosts[0], web: hosts[1], db: hosts[2], stranger: stranger}
	serve(t, m.db.Host, "5432")
	serve(t, m.web.Host, "5432")
	m.server.init(t)
	m.web.join(t, m.server.token(t, "--label", "app=web"))
	m.moves(t, "db joins", func() {
		m.db.join(t, m.server.token(t, "--label", "app=db"))
		m.converge(t)
		m.led(t)
	})
	m.moves(t, "db turns the setting off", func() {
		m.setNodeAddresses(t, false)
		for _, h := range []*host{m.server, m.web} {
			lab.Eventually(t, settled, h.Name+" leads nothing of db", func() error { return h.leadsNothingTo(t, m.db) })
		}
	})
	verdicts(t, m.web.Host, map[string][]string{echoed: m.db.nodeServices(5432)})
	m.moves(t, "db turns it on", func() {
		m.setNodeAddresses(t, true)
		m.led(t)
	})
	m.watchNodes(t, func() {
		m.moves(t, "nothing happens", func() { verdicts(t, m.web.Host, map[string][]string{echoed: m.db.nodeServices(5432)}) })
	})
}

// moves checks that connections between web and db live through fn: none is cut
// and all that TCP carries arrives. Datagrams that are on their way while the two
// hosts hear of it one after the other may be lost, as the last one may not.
func (m *trio) moves(t *testing.T, what string, fn func()) {
	t.Helper()
	flows := map[string]*program{}
	for _, to := range m.db.nodeServices(5432) {
		flows["web to "+to] = stream(t, m.web.Host, to)
	}
	for _, to := range m.web.nodeServices(5432) {
		flows["db to "+to] = stream(t, m.db.Host, to)
	}
	fn()
	verdicts(t, m.web.Host, map[string][]string{echoed: m.db.nodeServices(5432)})
	for name, s := range flows {
		r := s.finish(t)
		t.Logf("%s: %s: %d messages, %d lost, longest silence %v", what, name, r.Sent, len(r.Missing), r.Gap)
		last := len(r.Missing) > 0 && r.Missing[len(r.Missing)-1] == r.Sent-1
		if strings.Contains(name, "tcp/") && (len(r.Missing) > 0 || r.Err != "") || r.Sent == 0 || last {
			t.Errorf("%s: %s: %+v", what, name, r)
		}
	}
}

// setNodeAddresses starts db anew with that setting.
func (m *trio) setNodeAddresses(t *testing.T, on bool) {
	t.Helper()
	if err := m.db.daemon.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.db.daemon = nil
	m.db.start(t, fmt.Sprintf("--encryption-node-addresses=%t", on))
	m.converge(t)
}

func (h *host) leadsNothingTo(t *testing.T, peer *host) error {
	st, err := h.client().Status(t.Context())
	for _, p := range st.Peers {
		if p.Name == peer.Name && len(p.NodeAddresses) > 0 {
			return fmt.Errorf("still leads %v", p.NodeAddresses)
		}
	}
	return err
}
