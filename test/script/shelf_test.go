package script

import (
	"context"
	"maps"
	"sync"

	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/reconcile"
)

// shelf stands for one table of the kernel: it outlives agents and can fail the
// next write.
type shelf[K, V comparable] struct {
	mu   sync.Mutex
	have map[K]V
	fail error
}

func newShelf[K, V comparable]() *shelf[K, V] { return &shelf[K, V]{have: make(map[K]V)} }

// failWrites makes every write fail with err and change nothing, until it is nil.
func (s *shelf[K, V]) failWrites(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *shelf[K, V]) list() map[K]V {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.have)
}

func (s *shelf[K, V]) apply(upsert map[K]V, remove []K) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	maps.Copy(s.have, upsert)
	for _, k := range remove {
		delete(s.have, k)
	}
	return nil
}

// resource keeps a shelf as desired.
type resource[K, V comparable] struct {
	name  string
	shelf *shelf[K, V]
	want  func(plan.Desired) map[K]V
	mine  reconcile.Ledger[K]
}

func (r *resource[K, V]) Name() string { return r.name }

func (r *resource[K, V]) Ensure(_ context.Context, d plan.Desired) error {
	want := r.want(d)
	for k := range want {
		r.mine.Note(k)
	}
	upsert, _ := reconcile.Diff(want, r.shelf.list(), func(a, b V) bool { return a == b })
	if len(upsert) == 0 {
		return nil
	}
	return r.shelf.apply(upsert, nil)
}

func (r *resource[K, V]) Prune(_ context.Context, d plan.Desired, orphans bool) error {
	_, unwanted := reconcile.Diff(r.want(d), r.shelf.list(), func(a, b V) bool { return a == b })
	remove := r.mine.Removable(unwanted, orphans)
	if len(remove) == 0 {
		return nil
	}
	return r.shelf.apply(nil, remove)
}
