package agent

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
)

// ruleLoader is the part of bpfmap.Policy that verdicts use.
type ruleLoader interface {
	List() (bpfmap.Ruleset, error)
	Load(bpfmap.Ruleset) (uint32, error)
	Revision() (uint32, error)
}

var _ ruleLoader = (*bpfmap.Policy)(nil)

// verdicts keeps the policy map as desired: whole revisions, one at a time. The
// kernel's copy is read once, at the start; nobody else writes it.
type verdicts struct {
	maps ruleLoader
	host string // for errors, which people read elsewhere

	mu        sync.Mutex
	loaded    *bpfmap.Ruleset
	stage     policyStage
	changed   chan struct{} // closed once stage is another; nil while nobody waits
	suspended bool          // whether every flow passes, whatever is desired
}

// policyStage is what the kernel enforces, for status and for naming rules.
type policyStage struct {
	Mesh     uint64 // revision of the mesh's policies
	Lapsed   bool   // whether what was before that revision is enforced
	Disarmed bool   // whether policy is suspended
	Enforced [2]bool
	Entries  int
	Rules    map[policy.RuleID]policy.RuleRef
	Earlier  map[policy.RuleID]policy.RuleRef // of the revision before: flows may still name them
}

func (v *verdicts) Name() string { return "policy" }

// Ensure loads what d wants. After an error the rules before are in force, whole.
func (v *verdicts) Ensure(_ context.Context, d plan.Desired) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.suspended {
		return v.openLocked()
	}
	if v.loaded == nil {
		have, err := v.maps.List()
		if err != nil {
			return err
		}
		v.loaded = &have
	}
	if err := d.Verdicts.Fits(); err != nil { // of so many, not all are there
		return fmt.Errorf("host %s keeps the policy that it enforces: %w", v.host, err)
	}
	if err := v.loadLocked(bpfmap.Ruleset{Entries: d.Verdicts.Entries, Prefixes: d.Verdicts.Prefixes}); err != nil {
		return err
	}
	v.recordLocked(policyStage{
		Mesh: d.Revision, Lapsed: d.Lapsed, Disarmed: d.Disarmed,
		Enforced: d.Verdicts.Enforced, Entries: len(d.Verdicts.Entries), Rules: d.Verdicts.Rules,
	})
	return nil
}

// Suspend has every flow pass that verdicts are asked about, at once and until
// Resume, whatever is desired.
func (v *verdicts) Suspend() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.suspended = true
	return v.openLocked()
}

// Resume has the next Ensure load what is desired.
func (v *verdicts) Resume() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.suspended = false
}

// openLocked loads what no policy at all says: everything passes.
func (v *verdicts) openLocked() error {
	none := policy.Compile(nil, policy.Subject{}, policy.World{})
	if err := v.loadLocked(bpfmap.Ruleset{Entries: none.Entries, Prefixes: none.Prefixes}); err != nil {
		return err
	}
	v.recordLocked(policyStage{Mesh: v.stage.Mesh, Disarmed: true, Entries: len(none.Entries), Rules: none.Rules})
	return nil
}

// loadLocked puts want in force, unless it is known to be.
func (v *verdicts) loadLocked(want bpfmap.Ruleset) error {
	if v.loaded != nil && equalRules(want, *v.loaded) {
		return nil
	}
	if _, err := v.maps.Load(want); err != nil {
		return fmt.Errorf("host %s keeps the policy that it enforces: %w", v.host, err)
	}
	v.loaded = &want
	return nil
}

func (v *verdicts) recordLocked(next policyStage) {
	next.Earlier = v.stage.Earlier
	if !maps.Equal(v.stage.Rules, next.Rules) {
		next.Earlier = v.stage.Rules
	}
	v.stage = next
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// await waits until the kernel enforces what ok wants, or ctx ends, and reports
// whether it does.
func (v *verdicts) await(ctx context.Context, ok func(policyStage) bool) bool {
	for {
		v.mu.Lock()
		if ok(v.stage) {
			v.mu.Unlock()
			return true
		}
		if v.changed == nil {
			v.changed = make(chan struct{})
		}
		changed := v.changed
		v.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// Empty reports whether the kernel has no verdicts at all, as after a reboot.
func (v *verdicts) Empty() bool {
	revision, err := v.maps.Revision()
	return err == nil && revision == 0
}

// Prune has nothing to do: a revision replaces the one before it whole.
func (v *verdicts) Prune(context.Context, plan.Desired, bool) error { return nil }

// Stage returns what the kernel enforces now.
func (v *verdicts) Stage() policyStage {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stage
}

// Rule names a rule of this revision or of the one before.
func (v *verdicts) Rule(id policy.RuleID) string {
	s := v.Stage()
	if ref, ok := s.Rules[id]; ok {
		return ref.String()
	}
	return s.Earlier[id].String()
}

func equalRules(a, b bpfmap.Ruleset) bool {
	return maps.Equal(a.Entries, b.Entries) && maps.Equal(a.Prefixes, b.Prefixes)
}
