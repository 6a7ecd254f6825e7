package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// Subject is the host that verdicts are compiled for.
type Subject struct {
	Identity mesh.Identity
	Labels   identity.Labels
	Cluster  string           // name of its mesh
	Ports    []mesh.NamedPort // that the host declares

	// EveryCluster lets selectors of peers reach every cluster unless they name
	// one (Cilium: policyDefaultLocalCluster false). By default they reach the
	// subject's own.
	EveryCluster bool
}

// equal reports whether the same policies say the same to both.
func (s Subject) equal(o Subject) bool {
	return s.Identity == o.Identity && s.Cluster == o.Cluster && s.EveryCluster == o.EveryCluster &&
		slices.Equal(s.Labels, o.Labels) && slices.Equal(s.Ports, o.Ports)
}

// World is everybody that a policy can name: all identities of this mesh and of
// those that it federates with. Reserved identities and those of CIDR peers need
// not be in it.
type World struct {
	Labels map[mesh.Identity]identity.Labels
	Ports  map[mesh.Identity][]mesh.NamedPort // that endpoints with the identity declare
}

// Compile returns what policies say to subject about every peer. It is a pure
// function and does not depend on the order of policies. [Compiler] returns the
// same, faster where little has changed since its call before.
func Compile(policies []Policy, subject Subject, world World) Verdicts {
	return new(Compiler).Compile(policies, subject, world)
}

// selection is a rule that selects the subject, with its policy.
type selection struct {
	id     string // of the policy
	policy *Policy
	rule   *Rule
}

// selecting returns the rules about a host with labels in the order in which
// rules take precedence over equals: by policy, then as written.
func selecting(policies []Policy, labels identity.Labels) []selection {
	var out []selection
	for i := range policies {
		p := &policies[i]
		id := p.ID()
		for j := range p.Rules {
			if p.selects(p.Rules[j], labels) {
				out = append(out, selection{id, p, &p.Rules[j]})
			}
		}
	}
	slices.SortStableFunc(out, selection.compare)
	return out
}

// compare orders selections, those of one policy as equals.
func (s selection) compare(o selection) int {
	return cmp.Or(cmp.Compare(s.id, o.id), cmp.Compare(s.policy.Kind, o.policy.Kind), cmp.Compare(s.policy.Source, o.policy.Source))
}

// compiler compiles for one subject. Everything that it needs to know of the
// language about peers and ports stands in peers.go and refer.go.
type compiler struct {
	subject Subject
	world   World
	groups  []*Policy // of CIDRs, that rules may refer to
	peers   *index    // of managed identities

	prefixes []netip.Prefix // of CIDR peers, sorted
	numbers  map[netip.Prefix]mesh.Identity
	unlocked map[mesh.Identity]identity.Labels // reserved identities and those of CIDR peers
}

// enforced returns by direction whether some rule denies what none allows.
func enforced(selecting []selection) (on [2]bool) {
	for _, s := range selecting {
		for dir, deny := range s.rule.DefaultDeny {
			on[dir] = on[dir] || deny
		}
	}
	return on
}

// prefixesOf collects the prefixes of all CIDR peers, those excepted too.
func (c *compiler) prefixesOf(selecting []selection) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range selecting {
		for i := range s.rule.Clauses {
			for _, cidr := range c.cidrsOf(s.rule.Clauses[i].Peers) {
				out = append(append(out, cidr.Prefix), cidr.Except...)
			}
		}
	}
	if slices.ContainsFunc(out, holdsMapped) {
		out = append(out, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// holdsMapped reports whether p holds the addresses that stand for IPv4 in the
// kernel's one map of both families, ::ffff:0:0/96. All of IPv4 then needs a
// prefix of its own there, or it would be taken for a part of p.
func holdsMapped(p netip.Prefix) bool {
	return p.Bits() <= 96 && p.Contains(netip.MustParseAddr("::ffff:0:0"))
}

// number gives each prefix an identity.
func (c *compiler) number(prefixes []netip.Prefix) {
	c.about(prefixes, identity.NumberPrefixes(prefixes))
}

// about makes prefixes, sorted, the CIDR peers; numbers may hold more of them.
func (c *compiler) about(prefixes []netip.Prefix, numbers map[netip.Prefix]mesh.Identity) {
	c.prefixes, c.numbers = prefixes, numbers
	c.unlocked = make(map[mesh.Identity]identity.Labels)
	for id := identity.Host; id <= identity.WorldIPv6; id++ {
		c.unlocked[id] = identity.ReservedLabels(id)
	}
	for _, p := range prefixes {
		c.unlocked[numbers[p]] = c.unlocked[plainWorld(p.Addr())]
	}
}

// keys returns a function that gives the keys of the flows with a peer that a
// clause is about, without peer and direction.
func (c *compiler) keys(clause *Clause) func(mesh.Identity) []Key {
	if clause.portsVary() {
		return func(peer mesh.Identity) []Key { return portKeys(c.portsOf(clause, peer)) }
	}
	keys := portKeys(c.portsOf(clause, AnyIdentity))
	if len(clause.Ports)+len(clause.PortNames) == 0 {
		keys = []Key{{}}
	}
	return func(mesh.Identity) []Key { return keys }
}

// portsVary reports whether a clause is about other ports with each peer.
func (c *Clause) portsVary() bool { return c.Direction == Egress && len(c.PortNames) > 0 }

func portKeys(ports []PortRange) []Key {
	var out []Key
	for _, r := range ports {
		out = append(out, r.keys()...)
	}
	return out
}
