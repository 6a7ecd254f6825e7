package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// trio is a mesh of three: host-1 is the server, host-2 carries app=web and
// host-3 app=db. Its stranger is no member.
type trio struct {
	lab             *lab.Lab
	server, web, db *host
	stranger        *lab.Host
}

// newTrio makes the mesh as a person would.
func newTrio(t *testing.T) *trio {
	t.Helper()
	hosts, stranger, l := newHosts(t, 3)
	m := &trio{lab: l, server: hosts[0], web: hosts[1], db: hosts[2], stranger: stranger}
	m.server.init(t)
	m.web.join(t, m.server.token(t, "--label", "app=web"))
	m.db.join(t, m.server.token(t, "--label", "app=db"))
	m.converge(t)
	return m
}

func (m *trio) hosts() []*host { return []*host{m.server, m.web, m.db} }

// converge waits until every host is ready and knows the two others.
func (m *trio) converge(t *testing.T) {
	t.Helper()
	for _, h := range m.hosts() {
		lab.Eventually(t, settled, h.Name+" converges", h.ready(t, 2))
	}
}

// init makes a mesh with this host as its first server.
func (h *host) init(t *testing.T, args ...string) api.Joined {
	t.Helper()
	return h.entered(ask[api.Joined](t, h, append([]string{"init", "--cluster-name", "e2e", "--cluster-id", "7", "--label", "app=hub"}, args...)...))
}

// token makes a join token.
func (h *host) token(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(h.do(t, append([]string{"token", "create"}, args...)...))
}

// join makes this host a member.
func (h *host) join(t *testing.T, token string, args ...string) api.Joined {
	t.Helper()
	return h.entered(ask[api.Joined](t, h, append([]string{"join", "--token-file", h.write(t, "token", token)}, args...)...))
}

func (h *host) entered(j api.Joined) api.Joined {
	h.mesh4, h.mesh6 = j.Node.MeshIPv4, j.Node.MeshIPv6
	return j
}

func TestMesh(t *testing.T) {
	m := newTrio(t)
	t.Run("every host says who it is and whom it knows", m.testStatus)
	t.Run("hosts and identities are the same everywhere", m.testLists)
	t.Run("all pairs reach each other", m.testPairs)
	t.Run("a tunnel in use is connected", m.testTunnels)
	t.Run("keys are kept to root and never logged", m.testKeys)
}

func (m *trio) testStatus(t *testing.T) {
	for _, h := range m.hosts() {
		st := ask[api.Status](t, h, "status", "--wait")
		want := api.NodeStatus{
			Name: h.Name, Cluster: "e2e", MeshIPv4: h.mesh4, MeshIPv6: h.mesh6, Addresses: []netip.Addr{h.Addr4, h.Addr6},
			Identity: st.Node.Identity, Labels: hostLabels(m.app(h)), Server: h == m.server,
		}
		if diff := cmp.Diff(want, st.Node, equalAddrs); diff != "" {
			t.Errorf("status of %s (-want +got):\n%s", h.Name, diff)
		}
		if st.Node.Identity>>16 != 7 || len(st.Warnings) != 0 || st.State != "ready" {
			t.Errorf("%s has identity %d, state %s, warnings %v", h.Name, st.Node.Identity, st.State, st.Warnings)
		}
		m.checkPeers(t, h, st)
		checkDatapath(t, st)
	}
}

// equalAddrs lets cmp look at addresses, which keep their fields to themselves.
var equalAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func (m *trio) app(h *host) string {
	return map[*host]string{m.server: "hub", m.web: "web", m.db: "db"}[h]
}

func hostLabels(app string) []string {
	return []string{
		"k8s:app=" + app, "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=default", "k8s:io.cilium.k8s.policy.cluster=e2e",
		"k8s:io.cilium.k8s.policy.serviceaccount=default", "k8s:io.kubernetes.pod.namespace=default",
	}
}

