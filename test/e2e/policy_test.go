package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// clusterwide is a policy about the hosts with that app label. body is what
// follows the selector, indented by two.
func clusterwide(name, app, body string) string {
	return fmt.Sprintf(`apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: %s}
spec:
  endpointSelector: {matchLabels: {app: %s}}
%s
`, name, app, body)
}

var webToDB = clusterwide("web-to-db", "db", `  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "5432", protocol: TCP}]}]`)

// applied is what a change of policy says: what it found, and what it did.
type applied struct {
	api.ApplyResult
	Review api.Review `json:"review"`
}

// apply applies a policy and waits until all hosts enforce its revision.
func (m *trio) apply(t *testing.T, policy string) applied {
	t.Helper()
	r := ask[applied](t, m.server, "policy", "apply", "-f", m.server.write(t, "policy.yaml", policy))
	m.enforced(t, r.Revision)
	return r
}

func (m *trio) delete(t *testing.T, name string) {
	t.Helper()
	m.enforced(t, ask[applied](t, m.server, "policy", "delete", name).Revision)
}

func (m *trio) enforced(t *testing.T, revision uint64) {
	t.Helper()
	for _, h := range m.hosts() {
		lab.Eventually(t, settled, h.Name+" enforces", func() error {
			st, err := h.client().Status(t.Context())
			if err == nil && st.Datapath.PolicyRevision != revision {
				err = fmt.Errorf("revision is %d; want %d", st.Datapath.PolicyRevision, revision)
			}
			return err
		})
	}
}

// addresses are all that a host can be reached at: through the tunnel, and on
// the underlay.
func (h *host) addresses() []netip.Addr { return []netip.Addr{h.mesh4, h.mesh6, h.Addr4, h.Addr6} }

// services are targets on all addresses of the host.
func (h *host) services(network string, port int) []string {
	var out []string
	for _, a := range h.addresses() {
		out = append(out, target(network, a, port))
	}
	return out
}

// verdicts probes everything at once and wants one answer for each list. What
// is wanted holds already: nothing is tried twice.
func verdicts(t *testing.T, from *lab.Host, want map[string][]string) {
	t.Helper()
	var targets, wanted []string
	for outcome, list := range want {
		targets = append(targets, list...)
		wanted = append(wanted, slices.Repeat([]string{outcome}, len(list))...)
	}
	for i, got := range probe(t, from, targets...) {
		if got != wanted[i] {
			t.Errorf("from %s to %s: %s; want %s", from.Name, targets[i], got, wanted[i])
		}
	}
}

func TestPolicy(t *testing.T) {
	m := newTrio(t)
	for _, h := range m.hosts() {
		serve(t, h.Host, "5432", "5433", "5434")
	}
	for _, h := range m.hosts() {
		expect(t, h.Host, echoed, append(m.db.services("tcp", 5432), m.web.services("udp", 5433)...)...) // handshakes are made
	}
	t.Run("ingress by labels", m.testIngress)
	t.Run("what the kernel holds is shown", m.testMaps)
	t.Run("flows are seen with their verdict", m.testObserve)
	t.Run("egress", m.testEgress)
	t.Run("deny beats allow", m.testDeny)
	t.Run("addresses of the world", m.testWorld)
	t.Run("established flows follow a new policy", m.testRejudge)
	t.Run("what cannot be enforced is refused", m.testRefusals)
}

func (m *trio) testIngress(t *testing.T) {
	r := m.apply(t, webToDB)
	if diff := cmp.Diff([]api.PolicyChange{{Name: "web-to-db", Change: "created", Selects: []string{"host-3"}}}, r.Policies); diff != "" {
		t.Errorf("apply (-want +got):\n%s", diff)
	}
	verdicts(t, m.web.Host, map[string][]string{
		echoed:  m.db.services("tcp", 5432),
		silence: append(m.db.services("udp", 5432), m.db.services("tcp", 5433)...),
	})
	verdicts(t, m.server.Host, map[string][]string{silence: m.db.services("tcp", 5432), echoed: m.web.services("tcp", 5432)})
	verdicts(t, m.db.Host, map[string][]string{echoed: append(m.web.services("tcp", 5433), m.server.services("udp", 5432)...)})
	for _, a := range m.db.addresses() {
		if err := m.web.Run(t.Context(), "ping", "-c1", "-W1", a.String()); err == nil {
			t.Errorf("%s answers a ping that no rule allows", a)
		}
	}
	if st := ask[api.Status](t, m.db, "status"); !strings.HasPrefix(st.Datapath.Posture, "closed for ingress") {
		t.Errorf("posture is %q; want closed for ingress", st.Datapath.Posture)
	}
}

