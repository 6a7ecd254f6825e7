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

// World is everybody that a policy can name: all identities of this mesh and of
// those that it federates with. Reserved identities and those of CIDR peers need
// not be in it.
type World struct {
	Labels map[mesh.Identity]identity.Labels
	Ports  map[mesh.Identity][]mesh.NamedPort // that endpoints with the identity declare
}

// Compile returns what policies say to subject about every peer. It is a pure
// function and does not depend on the order of policies.
func Compile(policies []Policy, subject Subject, world World) Verdicts {
	c := compiler{
		subject:  subject,
		world:    world,
		groups:   cidrGroups(policies),
		table:    table{entries: make(map[Key]Entry)},
		rules:    make(rules),
		resolved: make(map[string][]mesh.Identity),
	}
	selecting := c.selecting(policies)
	c.number(selecting)
	c.peers = newIndex(world.Labels, c.prefixes, c.numbers)
	for _, s := range selecting {
		c.rule(s)
	}
	v := Verdicts{Prefixes: c.numbers, Rules: c.rules, Enforced: c.enforced}
	v.Entries = c.table.resolve(c.enforced)
	return v
}

// selection is a rule that selects the subject, with its policy.
type selection struct {
	policy *Policy
	rule   *Rule
}

type compiler struct {
	subject  Subject
	world    World
	groups   []*Policy // of CIDRs, that rules may refer to
	table    table
	rules    rules
	enforced [2]bool

	prefixes []netip.Prefix // of CIDR peers, sorted
	numbers  map[netip.Prefix]mesh.Identity
	peers    index
	resolved map[string][]mesh.Identity // by confined selector
}

// selecting returns the rules about the subject in the order in which rules
// take precedence over equals: by policy, then as written.
func (c *compiler) selecting(policies []Policy) []selection {
	var out []selection
	for i := range policies {
		p := &policies[i]
		for j := range p.Rules {
			if p.selects(p.Rules[j], c.subject.Labels) {
				out = append(out, selection{p, &p.Rules[j]})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b selection) int {
		return cmp.Or(cmp.Compare(a.policy.ID(), b.policy.ID()), cmp.Compare(a.policy.Kind, b.policy.Kind),
			cmp.Compare(a.policy.Source, b.policy.Source))
	})
	return out
}

// number collects the prefixes of all CIDR peers, those excepted too, and
// gives each an identity.
func (c *compiler) number(selecting []selection) {
	for _, s := range selecting {
		for _, clause := range s.rule.Clauses {
			for _, cidr := range clause.Peers.CIDRs {
				c.prefixes = append(append(c.prefixes, cidr.Prefix), cidr.Except...)
			}
		}
	}
	if slices.ContainsFunc(c.prefixes, holdsMapped) {
		c.prefixes = append(c.prefixes, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	slices.SortFunc(c.prefixes, netip.Prefix.Compare)
	c.prefixes = slices.Compact(c.prefixes)
	c.numbers = identity.NumberPrefixes(c.prefixes)
}

// holdsMapped reports whether p holds the addresses that stand for IPv4 in the
// kernel's one map of both families, ::ffff:0:0/96. All of IPv4 then needs a
// prefix of its own there, or it would be taken for a part of p.
func holdsMapped(p netip.Prefix) bool {
	return p.Bits() <= 96 && p.Contains(netip.MustParseAddr("::ffff:0:0"))
}

func (c *compiler) rule(s selection) {
	for dir, deny := range s.rule.DefaultDeny {
		c.enforced[dir] = c.enforced[dir] || deny
	}
	for i := range s.rule.Clauses {
		clause := &s.rule.Clauses[i]
		ref := RuleRef{Policy: s.policy.ID(), Section: clause.Section, Line: clause.Line}
		entry := Entry{Deny: clause.Deny, Rule: c.rules.add(s.policy.Kind, ref)}
		keys := portKeys(clause.Ports)
		for _, peer := range c.peersOf(s.policy, clause.Peers) {
			for _, k := range keys {
				k.Identity, k.Direction = peer, clause.Direction
				c.table.put(k, entry)
			}
		}
	}
}

// portKeys returns the keys of all ports, without peer and direction.
func portKeys(ports []PortRange) []Key {
	if len(ports) == 0 {
		return []Key{{}}
	}
	var out []Key
	for _, r := range ports {
		out = append(out, r.keys()...)
	}
	return out
}
