package policy

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

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
		"labels":            func(n *yaml.Node, path string) { r.Labels = d.ruleLabels(n, path) },
		"enableDefaultDeny": func(n *yaml.Node, path string) { said = d.posture(n, path) },
		"log":               func(n *yaml.Node, path string) { r.Log = d.log(n, path) },
		"enforcement":       func(n *yaml.Node, path string) { r.Staged = d.staged(n, path) },
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
// they denied everything but do nothing. Cilium refuses a rule without any entry,
// whatever it says of default deny.
func (d *decoder) sectionsMean(n *yaml.Node, path string, present map[string]*yaml.Node, said posture) {
	if len(present) == 0 {
		d.refuse(n, path, "decides nothing: write ingress, ingressDeny, egress or egressDeny; \"ingress: [{}]\" denies all that no other policy allows")
	}
	entries := 0
	for _, list := range present {
		entries += len(list.Content)
	}
	for _, s := range sections {
		list := present[s.name]
		enforced := entries > 0 && said[s.direction] != nil && *said[s.direction]
		if list != nil && list.Kind == yaml.SequenceNode && empty(list) && !enforced {
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
func (d *decoder) ruleLabels(n *yaml.Node, path string) identity.Labels {
	var out []identity.Label
	d.list(n, path, func(n *yaml.Node, path string) {
		var l identity.Label
		whole := d.object(n, path, map[string]reader{"key": d.into(&l.Key), "value": d.into(&l.Value), "source": d.into(&l.Source)})
		if whole && l.Key == "" {
			d.refuse(n, join(path, "key"), "is missing: give the label a key")
		}
		out = append(out, l)
	})
	return identity.NewLabels(out...)
}

// maxLog is Cilium's bound on log.value, in characters.
const maxLog = 32

// log reads what is shown with flows that the rule decides.
func (d *decoder) log(n *yaml.Node, path string) (value string) {
	whole := d.object(n, path, map[string]reader{"value": d.into(&value)})
	hidden := func(r rune) bool { return unicode.Is(unicode.C, r) }
	switch {
	case whole && empty(n):
		d.refuse(n, join(path, "value"), "is missing: write the text to show with flows")
	case utf8.RuneCountInString(value) > maxLog || strings.ContainsFunc(value, hidden):
		d.refuse(n, join(path, "value"), "%q is too long or not printable: use at most %d printable characters", shorten(value), maxLog)
	}
	return value
}

// staged reads the one field that Cilium does not have: whether a rule has
// effect, or is only judged and reported.
func (d *decoder) staged(n *yaml.Node, path string) bool {
	s, ok := d.text(n, path)
	if ok && s != "staged" && s != "enforced" {
		d.refuse(n, path, "%q is unknown: write staged, to report without effect, or enforced", shorten(s))
	}
	return s == "staged"
}

// subject reads which hosts a rule is about. A selector of a namespaced policy
// cannot reach out of its namespace, and is refused where it tries.
func (d *decoder) subject(n *yaml.Node, path string, p *Policy) identity.Selector {
	if strings.HasSuffix(path, "nodeSelector") && p.Kind == Namespaced {
		d.refuse(n, path, "hosts of every namespace are selected by a %s only: use that kind, or endpointSelector", Clusterwide)
	}
	s := d.selector(n, path)
	leaves := func(r identity.Requirement) bool {
		return r.Key == identity.KeyNamespace && !(r.Operator == identity.In && slices.Equal(r.Values, []string{p.Namespace}))
	}
	if p.Kind == Namespaced && slices.ContainsFunc(s, leaves) {
		d.refuse(n, path, "a %s selects hosts of its own namespace only: remove %s, and set metadata.namespace", Namespaced, identity.KeyNamespace)
	}
	return s
}
