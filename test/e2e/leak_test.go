package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

// TestNothingLeaks sends marked messages between all members, to their mesh
// addresses and to their node addresses, for all of their life, and watches both
// ends of every cable. Every host has a default route, so that whatever misses the
// tunnel has a way to be seen.
func TestNothingLeaks(t *testing.T) {
	hosts, stranger, l := newHosts(t, 3)
	m := &leaks{whole: t, since: map[netip.Addr]time.Time{}, trio: &trio{lab: l, server: hosts[0], web: hosts[1], db: hosts[2], stranger: stranger}}
	m.defaultRoutes(t)
	m.server.init(t)
	m.web.join(t, m.server.token(t, "--label", "app=web"))
	serve(t, m.server.Host, "5432")
	serve(t, m.web.Host, "5432")
	serve(t, m.db.Host, "5431")
	lab.Eventually(t, settled, "two are a mesh", m.web.ready(t, 1))
	stop := watchAll(t, l, m.pools()...)
	expect(t, stranger, echoed, target("udp", m.db.Addr4, 5431), target("tcp", m.db.Addr6, 5431)) // which every watcher on the way must see
	m.db.mesh4, m.db.mesh6 = m.web.mesh4.Next(), m.web.mesh6.Next()
	m.encrypted(t, m.server, m.web)
	m.spray(m.server, append(meshTargets(m.web, m.db), nodeTargets(m.web)...))
	m.spray(m.web, append(meshTargets(m.server, m.db), nodeTargets(m.server)...))
	m.aboutDB = append(m.aboutDB, m.spray(m.server, nodeTargets(m.db)), m.spray(m.web, nodeTargets(m.db)))
	for _, s := range []struct {
		what string
		do   func(*testing.T)
	}{
		{"a host joins that is sent to already", m.testJoins},
		{"policy changes", m.testChurn},
		{"a daemon is stopped and started", m.testStops},
		{"daemons are killed and started", m.testKilled},
		{"etcd is away, and a host starts without", m.testAlone},
		{"the device is deleted", func(t *testing.T) { m.deleteDevice(t); m.converge(t) }},
		{"the helper is killed", func(t *testing.T) { m.killHelper(t); m.converge(t) }},
		{"the device goes while nobody is there to repair it", m.testUnattended},
		{"a host leaves that goes on sending", m.testLeaves},
	} {
		if !t.Run(s.what, s.do) {
			break // what follows starts from a mesh that is whole
		}
	}
	m.judge(t, stop())
}

// leaks is a mesh under watch.
type leaks struct {
	*trio
	whole   *testing.T               // whose programs outlive a step
	aboutDB []*program               // what sends from db, and to its node addresses
	since   map[netip.Addr]time.Time // when traffic between this node address and others began to be encrypted
}

// encrypted waits until traffic between the node addresses of these hosts goes
// through the tunnel, and from then on wants none elsewhere.
func (m *leaks) encrypted(t *testing.T, hosts ...*host) {
	t.Helper()
	for _, from := range hosts {
		for _, to := range hosts {
			if from == to {
				continue
			}
			lab.Eventually(t, settled, "the way to node addresses leads into the tunnel", func() error { return from.tunnels(t, to) })
			expect(t, from.Host, echoed, nodeTargets(to)...)
		}
	}
	for _, h := range hosts {
		for _, a := range []netip.Addr{h.Addr4, h.Addr6} {
			if m.since[a].IsZero() {
				m.since[a] = time.Now()
			}
		}
	}
}

// tunnels says which node address of a host is not reached through the tunnel.
func (h *host) tunnels(t *testing.T, to *host) error {
	for _, a := range []netip.Addr{to.Addr4, to.Addr6} {
		out, err := h.Output(t.Context(), "ip", "route", "get", a.String())
		if err != nil {
			return err
		}
		if !strings.Contains(string(out), "dev plexus0") {
			return fmt.Errorf("the way to %s is %s", a, out)
		}
	}
	return nil
}

