package identity

import (
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
)

// localSpace is the count of numbers that local identities may have.
const localSpace = 1 << 24

// NumberPrefixes gives every prefix an identity of this host's own.
//
// A number is a hash of its prefix, so that it survives a restart of the agent
// and does not depend on which other prefixes policy names: pinned flows keep
// their meaning. When two prefixes collide, the one that sorts later moves on
// to the next free number.
func NumberPrefixes(prefixes []netip.Prefix) map[netip.Prefix]mesh.Identity {
	sorted := slices.SortedFunc(slices.Values(prefixes), netip.Prefix.Compare)
	out := make(map[netip.Prefix]mesh.Identity, len(sorted))
	taken := make(map[mesh.Identity]bool, len(sorted))
	for _, p := range slices.Compact(sorted) {
		n := hashPrefix(p)
		for taken[n] {
			n = localScope | (n+1)%localSpace
		}
		taken[n] = true
		out[p] = n
	}
	return out
}

func hashPrefix(p netip.Prefix) mesh.Identity {
	h := fnv.New32a()
	b, _ := p.MarshalBinary() // never an error for a valid prefix
	_, _ = h.Write(b)         // never an error
	return localScope | mesh.Identity(h.Sum32()%localSpace)
}

// PrefixLabels returns the labels of the identity of p: one for every prefix of
// known that covers p, and the world of its family, so that a narrower prefix
// keeps what a broader one grants.
func PrefixLabels(p netip.Prefix, known map[netip.Prefix]mesh.Identity) Labels {
	world := WorldIPv4
	if p.Addr().Is6() {
		world = WorldIPv6
	}
	ls := []Label{{SourceReserved, reservedNames[World], ""}, {SourceReserved, reservedNames[world], ""}}
	for q := range maps.Keys(known) {
		if q.Bits() <= p.Bits() && q.Contains(p.Addr()) {
			ls = append(ls, Label{SourceCIDR, q.String(), ""})
		}
	}
	return NewLabels(ls...)
}
