package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

func TestLeaving(t *testing.T) {
	m := newTrio(t)
	serve(t, m.db.Host, "5432")
	m.apply(t, webToDB)
	expect(t, m.web.Host, echoed, m.db.services("tcp", 5432)...)
	t.Run("plexus leave", m.testLeave)
	t.Run("join again", m.testRejoin)
	t.Run("plexus node remove", m.testRemove)
	t.Run("plexusd cleanup", m.testCleanup)
	t.Run("a server leaves last, by force", m.testServerLeaves)
}

func (m *trio) testLeave(t *testing.T) {
	for _, what := range []string{"device", "routes", "pins"} { // or isClean would prove nothing
		if m.web.trace(t, what) == "" {
			t.Errorf("a member has no %s", what)
		}
	}
	m.web.do(t, "leave")
	m.web.isClean(t)
	if diff := cmp.Diff([]string{"lock"}, stateFiles(t, m.web)); diff != "" {
		t.Errorf("state directory (-want +got):\n%s", diff)
	}
	m.forgotten(t, m.web)
	m.web.refused(t, exitError, []string{"not part of a mesh", "plexus join"}, "leave")
	m.web.refused(t, exitError, []string{"not part of a mesh"}, "node", "list")
}

// forgotten checks that the two others have dropped a host, as peer and as
// address, and that etcd names it nowhere but in the history.
func (m *trio) forgotten(t *testing.T, gone *host) {
	t.Helper()
	for _, h := range m.hosts() {
		if h == gone {
			continue
		}
		lab.Eventually(t, settled, h.Name+" drops the peer", h.ready(t, 1))
		lab.Eventually(t, settled, h.Name+" forgets the addresses", func() error { return h.knowsNot(t, gone) })
	}
	for key := range stored(t, m.server.Host) {
		history := strings.HasPrefix(key, "plexus/v1/audit/") || strings.HasPrefix(key, "plexus/v1/revoked/") || strings.HasPrefix(key, "plexus/v1/tokens/")
		if strings.Contains(key, gone.Name) && !history {
			t.Errorf("etcd still has %s", key)
		}
	}
}

func (h *host) knowsNot(t *testing.T, gone *host) error {
	for _, e := range ask[[]api.IPCacheEntry](t, h, "bpf", "ipcache", "list") {
		if slices.Contains(gone.addresses(), e.Prefix.Addr()) {
			return fmt.Errorf("%s is still in the ipcache", e.Prefix)
		}
	}
	return nil
}

// traces finds what carries one of our marks on a host.
var traces = map[string]string{
	"device":    "ip -o link show plexus0 2>/dev/null",
	"routes":    "ip -4 route show table all proto 158; ip -6 route show table all proto 158",
	"rules":     "ip rule | grep -v 'lookup \\(local\\|main\\|default\\)'",
	"pins":      "find /sys/fs/bpf -mindepth 1 ! -name '*.debug'",
	"filters":   "tc filter show dev eth0 ingress; tc filter show dev eth0 egress; tc qdisc show dev eth0 | grep clsact",
	"processes": "cat /run/plexus/*.pid 2>/dev/null; find /run/wireguard -type s 2>/dev/null",
}

func (h *host) trace(t *testing.T, what string) string {
	t.Helper()
	out, err := h.Output(t.Context(), "sh", "-c", traces[what]+"; true")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// isClean checks that the kernel holds nothing of ours.
func (h *host) isClean(t *testing.T) {
	t.Helper()
	for what := range traces {
		if left := h.trace(t, what); left != "" {
			t.Errorf("%s left on %s: %s", what, h.Name, left)
		}
	}
}

func (m *trio) testRejoin(t *testing.T) {
	m.web.join(t, m.server.token(t, "--label", "app=web"))
	m.converge(t)
	expect(t, m.web.Host, echoed, m.db.services("tcp", 5432)...)
}

// testRemove takes web out without asking it.
func (m *trio) testRemove(t *testing.T) {
	m.server.refused(t, exitError, []string{"host-1", "plexus leave"}, "node", "remove", "host-1")
	m.server.refused(t, exitError, []string{"nobody"}, "node", "remove", "nobody")
	m.web.refused(t, exitError, []string{"not a server"}, "node", "remove", "host-3")
	m.server.do(t, "node", "remove", "host-2")
	m.forgotten(t, m.web)
	verdicts(t, m.web.Host, map[string][]string{silence: m.db.services("tcp", 5432)})
	lab.Eventually(t, settled, "web says that it was removed", func() error {
		st, err := m.web.client().Status(t.Context())
		if err == nil && st.State != "degraded" {
			err = fmt.Errorf("state is %s with warnings %v", st.State, st.Warnings)
		}
		return err
	})
	if r := m.web.plexus(t, "status"); r.code != exitDegraded {
		t.Errorf("status of a removed host: exit code %d; want %d: %s", r.code, exitDegraded, r.stdout)
	}
	m.web.do(t, "leave")
	m.web.isClean(t)
	m.testRejoin(t)
}

// testCleanup removes every mark of a daemon that crashed. The membership stays:
// the next start makes all of it again.
func (m *trio) testCleanup(t *testing.T) {
	command(t, m.db.Host, "", built.plexusd, "cleanup").refused(t, exitError, "another plexusd")
	m.holdsFrom(t, m.web)
	if err := m.db.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	before := stateFiles(t, m.db)
	for range 2 {
		if r := command(t, m.db.Host, "", built.plexusd, "cleanup"); r.code != exitOK {
			t.Fatalf("cleanup: exit code %d: %s", r.code, r.stderr)
		}
		m.db.isClean(t)
	}
	// No program is left on the interface: the policy that selects db is gone. For
	// its peers db is a member still, and plaintext to one is no substitute.
	expect(t, m.stranger, echoed, target("tcp", m.db.Addr4, 5432), target("tcp", m.db.Addr6, 5432))
	verdicts(t, m.web.Host, map[string][]string{silence: {target("tcp", m.db.Addr4, 5432), target("tcp", m.db.Addr6, 5432)}})
	if diff := cmp.Diff(before, stateFiles(t, m.db)); diff != "" {
		t.Errorf("cleanup changed the state directory:\n%s", diff)
	}
	m.db.start(t)
	m.converge(t)
	m.holdsFrom(t, m.web)
}

func (m *trio) holdsFrom(t *testing.T, from *host) {
	t.Helper()
	expect(t, from.Host, echoed, m.db.services("tcp", 5432)...)
	verdicts(t, m.server.Host, map[string][]string{silence: m.db.services("tcp", 5432)})
}

func (m *trio) testServerLeaves(t *testing.T) {
	m.server.refused(t, exitError, []string{"only server", "--force"}, "leave")
	for _, h := range []*host{m.web, m.db} {
		h.do(t, "leave")
	}
	m.server.do(t, "leave", "--force")
	for _, h := range m.hosts() {
		h.isClean(t)
	}
	if diff := cmp.Diff([]string{"lock"}, stateFiles(t, m.server)); diff != "" {
		t.Errorf("state directory of the server (-want +got):\n%s", diff)
	}
	m.server.init(t)
	lab.Eventually(t, settled, "another mesh is ready", m.server.ready(t, 0))
}
