package review

import (
	"slices"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// lintShadowed warns of entries that allow only what others deny, on every host
// that they are about.
func (r *reviewer) lintShadowed() {
	effective := r.effective()
	for _, p := range r.changed {
		selected := r.selectedBy(p)
		for i := range p.Rules {
			for j := range p.Rules[i].Clauses {
				c := clauseOf{p, &p.Rules[i], &p.Rules[i].Clauses[j]}
				if c.clause.Deny || c.rule.Staged || len(selected[i]) == 0 || effective[c.ref()] {
					continue
				}
				if by := r.shadowed(c, selected[i]); by != "" {
					r.report(SeverityWarning, CodeShadowed, c.at(), "allows nothing: all of it is denied by %s, and a deny beats every allow", by)
				}
			}
		}
	}
}

func (c clauseOf) ref() policy.RuleRef {
	return policy.RuleRef{Policy: c.policy.ID(), Section: c.clause.Section}
}

// effective returns the rules that decide some flow of some host, without their
// lines, and notes where there are denies at all.
func (r *reviewer) effective() map[policy.RuleRef]bool {
	out := make(map[policy.RuleRef]bool)
	for _, s := range r.subjects {
		for k, e := range s.after.Entries {
			s.denies[k.Direction] = s.denies[k.Direction] || e.Deny
		}
		for k, e := range s.after.Entries {
			if !e.Deny && s.denies[k.Direction] {
				if _, denied := denier(s.after, k); denied {
					continue // it stays in the map, and a deny of anybody beats it
				}
			}
			out[where(s.after, e)] = true
		}
	}
	return out
}

// shadowed returns the rule that denies all that c allows on each of subjects, or "".
func (r *reviewer) shadowed(c clauseOf, subjects []*subject) string {
	by := ""
	for _, s := range subjects {
		if !s.denies[c.clause.Direction] {
			return "" // another allow decides what c would
		}
		for k := range r.alone(c, s) {
			deny, ok := denier(s.after, k)
			if !ok {
				return ""
			}
			by = s.after.Rules[deny.Rule].String()
		}
	}
	return by
}

// alone returns what c would allow if there were no other rule. So that prefixes
// fall into the same parts as in all of the policy, a rule of the other direction
// names them.
func (r *reviewer) alone(c clauseOf, s *subject) map[policy.Key]policy.Entry {
	split := policy.Clause{Direction: 1 - c.clause.Direction, Section: "prefixes"}
	for p := range s.after.Prefixes {
		split.Peers.CIDRs = append(split.Peers.CIDRs, policy.CIDR{Prefix: p})
	}
	rule := policy.Rule{Clauses: []policy.Clause{*c.clause, split}}
	rule.DefaultDeny[c.clause.Direction] = true
	one := policy.Policy{Kind: c.policy.Kind, Namespace: c.policy.Namespace, Name: c.policy.Name, Rules: []policy.Rule{rule}}
	policies := []policy.Policy{one}
	for _, p := range r.after {
		if p.Kind == policy.CIDRGroup {
			policies = append(policies, p)
		}
	}
	entries := policy.Compile(policies, s.Subject, r.mesh.World).Entries
	for k := range entries {
		if k.Direction != c.clause.Direction {
			delete(entries, k)
		}
	}
	return entries
}

// denier returns the entry of v that denies every flow of k.
func denier(v policy.Verdicts, k policy.Key) (policy.Entry, bool) {
	for _, identity := range slices.Compact([]mesh.Identity{k.Identity, policy.AnyIdentity}) {
		broader := policy.Key{Identity: identity, Direction: k.Direction}
		if e, ok := v.Entries[broader]; ok && e.Deny {
			return e, true
		}
		broader.Protocol = k.Protocol
		for bits := range k.PortBits + 1 {
			broader.PortBits, broader.Port = bits, k.Port&^(0xffff>>bits)
			if e, ok := v.Entries[broader]; ok && e.Deny && k.Protocol != 0 {
				return e, true
			}
		}
	}
	return policy.Entry{}, false
}

// lintSize refuses what the policy map of a host could not hold.
func (r *reviewer) lintSize() {
	for _, s := range r.subjects {
		if err := s.after.Fits(); err != nil {
			r.report(SeverityError, CodeOverflow, place{}, "policy of %s would not fit: it has %s", some(s.names()), err)
		}
		if s.after.Staged != nil {
			if err := s.after.Staged.Fits(); err != nil {
				r.report(SeverityError, CodeOverflow, place{}, "policy of %s would not fit with its staged rules: it has %s", some(s.names()), err)
			}
		}
	}
}

func (s *subject) names() []string {
	var out []string
	for _, h := range s.hosts {
		out = append(out, h.Name)
	}
	return out
}
