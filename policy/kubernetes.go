package policy

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
)

// networkPolicy reads the spec of a Kubernetes NetworkPolicy into the one rule
// that says the same (Cilium: pkg/k8s/network_policy.go).
func (d *decoder) networkPolicy(n *yaml.Node, path string, p *Policy) {
	r := Rule{Path: path}
	var (
		selects bool
		types   []Direction
		written [2]*yaml.Node // ingress and egress
	)
	fields := map[string]reader{
		"podSelector": func(n *yaml.Node, path string) {
			selects = true
			r.Subject = d.podSelector(n, path)
		},
		"policyTypes": func(n *yaml.Node, path string) { types = d.policyTypes(n, path) },
	}
	for _, dir := range []Direction{Ingress, Egress} {
		fields[dir.String()] = func(n *yaml.Node, path string) {
			written[dir] = n
			r.Clauses = append(r.Clauses, d.kubernetesClauses(n, path, dir, p.Namespace)...)
		}
	}
	if !d.object(n, path, fields) {
		return
	}
	if !selects {
		d.refuse(n, path, "selects no host: write podSelector, with {} for every host of the namespace")
	}
	r.DefaultDeny = d.isolates(path, types, written)
	p.Rules = append(p.Rules, r)
}

// isolates decides which directions are denied but for what is allowed: those
// of policyTypes, or else ingress always and egress where it has rules. Rules of
// a direction that is not isolated would do nothing.
func (d *decoder) isolates(path string, types []Direction, written [2]*yaml.Node) (on [2]bool) {
	if len(types) == 0 {
		on = [2]bool{true, written[Egress] != nil && !empty(written[Egress])}
	}
	for _, dir := range types {
		on[dir] = true
	}
	for _, dir := range []Direction{Ingress, Egress} {
		if list := written[dir]; list != nil && !on[dir] {
			d.refuse(list, join(path, dir.String()), "does nothing, as policyTypes leaves %s open: add %s to policyTypes, or remove the list", dir, policyTypeNames[dir])
		}
	}
	return on
}

var policyTypeNames = [2]string{"Ingress", "Egress"}

func (d *decoder) policyTypes(n *yaml.Node, path string) []Direction {
	var out []Direction
	d.list(n, path, func(n *yaml.Node, path string) {
		s, ok := d.text(n, path)
		dir := Direction(slices.Index(policyTypeNames[:], s))
		switch {
		case !ok:
		case !slices.Contains(policyTypeNames[:], s):
			d.refuse(n, path, "%q is no policy type: write Ingress or Egress", shorten(s))
		case slices.Contains(out, dir):
			d.refuse(n, path, "%s is given twice: keep one", s)
		default:
			out = append(out, dir)
		}
	})
	return out
}

// kubernetesClauses reads ingress or egress. An item without peers is about
// everybody, one without ports about every protocol.
func (d *decoder) kubernetesClauses(n *yaml.Node, path string, dir Direction, namespace string) []Clause {
	from := "from"
	if dir == Egress {
		from = "to"
	}
	var out []Clause
	d.list(n, path, func(n *yaml.Node, at string) {
		c := Clause{Direction: dir, Section: dir.String() + at[len(path):], Line: n.Line, Peers: Peers{Any: true}}
		d.object(n, at, map[string]reader{
			from: func(n *yaml.Node, path string) {
				c.Peers.Any = empty(n)
				d.list(n, path, func(n *yaml.Node, path string) { d.kubernetesPeer(n, path, namespace, &c.Peers) })
			},
			"ports": func(n *yaml.Node, path string) {
				d.list(n, path, func(n *yaml.Node, path string) { d.kubernetesPort(n, path, &c) })
			},
		})
		out = append(out, c)
	})
	return out
}

// kubernetesPeer reads one peer: hosts by their labels, those of their
// namespace or both, or else addresses. Labels alone mean hosts of namespace.
func (d *decoder) kubernetesPeer(n *yaml.Node, path, namespace string, peers *Peers) {
	before := len(d.problems)
	var (
		pods, namespaces identity.Selector
		given            []string
	)
	note := func(read reader) reader {
		return func(n *yaml.Node, path string) {
			given = append(given, lastField(path))
			read(n, path)
		}
	}
	whole := d.object(n, path, map[string]reader{
		"podSelector":       note(func(n *yaml.Node, path string) { pods = d.podSelector(n, path) }),
		"namespaceSelector": note(func(n *yaml.Node, path string) { namespaces = d.namespaceSelector(n, path) }),
		"ipBlock":           note(func(n *yaml.Node, path string) { d.ipBlock(n, path, peers) }),
	})
	blocks := slices.Contains(given, "ipBlock")
	switch {
	case len(d.problems) > before || !whole:
	case len(given) == 0:
		d.refuse(n, path, "names nobody: write podSelector, namespaceSelector or ipBlock")
	case blocks && len(given) > 1:
		d.refuse(n, path, "ipBlock stands beside a selector, which Kubernetes refuses: write an item for each")
	case !blocks && !slices.Contains(given, "namespaceSelector"):
		peers.Endpoints = append(peers.Endpoints, append(pods, is(identity.KeyNamespace, namespace)))
	case !blocks:
		peers.Endpoints = append(peers.Endpoints, append(namespaces, pods...))
	}
}

