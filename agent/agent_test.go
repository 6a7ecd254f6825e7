package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

func TestOneDaemonPerStateDirectory(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockState(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("second lock: %v, want an error that names %s", err, dir)
	}
	unlock()
	unlock, err = lockState(dir)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	unlock()
}

func TestEveryAnswerOfTheControlPlaneHasACode(t *testing.T) {
	for _, code := range []control.Code{
		control.CodeInvalid, control.CodeVersion, control.CodeTokenUnknown, control.CodeTokenExpired, control.CodeTokenUsedUp,
		control.CodeTokenRevoked, control.CodeNameInUse, control.CodeKeyInUse, control.CodeMeshFull, control.CodeForbidden,
		control.CodeNotFound, control.CodeConflict, control.CodeTooMany, control.CodeUnavailable, control.CodeInternal,
	} {
		err := worded(fmt.Errorf("join: %w", control.Errorf(code, "because")))
		var answer *api.Error
		if !errors.As(err, &answer) || answer.Code == "" || answer.Text != "join: because" {
			t.Errorf("code %q becomes %#v", code, err)
		}
	}
	plain := errors.New("disk is full")
	if got := worded(plain); !errors.Is(got, plain) || got.Error() != plain.Error() {
		t.Errorf("worded(%v) = %v, want it unchanged", plain, got)
	}
	if worded(nil) != nil {
		t.Error("no error became one")
	}
}

func TestPostureIsSaidInWords(t *testing.T) {
	var d plan.Desired
	for enforced, want := range map[[2]bool]string{
		{}: "open", {true, false}: "closed for ingress", {false, true}: "closed for egress", {true, true}: "closed: ",
	} {
		if got := posture(&d, policyStage{Enforced: enforced}, nil); !strings.HasPrefix(got, want) {
			t.Errorf("posture(%v) = %q, want %q…", enforced, got, want)
		}
	}
	if got := posture(nil, policyStage{}, nil); !strings.HasPrefix(got, "not known yet") {
		t.Errorf("posture before the first plan: %q", got)
	}
}

func TestPortsAreWrittenAsPolicyDoes(t *testing.T) {
	for k, want := range map[policy.Key]string{
		{Port: 443, PortBits: 16}:  "443",
		{Port: 8000, PortBits: 13}: "8000-8007",
		{Port: 1024, PortBits: 6}:  "1024-2047",
		{}:                         "any",
	} {
		if got := portsOf(k); got != want {
			t.Errorf("portsOf(%+v) = %q, want %q", k, got, want)
		}
	}
}

func TestStateOf(t *testing.T) {
	broken := []api.Warning{{Severity: "error"}}
	minor := []api.Warning{{Severity: "warning"}}
	for _, tt := range []struct {
		applied  bool
		warnings []api.Warning
		want     string
	}{{false, nil, "starting"}, {true, nil, "ready"}, {true, minor, "ready"}, {true, broken, "degraded"}, {false, broken, "degraded"}} {
		if got := stateOf(tt.applied, tt.warnings); got != tt.want {
			t.Errorf("stateOf(%v, %v) = %q, want %q", tt.applied, tt.warnings, got, tt.want)
		}
	}
}

// An agent that does not understand a policy cannot tell whom it selects.
func TestAPolicyKnownByNameAloneHoldsThePlan(t *testing.T) {
	m := &member{refused: &refusals{}, unrestored: &refusals{}}
	restored := []state.Source{{Name: "policies", Restored: true}}
	nothing := state.Snapshot{Sources: restored}
	known := state.Snapshot{Sources: restored, Tables: state.Tables{Policies: map[string]policy.Policy{"db": {}}}}
	m.unrestored.note("nodes/web", errors.New("not JSON"))
	if m.blind(known) {
		t.Error("a node that cannot be read holds the plan")
	}
	m.unrestored.note("policies/db", errors.New("unknown field"))
	if m.blind(known) {
		t.Error("a policy of which an earlier version is known holds the plan")
	}
	if !m.blind(nothing) {
		t.Error("a policy of which nothing is known does not hold the plan")
	}
	m.unrestored.note("policies/db", nil)
	if m.blind(nothing) {
		t.Error("a policy that has become readable holds the plan")
	}
}

func TestNodeNames(t *testing.T) {
	if name, err := nodeName("web-1"); err != nil || name != "web-1" {
		t.Errorf("nodeName = %q, %v", name, err)
	}
	for _, bad := range []string{"a/b", "Web", "-a", strings.Repeat("x", 64)} {
		if _, err := nodeName(bad); err == nil || !strings.Contains(err.Error(), "--node-name") {
			t.Errorf("nodeName(%q): %v, want an error with the remedy", bad, err)
		}
	}
}

func TestPortsOfServersComeFromTheEnrolment(t *testing.T) {
	got := portsIn([]string{"https://192.0.2.1:12379", "https://[2001:db8::1]:12379", "192.0.2.1:7444", "nowhere", "a:x"})
	if want := []uint16{7444, 12379}; !slices.Equal(got, want) {
		t.Errorf("portsIn = %v, want %v", got, want)
	}
}

func TestPersistTriesAgainUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tries := 0
		err := persist(ctx, func(context.Context) error {
			if tries++; tries == 3 {
				cancel()
			}
			return errors.New("an event of another version")
		})
		if err != nil || tries != 3 {
			t.Errorf("persist = %v after %d tries, want nil after 3", err, tries)
		}
	})
}
