package review

import (
	"slices"

	"github.com/plexusmesh/plexus/policy"
)

// lint looks for mistakes in what the change adds. What it leaves as it was is
// not spoken of again, apart from a host whose verdicts no longer fit.
func (r *reviewer) lint() {
	names := r.groupNames()
	for _, p := range r.changed {
		selected := r.selectedBy(p)
		for i := range p.Rules {
			r.lintRule(p, &p.Rules[i], selected[i])
		}
		for _, c := range clauses(p) {
			r.lintGroups(c, names)
		}
	}
	r.lintPeers()
	r.lintShadowed()
	r.lintSize()
}

// selectedBy returns, for each rule of p, the subjects that it selects.
func (r *reviewer) selectedBy(p *policy.Policy) [][]*subject {
	out := make([][]*subject, len(p.Rules))
	for i := range p.Rules {
		one := *p
		one.Rules = p.Rules[i : i+1]
		for _, s := range r.subjects {
			if one.Selects(s.Labels) {
				out[i] = append(out[i], s)
			}
		}
	}
	return out
}

func (r *reviewer) lintRule(p *policy.Policy, rule *policy.Rule, selected []*subject) {
	here := place{policy: p, path: rule.Path}
	if len(rule.Clauses) > 0 {
		here.line = rule.Clauses[0].Line
	}
	if len(selected) == 0 {
		r.reportIdle(here, rule)
		return
	}
	if rule.Staged {
		r.report(SeverityWarning, CodeStaged, here, "is staged: flows say what it would decide, and it decides nothing yet")
	}
	for i := range rule.Clauses {
		c := clauseOf{p, rule, &rule.Clauses[i]}
		r.lintPorts(c, selected)
	}
}

// reportIdle reports a rule that is about no host.
func (r *reviewer) reportIdle(here place, rule *policy.Rule) {
	severity := SeverityError
	remedy := "; correct it (plexus identity list shows the labels of hosts), or accept it for hosts to come with --allow-empty"
	if r.opts.AllowEmpty {
		severity, remedy = SeverityWarning, ""
	}
	in := ""
	if ns := here.policy.Namespace; ns != "" {
		in = " of namespace " + ns
	}
	r.report(severity, CodeSelectsNobody, here, "selects no host%s: %s%s%s", in, selectorText(rule.Subject), r.hint(rule.Subject), remedy)
}

func (r *reviewer) groupNames() map[string]bool {
	out := make(map[string]bool)
	for i := range r.after {
		if r.after[i].Kind == policy.CIDRGroup {
			out[r.after[i].Name] = true
		}
	}
	return out
}

func (r *reviewer) lintGroups(c clauseOf, names map[string]bool) {
	for _, g := range c.clause.Peers.Groups {
		if g.Name != "" && !names[g.Name] {
			r.report(SeverityError, CodeNoGroup, c.at(), "refers to CIDR group %q, which does not exist: apply it together with the policy", g.Name)
		}
		if g.Name == "" && !slices.ContainsFunc(r.after, func(p policy.Policy) bool { return p.Kind == policy.CIDRGroup && g.Selector.Matches(p.Labels) }) {
			r.report(SeverityWarning, CodeNoGroup, c.at(), "no CIDR group has the labels %s: the entry means nobody", selectorText(g.Selector))
		}
	}
}