func (m *trio) testMaps(t *testing.T) {
	list := ask[[]api.Policy](t, m.server, "policy", "list")
	if len(list) != 1 || list[0].Name != "web-to-db" || !slices.Equal(list[0].Selects, []string{"host-3"}) || list[0].Kind != "CiliumClusterwideNetworkPolicy" {
		t.Errorf("policy list: %+v", list)
	}
	want := api.PolicyEntry{Direction: "ingress", Protocol: "TCP", Ports: "5432", Verdict: "allow", Rule: "web-to-db ingress[0]"}
	if !slices.ContainsFunc(ask[[]api.PolicyEntry](t, m.db, "bpf", "policy", "list"), func(e api.PolicyEntry) bool {
		web := slices.Contains(e.Labels, "k8s:app=web")
		e.Identity, e.Labels = 0, nil
		return web && cmp.Equal(e, want)
	}) {
		t.Errorf("bpf policy list lacks %+v for app=web", want)
	}
	for _, a := range append(m.web.addresses(), m.db.addresses()...) {
		if !slices.ContainsFunc(ask[[]api.IPCacheEntry](t, m.db, "bpf", "ipcache", "list"), func(e api.IPCacheEntry) bool {
			return e.Prefix == netip.PrefixFrom(a, a.BitLen()) && e.Identity>>16 == 7
		}) {
			t.Errorf("bpf ipcache list lacks %s", a)
		}
	}
	m.checkFlowsAndCounters(t)
}

func (m *trio) checkFlowsAndCounters(t *testing.T) {
	t.Helper()
	remote, local := m.web.mesh4.String()+":", netip.AddrPortFrom(m.db.mesh4, 5432).String()
	if !slices.ContainsFunc(ask[[]api.FlowEntry](t, m.db, "bpf", "ct", "list"), func(e api.FlowEntry) bool {
		return e.Local == local && strings.HasPrefix(e.Remote, remote) && e.Rule == "web-to-db ingress[0]" && e.RxPackets > 0 && e.TxPackets > 0
	}) {
		t.Errorf("bpf ct list lacks the flow from %s to %s", remote, local)
	}
	verdicts(t, m.stranger, map[string][]string{silence: {target("tcp", m.db.Addr4, 5432)}})
	for _, link := range []string{"uplink", "tunnel"} {
		if !slices.ContainsFunc(ask[[]api.CounterEntry](t, m.db, "bpf", "metrics", "list"), func(e api.CounterEntry) bool {
			return e.Interface == link && e.Direction == "ingress" && e.Reason != "forwarded" && e.Packets > 0 && e.Bytes > 0
		}) {
			t.Errorf("bpf metrics list counts no drop on the %s", link)
		}
	}
	holes := ask[[]api.Pinhole](t, m.server, "policy", "failsafe")
	for _, port := range []uint16{51871, 7443, 2379} {
		if !slices.ContainsFunc(holes, func(p api.Pinhole) bool { return p.Port == port && p.Direction == "ingress" && p.Why != "" }) {
			t.Errorf("policy failsafe lacks port %d of the server", port)
		}
	}
}

