package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// trialWindow is the shortest that a trial may have. What is waited for here is
// the feature itself.
const trialWindow = 10 * time.Second

// closedTo denies a host everything from outside but what its pinholes let in.
func closedTo(app string) string { return clusterwide("shut", app, "  ingress: [{}]") }

// try applies a policy on trial and waits until all hosts enforce it.
func (m *trio) try(t *testing.T, policy string) applied {
	t.Helper()
	r := ask[applied](t, m.server, "policy", "apply", "--confirm-within", trialWindow.String(),
		"-f", m.server.write(t, "policy.yaml", policy))
	m.enforced(t, r.Revision)
	return r
}

// TestTrial cuts operators from hosts and waits to see them back.
func TestTrial(t *testing.T) {
	m := newTrio(t)
	for _, h := range m.hosts() {
		serve(t, h.Host, "2222", "5432") // 2222 is the operators' way in, and no pinhole
	}
	t.Run("an operator who locks himself out is back after the window", m.testLockout)
	t.Run("what is confirmed stays", m.testConfirmed)
	t.Run("a rollback takes a trial back at once", m.testRollback)
	t.Run("only one change is on trial", m.testOneTrial)
	t.Run("the window closes with etcd gone and the agent restarted", m.testTrialAlone)
	t.Run("the window closes on a server whose etcd does not start", m.testTrialWithoutServer)
}

func (m *trio) testLockout(t *testing.T) {
	way := target("tcp", m.db.Addr4, 2222)
	session := stream(t, m.stranger, way)
	launch(t, m.db.Host, "lecture", "2223")
	lecture := launch(t, m.stranger, "hear", netip.AddrPortFrom(m.db.Addr4, 2223).String())
	r := m.try(t, closedTo("db"))
	if r.Pending == nil || r.Pending.Revision != r.Revision {
		t.Fatalf("apply says %+v; want revision %d on trial", r, r.Revision)
	}
	verdicts(t, m.stranger, map[string][]string{silence: {way}})
	if st := ask[api.Status](t, m.web, "status"); !warns(st, "policy-on-trial") {
		t.Errorf("status does not say that policy is on trial: %+v", st.Warnings)
	}
	m.reachable(t, m.stranger, way)
	m.acknowledged(t)
	if rep := session.finish(t); len(rep.Missing) > 0 || rep.Err != "" {
		t.Errorf("the session that was cut did not go on: %+v", rep)
	}
	if rep := lecture.finish(t); len(rep.Missing) > 0 || rep.Err != "" {
		t.Errorf("the session in which the host alone speaks did not go on: %+v", rep)
	}
	m.settledAs(t, r.Revision, "rolled back")
	if list := ask[[]api.Policy](t, m.server, "policy", "list"); len(list) != 0 {
		t.Errorf("policies after the window: %+v; want none", list)
	}
}

// reachable waits, no longer than a window and some time for a busy machine.
func (m *trio) reachable(t *testing.T, from *lab.Host, way string) {
	t.Helper()
	lab.Eventually(t, trialWindow+settled, way+" is back", func() error {
		if got := probe(t, from, way); got[0] != echoed {
			return fmt.Errorf("%s answers %s", way, got[0])
		}
		return nil
	})
}

// acknowledged waits until what both sides of the sessions sent meanwhile has
// arrived: the kernel sends it again less and less often.
func (m *trio) acknowledged(t *testing.T) {
	t.Helper()
	lab.Eventually(t, settled, "the sessions go on", func() error {
		return errors.Join(unsent(t, m.stranger, "dport"), unsent(t, m.db.Host, "sport"))
	})
}

// unsent says which of the operators' two sessions are not there, or have more to
// send than a moment brings.
func unsent(t *testing.T, h *lab.Host, port string) error {
	out, err := h.Output(t.Context(), "ss", "-Htn", "state", "established", "(", port, "=", ":2222", "or", port, "=", ":2223", ")")
	if err != nil {
		return fmt.Errorf("list sockets: %w", err)
	}
	done := 0
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && len(fields[1]) <= 3 { // the second column is what is not acknowledged, in bytes
			done++
		}
	}
	if done != 2 {
		return fmt.Errorf("sockets of %s are %s", h.Name, out)
	}
	return nil
}

// settledAs waits until the history says what became of a revision.
func (m *trio) settledAs(t *testing.T, revision uint64, state string) {
	t.Helper()
	lab.Eventually(t, settled, fmt.Sprintf("revision %d is %s", revision, state), func() error {
		for _, r := range ask[[]api.Revision](t, m.server, "policy", "history") {
			if r.Revision == revision && r.State == state && r.Author != "" && !r.Time.IsZero() {
				return nil
			}
		}
		return fmt.Errorf("history is %s", m.server.do(t, "policy", "history", "-o", "wide"))
	})
}