// podSelector reads a selector whose keys are Kubernetes' own.
func (d *decoder) podSelector(n *yaml.Node, path string) identity.Selector {
	return d.sourced(d.selector(n, path), n, path)
}

// namespaceSelector reads a selector of namespaces, whose labels identities
// carry under keys of their own. {} is every namespace.
func (d *decoder) namespaceSelector(n *yaml.Node, path string) identity.Selector {
	s := d.sourced(d.selector(n, path), n, path)
	for i := range s {
		s[i].Key = identity.NamespaceLabels + s[i].Key
	}
	if len(s) == 0 {
		return identity.Selector{{Source: identity.SourceK8s, Key: identity.KeyNamespace, Operator: identity.Exists}}
	}
	return s
}

// sourced gives every key of s the source that labels of Kubernetes have.
func (d *decoder) sourced(s identity.Selector, n *yaml.Node, path string) identity.Selector {
	for i, r := range s {
		if r.Source != identity.SourceAny {
			d.refuse(n, path, "label key %q has a source, which Kubernetes does not know: leave out what stands before ':'", r.Source+":"+r.Key)
		}
		s[i].Source = identity.SourceK8s
	}
	return s
}

// ipBlock reads a prefix without some of its parts, which must leave something.
func (d *decoder) ipBlock(n *yaml.Node, path string, peers *Peers) {
	before := len(d.problems)
	var c CIDR
	whole := d.object(n, path, map[string]reader{
		"cidr": func(n *yaml.Node, path string) { c.Prefix = d.prefixNode(n, path) },
		"except": func(n *yaml.Node, path string) {
			d.list(n, path, func(n *yaml.Node, path string) { c.Except = append(c.Except, d.prefixNode(n, path)) })
		},
	})
	switch {
	case len(d.problems) > before || !whole:
	case !c.Prefix.IsValid():
		d.refuse(n, join(path, "cidr"), "is missing: write a prefix such as 192.0.2.0/24")
	case slices.Contains(c.Except, c.Prefix):
		d.refuse(n, join(path, "except"), "leaves nothing of %s, which Kubernetes refuses: remove the item", c.Prefix)
	case d.partsOf(c.Prefix, c.Except, n, path):
		peers.CIDRs = append(peers.CIDRs, c)
	}
}

// kubernetesPort reads one port, of TCP unless it says otherwise: a number, a
// name, a range, or every port of the protocol.
func (d *decoder) kubernetesPort(n *yaml.Node, path string, c *Clause) {
	before := len(d.problems)
	p := port{PortRange: PortRange{Protocol: protocolTCP}}
	var number, end *yaml.Node
	whole := d.object(n, path, map[string]reader{
		"port":     func(n *yaml.Node, _ string) { number = n },
		"endPort":  func(n *yaml.Node, _ string) { end = n },
		"protocol": func(n *yaml.Node, path string) { p.Protocol = d.kubernetesProtocol(n, path) },
	})
	switch {
	case len(d.problems) > before || !whole:
		return
	case number == nil && end != nil:
		d.refuse(end, join(path, "endPort"), "needs port, where the range begins")
		return
	case number == nil:
		p.Last = 65535
	case !d.kubernetesPortNumber(number, join(path, "port"), &p):
		return
	case end != nil && !d.lastPort(end, join(path, "endPort"), &p):
		return
	}
	p.into(c)
}

// kubernetesPortNumber reads a port, which Kubernetes takes as a number without
// quotes, or else as a name.
func (d *decoder) kubernetesPortNumber(n *yaml.Node, path string, p *port) bool {
	text := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str"
	if text && isPortName(n.Value) && n.Value == strings.ToLower(n.Value) {
		return d.portNumber(n, path, p)
	}
	v, ok := decimal(n)
	if !ok || v < 1 || v > 65535 {
		d.refuse(n, path, "%s is not a port: write a number from 1 to 65535 without quotes, or a name in lower case, or leave port out for every port", describe(n))
		return false
	}
	p.First, p.Last = uint16(v), uint16(v)
	return true
}

func (d *decoder) kubernetesProtocol(n *yaml.Node, path string) uint8 {
	s, ok := d.text(n, path)
	if !ok {
		return 0
	}
	p, err := ParseProtocol(s)
	if err != nil || !hasPorts(p) || s != ProtocolName(p) {
		d.refuse(n, path, "protocol %q is unknown: use TCP, UDP or SCTP", shorten(s))
	}
	return p
}
