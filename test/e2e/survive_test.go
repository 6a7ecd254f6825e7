package e2e

import (
	"fmt"
	"testing"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// TestSurvival kills daemons under traffic that must not notice.
func TestSurvival(t *testing.T) {
	m := newTrio(t)
	for _, h := range m.hosts() {
		serve(t, h.Host, "5432", "5433")
	}
	m.apply(t, webToDB)
	expect(t, m.web.Host, echoed, m.db.services("tcp", 5432)...)
	expect(t, m.db.Host, echoed, m.web.services("udp", 5432)...)
	for _, h := range m.hosts() {
		t.Run(h.Name+" is killed and comes back", func(t *testing.T) { m.testCrash(t, h) })
	}
	t.Run("all are killed at once", m.testAllCrash)
	t.Run("a stop in order is as harmless", func(t *testing.T) {
		m.during(t, func() {
			if err := m.db.daemon.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			m.db.start(t)
			m.converge(t)
		})
	})
	t.Run("an etcd that was away is followed again", m.testEtcdRestart)
}

func (m *trio) testCrash(t *testing.T, h *host) {
	m.during(t, func() {
		if err := h.daemon.Kill(); err != nil {
			t.Fatal(err)
		}
		m.holds(t)
		h.start(t)
		m.converge(t)
		m.holds(t)
	})
}

func (m *trio) testAllCrash(t *testing.T) {
	m.during(t, func() {
		for _, h := range m.hosts() {
			if err := h.daemon.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		m.holds(t)
		for _, h := range m.hosts() {
			h.start(t)
		}
		m.converge(t)
		m.holds(t)
	})
}

// holds checks that policy decides new flows as it should, at once.
func (m *trio) holds(t *testing.T) {
	t.Helper()
	verdicts(t, m.web.Host, map[string][]string{echoed: m.db.services("tcp", 5432), silence: m.db.services("tcp", 5433)})
	verdicts(t, m.server.Host, map[string][]string{silence: m.db.services("tcp", 5432)})
}

// during checks that traffic between all hosts in both directions loses nothing
// while fn runs.
func (m *trio) during(t *testing.T, fn func()) {
	t.Helper()
	targets := map[*host][]string{
		m.web:    {target("tcp", m.db.mesh4, 5432), target("tcp", m.db.Addr6, 5432), target("udp", m.server.mesh6, 5432)},
		m.db:     {target("tcp", m.web.mesh6, 5432), target("udp", m.web.mesh4, 5432)},
		m.server: {target("tcp", m.web.mesh4, 5433), target("udp", m.web.Addr4, 5433)},
	}
	flows := map[string]*program{}
	for from, list := range targets {
		for _, to := range list {
			flows[from.Name+" to "+to] = stream(t, from.Host, to)
		}
	}
	fn()
	for name, s := range flows {
		s.finish(t).unharmed(t, name)
	}
}

// testEtcdRestart changes policy right after the server came back: hosts must
// hear of it without being asked.
func (m *trio) testEtcdRestart(t *testing.T) {
	if err := m.server.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, settled, "the others say that etcd is away", func() error {
		st, err := m.web.client().Status(t.Context())
		if err == nil && !warns(st, "etcd-unreachable") {
			err = fmt.Errorf("warnings are %v", st.Warnings)
		}
		return err
	})
	m.web.refused(t, exitError, []string{"not a server", "host-1"}, "policy", "history")
	if list := ask[[]api.Policy](t, m.web, "policy", "list"); len(list) != 1 {
		t.Errorf("without etcd, a host knows the policies %+v; want the one that it enforces", list)
	}
	m.server.start(t)
	lab.Eventually(t, settled, "the server takes commands", func() error {
		_, err := m.server.client().Policies(t.Context())
		return err
	})
	m.apply(t, clusterwide("hub-too", "db", `  ingress: [{fromEndpoints: [{matchLabels: {app: hub}}]}]`))
	verdicts(t, m.server.Host, map[string][]string{echoed: m.db.services("tcp", 5432)})
	m.converge(t)
	for _, h := range m.hosts() {
		if st := ask[api.Status](t, h, "status"); len(st.Warnings) > 0 {
			t.Errorf("%s still warns: %v", h.Name, st.Warnings)
		}
	}
}

func warns(st api.Status, code string) bool {
	for _, w := range st.Warnings {
		if w.Code == code {
			return true
		}
	}
	return false
}
