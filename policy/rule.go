package policy

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
)

// section is one of the four lists of clauses.
type section struct {
	name      string
	direction Direction
	deny      bool
}

var sections = []section{
	{"ingress", Ingress, false}, {"ingressDeny", Ingress, true},
	{"egress", Egress, false}, {"egressDeny", Egress, true},
}

// posture is enableDefaultDeny as written: nil where it says nothing.
type posture [2]*bool

// rule reads spec or an item of specs.
func (d *decoder) rule(n *yaml.Node, path string, p *Policy) {
	r := Rule{Path: path}
	var (
		selectors []*yaml.Node
		said      posture
		present   = make(map[string]*yaml.Node)
	)
	fields := map[string]reader{
		"description":       d.into(&r.Description),
		"labels":            d.ruleLabels,
		"enableDefaultDeny": func(n *yaml.Node, path string) { said = d.posture(n, path) },
	}
	for _, name := range []string{"endpointSelector", "nodeSelector"} {
		fields[name] = func(n *yaml.Node, path string) {
			selectors = append(selectors, n)
			r.Subject = d.subject(n, path, p)
		}
	}
	for _, s := range sections {
		fields[s.name] = func(n *yaml.Node, path string) {
			present[s.name] = n
			r.Clauses = append(r.Clauses, d.clauses(n, path, s)...)
		}
	}
	if !d.object(n, path, fields) {
		return
	}
	d.oneSelector(n, path, selectors)
	d.sectionsMean(n, path, present, said)
	r.DefaultDeny = defaultDeny(r.Clauses, said)
	p.Rules = append(p.Rules, r)
}

func (d *decoder) oneSelector(n *yaml.Node, path string, selectors []*yaml.Node) {
	switch len(selectors) {
	case 0:
		d.refuse(n, path, "selects no host: write endpointSelector, with {} for every host")
	case 2:
		d.refuse(selectors[1], path, "endpointSelector and nodeSelector exclude each other: keep one, both select hosts")
	}
}

// sectionsMean refuses a rule that decides nothing, and lists that look as if
// they denied everything but do nothing.
func (d *decoder) sectionsMean(n *yaml.Node, path string, present map[string]*yaml.Node, said posture) {
	if len(present) == 0 {
		d.refuse(n, path, "decides nothing: write ingress, ingressDeny, egress or egressDeny; \"ingress: [{}]\" denies all that no other policy allows")
	}
	for _, s := range sections {
		list := present[s.name]
		enforced := said[s.direction] != nil && *said[s.direction]
		if list != nil && list.Kind == yaml.SequenceNode && len(list.Content) == 0 && !enforced {
			d.refuse(list, join(path, s.name), "an empty list does nothing: leave it out, or write \"%s: [{}]\" to deny all that no other policy allows", strings.TrimSuffix(s.name, "Deny"))
		}
	}
}

// defaultDeny decides for each direction as Cilium does: what is said, or else
// whether there is any clause.
func defaultDeny(clauses []Clause, said posture) (deny [2]bool) {
	for _, c := range clauses {
		deny[c.Direction] = true
	}
	for dir, s := range said {
		if s != nil {
			deny[dir] = *s
		}
	}
	return deny
}

func (d *decoder) posture(n *yaml.Node, path string) (said posture) {
	fields := make(map[string]reader, len(said))
	for _, dir := range []Direction{Ingress, Egress} {
		fields[dir.String()] = func(n *yaml.Node, path string) {
			if v, ok := d.truth(n, path); ok {
				said[dir] = &v
			}
		}
	}
	d.object(n, path, fields)
	return said
}

// ruleLabels reads the names that a rule may carry in Cilium. Nothing is
// decided by them.
func (d *decoder) ruleLabels(n *yaml.Node, path string) {
	d.list(n, path, func(n *yaml.Node, path string) {
		var s string
		d.object(n, path, map[string]reader{"key": d.into(&s), "value": d.into(&s), "source": d.into(&s)})
	})
}

// subject reads which hosts a rule is about. A selector of a namespaced policy
// cannot reach out of its namespace, and is refused where it says so.
func (d *decoder) subject(n *yaml.Node, path string, p *Policy) identity.Selector {
	if strings.HasSuffix(path, "nodeSelector") && p.Kind == Namespaced {
		d.refuse(n, path, "hosts of every namespace are selected by a %s only: use that kind, or endpointSelector", Clusterwide)
	}
	s := d.selector(n, path)
	if p.Kind == Namespaced && s.Mentions(identity.KeyNamespace) {
		d.refuse(n, path, "a %s selects hosts of its own namespace only: remove %s, and set metadata.namespace", Namespaced, identity.KeyNamespace)
	}
	return s
}