func (m *trio) testConfirmed(t *testing.T) {
	way := target("tcp", m.db.Addr4, 2222)
	r := m.try(t, closedTo("db"))
	m.server.do(t, "policy", "confirm")
	lab.Eventually(t, settled, "the trial ends", func() error {
		if st := ask[api.Status](t, m.db, "status"); warns(st, "policy-on-trial") {
			return fmt.Errorf("warnings %+v", st.Warnings)
		}
		return nil
	})
	if rest := time.Until(r.Pending.ConfirmBy) + 2*time.Second; rest > 0 {
		time.Sleep(rest) // nothing may happen when the window would have closed
	}
	verdicts(t, m.stranger, map[string][]string{silence: {way}})
	m.delete(t, "shut")
	verdicts(t, m.stranger, map[string][]string{echoed: {way}})
}

func (m *trio) testRollback(t *testing.T) {
	way := target("tcp", m.db.Addr4, 2222)
	m.apply(t, webToDB)
	m.try(t, clusterwide("web-to-db", "db", `  ingress:
  - fromEntities: [world]`))
	verdicts(t, m.stranger, map[string][]string{echoed: {way}})
	back := ask[api.ApplyResult](t, m.server, "policy", "rollback")
	m.enforced(t, back.Revision)
	verdicts(t, m.stranger, map[string][]string{silence: {way}})
	if got := m.server.do(t, "policy", "get", "web-to-db"); !strings.Contains(got, "app: web") {
		t.Errorf("the document after the rollback is not the one before:\n%s", got)
	}
	m.delete(t, "web-to-db")
}

func (m *trio) testOneTrial(t *testing.T) {
	m.try(t, closedTo("db"))
	r := m.server.plexus(t, "policy", "apply", "-f", m.server.write(t, "other.yaml", webToDB))
	if r.code != exitError || !strings.Contains(r.stderr, "plexus policy confirm") || !strings.Contains(r.stderr, "rollback") {
		t.Errorf("a second change during a trial: exit code %d, %s", r.code, r.stderr)
	}
	m.enforced(t, ask[api.ApplyResult](t, m.server, "policy", "rollback").Revision)
}

// testTrialAlone takes everything away from a host on trial: etcd, servers, and
// for a moment its own agent.
func (m *trio) testTrialAlone(t *testing.T) {
	way := target("tcp", m.db.Addr4, 2222)
	m.try(t, closedTo("db"))
	verdicts(t, m.stranger, map[string][]string{silence: {way}})
	kill(t, m.server)
	kill(t, m.db)
	m.db.start(t)
	verdicts(t, m.stranger, map[string][]string{silence: {way}})
	m.reachable(t, m.stranger, way)
	st, err := m.db.client().Status(t.Context())
	if err != nil || !warns(st, "policy-taken-back") {
		t.Errorf("status does not say that policy was taken back: %+v, %v", st.Warnings, err)
	}
	m.server.start(t)
	m.converge(t)
	verdicts(t, m.stranger, map[string][]string{echoed: {way}})
}

// testTrialWithoutServer has the server itself on trial when it loses its etcd for
// good: what it does as a host goes on.
func (m *trio) testTrialWithoutServer(t *testing.T) {
	way := target("tcp", m.server.Addr4, 2222)
	lab.Eventually(t, settled, "no revision is on trial any more", func() error {
		if last := ask[[]api.Revision](t, m.server, "policy", "history")[0]; last.State == api.StatePending {
			return fmt.Errorf("revision %d is on trial", last.Revision)
		}
		return nil
	})
	m.try(t, closedTo("hub"))
	verdicts(t, m.stranger, map[string][]string{silence: {way}})
	kill(t, m.server)
	db := m.server.Path("/var/lib/plexus/etcd/member/snap/db")
	whole, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(db, 5000); err != nil {
		t.Fatal(err)
	}
	m.server.start(t)
	m.reachable(t, m.stranger, way)
	st, err := m.server.client().Status(t.Context())
	if err != nil || st.State != "degraded" || !warns(st, "policy-taken-back") || !warns(st, "server-down") {
		t.Errorf("status does not say that policy was taken back and the control plane is down: %+v, %v", st.Warnings, err)
	}
	m.server.refused(t, exitError, []string{"control plane", "damaged"}, "policy", "history")
	m.server.do(t, "disarm")
	m.server.do(t, "arm")

	kill(t, m.server)
	if err := os.WriteFile(db, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	m.server.start(t)
	m.converge(t)
	verdicts(t, m.stranger, map[string][]string{echoed: {way}})
}

func kill(t *testing.T, h *host) {
	t.Helper()
	if err := h.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
}
