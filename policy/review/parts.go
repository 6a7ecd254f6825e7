package review

import (
	"net/netip"

	"github.com/plexusmesh/plexus/policy"
)

// pair are the verdicts of one subject before a change and after it.
type pair struct{ before, after policy.Verdicts }

// parted returns what is said to each of subjects with prefixes in the same parts
// before and after. An entry about a prefix means the addresses that no longer
// prefix holds: where one of those goes or comes, the same entry is about others.
func (r *reviewer) parted() []pair {
	out := make([]pair, len(r.subjects))
	var differ []int
	var subjects []policy.Subject
	parts := policy.Clause{Section: "parts", PortNames: []policy.PortName{{}}} // every port has a name, so that this gives no entry
	added := make(map[netip.Prefix]bool)
	for i, s := range r.subjects {
		out[i] = pair{s.before, s.after}
		odd := out[i].odd()
		if len(odd) == 0 {
			continue
		}
		differ, subjects = append(differ, i), append(subjects, s.Subject)
		for _, p := range odd {
			if !added[p] {
				added[p], parts.Peers.CIDRs = true, append(parts.Peers.CIDRs, policy.CIDR{Prefix: p})
			}
		}
	}
	cut := policy.Policy{Kind: policy.Clusterwide, Rules: []policy.Rule{{Clauses: []policy.Clause{parts}}}}
	before := policy.CompileAll(append(r.before[:len(r.before):len(r.before)], cut), subjects, r.mesh.World)
	after := policy.CompileAll(append(r.after[:len(r.after):len(r.after)], cut), subjects, r.mesh.World)
	for j, i := range differ {
		out[i] = pair{before[j], after[j]}
	}
	return out
}

// odd returns the prefixes that some of p's verdicts, the staged ones too, name
// and others do not.
func (p pair) odd() []netip.Prefix {
	all := []policy.Verdicts{p.before, p.after, withStaged(p.before), withStaged(p.after)}
	counts := make(map[netip.Prefix]int)
	for _, v := range all {
		for prefix := range v.Prefixes {
			counts[prefix]++
		}
	}
	var out []netip.Prefix
	for prefix, n := range counts {
		if n < len(all) {
			out = append(out, prefix)
		}
	}
	return out
}
