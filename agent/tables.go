package agent

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/plan"
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
	return holes("pinholes", k.maps.Pinholes, func(d plan.Desired) map[datapath.Pinhole]string { return d.Pinholes })
}

func (k *kernel) exemptions() reconcile.Resource[plan.Desired] {
	return holes("exemptions", k.maps.Exemptions, func(d plan.Desired) map[datapath.Pinhole]string { return d.Exemptions })
}

// holes keeps a map that is a set of flows.
func holes(name string, driver *bpfmap.Pinholes, want func(plan.Desired) map[datapath.Pinhole]string) reconcile.Resource[plan.Desired] {
	return &table[datapath.Pinhole, struct{}]{
		name: name,
		want: func(d plan.Desired) map[datapath.Pinhole]struct{} {
			return setOf(slices.Collect(maps.Keys(want(d))))
		},
		list: func() (map[datapath.Pinhole]struct{}, error) {
			have, err := driver.List()
			return setOf(have), err
		},
		apply: func(upsert map[datapath.Pinhole]struct{}, remove []datapath.Pinhole) error {
			return driver.Apply(slices.Collect(maps.Keys(upsert)), remove)
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
