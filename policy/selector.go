package policy

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
)

// selector reads a label selector.
func (d *decoder) selector(n *yaml.Node, path string) identity.Selector {
	var s identity.Selector
	d.object(n, path, map[string]reader{
		"matchLabels": func(n *yaml.Node, path string) { s = append(s, d.matchLabels(n, path)...) },
		"matchExpressions": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { s = append(s, d.expression(n, path)) })
		},
	})
	return s
}

func (d *decoder) matchLabels(n *yaml.Node, path string) []identity.Requirement {
	var out []identity.Requirement
	for _, kv := range d.pairs(n, path) {
		at := join(path, kv[0].Value)
		source, key := d.labelKey(kv[0], at, kv[0].Value)
		value, ok := d.text(kv[1], at)
		if ok {
			d.labelValue(kv[1], at, value)
		}
		out = append(out, identity.Requirement{Source: source, Key: key, Operator: identity.In, Values: []string{value}})
	}
	return out
}

func (d *decoder) expression(n *yaml.Node, path string) identity.Requirement {
	var (
		r   identity.Requirement
		op  string
		key *yaml.Node
	)
	whole := d.object(n, path, map[string]reader{
		"key":      func(n *yaml.Node, _ string) { key = n },
		"operator": d.into(&op),
		"values":   func(n *yaml.Node, path string) { r.Values = d.values(n, path) },
	})
	at := join(path, "key")
	if !whole {
		return r
	}
	if key == nil {
		d.refuse(n, at, "is missing: name a label")
		return r
	}
	if s, ok := d.text(key, at); ok {
		r.Source, r.Key = d.labelKey(key, at, s)
	}
	r.Operator = identity.Operator(op)
	if err := r.Validate(); err != nil && r.Key != "" {
		d.refuse(n, path, "%s", err)
	}
	return r
}

func (d *decoder) values(n *yaml.Node, path string) []string {
	values := d.texts(n, path)
	for _, v := range values {
		d.labelValue(n, path, v)
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// Kubernetes' patterns for the name in a label key and for values
// (apimachinery, util/validation). Before the name there may be a subdomain.
var (
	labelName  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`)
)

func validLabelKey(key string) bool {
	domain, name, parted := strings.Cut(key, "/")
	if !parted {
		domain, name = "x", key
	}
	return len(domain) <= 253 && subdomain.MatchString(domain) && len(name) <= 63 && labelName.MatchString(name)
}

func (d *decoder) labelKey(n *yaml.Node, path, s string) (source, key string) {
	source, key = identity.SplitKey(s)
	switch {
	case source == identity.SourceCIDR:
		d.refuse(n, path, "prefixes are not selected by label: write fromCIDR or toCIDR")
	case !validLabelKey(key):
		d.refuse(n, path, "label key %q is malformed: use at most 63 letters, digits, '-', '_' and '.', after an optional \"any:\", \"k8s:\" or \"reserved:\" and a DNS name with '/'", shorten(s))
	}
	return source, key
}

func (d *decoder) labelValue(n *yaml.Node, path, v string) {
	if len(v) > 63 || !labelValue.MatchString(v) {
		d.refuse(n, path, "label value %q is malformed: use at most 63 letters, digits, '-', '_' and '.'", shorten(v))
	}
}

// scope is what a selector of a peer is confined to unless it says otherwise.
type scope struct {
	namespace string // "" for every namespace
	cluster   string // "" for every cluster
}

// scope returns that of the selectors of p, compiled for subject.
func (p *Policy) scope(subject Subject) scope {
	sc := scope{namespace: p.Namespace, cluster: subject.Cluster}
	if subject.EveryCluster {
		sc.cluster = ""
	}
	return sc
}

// confine adds the requirements that Cilium adds to a peer's selector
// (pkg/k8s/apis/cilium.io/utils, getEndpointSelector). One that speaks of a
// reserved label has left namespaces and clusters already.
func (sc scope) confine(s identity.Selector) identity.Selector {
	if reserved(s) {
		return s
	}
	out := slices.Clone(s)
	if !s.Mentions(identity.KeyNamespace) {
		out = append(out, sc.namespaced(s)...)
	}
	return sc.clustered(out)
}

// clustered adds the cluster unless s speaks of one.
func (sc scope) clustered(s identity.Selector) identity.Selector {
	if sc.cluster == "" || s.Mentions(identity.KeyCluster) {
		return s
	}
	return append(s, is(identity.KeyCluster, sc.cluster))
}

// nodeLabel is the one that Cilium asks of every peer that a selector of nodes
// means. Hosts of a mesh are nodes without carrying it.
var nodeLabel = identity.Labels{{Source: identity.SourceReserved, Key: "remote-node"}}

// confineNode adds what Cilium adds to a selector of nodes: the cluster, and no
// namespace. What it says of nodeLabel itself is settled here; possible is false
// if no node fulfils it.
func (sc scope) confineNode(s identity.Selector) (confined identity.Selector, possible bool) {
	for _, r := range s {
		switch {
		case r.Source != identity.SourceReserved || r.Key != nodeLabel[0].Key:
			confined = append(confined, r)
		case !(identity.Selector{r}).Matches(nodeLabel):
			return nil, false
		}
	}
	return sc.clustered(confined), true
}

func (sc scope) namespaced(s identity.Selector) []identity.Requirement {
	byLabel := slices.ContainsFunc(s, func(r identity.Requirement) bool { return strings.HasPrefix(r.Key, identity.NamespaceLabels) })
	switch {
	case sc.namespace == "":
		return []identity.Requirement{{Source: identity.SourceK8s, Key: identity.KeyNamespace, Operator: identity.Exists}}
	case byLabel:
		return nil
	}
	return []identity.Requirement{is(identity.KeyNamespace, sc.namespace)}
}

func is(key, value string) identity.Requirement {
	return identity.Requirement{Source: identity.SourceK8s, Key: key, Operator: identity.In, Values: []string{value}}
}

// reserved reports whether s asks for a reserved label, as those of the world
// and of unmanaged peers are.
func reserved(s identity.Selector) bool {
	return slices.ContainsFunc(s, func(r identity.Requirement) bool { return r.Source == identity.SourceReserved })
}

// managedAlone reports whether s asks for a label that managed identities alone
// carry, as nearly every confined selector does.
func managedAlone(s identity.Selector) bool {
	return slices.ContainsFunc(s, func(r identity.Requirement) bool {
		return (r.Operator == identity.In || r.Operator == identity.Exists) &&
			(r.Source == identity.SourceK8s || r.Key == identity.KeyNamespace || r.Key == identity.KeyCluster)
	})
}
