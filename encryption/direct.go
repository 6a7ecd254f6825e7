package encryption

import (
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
)

// Direct returns the node addresses whose traffic goes through the tunnel, by
// node ID, as the host with ID self has it; its own are among them.
//
// An address is direct if its node says that it has it and a server has found it
// there (mesh.Node.Direct), if no other node of any cluster has it and no
// endpoint is at it, if the node has a key of its own, and if both hosts have a
// direct address of its family. What is behind address translation is not: no
// server sees a host at an address that it has itself then.
//
// Nothing that one side alone observes comes into it: two hosts that disagreed
// would lose each other's packets. So nodes of other clusters are left out, as
// their hosts need not know all that this one knows.
func Direct(nodes []mesh.Node, endpoints []mesh.Endpoint, self string) map[string][]netip.Addr {
	at := slices.IndexFunc(nodes, func(n mesh.Node) bool { return n.ID() == self })
	if at < 0 {
		return nil
	}
	u := countUses(nodes, endpoints)
	own := u.direct(nodes[at])
	have := FamiliesOf(own)
	out := make(map[string][]netip.Addr)
	for _, n := range nodes {
		if n.Cluster != nodes[at].Cluster {
			continue
		}
		common := slices.DeleteFunc(u.direct(n), func(a netip.Addr) bool { return have&familyOf(a) == 0 })
		if len(common) > 0 {
			out[n.ID()] = common
		}
	}
	return out
}

// uses says how often something is claimed.
type uses struct {
	addresses map[netip.Addr]int // by nodes, once each, and by endpoints
	keys      map[mesh.Key]int
}

func countUses(nodes []mesh.Node, endpoints []mesh.Endpoint) uses {
	u := uses{make(map[netip.Addr]int), make(map[mesh.Key]int)}
	for _, n := range nodes {
		u.keys[n.Key]++
		for i, a := range n.Addresses {
			if !slices.Contains(n.Addresses[:i], a) {
				u.addresses[a.Unmap()]++
			}
		}
	}
	for _, e := range endpoints {
		if e.Prefix.IsSingleIP() {
			u.addresses[e.Prefix.Addr().Unmap()]++
		}
	}
	return u
}

// direct returns the direct addresses of n, in the order that it prefers.
func (u uses) direct(n mesh.Node) []netip.Addr {
	if n.Key.IsZero() || u.keys[n.Key] > 1 {
		return nil
	}
	var out []netip.Addr
	for _, a := range n.Direct {
		if slices.Contains(n.Addresses, a) && u.addresses[a.Unmap()] == 1 && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap())
		}
	}
	return out
}
