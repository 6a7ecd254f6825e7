package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// index finds managed identities by label, so that a selector is compared with
// few of them, and each distinct one once.
type index struct {
	labels   map[mesh.Identity]identity.Labels
	managed  map[string]map[string][]mesh.Identity // by key and value, from any source
	sorted   []mesh.Identity
	resolved map[string][]mesh.Identity // by fingerprint of a confined selector
}

func newIndex(world map[mesh.Identity]identity.Labels) *index {
	x := &index{
		labels:   world,
		managed:  make(map[string]map[string][]mesh.Identity),
		resolved: make(map[string][]mesh.Identity),
	}
	for _, id := range slices.Sorted(maps.Keys(world)) {
		if managed(id) {
			x.add(id)
		}
	}
	return x
}

// managed reports whether id may be that of a host or workload, whatever is
// said of it: reserved and local identities never are.
func managed(id mesh.Identity) bool { return !identity.IsReserved(id) && !identity.IsLocal(id) }

// share returns an index of the same identities for use beside x.
func (x *index) share() *index {
	other := *x
	other.resolved = make(map[string][]mesh.Identity)
	return &other
}

// add takes up id, which must be above all that the index has.
func (x *index) add(id mesh.Identity) {
	x.sorted = append(x.sorted, id)
	for _, l := range x.labels[id] {
		values, known := x.managed[l.Key]
		if !known {
			values = make(map[string][]mesh.Identity)
			x.managed[l.Key] = values
		}
		if ids := values[l.Value]; len(ids) == 0 || ids[len(ids)-1] != id { // two sources may say the same
			values[l.Value] = append(ids, id)
		}
	}
}

// matching returns the identities that s, already confined, selects.
func (c *compiler) matching(s identity.Selector) []mesh.Identity {
	out := c.peers.matching(s)
	if managedAlone(s) {
		return out
	}
	out = slices.Clone(out)
	for id, labels := range c.unlocked {
		if s.Matches(labels) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// matching returns the managed identities that s selects.
func (x *index) matching(s identity.Selector) []mesh.Identity {
	if len(x.sorted) == 0 {
		return nil
	}
	key := fingerprint(s)
	out, known := x.resolved[key]
	if known {
		return out
	}
	for _, id := range x.candidates(s) {
		if s.Matches(x.labels[id]) {
			out = append(out, id)
		}
	}
	x.resolved[key] = out
	return out
}

// candidates returns managed identities, among them all that s selects.
func (x *index) candidates(s identity.Selector) []mesh.Identity {
	best := x.sorted
	for _, r := range s {
		if r.Operator != identity.In {
			continue
		}
		count := 0
		for _, v := range r.Values {
			count += len(x.managed[r.Key][v])
		}
		if count < len(best) {
			best = x.having(r, count)
		}
	}
	return best
}

// having returns the identities with one of the values of r.
func (x *index) having(r identity.Requirement, count int) []mesh.Identity {
	if len(r.Values) == 1 {
		return x.managed[r.Key][r.Values[0]]
	}
	out := make([]mesh.Identity, 0, count)
	for _, v := range r.Values {
		out = append(out, x.managed[r.Key][v]...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fingerprint returns a text that no other selector has.
func fingerprint(s identity.Selector) string {
	var b strings.Builder
	for _, r := range s {
		for _, part := range append([]string{r.Source, r.Key, string(r.Operator)}, r.Values...) {
			b.WriteString(part)
			b.WriteByte(0)
		}
		b.WriteByte(1)
	}
	return b.String()
}
