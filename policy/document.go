package policy

import (
	"fmt"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
)

// apiVersions are those of each kind, the one to write first. Cilium still
// serves the second of CIDR groups.
var apiVersions = map[Kind][]string{
	Namespaced:  {"cilium.io/v2"},
	Clusterwide: {"cilium.io/v2"},
	CIDRGroup:   {"cilium.io/v2", "cilium.io/v2alpha1"},
	Kubernetes:  {"networking.k8s.io/v1"},
}

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
	parts := make(map[string]*yaml.Node)
	part := func(n *yaml.Node, path string) { parts[path] = n }
	fields := map[string]reader{"apiVersion": part, "kind": part, "metadata": part, "spec": part}
	if p.Kind == Namespaced || p.Kind == Clusterwide {
		fields["specs"] = part
	}
	whole := d.object(root, "", fields)
	if n := parts["metadata"]; n != nil {
		d.metadata(n, "metadata", &p)
	} else if whole {
		d.refuse(root, "metadata", "is missing: give the policy a name")
	}
	d.specs(root, parts, &p)
	return p, len(d.problems) == 0
}

// specs reads what a document says beside its name, in the order in which rules
// take precedence.
func (d *decoder) specs(root *yaml.Node, parts map[string]*yaml.Node, p *Policy) {
	spec, list := parts["spec"], parts["specs"]
	if spec == nil && (list == nil || empty(list)) {
		if len(d.problems) == 0 {
			d.refuse(root, "spec", "%s", whatSpecIs[p.Kind])
		}
		return
	}
	switch {
	case p.Kind == CIDRGroup:
		d.cidrGroup(spec, "spec", p)
	case p.Kind == Kubernetes:
		d.networkPolicy(spec, "spec", p)
	case spec != nil:
		d.rule(spec, "spec", p)
	}
	if list != nil {
		d.list(list, "specs", func(n *yaml.Node, path string) { d.rule(n, path, p) })
	}
}

// whatSpecIs says what to write where it is missing.
var whatSpecIs = map[Kind]string{
	Namespaced:  "is missing: write spec, or specs with at least one item",
	Clusterwide: "is missing: write spec, or specs with at least one item",
	CIDRGroup:   "is missing: write spec with externalCIDRs",
	Kubernetes:  "is missing: write spec with podSelector",
}

// kind reads what kind of document this is. Of other kinds nothing else is
// read, as every field would be unknown.
func (d *decoder) kind(root *yaml.Node, p *Policy) bool {
	if root.Kind != yaml.MappingNode {
		d.refuse(root, "", "want a policy document, not %s", describe(root))
		return false
	}
	version, kind := child(root, "apiVersion"), child(root, "kind")
	p.Kind = Kind(kind.Value)
	switch versions := apiVersions[p.Kind]; {
	case versions == nil && kind.Value == "":
		d.refuse(kind, "kind", "is missing: write %s", kindNames())
	case versions == nil:
		d.refuse(kind, "kind", "%q is not a kind of policy: write %s", shorten(kind.Value), kindNames())
	case !slices.Contains(versions, version.Value):
		d.refuse(version, "apiVersion", "%q is not known: write %s", shorten(version.Value), versions[0])
	default:
		return true
	}
	return false
}

func kindNames() string {
	return fmt.Sprintf("%s, %s, %s or %s", Namespaced, Clusterwide, CIDRGroup, Kubernetes)
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

// subdomain is a DNS subdomain (RFC 1123, section 2.1), as names of Kubernetes
// objects are.
var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func (d *decoder) metadata(n *yaml.Node, path string, p *Policy) {
	if p.Kind == Namespaced || p.Kind == Kubernetes {
		p.Namespace = identity.DefaultNamespace
	}
	named := false
	whole := d.object(n, path, map[string]reader{
		"name": func(n *yaml.Node, path string) {
			named = true
			p.Name = d.name(n, path)
		},
		"namespace":   func(n *yaml.Node, path string) { d.namespace(n, path, p) },
		"labels":      func(n *yaml.Node, path string) { p.Labels = d.labels(n, path) },
		"annotations": d.notes,
	})
	if whole && !named {
		d.refuse(n, join(path, "name"), "is missing: give the policy a name")
	}
}

// labels reads those of a document, which are Kubernetes' own.
func (d *decoder) labels(n *yaml.Node, path string) identity.Labels {
	var out []identity.Label
	for _, r := range d.matchLabels(n, path) {
		if r.Source != identity.SourceAny {
			d.refuse(n, join(path, r.Source+":"+r.Key), "a document's label has no source: leave out what stands before ':'")
		}
		out = append(out, identity.Label{Source: identity.SourceK8s, Key: r.Key, Value: r.Values[0]})
	}
	return identity.NewLabels(out...)
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
	if p.Namespace == "" {
		d.refuse(n, path, "a %s has no namespace: remove it, as it stands for every one", p.Kind)
		return
	}
	if err := identity.ValidateNamespace(s); err != nil {
		d.refuse(n, path, "%s", err)
	}
	p.Namespace = s
}
