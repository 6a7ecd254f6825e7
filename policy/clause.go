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
	var peers, ports []string
	note := func(in *[]string, read reader) reader {
		return func(n *yaml.Node, path string) {
			*in = append(*in, lastField(path))
			read(n, path)
		}
	}
	d.object(n, path, map[string]reader{
		from + "Endpoints": note(&peers, func(n *yaml.Node, path string) { c.Peers.Endpoints = d.selectors(n, path) }),
		from + "Nodes":     note(&peers, func(n *yaml.Node, path string) { c.Peers.Nodes = d.selectors(n, path) }),
		from + "Entities":  note(&peers, func(n *yaml.Node, path string) { c.Peers.Entities = d.entities(n, path) }),
		from + "CIDR":      note(&peers, func(n *yaml.Node, path string) { c.Peers.CIDRs = d.cidrs(n, path) }),
		from + "CIDRSet":   note(&peers, func(n *yaml.Node, path string) { d.cidrSet(n, path, &c.Peers) }),
		"toPorts":          note(&ports, func(n *yaml.Node, path string) { d.toPorts(n, path, c) }),
		"icmps":            note(&ports, func(n *yaml.Node, path string) { c.Ports = append(c.Ports, d.icmps(n, path)...) }),
	})
	for _, pair := range [][]string{peers, ports} {
		if len(pair) > 1 {
			d.refuse(n, path, "%s and %s stand in one entry, which Cilium refuses: write an entry for each", pair[0], pair[1])
		}
	}
	if c.Deny && n.Kind == yaml.MappingNode && empty(n) {
		d.refuse(n, path, "an empty entry denies nobody: name peers or ports; \"%sEntities: [all]\" denies everybody", from)
	}
	c.Peers.Any = len(peers) == 0 && len(ports) > 0
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