// defaultRoutes leads all that has no better way to the stranger.
func (m *leaks) defaultRoutes(t *testing.T) {
	t.Helper()
	for _, h := range m.hosts() {
		for family, via := range map[string]netip.Addr{"-4": m.stranger.Addr4, "-6": m.stranger.Addr6} {
			if err := h.Run(t.Context(), "ip", family, "route", "add", "default", "via", via.String(), "dev", lab.Device); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// pools are those that mesh addresses come from.
func (m *leaks) pools() []netip.Prefix {
	v4, _ := m.server.mesh4.Prefix(16)
	v6, _ := m.server.mesh6.Prefix(48)
	return []netip.Prefix{v4, v6}
}

// spray has a host send to targets for as long as the test lasts.
func (m *leaks) spray(from *host, targets []string) *program {
	m.whole.Helper()
	return launch(m.whole, from.Host, "spray", append([]string{"again"}, targets...)...)
}

func meshTargets(to ...*host) (out []string) {
	for _, h := range to {
		out = append(out, udpAndTCP(h.mesh4, h.mesh6)...)
	}
	return out
}

func nodeTargets(to ...*host) (out []string) {
	for _, h := range to {
		out = append(out, udpAndTCP(h.Addr4, h.Addr6)...)
	}
	return out
}

func udpAndTCP(addrs ...netip.Addr) (out []string) {
	for _, a := range addrs {
		out = append(out, target("udp", a, 5432), target("tcp", a, 5432))
	}
	return out
}

// flow waits until every member reaches every other.
func (m *leaks) flow(t *testing.T) {
	t.Helper()
	for _, from := range m.hosts() {
		for _, to := range m.hosts() {
			if from != to {
				expect(t, from.Host, echoed, append(meshTargets(to), nodeTargets(to)...)...)
			}
		}
	}
}

// testJoins has a third host join under the addresses that the others send to.
func (m *leaks) testJoins(t *testing.T) {
	want := [2]netip.Addr{m.db.mesh4, m.db.mesh6}
	m.db.join(t, m.server.token(t, "--label", "app=db"))
	if got := [2]netip.Addr{m.db.mesh4, m.db.mesh6}; got != want {
		t.Fatalf("the host that joined got the addresses %v; the others send to %v", got, want)
	}
	serve(m.whole, m.db.Host, "5432")
	m.aboutDB = append(m.aboutDB, m.spray(m.db, append(meshTargets(m.server, m.web), nodeTargets(m.server, m.web)...)))
	m.converge(t)
	m.encrypted(t, m.hosts()...)
	m.flow(t)
}

func (m *leaks) testChurn(t *testing.T) {
	for range 3 {
		m.apply(t, webToDB)
		m.apply(t, closedTo("db"))
		m.delete(t, "shut")
		m.delete(t, "web-to-db")
	}
	m.flow(t)
}

func (m *leaks) testStops(t *testing.T) {
	for _, h := range m.hosts() {
		h.stop(t)
		expect(t, m.web.Host, echoed, meshTargets(m.db)...)
		h.start(t)
		m.converge(t)
	}
}

func (m *leaks) testKilled(t *testing.T) {
	for _, h := range m.hosts() {
		h.crash(t)
	}
	m.flow(t)
	for _, h := range m.hosts() {
		h.start(t)
	}
	m.converge(t)
}

// testAlone starts a daemon that knows the mesh from its disk alone.
func (m *leaks) testAlone(t *testing.T) {
	m.server.crash(t)
	m.web.crash(t)
	m.web.start(t)
	m.flow(t)
	m.server.start(t)
	m.converge(t)
}

// testUnattended takes the tunnel away while no daemon runs: only the guards in
// the kernel are left, and the default route.
func (m *leaks) testUnattended(t *testing.T) {
	guards := []string{"plaintext to a mesh address", "plaintext between members"}
	var before []uint64
	for _, reason := range guards {
		before = append(before, m.web.counted(t, "egress", reason))
	}
	m.web.crash(t)
	if err := m.web.Run(t.Context(), "ip", "link", "delete", "plexus0"); err != nil {
		t.Fatal(err)
	}
	for _, family := range []string{"-4", "-6"} { // the dead ends behind the tunnel, which would hold traffic back too
		if err := m.web.Run(t.Context(), "ip", family, "route", "flush", "table", "all", "proto", "158"); err != nil {
			t.Fatal(err)
		}
	}
	verdicts(t, m.web.Host, map[string][]string{silence: append(meshTargets(m.db, m.server), nodeTargets(m.db, m.server)...)})
	m.web.start(t)
	m.converge(t)
	m.flow(t)
	for i, reason := range guards {
		if after := m.web.counted(t, "egress", reason); after < before[i]+8 {
			t.Errorf("%s: %d packets are counted, %d before: the guard was hardly tried", reason, after, before[i])
		}
	}
}

// testLeaves has a host leave to which the others send, and from which a program
// goes on in the connections that it has.
func (m *leaks) testLeaves(t *testing.T) {
	for _, p := range m.aboutDB {
		m.end(t, p)
	}
	held := launch(t, m.db.Host, "spray", append([]string{"once"}, meshTargets(m.server, m.web)...)...)
	m.db.do(t, "leave")
	for _, h := range []*host{m.server, m.web} {
		lab.Eventually(t, settled, h.Name+" drops the peer", h.ready(t, 1))
	}
	verdicts(t, m.web.Host, map[string][]string{silence: meshTargets(m.db)})
	m.end(t, held)
}

// end ends a spray and checks that it sent to every target.
func (m *leaks) end(t *testing.T, p *program) {
	t.Helper()
	p.stdin.Close()
	var sent map[string]int
	if err := json.NewDecoder(p.out).Decode(&sent); err != nil {
		t.Fatal(err)
	}
	t.Logf("sent: %v", sent)
	for to, n := range sent {
		if n == 0 {
			t.Errorf("nothing was sent to %s", to)
		}
	}
}

// judge wants the stranger's packets seen by every watcher on their way, and no
// other: no payload, and no address of the mesh outside of encryption.
func (m *leaks) judge(t *testing.T, w watched) {
	t.Helper()
	t.Logf("%d frames were looked at", w.Frames)
	if w.Lost > 0 {
		t.Errorf("%d frames were not looked at, for want of room", w.Lost)
	}
	early := 0
	way := map[string]bool{"eth0 of " + m.stranger.Name: false, m.stranger.Name: false, m.db.Name: false, "eth0 of " + m.db.Name: false}
	for _, s := range w.Seen {
		if s.Marked && (s.Src == m.stranger.Addr4 || s.Src == m.stranger.Addr6) {
			way[s.Device] = true
			continue
		}
		if m.joining(s) {
			early++
			continue
		}
		if s.Dst == m.stranger.Addr4 || s.Dst == m.stranger.Addr6 {
			continue
		}
		t.Errorf("in plaintext: %s", s)
	}
	if early == 0 {
		t.Error("nothing was seen between node addresses before they were those of members: that they were watched for is not shown")
	}
	for device, seen := range way {
		if !seen {
			t.Errorf("the watcher of %s did not see what a stranger sent in plaintext: it proves nothing", device)
		}
	}
}

// joining reports whether a sighting is of node addresses that were not yet those
// of members.
func (m *leaks) joining(s sighting) bool {
	src, dst := m.since[s.Src], m.since[s.Dst]
	return !src.IsZero() && !dst.IsZero() && (s.Last.Before(src) || s.Last.Before(dst))
}
