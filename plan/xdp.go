package plan

import (
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/policy"
)

// DeniedPrefixes returns the CIDR peers that v denies every new flow towards this
// host, sorted: while there are any, the early stage of the datapath is worth its
// place. What each packet meets there, the kernel decides by the whole of v: a
// prefix inside of these may have entries of its own.
func DeniedPrefixes(v policy.Verdicts) []netip.Prefix {
	var out []netip.Prefix
	for p, id := range v.Prefixes {
		if v.Entries[policy.Key{Identity: id, Direction: policy.Ingress}].Deny {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
