package review

import (
	"fmt"
	"maps"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/policy"
)

// lintPeers warns of selectors of peers that mean nobody.
func (r *reviewer) lintPeers() {
	asked := make(map[string][]question) // by namespace
	for _, p := range r.changed {
		for _, c := range clauses(p) {
			for _, s := range slices.Concat(c.clause.Peers.Endpoints, c.clause.Peers.Nodes) {
				asked[p.Namespace] = append(asked[p.Namespace], question{c, s, slices.ContainsFunc(c.clause.Peers.Nodes, same(s))})
			}
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(asked)) {
		for batch := range slices.Chunk(asked[namespace], maxQuestions) {
			r.ask(namespace, batch)
		}
	}
}

// question is whether a selector means anybody.
type question struct {
	clauseOf
	selector identity.Selector
	node     bool
}

func same(s identity.Selector) func(identity.Selector) bool {
	return func(o identity.Selector) bool { return len(s) == len(o) && (len(s) == 0 || &s[0] == &o[0]) }
}

// maxQuestions is how many selectors are looked up at a time: as many as there
// are ports.
const maxQuestions = 65535

// ask looks the selectors up with the compiler, the only one who knows what they
// mean: it compiles, for some host of the namespace, rules that let each selector
// have a port of its own.
func (r *reviewer) ask(namespace string, questions []question) {
	probes := make([]policy.Policy, len(questions))
	for i, q := range questions {
		peers := policy.Peers{Endpoints: []identity.Selector{q.selector}}
		if q.node {
			peers = policy.Peers{Nodes: peers.Endpoints}
		}
		port := uint16(i + 1)
		probes[i] = policy.Policy{Kind: q.policy.Kind, Namespace: namespace, Name: fmt.Sprint(i), Rules: []policy.Rule{{
			Clauses: []policy.Clause{{Peers: peers, Ports: []policy.PortRange{{Protocol: tcp, First: port, Last: port}}}},
		}}}
	}
	someone := identity.NewLabels(identity.Label{Source: identity.SourceK8s, Key: identity.KeyNamespace, Value: namespace})
	v := policy.Compile(probes, policy.Subject{Labels: someone, Cluster: r.mesh.Cluster, EveryCluster: r.mesh.EveryCluster}, r.mesh.World)
	found := make([]bool, len(questions)+1)
	for k := range v.Entries {
		found[k.Port] = true
	}
	for i, q := range questions {
		if !found[i+1] {
			r.report(SeverityWarning, CodeNobodyCarries, q.at(), "selects no peer: nobody in its scope is %s%s", selectorText(q.selector), r.hint(q.selector))
		}
	}
}

// hint names the label that a selector probably means, if it asks for one that
// nobody carries and somebody carries one that is almost it.
func (r *reviewer) hint(s identity.Selector) string {
	for _, want := range s {
		if want.Operator == identity.DoesNotExist || want.Operator == identity.NotIn {
			continue
		}
		if like := r.nearest(want); like != "" {
			return fmt.Sprintf("; did you mean %s?", like)
		}
	}
	return ""
}

// nearest returns a label that somebody carries and that one typing error turns
// into one that want asks for; "" where want finds somebody by itself.
func (r *reviewer) nearest(want identity.Requirement) string {
	best := ""
	for _, labels := range r.mesh.World.Labels {
		for _, l := range labels {
			if want.Operator == identity.Exists && l.Key == want.Key || l.Key == want.Key && slices.Contains(want.Values, l.Value) {
				return ""
			}
			if like(want, l) && (best == "" || l.Key+"="+l.Value < best) {
				best = l.Key + "=" + l.Value
			}
		}
	}
	return best
}

func like(want identity.Requirement, l identity.Label) bool {
	switch {
	case want.Operator == identity.Exists:
		return oneSlip(want.Key, l.Key)
	case l.Key == want.Key:
		return slices.ContainsFunc(want.Values, func(v string) bool { return oneSlip(v, l.Value) })
	}
	return oneSlip(want.Key, l.Key) && slices.Contains(want.Values, l.Value)
}

// oneSlip reports whether one slip of a finger turns a into b: a letter too many,
// too few or wrong, or two that changed places.
func oneSlip(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	swapped := len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
	return swapped || len(a) <= 1 && len(b) <= 1 && a != b
}