func (m *trio) testEgress(t *testing.T) {
	m.apply(t, clusterwide("hub-out", "hub", `  egress:
  - toEndpoints: [{matchExpressions: [{key: app, operator: In, values: [web]}]}]
    toPorts: [{ports: [{port: "5433", endPort: 5434, protocol: TCP}]}]`))
	verdicts(t, m.server.Host, map[string][]string{
		echoed:  append(m.web.services("tcp", 5433), m.web.services("tcp", 5434)...),
		silence: append(m.web.services("tcp", 5432), m.web.services("udp", 5433)...),
	})
	verdicts(t, m.web.Host, map[string][]string{echoed: append(m.server.services("tcp", 5432), m.server.services("udp", 5433)...)})
	m.delete(t, "hub-out")
	verdicts(t, m.server.Host, map[string][]string{echoed: append(m.web.services("tcp", 5432), m.web.services("udp", 5433)...)})
}

func (m *trio) testDeny(t *testing.T) {
	m.apply(t, clusterwide("no-web", "db", `  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: web}}]`))
	verdicts(t, m.web.Host, map[string][]string{silence: m.db.services("tcp", 5432)})
	m.delete(t, "no-web")
	verdicts(t, m.web.Host, map[string][]string{echoed: m.db.services("tcp", 5432)})
	m.apply(t, clusterwide("no-udp-out", "web", `  egress: [{toEntities: [all]}]
  egressDeny:
  - toEntities: [all]
    toPorts: [{ports: [{port: "5433", protocol: UDP}]}]`))
	verdicts(t, m.web.Host, map[string][]string{silence: m.server.services("udp", 5433), echoed: m.server.services("udp", 5432)})
	m.delete(t, "no-udp-out")
	m.delete(t, "web-to-db")
	verdicts(t, m.server.Host, map[string][]string{echoed: append(m.db.services("tcp", 5433), m.db.services("udp", 5432)...)})
}

// testWorld has a host that no mesh knows as the world.
func (m *trio) testWorld(t *testing.T) {
	node := []string{target("tcp", m.db.Addr4, 5432), target("tcp", m.db.Addr6, 5432)}
	verdicts(t, m.stranger, map[string][]string{echoed: node})
	m.apply(t, clusterwide("world", "db", `  ingress:
  - fromCIDR: [192.0.2.0/24]
    toPorts: [{ports: [{port: "5432", protocol: TCP}]}]
  - fromEntities: [world]
    toPorts: [{ports: [{port: "5433", protocol: TCP}]}]
  - fromCIDRSet: [{cidr: "2001:db8::/32", except: ["2001:db8:1::/64"]}]`))
	verdicts(t, m.stranger, map[string][]string{
		echoed:  {node[0], target("tcp", m.db.Addr4, 5433), target("tcp", m.db.Addr6, 5433)},
		silence: {node[1], target("udp", m.db.Addr4, 5432), target("tcp", m.db.Addr6, 5434)},
	})
	verdicts(t, m.web.Host, map[string][]string{silence: m.db.services("tcp", 5432)})
	m.delete(t, "world")
}

// testRejudge shows that a deny cuts what is established, and nothing else.
func (m *trio) testRejudge(t *testing.T) {
	var cut, kept []*program
	for _, a := range []netip.Addr{m.db.mesh4, m.db.Addr6} {
		cut = append(cut, stream(t, m.web.Host, target("tcp", a, 5432)), stream(t, m.web.Host, target("udp", a, 5432)))
		kept = append(kept, stream(t, m.web.Host, target("tcp", a, 5433)), stream(t, m.web.Host, target("udp", a, 5433)), stream(t, m.server.Host, target("tcp", a, 5432)))
	}
	m.apply(t, clusterwide("cut", "db", `  ingress: [{fromEntities: [all]}]
  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "5432"}]}]`))
	verdicts(t, m.web.Host, map[string][]string{silence: m.db.services("tcp", 5432)}) // and time to send more
	for _, s := range cut {
		s.stdin.Close() // all at once: each waits for what will not come back
	}
	for i, s := range cut {
		if r := s.finish(t); len(r.Missing) == 0 {
			t.Errorf("denied flow %d went on: %+v", i, r)
		}
	}
	for i, s := range kept {
		s.finish(t).unharmed(t, fmt.Sprintf("allowed flow %d", i))
	}
	m.delete(t, "cut")
}
