package reconcile

// Diff compares desired with actual state: upsert is what must be written for
// have to become want, remove what must go.
func Diff[K comparable, V any](want, have map[K]V, equal func(a, b V) bool) (upsert map[K]V, remove []K) {
	upsert = make(map[K]V)
	for k, w := range want {
		if h, ok := have[k]; !ok || !equal(w, h) {
			upsert[k] = w
		}
	}
	for k := range have {
		if _, ok := want[k]; !ok {
			remove = append(remove, k)
		}
	}
	return upsert, remove
}

// Ledger remembers what this run has wanted. It tells a thing that this run
// gave up, which goes at once, from one that an earlier run left, which may only
// go when nobody can still ask for it.
type Ledger[K comparable] struct{ wanted map[K]struct{} }

// Note records that k is wanted.
func (l *Ledger[K]) Note(k K) {
	if l.wanted == nil {
		l.wanted = make(map[K]struct{})
	}
	l.wanted[k] = struct{}{}
}

// Removable returns those of unwanted that may be removed now: with orphans
// all, otherwise those that this run once wanted.
func (l *Ledger[K]) Removable(unwanted []K, orphans bool) []K {
	var out []K
	for _, k := range unwanted {
		if _, ours := l.wanted[k]; ours || orphans {
			out = append(out, k)
		}
	}
	return out
}

// Forget drops k once it is removed.
func (l *Ledger[K]) Forget(k K) { delete(l.wanted, k) }
