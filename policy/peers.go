package policy

import (
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// peersOf returns the identities that are meant, some perhaps twice.
func (c *compiler) peersOf(p *Policy, peers Peers) []mesh.Identity {
	if peers.Any {
		return []mesh.Identity{AnyIdentity}
	}
	var out []mesh.Identity
	for _, s := range peers.Endpoints {
		out = append(out, c.selected(p, s)...)
	}
	for _, e := range peers.Entities {
		out = append(out, c.entity(e)...)
	}
	for _, cidr := range peers.CIDRs {
		out = append(out, c.outside(cidr)...)
	}
	return out
}

// selected returns the identities that a selector of a peer means, each
// distinct selector being matched once.
func (c *compiler) selected(p *Policy, s identity.Selector) []mesh.Identity {
	sc := scope{namespace: p.Namespace, cluster: c.subject.Cluster}
	if c.subject.EveryCluster {
		sc.cluster = ""
	}
	s = sc.confine(s)
	key := fingerprint(s)
	ids, known := c.resolved[key]
	if !known {
		ids = c.peers.matching(s)
		c.resolved[key] = ids
	}
	return ids
}

// entity returns the identities of an entity.
func (c *compiler) entity(e Entity) []mesh.Identity {
	out := slices.Clone(reservedOf[e])
	switch e {
	case EntityAll:
		return []mesh.Identity{AnyIdentity}
	case EntityWorld, EntityWorldIPv4, EntityWorldIPv6:
		for _, p := range c.prefixes {
			if e == EntityWorld || p.Addr().Is4() == (e == EntityWorldIPv4) {
				out = append(out, c.numbers[p])
			}
		}
	case EntityCluster, EntityRemoteNode:
		out = append(out, c.peers.managed[identity.KeyCluster][c.subject.Cluster]...)
	case EntityClusterMesh:
		for _, ids := range c.peers.managed[identity.KeyCluster] {
			out = append(out, ids...)
		}
	}
	return out
}

// outside returns the identities of addresses that no mesh knows and cidr
// covers. The identity of a prefix stands for its addresses that no longer
// prefix holds, so that covering the prefix is covering them.
func (c *compiler) outside(cidr CIDR) []mesh.Identity {
	var out []mesh.Identity
	first, _ := slices.BinarySearchFunc(c.prefixes, cidr.Prefix, netip.Prefix.Compare)
	for _, p := range c.prefixes[first:] {
		if !contains(cidr.Prefix, p) {
			break
		}
		if cidr.Covers(p) {
			out = append(out, c.numbers[p])
		}
	}
	if cidr.Prefix.Bits() == 0 && cidr.Covers(cidr.Prefix) {
		out = append(out, plainWorld(cidr.Prefix.Addr()))
	}
	return out
}

func plainWorld(family netip.Addr) mesh.Identity {
	if family.Is4() {
		return identity.WorldIPv4
	}
	return identity.WorldIPv6
}
