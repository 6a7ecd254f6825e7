package plan

import "github.com/plexusmesh/plexus/policy"

// place is where a clause stands.
type place struct{ policy, section string }

// logs returns what policies want shown with the flows that a rule decides
// (Cilium: spec.log.value), for those of rules that have something.
func logs(policies []policy.Policy, rules map[policy.RuleID]policy.RuleRef) map[policy.RuleID]string {
	byPlace := make(map[place]string)
	for i := range policies {
		for _, r := range policies[i].Rules {
			if r.Log == "" {
				continue
			}
			for _, c := range r.Clauses {
				byPlace[place{policies[i].ID(), c.Section}] = r.Log
			}
		}
	}
	if len(byPlace) == 0 {
		return nil
	}
	out := make(map[policy.RuleID]string)
	for id, ref := range rules {
		if text := byPlace[place{ref.Policy, ref.Section}]; text != "" {
			out[id] = text
		}
	}
	return out
}
