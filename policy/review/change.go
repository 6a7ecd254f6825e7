package review

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// reviewer holds one review while it is made.
type reviewer struct {
	before, after []policy.Policy
	mesh          Mesh
	opts          Options

	changed  []*policy.Policy    // of after: those that are new or differ
	subjects []*subject          // whom the change concerns, hosts that are alike together
	byHost   map[string]*subject // the same by name of host
	owners   map[netip.Addr]mesh.Identity
	findings []Finding
}

// subject is one or more hosts that policy cannot tell apart.
type subject struct {
	policy.Subject
	hosts         []*Host
	before, after policy.Verdicts
	denies        [2]bool // by Direction: whether after denies something by a rule
}

func newReviewer(before, after []policy.Policy, m Mesh, o Options) *reviewer {
	r := &reviewer{before: before, after: after, mesh: m, opts: o, byHost: make(map[string]*subject), owners: m.owners()}
	r.changed = differing(after, before)
	r.gather(slices.Concat(r.changed, differing(before, after)))
	r.compile()
	return r
}

// gather finds the hosts that about selects. What a CIDR group says, those
// policies say too that refer to groups.
func (r *reviewer) gather(about []*policy.Policy) {
	if slices.ContainsFunc(about, func(p *policy.Policy) bool { return p.Kind == policy.CIDRGroup }) {
		about = slices.Concat(about, referring(r.before), referring(r.after))
	}
	concerned := make(map[string]bool) // by labels
	alike := make(map[string]*subject)
	for i := range r.mesh.Hosts {
		h := &r.mesh.Hosts[i]
		labels := h.Labels.String()
		is, known := concerned[labels]
		if !known {
			is = slices.ContainsFunc(about, func(p *policy.Policy) bool { return p.Selects(h.Labels) })
			concerned[labels] = is
		}
		if is {
			r.add(h, alike)
		}
	}
}

func (r *reviewer) add(h *Host, alike map[string]*subject) {
	key := fmt.Sprint(h.Identity, h.NamedPorts)
	s, known := alike[key]
	if !known {
		s = &subject{Subject: r.mesh.subject(h)}
		alike[key], r.subjects = s, append(r.subjects, s)
	}
	s.hosts = append(s.hosts, h)
	r.byHost[h.Name] = s
}

func (r *reviewer) compile() {
	subjects := make([]policy.Subject, len(r.subjects))
	for i, s := range r.subjects {
		subjects[i] = s.Subject
	}
	before := policy.CompileAll(r.before, subjects, r.mesh.World)
	after := policy.CompileAll(r.after, subjects, r.mesh.World)
	for i, s := range r.subjects {
		s.before, s.after = before[i], after[i]
	}
}

// differing returns those of policies that others has not, word for word.
func differing(policies, others []policy.Policy) []*policy.Policy {
	known := make(map[string]string, len(others))
	for _, p := range others {
		known[p.ID()] = p.Source
	}
	var out []*policy.Policy
	for i := range policies {
		if source, exists := known[policies[i].ID()]; !exists || source != policies[i].Source {
			out = append(out, &policies[i])
		}
	}
	return out
}

// referring returns the policies that name CIDR groups.
func referring(policies []policy.Policy) []*policy.Policy {
	var out []*policy.Policy
	for i := range policies {
		for _, c := range clauses(&policies[i]) {
			if len(c.clause.Peers.Groups) > 0 {
				out = append(out, &policies[i])
				break
			}
		}
	}
	return out
}

// clauseOf is a clause with its rule and policy.
type clauseOf struct {
	policy *policy.Policy
	rule   *policy.Rule
	clause *policy.Clause
}

func (c clauseOf) at() place { return at(c.policy, c.rule, c.clause) }

// clauses returns all clauses of p.
func clauses(p *policy.Policy) []clauseOf {
	var out []clauseOf
	for i := range p.Rules {
		rule := &p.Rules[i]
		for j := range rule.Clauses {
			out = append(out, clauseOf{p, rule, &rule.Clauses[j]})
		}
	}
	return out
}
