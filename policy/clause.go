package policy

import (
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
)

// clauses reads a section.
func (d *decoder) clauses(n *yaml.Node, path string, s section) []Clause {
	var out []Clause
	d.list(n, path, func(n *yaml.Node, at string) {
		c := Clause{Direction: s.direction, Deny: s.deny, Line: n.Line}
		c.Section = s.name + strings.TrimPrefix(at, path)
		if rule := strings.TrimSuffix(path, s.name); rule != "spec." {
			c.Section = rule + c.Section
		}
		d.clause(n, at, &c)
		out = append(out, c)
	})
	return out
}

// clause reads one item of a section.
func (d *decoder) clause(n *yaml.Node, path string, c *Clause) {
	from := "from"
	if c.Direction == Egress {
		from = "to"
	}
	var peers []string
	peer := func(read reader) reader {
		return func(n *yaml.Node, path string) {
			peers = append(peers, path)
			read(n, path)
		}
	}
	d.object(n, path, map[string]reader{
		from + "Endpoints": peer(func(n *yaml.Node, path string) { c.Peers.Endpoints = d.selectors(n, path) }),
		from + "Entities":  peer(func(n *yaml.Node, path string) { c.Peers.Entities = d.entities(n, path) }),
		from + "CIDR":      peer(func(n *yaml.Node, path string) { c.Peers.CIDRs = d.cidrs(n, path) }),
		from + "CIDRSet":   peer(func(n *yaml.Node, path string) { c.Peers.CIDRs = d.cidrSet(n, path) }),
		"toPorts":          func(n *yaml.Node, path string) { c.Ports = d.toPorts(n, path) },
	})
	if len(peers) > 1 {
		d.refuse(n, path, "%s and %s stand in one entry, which Cilium refuses: write an entry for each", lastField(peers[0]), lastField(peers[1]))
	}
	if c.Deny && n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		d.refuse(n, path, "an empty entry denies nobody: name peers or ports; \"%sEntities: [all]\" denies everybody", from)
	}
	c.Peers.Any = len(peers) == 0 && len(c.Ports) > 0
}

func lastField(path string) string { return path[strings.LastIndex(path, ".")+1:] }

func (d *decoder) selectors(n *yaml.Node, path string) []identity.Selector {
	var out []identity.Selector
	d.list(n, path, func(n *yaml.Node, path string) { out = append(out, d.selector(n, path)) })
	return out
}

func (d *decoder) entities(n *yaml.Node, path string) []Entity {
	var out []Entity
	d.list(n, path, func(n *yaml.Node, path string) {
		s, ok := d.text(n, path)
		if !ok {
			return
		}
		e := Entity(s)
		if !e.known() {
			d.refuse(n, path, "entity %q is unknown: use %s", shorten(s), entityNames())
		}
		out = append(out, e)
	})
	return out
}

// cidrs reads fromCIDR or toCIDR, where Cilium takes an address alone for its
// host prefix, and clears the bits behind the prefix length.
func (d *decoder) cidrs(n *yaml.Node, path string) []CIDR {
	var out []CIDR
	d.list(n, path, func(n *yaml.Node, path string) {
		s, ok := d.text(n, path)
		if !ok {
			return
		}
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			s = fmt.Sprintf("%s/%d", s, a.BitLen())
		}
		if p, ok := d.prefix(n, path, s); ok {
			out = append(out, CIDR{Prefix: p})
		}
	})
	return out
}

// cidrSet reads fromCIDRSet or toCIDRSet.
func (d *decoder) cidrSet(n *yaml.Node, path string) []CIDR {
	var out []CIDR
	d.list(n, path, func(n *yaml.Node, path string) {
		if c, ok := d.cidrRule(n, path); ok {
			out = append(out, c)
		}
	})
	return out
}

func (d *decoder) cidrRule(n *yaml.Node, path string) (c CIDR, ok bool) {
	before := len(d.problems)
	d.object(n, path, map[string]reader{
		"cidr": func(n *yaml.Node, path string) { c.Prefix = d.prefixNode(n, path) },
		"except": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { c.Except = append(c.Except, d.prefixNode(n, path)) })
		},
	})
	if len(d.problems) > before {
		return c, false
	}
	if !c.Prefix.IsValid() {
		d.refuse(n, join(path, "cidr"), "is missing: write a prefix such as 192.0.2.0/24")
		return c, false
	}
	for i, e := range c.Except {
		if !contains(c.Prefix, e) {
			d.refuse(n, fmt.Sprintf("%s.except[%d]", path, i), "%s is not inside %s: except takes parts of cidr", e, c.Prefix)
			return c, false
		}
	}
	return c, true
}

func (d *decoder) prefixNode(n *yaml.Node, path string) netip.Prefix {
	s, ok := d.text(n, path)
	if !ok {
		return netip.Prefix{}
	}
	p, _ := d.prefix(n, path, s)
	return p
}

func (d *decoder) prefix(n *yaml.Node, path, s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		d.refuse(n, path, "%q is not a prefix: write an address and a length, such as 192.0.2.0/24 or 2001:db8::/32", shorten(s))
	case p.Addr().Is4In6():
		d.refuse(n, path, "%q is an IPv4 address written as IPv6: write it as IPv4", s)
	default:
		return p.Masked(), true
	}
	return netip.Prefix{}, false
}
