package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/policy"
)

// why says in words what made host decide.
func (c *court) why(host string, dir policy.Direction, d policy.Decision, staged bool) string {
	switch {
	case d.Rule != 0 && d.Allowed:
		return fmt.Sprintf("allowed by %s", d.Ref)
	case d.Rule != 0:
		return fmt.Sprintf("denied by %s", d.Ref)
	case !d.Allowed:
		return fmt.Sprintf("denied: %s selects %s for %s, and no rule allows this", c.closing(dir, staged), host, dir)
	case c.touches(dir, staged):
		return fmt.Sprintf("no policy makes %s deny by default for %s, and no rule denies this: open", host, dir)
	}
	return fmt.Sprintf("no policy selects %s for %s: open", host, dir)
}

// posture is what rules about a direction say to the subject as a whole.
type posture struct {
	closing []string // policies that make it deny what no rule allows
	about   bool     // whether some rule is about the direction
}

// postures are those by staged, whether staged rules count, and Direction.
type postures [2][2]posture

func (p *postures) of(dir policy.Direction, staged bool) posture {
	if staged {
		return p[1][dir]
	}
	return p[0][dir]
}

// closing names the policies because of which the subject denies what no rule
// allows.
func (c *court) closing(dir policy.Direction, staged bool) string {
	const most = 3
	names := c.postures().of(dir, staged).closing
	if len(names) > most {
		return fmt.Sprintf("policy %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return "policy " + strings.Join(names, ", ")
}

func (c *court) touches(dir policy.Direction, staged bool) bool {
	return c.postures().of(dir, staged).about
}

// postures finds them once, from the rules that select the subject.
func (c *court) postures() *postures {
	if c.found != nil {
		return c.found
	}
	c.found = new(postures)
	for i := range c.policies {
		p := &c.policies[i]
		for j := range p.Rules {
			one := *p
			if one.Rules = p.Rules[j : j+1]; one.Selects(c.subject.Labels) {
				c.found.note(p.ID(), &p.Rules[j])
			}
		}
	}
	return c.found
}

func (p *postures) note(id string, r *policy.Rule) {
	for staged := range p {
		if r.Staged && staged == 0 {
			continue
		}
		for dir := range p[staged] {
			f := &p[staged][dir]
			if r.DefaultDeny[dir] && !slices.Contains(f.closing, id) {
				f.closing = append(f.closing, id)
			}
			f.about = f.about || slices.ContainsFunc(r.Clauses, func(c policy.Clause) bool { return c.Direction == policy.Direction(dir) })
		}
	}
}

// ruleOf returns the policy that has a rule, and its description.
func ruleOf(policies []policy.Policy, ref policy.RuleRef) (*policy.Policy, string) {
	if ref.Policy == "" {
		return nil, ""
	}
	for i := range policies {
		p := &policies[i]
		if p.ID() != ref.Policy {
			continue
		}
		for _, r := range p.Rules {
			for _, c := range r.Clauses {
				if c.Section == ref.Section {
					return p, r.Description
				}
			}
		}
	}
	return nil, ""
}
