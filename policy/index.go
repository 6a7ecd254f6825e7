package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// index finds identities by label, so that a selector is compared with few of
// them.
type index struct {
	labels   map[mesh.Identity]identity.Labels     // managed identities
	managed  map[string]map[string][]mesh.Identity // by key and value, from any source
	sorted   []mesh.Identity                       // managed identities
	unlocked map[mesh.Identity]identity.Labels     // reserved identities and those of CIDR peers
}

func newIndex(world map[mesh.Identity]identity.Labels, prefixes []netip.Prefix, numbers map[netip.Prefix]mesh.Identity) index {
	x := index{
		labels:   world,
		managed:  make(map[string]map[string][]mesh.Identity),
		unlocked: make(map[mesh.Identity]identity.Labels),
	}
	for _, id := range slices.Sorted(maps.Keys(world)) {
		if !identity.IsReserved(id) && !identity.IsLocal(id) {
			x.add(id)
		}
	}
	for id := identity.Host; id <= identity.WorldIPv6; id++ {
		x.unlocked[id] = identity.ReservedLabels(id)
	}
	for _, p := range prefixes {
		x.unlocked[numbers[p]] = identity.ReservedLabels(plainWorld(p.Addr()))
	}
	return x
}

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

// matching returns the identities that s, already confined, selects. Without a
// reserved label it means managed peers alone.
func (x *index) matching(s identity.Selector) []mesh.Identity {
	var out []mesh.Identity
	for _, id := range x.candidates(s) {
		if s.Matches(x.labels[id]) {
			out = append(out, id)
		}
	}
	if !reserved(s) {
		return out
	}
	for id, labels := range x.unlocked {
		if s.Matches(labels) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
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
