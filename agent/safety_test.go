package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/agent/snapshot"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// settled waits until everything that was begun is done, and lets d pass.
func settled(d time.Duration) {
	synctest.Wait()
	time.Sleep(d)
	synctest.Wait()
}

// soon is longer than the conductor and the snapshot wait for changes to pause.
const soon = 2 * snapshot.Quiet

func wantOpen(t *testing.T, c *machine, when string, want ...uint16) {
	t.Helper()
	if diff := cmp.Diff(want, c.open()); diff != "" {
		t.Errorf("%s, the kernel opens: want -, got +:\n%s", when, diff)
	}
}

// warned returns the warning of that code; nil for none.
func warned(m *member, code string) *api.Warning {
	s := m.store.Snapshot()
	all := slices.Concat(disarmedWarnings(m.suspended(), m.kernel.verdicts.Stage()), m.probation.warnings(s.Revision), m.restoredWarnings(s), m.ownWarnings())
	for _, w := range all {
		if w.Code == code {
			return &w
		}
	}
	return nil
}

func TestAHostGoesOnWithoutEtcdAfterARestartAndAReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		_, stop := c.start(t)
		settled(soon)
		wantOpen(t, c, "with etcd", 80)
		stop()
		c.etcd.SetDown(true)

		m, stop := c.start(t)
		loads, _ := c.kernel.Revision()
		settled(restoreAfter / 2)
		if m.store.Snapshot().Known() {
			t.Error("a restart does not wait for etcd, although the kernel enforces what the run before left")
		}
		settled(restoreAfter)
		if w := warned(m, "state-restored"); w == nil || w.Severity != "warning" {
			t.Errorf("status does not say that the state is restored: %v", w)
		}
		now, _ := c.kernel.Revision()
		if st := m.kernel.verdicts.Stage(); st.Mesh != 1 || now != loads {
			t.Errorf("revision %d after %d loads, want revision 1 without any", st.Mesh, now-loads)
		}
		if m.store.Snapshot().Synced() {
			t.Error("what is restored counts as synced: orphans would go")
		}
		stop()

		c.reboot()
		_, stop = c.start(t)
		settled(restoreAfter / 2)
		wantOpen(t, c, "at once after a reboot", 80)
		stop()
	})
}

// What etcd says replaces the restored state wholly, also where it lacks something.
func TestEtcdReplacesWhatIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		_, stop := c.start(t)
		settled(soon)
		stop()
		c.etcd.SetDown(true)
		m, _ := c.start(t)
		settled(restoreAfter + soon)
		if !m.store.Snapshot().Restored() {
			t.Fatal("not restored")
		}
		c.etcd.SetDown(false)
		if err := c.etcd.Delete(t.Context(), schema.PolicyKey("web")); err != nil {
			t.Fatal(err)
		}
		settled(time.Minute)
		wantOpen(t, c, "without any policy", 80, 81, 82, 9999)
		if s := m.store.Snapshot(); s.Restored() || !s.Synced() || warned(m, "state-restored") != nil {
			t.Errorf("sources %+v once etcd was heard", s.Sources)
		}
	})
}

func TestASnapshotThatCannotBeUsedIsHarmless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		if err := os.WriteFile(snapshotFile(c.config.StateDir), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		c.etcd.SetDown(true)
		m, _ := c.start(t)
		settled(restoreAfter + soon)
		if m.store.Snapshot().Known() || !m.kernel.verdicts.Empty() {
			t.Error("something was planned without knowing anything")
		}
		if w := warned(m, "snapshot-refused"); w == nil || !strings.Contains(w.Text, "damaged") {
			t.Errorf("status does not say why: %v", w)
		}
		c.etcd.SetDown(false)
		settled(time.Minute)
		wantOpen(t, c, "once etcd is there", 80)
		if w := warned(m, "snapshot-refused"); w != nil {
			t.Errorf("status still says %s after a new snapshot", w.Text)
		}
	})
}

