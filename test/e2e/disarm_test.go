package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// TestDisarm opens a host that policy has closed while there is no control plane
// at all, and closes it again.
func TestDisarm(t *testing.T) {
	m := newTrio(t)
	serve(t, m.db.Host, "2222")
	way := target("tcp", m.db.Addr4, 2222)
	m.apply(t, closedTo("db"))
	verdicts(t, m.stranger, map[string][]string{silence: {way}})
	kill(t, m.server)
	m.db.do(t, "disarm", "--reason", "console is broken")
	verdicts(t, m.stranger, map[string][]string{echoed: {way}})
	m.disarmed(t)
	kill(t, m.db)
	m.db.start(t)
	lab.Eventually(t, settled, "it is still disarmed after a restart", func() error {
		st, err := m.db.client().Status(t.Context())
		if err == nil && !warns(st, "disarmed") {
			err = fmt.Errorf("warnings %+v", st.Warnings)
		}
		return err
	})
	verdicts(t, m.stranger, map[string][]string{echoed: {way}})
	m.db.do(t, "arm")
	lab.Eventually(t, settled, "policy is back without etcd", func() error {
		if got := probe(t, m.stranger, way); got[0] != silence {
			return fmt.Errorf("%s answers %s", way, got[0])
		}
		return nil
	})
}

// disarmed checks that status says so loudly.
func (m *trio) disarmed(t *testing.T) {
	t.Helper()
	r := m.db.plexus(t, "status")
	if r.code != exitDegraded || !strings.Contains(r.stdout, "DISARMED") || !strings.Contains(r.stdout, "console is broken") || !strings.Contains(r.stdout, "plexus arm") {
		t.Errorf("status of a disarmed host: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestLocalPolicies reads policy from files of one host.
func TestLocalPolicies(t *testing.T) {
	m := newTrio(t)
	for _, h := range m.hosts() {
		serve(t, h.Host, "5432", "5433")
	}
	expect(t, m.web.Host, echoed, m.db.services("tcp", 5432)...)
	file := m.db.Path("/etc/plexus/policies/local.yaml")
	if err := os.MkdirAll(m.db.Path("/etc/plexus/policies"), 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(clusterwide("own", "db", `  ingress: [{fromEntities: [all], toPorts: [{ports: [{port: "5432", protocol: TCP}]}]}]`))
	expect(t, m.web.Host, silence, m.db.services("tcp", 5433)...)
	verdicts(t, m.web.Host, map[string][]string{echoed: append(m.db.services("tcp", 5432), m.server.services("tcp", 5433)...)})
	put("kind: [") // broken: what was accepted stays
	lab.Eventually(t, settled, "status names the broken file", func() error {
		st, err := m.db.client().Status(t.Context())
		if err == nil && (st.State != "degraded" || !strings.Contains(fmt.Sprint(st.Warnings), "local.yaml")) {
			err = fmt.Errorf("%s, %+v", st.State, st.Warnings)
		}
		return err
	})
	verdicts(t, m.web.Host, map[string][]string{echoed: m.db.services("tcp", 5432), silence: m.db.services("tcp", 5433)})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect(t, m.web.Host, echoed, m.db.services("tcp", 5433)...)
}

// TestNamedPorts has a host declare a port under a name, and shows that policy
// follows it on both sides.
func TestNamedPorts(t *testing.T) {
	hosts, stranger, l := newHosts(t, 3)
	m := &trio{lab: l, server: hosts[0], web: hosts[1], db: hosts[2], stranger: stranger}
	if err := m.db.daemon.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.db.daemon = nil
	m.db.start(t, "--named-ports", "pg=5432/TCP", "--failsafe", "wireguard,servers")
	m.server.init(t)
	m.web.join(t, m.server.token(t, "--label", "app=web"))
	m.db.join(t, m.server.token(t, "--label", "app=db"))
	m.converge(t)
	for _, h := range m.hosts() {
		serve(t, h.Host, "5432", "5433")
	}
	expect(t, m.web.Host, echoed, m.db.services("tcp", 5432)...)
	m.apply(t, clusterwide("in", "db", `  ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: pg, protocol: TCP}]}]}]`))
	m.apply(t, clusterwide("out", "web", `  egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: pg}]}]}]`))
	verdicts(t, m.web.Host, map[string][]string{
		echoed:  m.db.services("tcp", 5432),
		silence: append(m.db.services("tcp", 5433), m.server.services("tcp", 5432)...), // the server declares no pg
	})
	verdicts(t, m.server.Host, map[string][]string{echoed: m.db.services("tcp", 5432), silence: m.db.services("tcp", 5433)})
	holes := ask[[]api.Pinhole](t, m.db, "policy", "failsafe")
	for _, p := range holes {
		if strings.Contains(p.Why, "DHCP") || strings.Contains(p.Why, "SSH") {
			t.Errorf("pinhole that the configuration left out: %+v", p)
		}
	}
	if len(holes) == 0 {
		t.Error("no pinholes although wireguard and servers were chosen")
	}
}

// TestICMPTypes allows one type of ICMP and no other.
func TestICMPTypes(t *testing.T) {
	m := newTrio(t)
	ping := func(want bool) {
		t.Helper()
		for _, a := range m.db.addresses() {
			if err := m.web.Run(t.Context(), "ping", "-c1", "-W1", a.String()); (err == nil) != want {
				t.Errorf("ping of %s: %v; want answered %v", a, err, want)
			}
		}
	}
	serve(t, m.db.Host, "5432")
	expect(t, m.web.Host, echoed, m.db.services("tcp", 5432)...)
	m.apply(t, clusterwide("ping", "db", `  ingress:
  - fromEndpoints: [{}]
    icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}]}]`))
	ping(true)
	verdicts(t, m.web.Host, map[string][]string{silence: m.db.services("tcp", 5432)})
	m.apply(t, clusterwide("ping", "db", `  ingress:
  - fromEndpoints: [{}]
    icmps: [{fields: [{type: 13}, {family: IPv6, type: 144}]}]`))
	ping(false)
}

// TestStaged reports what a staged rule would do, and does nothing.
func TestStaged(t *testing.T) {
	m := newTrio(t)
	serve(t, m.db.Host, "5432", "5433")
	expect(t, m.web.Host, echoed, m.db.services("tcp", 5432)...)
	m.apply(t, strings.Replace(webToDB, "spec:\n", "spec:\n  enforcement: staged\n", 1))
	verdicts(t, m.web.Host, map[string][]string{echoed: append(m.db.services("tcp", 5432), m.db.services("tcp", 5433)...)})
	for port, want := range map[int][2]string{5432: {"FORWARDED", "web-to-db ingress[0]"}, 5433: {"DROPPED", ""}} {
		flows := m.db.do(t, "observe", "--last", "1", "--port", fmt.Sprint(port), "--verdict", "FORWARDED", "-o", "json")
		if !strings.Contains(flows, fmt.Sprintf(`"stagedVerdict":"%s"`, want[0])) || want[1] != "" && !strings.Contains(flows, want[1]) {
			t.Errorf("flow to port %d does not say that staged policy has it %s by %q:\n%s", port, want[0], want[1], flows)
		}
	}
}
