package policy

import (
	"net/netip"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
)

// cidrGroup reads the spec of a CiliumCIDRGroup. A group may be empty, so that
// what fills it can come later.
func (d *decoder) cidrGroup(n *yaml.Node, path string, p *Policy) {
	var list *yaml.Node
	whole := d.object(n, path, map[string]reader{"externalCIDRs": func(n *yaml.Node, path string) {
		list = n
		d.list(n, path, func(n *yaml.Node, path string) {
			if prefix := d.prefixNode(n, path); prefix.IsValid() {
				p.Prefixes = append(p.Prefixes, prefix)
			}
		})
	}})
	if whole && list == nil {
		d.refuse(n, join(path, "externalCIDRs"), "is missing: write a list of prefixes, [] for none yet")
	}
	slices.SortFunc(p.Prefixes, netip.Prefix.Compare)
	p.Prefixes = slices.Compact(p.Prefixes)
}

// cidrSet reads fromCIDRSet or toCIDRSet into peers.
func (d *decoder) cidrSet(n *yaml.Node, path string, peers *Peers) {
	d.list(n, path, func(n *yaml.Node, path string) { d.cidrRule(n, path, peers) })
}

// cidrItem is one item of a CIDR set as written.
type cidrItem struct {
	prefix   netip.Prefix
	name     string
	selector identity.Selector
	except   []netip.Prefix
	given    []string // which of the three ways to name prefixes it uses
}

// cidrRule reads one item of a CIDR set: a prefix or a reference to groups,
// without some parts.
func (d *decoder) cidrRule(n *yaml.Node, path string, peers *Peers) {
	before := len(d.problems)
	item := d.cidrItem(n, path)
	switch {
	case len(d.problems) > before:
	case len(item.given) == 0:
		d.refuse(n, join(path, "cidr"), "is missing: write a prefix such as 192.0.2.0/24, or cidrGroupRef or cidrGroupSelector")
	case len(item.given) > 1:
		d.refuse(n, path, "%s and %s stand in one item, which Cilium refuses: write an item for each", item.given[0], item.given[1])
	case item.prefix.IsValid():
		if d.partsOf(item.prefix, item.except, n, path) {
			peers.CIDRs = append(peers.CIDRs, CIDR{Prefix: item.prefix, Except: item.except})
		}
	default:
		peers.Groups = append(peers.Groups, GroupRef{Name: item.name, Selector: item.selector, Except: item.except})
	}
}

func (d *decoder) cidrItem(n *yaml.Node, path string) (item cidrItem) {
	way := func(name string, read reader) reader {
		return func(n *yaml.Node, path string) {
			item.given = append(item.given, name)
			read(n, path)
		}
	}
	d.object(n, path, map[string]reader{
		"cidr":              way("cidr", func(n *yaml.Node, path string) { item.prefix = d.prefixNode(n, path) }),
		"cidrGroupRef":      way("cidrGroupRef", func(n *yaml.Node, path string) { item.name = d.name(n, path) }),
		"cidrGroupSelector": way("cidrGroupSelector", func(n *yaml.Node, path string) { item.selector = d.groupSelector(n, path) }),
		"except": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { item.except = append(item.except, d.prefixNode(n, path)) })
		},
	})
	return item
}

// groupSelector reads a selector of CIDR groups. Cilium takes one that asks for
// no label for a selector of the whole world, which nobody means by it.
func (d *decoder) groupSelector(n *yaml.Node, path string) identity.Selector {
	before := len(d.problems)
	s := d.selector(n, path)
	asks := func(r identity.Requirement) bool { return r.Operator == identity.In || r.Operator == identity.Exists }
	sourced := func(r identity.Requirement) bool { return r.Source != identity.SourceAny }
	switch {
	case len(d.problems) > before:
	case slices.ContainsFunc(s, sourced):
		d.refuse(n, path, "labels of CIDR groups have no source: leave out what stands before ':'")
	case !slices.ContainsFunc(s, asks):
		d.refuse(n, path, "asks for no label that a group has: use matchLabels, In or Exists; Cilium would take it for the whole world")
	}
	return s
}

// partsOf checks that except takes out parts of whole.
func (d *decoder) partsOf(whole netip.Prefix, except []netip.Prefix, n *yaml.Node, path string) bool {
	for i, e := range except {
		if !contains(whole, e) {
			d.refuse(n, indexed(join(path, "except"), i), "%s is not inside %s: except takes parts of cidr", e, whole)
			return false
		}
	}
	return true
}

// means reports whether r refers to group.
func (r GroupRef) means(group *Policy) bool {
	if r.Name != "" {
		return r.Name == group.Name
	}
	return r.Selector.Matches(group.Labels)
}

// prefixesOf returns the prefixes of group without the excepted parts. An
// exception may hold a prefix of the group as a whole.
func (r GroupRef) prefixesOf(group *Policy) []CIDR {
	var out []CIDR
	for _, p := range group.Prefixes {
		if slices.ContainsFunc(r.Except, func(e netip.Prefix) bool { return contains(e, p) }) {
			continue
		}
		c := CIDR{Prefix: p}
		for _, e := range r.Except {
			if contains(p, e) {
				c.Except = append(c.Except, e)
			}
		}
		out = append(out, c)
	}
	return out
}

// cidrGroups returns the CIDR groups among policies.
func cidrGroups(policies []Policy) []*Policy {
	var out []*Policy
	for i := range policies {
		if policies[i].Kind == CIDRGroup {
			out = append(out, &policies[i])
		}
	}
	return out
}
