package agent

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/reconcile"
)

// table keeps one map of the datapath as desired. Its driver has tracked flows
// judged again after each change.
type table[K, V comparable] struct {
	name  string
	want  func(plan.Desired) map[K]V
	list  func() (map[K]V, error)
	apply func(upsert map[K]V, remove []K) error
	mine  reconcile.Ledger[K]
}

func (t *table[K, V]) Name() string { return t.name }

func (t *table[K, V]) Ensure(_ context.Context, d plan.Desired) error {
	want := t.want(d)
	for k := range want {
		t.mine.Note(k)
	}
	have, err := t.list()
	if err != nil {
		return err
	}
	upsert, _ := reconcile.Diff(want, have, same[V])
	if len(upsert) == 0 {
		return nil
	}
	return t.apply(upsert, nil)
}

func (t *table[K, V]) Prune(_ context.Context, d plan.Desired, orphans bool) error {
	have, err := t.list()
	if err != nil {
		return err
	}
	_, unwanted := reconcile.Diff(t.want(d), have, same[V])
	remove := t.mine.Removable(unwanted, orphans)
	if len(remove) == 0 {
		return nil
	}
	if err := t.apply(nil, remove); err != nil {
		return err
	}
	for _, k := range remove {
		t.mine.Forget(k)
	}
	return nil
}

func same[V comparable](a, b V) bool { return a == b }

func (k *kernel) ipcache() reconcile.Resource[plan.Desired] {
	return &table[netip.Prefix, datapath.Peer]{
		name:  "ipcache",
		want:  func(d plan.Desired) map[netip.Prefix]datapath.Peer { return d.IPCache },
		list:  k.maps.IPCache.List,
		apply: k.maps.IPCache.Apply,
	}
}

func (k *kernel) pinholes() reconcile.Resource[plan.Desired] {
	return &table[datapath.Pinhole, struct{}]{
		name: "pinholes",
		want: func(d plan.Desired) map[datapath.Pinhole]struct{} {
			return setOf(slices.Collect(maps.Keys(d.Pinholes)))
		},
		list: func() (map[datapath.Pinhole]struct{}, error) {
			have, err := k.maps.Pinholes.List()
			return setOf(have), err
		},
		apply: func(upsert map[datapath.Pinhole]struct{}, remove []datapath.Pinhole) error {
			return k.maps.Pinholes.Apply(slices.Collect(maps.Keys(upsert)), remove)
		},
	}
}

func setOf[K comparable](ks []K) map[K]struct{} {
	out := make(map[K]struct{}, len(ks))
	for _, k := range ks {
		out[k] = struct{}{}
	}
	return out
}

// verdicts keeps the policy map as desired: whole revisions, one at a time. The
// kernel's copy is read once, at the start; nobody else writes it.
type verdicts struct {
	maps *bpfmap.Policy

	mu     sync.Mutex
	loaded *bpfmap.Ruleset
	stage  policyStage
}

// policyStage is what the kernel enforces, for status and for naming rules.
type policyStage struct {
	Mesh     uint64 // revision of the mesh's policies
	Enforced [2]bool
	Entries  int
	Rules    map[policy.RuleID]policy.RuleRef
	Earlier  map[policy.RuleID]policy.RuleRef // of the revision before: flows may still name them
}

func (v *verdicts) Name() string { return "policy" }

func (v *verdicts) Ensure(_ context.Context, d plan.Desired) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.loaded == nil {
		have, err := v.maps.List()
		if err != nil {
			return err
		}
		v.loaded = &have
	}
	want := bpfmap.Ruleset{Entries: d.Verdicts.Entries, Prefixes: d.Verdicts.Prefixes}
	if !equalRules(want, *v.loaded) {
		if _, err := v.maps.Load(want); err != nil {
			return err
		}
		v.loaded = &want
	}
	v.record(d)
	return nil
}

func (v *verdicts) record(d plan.Desired) {
	next := policyStage{Mesh: d.Revision, Enforced: d.Verdicts.Enforced, Entries: len(d.Verdicts.Entries), Rules: d.Verdicts.Rules, Earlier: v.stage.Earlier}
	if !maps.Equal(v.stage.Rules, next.Rules) {
		next.Earlier = v.stage.Rules
	}
	v.stage = next
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