func (m *trio) checkPeers(t *testing.T, h *host, st api.Status) {
	t.Helper()
	want := map[string]string{}
	for _, peer := range m.hosts() {
		if peer != h {
			want[peer.Name] = fmt.Sprintf("%s %s 192.0.2.%s:51871 direct", peer.mesh4, peer.mesh6, strings.TrimPrefix(peer.Name, "host-"))
		}
	}
	got := map[string]string{}
	for _, p := range st.Peers {
		got[p.Name] = fmt.Sprintf("%s %s %s %s", p.MeshIPv4, p.MeshIPv6, p.Endpoint, p.Path)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("peers of %s (-want +got):\n%s", h.Name, diff)
	}
}

func checkDatapath(t *testing.T, st api.Status) {
	t.Helper()
	if diff := cmp.Diff([]string{lab.Device, "plexus0"}, st.Datapath.Interfaces); diff != "" {
		t.Errorf("managed interfaces (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(st.Datapath.Posture, "open: ") {
		t.Errorf("posture without policy is %q; want open", st.Datapath.Posture)
	}
	if len(st.Sources) == 0 || slices.ContainsFunc(st.Sources, func(s api.SourceStatus) bool { return !s.Synced }) {
		t.Errorf("sources %v; want all synced", st.Sources)
	}
}

func (m *trio) testLists(t *testing.T) {
	nodes := ask[[]api.Node](t, m.server, "node", "list")
	identities := ask[[]api.Identity](t, m.server, "identity", "list")
	var names, carriers []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	for _, i := range identities {
		carriers = append(carriers, i.Nodes...)
	}
	if diff := cmp.Diff([]string{"host-1", "host-2", "host-3"}, names); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"host-1", "host-2", "host-3"}, carriers); diff != "" {
		t.Errorf("carriers of identities (-want +got):\n%s", diff)
	}
	for _, h := range []*host{m.web, m.db} {
		if diff := cmp.Diff(nodes, ask[[]api.Node](t, h, "node", "list"), equalAddrs); diff != "" {
			t.Errorf("%s knows other hosts than the server:\n%s", h.Name, diff)
		}
		if diff := cmp.Diff(identities, ask[[]api.Identity](t, h, "identity", "list")); diff != "" {
			t.Errorf("%s knows other identities than the server:\n%s", h.Name, diff)
		}
	}
}

// testPairs sends a full-sized datagram too: the MTU must hold it.
func (m *trio) testPairs(t *testing.T) {
	for _, h := range m.hosts() {
		serve(t, h.Host, "5432")
	}
	for _, from := range m.hosts() {
		var targets []string
		for _, to := range m.hosts() {
			for _, network := range []string{"tcp", "udp"} {
				targets = append(targets, target(network, to.mesh4, 5432), target(network, to.mesh6, 5432))
			}
			if to != from {
				for _, a := range []netip.Addr{to.mesh4, to.mesh6} {
					if err := from.Run(t.Context(), "ping", "-c1", "-W5", "-s1300", a.String()); err != nil {
						t.Error(err)
					}
				}
			}
		}
		expect(t, from.Host, echoed, targets...)
	}
}

func (m *trio) testTunnels(t *testing.T) {
	for _, h := range m.hosts() {
		for _, p := range ask[api.Status](t, h, "status").Peers {
			if p.State != "connected" || p.LastHandshake == nil || p.RxBytes == 0 || p.TxBytes == 0 {
				t.Errorf("%s sees %+v; want a connected peer with traffic", h.Name, p)
			}
		}
	}
}

func (m *trio) testKeys(t *testing.T) {
	for _, h := range m.hosts() {
		key, err := os.ReadFile(h.Path("/var/lib/plexus/wireguard.key"))
		if err != nil {
			t.Fatal(err)
		}
		log, err := h.daemon.Log()
		if err != nil || bytes.Contains(log, bytes.TrimSpace(key)) {
			t.Errorf("log of %s has the WireGuard key, or %v", h.Name, err)
		}
		open, err := h.Output(t.Context(), "find", "/var/lib/plexus", "-name", "*.key", "-perm", "/077")
		if err != nil || len(open) != 0 {
			t.Errorf("keys that others than root may read: %s, %v", open, err)
		}
	}
}