// A policy that cannot be read any more, as after a downgrade, is not one that is
// absent.
func TestARestoredPolicyThatCannotBeReadHoldsThePlan(t *testing.T) {
	m := &member{refused: &refusals{}, unrestored: &refusals{}, store: state.New("policies")}
	bad := snapshot.Values{"web": []byte(`{"name":"web","document":"kind: Unheard"}`)}
	if !m.restore(policies(), bad) || !m.blind(m.store.Snapshot()) {
		t.Error("a policy known by name alone does not hold the plan")
	}
	m.store.Complete("policies", nil)
	if m.blind(m.store.Snapshot()) {
		t.Error("it holds the plan although etcd does not have it")
	}
}

func TestAHostIsOpenedAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		m, stop := c.start(t)
		settled(soon)
		if _, err := m.disarm("cannot reach the pager"); err != nil {
			t.Fatal(err)
		}
		wantOpen(t, c, "as soon as disarm has answered", 80, 81, 82, 9999)
		c.apply(t, schema.PolicyRevision{Revision: 2}, 81, 0)
		settled(soon)
		wantOpen(t, c, "after a change of policy", 80, 81, 82, 9999)
		w := warned(m, "disarmed")
		if w == nil || w.Severity != "error" || !strings.Contains(w.Text, "SUSPENDED") || !strings.Contains(w.Text, "pager") || !strings.Contains(w.Text, "plexus arm") {
			t.Errorf("status says %v", w)
		}
		stop()

		m, _ = c.start(t)
		settled(restoreAfter + soon)
		wantOpen(t, c, "after a restart", 80, 81, 82, 9999)
		before, err := m.arm()
		if err != nil || before == nil || before.Reason != "cannot reach the pager" {
			t.Errorf("arm = %v, %v", before, err)
		}
		settled(soon)
		wantOpen(t, c, "armed again", 81)
		if warned(m, "disarmed") != nil || warned(m, "not-armed-yet") != nil {
			t.Error("still said to be open")
		}
		if again, err := m.arm(); again != nil || err != nil {
			t.Errorf("arm again = %v, %v", again, err)
		}
	})
}

// An administrator who is locked out may have neither etcd nor a snapshot.
func TestAHostIsOpenedWithoutKnowingAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		c.kernel.set(bpfmap.Ruleset{}, 5) // an earlier run left a policy that lets nothing pass
		c.etcd.SetDown(true)
		m, stop := c.start(t)
		settled(restoreAfter + soon)
		wantOpen(t, c, "before")
		if _, err := m.disarm(""); err != nil {
			t.Fatal(err)
		}
		wantOpen(t, c, "disarmed", 80, 81, 82, 9999)
		stop()
		c.reboot()
		m, _ = c.start(t)
		wantOpen(t, c, "after a reboot", 80, 81, 82, 9999)
		if _, err := m.arm(); err != nil {
			t.Fatal(err)
		}
		settled(soon)
		if w := warned(m, "not-armed-yet"); w == nil || w.Severity != "error" {
			t.Errorf("status does not say that every flow still passes: %v", w)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		armed := func(s policyStage) bool { return !s.Disarmed }
		if m.kernel.verdicts.await(ctx, armed) {
			t.Error("said to be armed without a policy")
		}
		c.etcd.SetDown(false)
		if !m.kernel.verdicts.await(t.Context(), armed) {
			t.Error("never armed")
		}
		wantOpen(t, c, "once etcd was heard", 80)
	})
}

// A disk that takes no file must not keep an administrator locked out.
func TestAHostIsOpenedThoughItsDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		m, _ := c.start(t)
		settled(soon)
		if err := os.MkdirAll(filepath.Join(disarmedFile(c.config.StateDir), "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := m.disarm(""); err == nil || !strings.Contains(err.Error(), "restart") {
			t.Errorf("disarm = %v, want what a restart does", err)
		}
		wantOpen(t, c, "all the same", 80, 81, 82, 9999)
	})
}

