package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plexusmesh/plexus/agent/snapshot"
	"github.com/plexusmesh/plexus/agent/trial"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// trialOf begins a trial of a minute that opens 81 in the place of 80.
func trialOf(t *testing.T, c *machine) {
	t.Helper()
	c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
	settled(soon)
	c.apply(t, schema.PolicyRevision{Revision: 2, Author: "ann", Time: time.Now(), WindowSeconds: 60}, 81, 80)
	settled(soon)
	wantOpen(t, c, "on trial", 81)
}

func TestATrialEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		m, _ := c.start(t)
		trialOf(t, c)
		if w := warned(m, "policy-on-trial"); w == nil || !strings.Contains(w.Text, "58 s") || !strings.Contains(w.Text, "plexus policy confirm") {
			t.Errorf("status does not say how long it is on trial: %v", w)
		}
		c.etcd.SetDown(true)
		settled(time.Minute - 2*soon)
		wantOpen(t, c, "before the deadline", 81)
		settled(2 * soon)
		wantOpen(t, c, "after it, without etcd", 80)
		if st := m.kernel.verdicts.Stage(); st.Mesh != 2 || !st.Lapsed {
			t.Errorf("the kernel is said to hold revision %d, lapsed %v", st.Mesh, st.Lapsed)
		}
		if w := warned(m, "policy-taken-back"); w == nil || w.Severity != "warning" {
			t.Errorf("status does not say that it was taken back: %v", w)
		}
		c.etcd.SetDown(false)
		c.apply(t, schema.PolicyRevision{Revision: 3, Action: schema.ActionRollback}, 80, 0)
		settled(time.Minute)
		wantOpen(t, c, "after the server's rollback", 80)
		if warned(m, "policy-taken-back") != nil || m.kernel.verdicts.Stage().Lapsed {
			t.Error("still said to be taken back after a newer revision")
		}
	})
}

// The deadline is met to the second, although nothing else happens then.
func TestATrialEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.start(t)
		trialOf(t, c)
		began := time.Now().Add(-soon) // seen, but for the conductor's quiet
		for slices.Equal(c.open(), []uint16{81}) {
			settled(100 * time.Millisecond)
		}
		if took := time.Since(began); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("the trial took %v, want a minute", took)
		}
	})
}

func TestAConfirmedTrialStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		m, _ := c.start(t)
		trialOf(t, c)
		at := time.Now().Add(-soon)
		c.apply(t, schema.PolicyRevision{Revision: 2, Author: "ann", Time: at, ConfirmedBy: "ann"}, 81, 80)
		settled(snapshot.Quiet / 2)
		if r := c.savedRevision(t); r.Revision != 2 || r.Pending() {
			t.Errorf("the disk has %+v, and not at once that it was confirmed", r)
		}
		settled(5 * time.Minute)
		wantOpen(t, c, "long after it was confirmed", 81)
		if warned(m, "policy-on-trial") != nil || warned(m, "policy-taken-back") != nil {
			t.Error("still said to be on trial")
		}
		if _, err := os.Stat(trialFile(c.config.StateDir)); err == nil {
			t.Error("its trial is still remembered")
		}
	})
}

func TestATrialConfirmedTooLateIsEnforcedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.start(t)
		trialOf(t, c)
		settled(2 * time.Minute)
		wantOpen(t, c, "after the deadline", 80)
		c.apply(t, schema.PolicyRevision{Revision: 2, Author: "ann", ConfirmedBy: "ann"}, 81, 80)
		settled(soon)
		wantOpen(t, c, "after the late confirmation", 81)
	})
}

// However the daemon or the host goes away during a trial, its window closes in
// time, or at once if it would have closed meanwhile.
func TestATrialOutlivesTheDaemonAndTheKernel(t *testing.T) {
	for _, tt := range []struct {
		name   string
		away   time.Duration
		reboot bool
		etcd   bool
		first  []uint16 // open once the host is back
	}{
		{"restart", 10 * time.Second, false, false, []uint16{81}},
		{"restart with etcd", 10 * time.Second, false, true, []uint16{81}},
		{"restart past the deadline", 2 * time.Minute, false, false, []uint16{80}},
		{"restart with etcd past the deadline", 2 * time.Minute, false, true, []uint16{80}},
		{"reboot", 10 * time.Second, true, false, []uint16{81}},
		{"reboot past the deadline", 2 * time.Minute, true, false, []uint16{80}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newMachine(t)
				_, stop := c.start(t)
				trialOf(t, c)
				stop()
				c.etcd.SetDown(!tt.etcd)
				time.Sleep(tt.away)
				if tt.reboot {
					c.reboot()
				}
				c.start(t)
				settled(restoreAfter + soon)
				wantOpen(t, c, "once it is back", tt.first...)
				settled(time.Minute - tt.away)
				wantOpen(t, c, "after the deadline", 80)
			})
		})
	}
}

// What a host that is cut off and killed must go back to is on disk when the
// revision on trial reaches the kernel, and not some time after.
func TestATrialIsOnDiskBeforeItIsEnforced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.start(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		settled(soon)
		var r schema.PolicyRevision
		var seen *trial.Trial
		c.kernel.onLoad(func() {
			r = c.savedRevision(t)
			seen, _ = readJSON[trial.Trial](trialFile(c.config.StateDir))
		})
		c.apply(t, schema.PolicyRevision{Revision: 2, Author: "ann", Time: time.Now(), WindowSeconds: 60}, 81, 80)
		settled(soon)
		wantOpen(t, c, "on trial", 81)
		if r.Revision != 2 || seen == nil || seen.Revision != 2 {
			t.Errorf("when revision 2 was enforced, the disk had revision %d and the trial %v", r.Revision, seen)
		}
	})
}

// Without a trial nobody hurries: each write is in the way of others.
func TestAHostWithoutATrialLeavesTheDiskAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		m, _ := c.start(t)
		settled(soon)
		before, err := os.Stat(snapshotFile(c.config.StateDir))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			signal(m.news)
			settled(lookPeriod)
		}
		after, err := os.Stat(snapshotFile(c.config.StateDir))
		if err != nil || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("the snapshot was written again although nothing has changed, %v", err)
		}
	})
}

// A disk that hangs puts a trial off for a moment, and not for good.
func TestATrialWaitsForTheDiskNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		m, stop := c.start(t)
		settled(soon)
		stop() // from here on nobody writes
		began := time.Now()
		m.secure(t.Context(), trial.Trial{Revision: 2})
		if took := time.Since(began); took != secureWithin {
			t.Errorf("the plan waited %v, want %v", took, secureWithin)
		}
		m.secure(t.Context(), trial.Trial{Revision: 2})
		if took := time.Since(began); took != secureWithin {
			t.Error("the next plan of the same trial waited again")
		}
	})
}

// A trial that could not be written is said to be at risk until it is.
func TestATrialIsWrittenOnceTheDiskTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		m, _ := c.start(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		settled(soon)
		path := trialFile(c.config.StateDir)
		if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		c.apply(t, schema.PolicyRevision{Revision: 2, Author: "ann", Time: time.Now(), WindowSeconds: 60}, 81, 80)
		settled(soon)
		wantOpen(t, c, "on trial all the same", 81)
		if w := warned(m, "trial-not-saved"); w == nil || !strings.Contains(w.Text, "anew") {
			t.Errorf("status does not say what a restart would do: %v", w)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		settled(2 * persistPause)
		if known, err := readJSON[trial.Trial](path); err != nil || known == nil || known.Revision != 2 || warned(m, "trial-not-saved") != nil {
			t.Errorf("once there is room, the disk has %v, %v", known, err)
		}
	})
}
