package policy

import (
	"fmt"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
)

const apiVersion = "cilium.io/v2"

// document reads one policy. It reports false after a problem.
func (d *decoder) document(doc text) (Policy, bool) {
	root := d.parseYAML(doc)
	if root == nil {
		return Policy{}, false
	}
	p := Policy{File: d.file, Line: d.skipped + root.Line, Source: doc.source}
	if !d.kind(root, &p) {
		return Policy{}, false
	}
	named := false
	whole := d.object(root, "", map[string]reader{
		"apiVersion": d.ignore, "kind": d.ignore, // read by d.kind
		"metadata": func(n *yaml.Node, path string) { named = true; d.metadata(n, path, &p) },
		"spec":     func(n *yaml.Node, path string) { d.rule(n, path, &p) },
		"specs": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { d.rule(n, path, &p) })
		},
	})
	if whole && !named {
		d.refuse(root, "metadata", "is missing: give the policy a name")
	}
	if len(p.Rules) == 0 && len(d.problems) == 0 {
		d.refuse(root, "spec", "is missing: write spec, or specs with at least one item")
	}
	// spec has the shortest path, and those of specs are in order.
	slices.SortStableFunc(p.Rules, func(a, b Rule) int { return len(a.Path) - len(b.Path) })
	return p, len(d.problems) == 0
}

func (d *decoder) ignore(*yaml.Node, string) {}

// kind reads what kind of document this is. Of other kinds nothing else is
// read, as every field would be unknown.
func (d *decoder) kind(root *yaml.Node, p *Policy) bool {
	if root.Kind != yaml.MappingNode {
		d.refuse(root, "", "want a policy document, not %s", describe(root))
		return false
	}
	version, kind := child(root, "apiVersion"), child(root, "kind")
	p.Kind = Kind(kind.Value)
	switch {
	case p.Kind != Namespaced && p.Kind != Clusterwide:
		d.refuse(kind, "kind", "%s", whyKindRefused(kind.Value))
	case version.Value != apiVersion:
		d.refuse(version, "apiVersion", "%q is not known: write %s", shorten(version.Value), apiVersion)
	default:
		return true
	}
	return false
}

// child returns the value of a field, or an empty node in the mapping's line.
func child(n *yaml.Node, field string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == field {
			return n.Content[i+1]
		}
	}
	return &yaml.Node{Line: n.Line}
}

func whyKindRefused(kind string) string {
	switch kind {
	case "":
		return fmt.Sprintf("is missing: write %s or %s", Namespaced, Clusterwide)
	case "CiliumCIDRGroup":
		return "CiliumCIDRGroup is not read yet: write its prefixes in fromCIDRSet or toCIDRSet"
	case "NetworkPolicy":
		return fmt.Sprintf("Kubernetes NetworkPolicy is not translated yet: write it as a %s", Namespaced)
	}
	return fmt.Sprintf("%q is not a kind of policy: write %s or %s", shorten(kind), Namespaced, Clusterwide)
}

// subdomain is a DNS subdomain (RFC 1123, section 2.1), as names of Kubernetes
// objects are.
var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func (d *decoder) metadata(n *yaml.Node, path string, p *Policy) {
	if p.Kind == Namespaced {
		p.Namespace = identity.DefaultNamespace
	}
	named := false
	whole := d.object(n, path, map[string]reader{
		"name": func(n *yaml.Node, path string) {
			named = true
			p.Name = d.name(n, path)
		},
		"namespace":   func(n *yaml.Node, path string) { d.namespace(n, path, p) },
		"labels":      d.notes,
		"annotations": d.notes,
	})
	if whole && !named {
		d.refuse(n, join(path, "name"), "is missing: give the policy a name")
	}
}

func (d *decoder) name(n *yaml.Node, path string) string {
	s, ok := d.text(n, path)
	if ok && (len(s) > 253 || !subdomain.MatchString(s)) {
		d.refuse(n, path, "%q is malformed: use at most 253 lower-case letters, digits, inner dashes and dots", shorten(s))
	}
	return s
}

func (d *decoder) namespace(n *yaml.Node, path string, p *Policy) {
	s, ok := d.text(n, path)
	if !ok {
		return
	}
	if p.Kind == Clusterwide {
		d.refuse(n, path, "a %s has no namespace: remove it, or write a %s", Clusterwide, Namespaced)
		return
	}
	if err := identity.ValidateNamespace(s); err != nil {
		d.refuse(n, path, "%s", err)
	}
	p.Namespace = s
}