// A disk that hangs keeps nobody locked out either.
func TestAHostIsOpenedBeforeItsDiskIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		m, _ := c.start(t)
		settled(soon)
		c.kernel.onLoad(func() {
			if loadSuspension(c.config.StateDir) != nil {
				t.Error("the suspension is on disk before the host is open")
			}
		})
		if _, err := m.disarm(""); err != nil {
			t.Fatal(err)
		}
		if loadSuspension(c.config.StateDir) == nil {
			t.Error("the suspension is not on disk once disarm has answered")
		}
	})
}

// What the kernel has not taken is not said to be so.
func TestAHostThatDoesNotOpenIsNotSaidToBeOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		m, _ := c.start(t)
		settled(soon)
		c.kernel.failNext(errors.New("no memory"))
		if _, err := m.disarm(""); err == nil || !strings.Contains(err.Error(), "plexusd cleanup") {
			t.Errorf("disarm = %v, want what to do", err)
		}
		if w := warned(m, "not-disarmed-yet"); w == nil || w.Severity != "error" || warned(m, "disarmed") != nil {
			t.Errorf("status does not say that policy is still in force: %v", w)
		}
		if got := posture(nil, m.kernel.verdicts.Stage(), m.suspended()); !strings.Contains(got, "stays in force") {
			t.Errorf("posture %q", got)
		}
		settled(soon)
		wantOpen(t, c, "once it was tried again", 80, 81, 82, 9999)
		if warned(m, "disarmed") == nil || warned(m, "not-disarmed-yet") != nil {
			t.Error("status does not say that the host is open")
		}
	})
}

func TestADamagedSuspensionIsOne(t *testing.T) {
	dir := t.TempDir()
	if loadSuspension(dir) != nil {
		t.Error("suspended without a file")
	}
	if err := os.WriteFile(disarmedFile(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if loadSuspension(dir) == nil {
		t.Error("a damaged file closes the host")
	}
}

// What the kernel does not take leaves in force what was, and names the host.
func TestWhatDoesNotFitLeavesThePolicyBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		m, _ := c.start(t)
		settled(soon)
		c.kernel.failNext(errors.New("70000 verdicts, of which a host can hold 65536"))
		m.conductor.Set(plan.Desired{Verdicts: policy.Verdicts{Entries: map[policy.Key]policy.Entry{{}: {}}}, Revision: 2})
		time.Sleep(50 * time.Millisecond) // before it is tried again
		synctest.Wait()
		wantOpen(t, c, "after the refusal", 80)
		if st := m.kernel.verdicts.Stage(); st.Mesh != 1 {
			t.Errorf("the kernel is said to hold revision %d, want the one that it took", st.Mesh)
		}
		health := m.conductor.Health()
		if text := fmt.Sprint(health[0].Err); !strings.Contains(text, "web-1 keeps") || !strings.Contains(text, "70000") {
			t.Errorf("status says %q, want the host and the count", text)
		}
	})
}

// Servers review a change of policy by what hosts say of themselves.
func TestAClaimSaysWhatPassesAndWhoListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.config.NamedPorts = []string{"pg=5432/TCP"}
		c.config.Failsafe = []string{"wireguard", "ingress 8443/TCP from 192.0.2.0/24"}
		m, _ := c.start(t)
		settled(soon)
		claim, known := m.claim()
		if !known || claim.Listening == nil || len(claim.NamedPorts) != 1 || claim.NamedPorts[0].Name != "pg" {
			t.Errorf("claim %+v, known %v", claim, known)
		}
		want := []string{"egress 51871/UDP", "ingress 51871/UDP", "ingress 8443/TCP from 192.0.2.0/24"}
		if diff := cmp.Diff(want, claim.Pinholes); diff != "" {
			t.Errorf("pinholes: want -, got +:\n%s", diff)
		}
		if w := warned(m, "failsafe-omits"); w == nil || !strings.Contains(w.Text, "servers") {
			t.Errorf("status does not say what is not protected: %v", w)
		}
	})
}
