package policy

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// peersOf returns the identities that a clause of p is about, some perhaps
// twice.
func (c *compiler) peersOf(p *Policy, clause *Clause) []mesh.Identity {
	peers := clause.Peers
	if peers.Any {
		return c.everybody(clause)
	}
	var out []mesh.Identity
	sc := p.scope(c.subject)
	for _, s := range peers.Endpoints {
		out = append(out, c.matching(sc.confine(s))...)
	}
	for _, s := range peers.Nodes {
		out = append(out, c.nodes(sc, s)...)
	}
	for _, e := range peers.Entities {
		if e == EntityAll {
			out = append(out, c.everybody(clause)...)
		}
		out = append(out, c.entity(e)...)
	}
	for _, cidr := range c.cidrsOf(peers) {
		out = append(out, c.outside(cidr)...)
	}
	return out
}

// everybody returns AnyIdentity and, where an egress clause names ports, each
// identity with ports of its own, as a name means another port with each.
func (c *compiler) everybody(clause *Clause) []mesh.Identity {
	out := []mesh.Identity{AnyIdentity}
	if clause.Direction == Egress && len(clause.PortNames) > 0 {
		out = slices.AppendSeq(out, maps.Keys(c.world.Ports))
	}
	return out
}

// nodes returns the hosts that a selector of nodes means: managed identities,
// as every host is a node, and those that stand for nodes of Cilium clusters.
func (c *compiler) nodes(sc scope, s identity.Selector) []mesh.Identity {
	s, possible := sc.confineNode(s)
	if !possible {
		return nil
	}
	out := slices.Clone(c.peers.matching(s))
	for _, id := range reservedOf[EntityRemoteNode] {
		if s.Matches(identity.ReservedLabels(id)) {
			out = append(out, id)
		}
	}
	return out
}

// entity returns the identities of an entity other than all.
func (c *compiler) entity(e Entity) []mesh.Identity {
	out := slices.Clone(reservedOf[e])
	switch e {
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
