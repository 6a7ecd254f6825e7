package review

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Bounds on what is written out: lines of a host, and names in a line.
const (
	maxLines = 20
	maxNames = 3
)

// wording puts changes into words.
type wording struct {
	world  map[mesh.Identity]identity.Labels
	before map[string]*policy.Clause // by policy.RuleRef.String
	after  map[string]*policy.Clause
}

func (r *reviewer) wording() wording {
	return wording{r.mesh.World.Labels, clausesByRule(r.before), clausesByRule(r.after)}
}

func clausesByRule(policies []policy.Policy) map[string]*policy.Clause {
	out := make(map[string]*policy.Clause)
	for i := range policies {
		for _, c := range clauses(&policies[i]) {
			out[policy.RuleRef{Policy: policies[i].ID(), Section: c.clause.Section}.String()] = c.clause
		}
	}
	return out
}

// lines says what changes at a host.
func (w wording) lines(d diff) []string {
	out := w.entries("", d)
	if d.renamed > 0 {
		out = append(out, fmt.Sprintf("= %d with the same verdict, from another rule", d.renamed))
	}
	return append(out, w.staged(d)...)
}

// entries says what happens by default, and which verdicts go and come.
func (w wording) entries(prefix string, d diff) []string {
	var out []string
	for _, dir := range []policy.Direction{policy.Ingress, policy.Egress} {
		switch was, is := d.before.Enforced[dir], d.after.Enforced[dir]; {
		case is && !was:
			out = append(out, prefix+dir.String()+": now denies what no rule allows (was open)")
		case was && !is:
			out = append(out, prefix+dir.String()+": now open to what no rule denies (denied what no rule allows)")
		}
	}
	for _, side := range []struct {
		sign     string
		verdicts policy.Verdicts
		entries  []ruled
		clauses  map[string]*policy.Clause
	}{{"- ", d.before, d.gone, w.before}, {"+ ", d.after, d.come, w.after}} {
		all := counts(side.verdicts)
		for _, g := range groups(side.entries) {
			peers := w.peers(g.peers, side.verdicts)
			if c := side.clauses[g.rule.String()]; c != nil && all[g.rule] == g.count {
				peers = peersText(c.Peers)
			}
			out = append(out, prefix+side.sign+g.text(peers))
		}
	}
	return out
}

// staged says what staged rules would change, where the change touches them.
func (w wording) staged(d diff) []string {
	before, after := withStaged(d.before), withStaged(d.after)
	if moved := compare(before, after); d.after.Staged == nil || moved.empty() {
		return nil
	}
	return w.entries("staged, without effect: ", compare(d.after, after))
}

// withStaged returns what v would be if staged rules had effect.
func withStaged(v policy.Verdicts) policy.Verdicts {
	if v.Staged != nil {
		return *v.Staged
	}
	return v
}

// counts returns how many entries each rule gives.
func counts(v policy.Verdicts) map[policy.RuleRef]int {
	byID := make(map[policy.RuleID]int, len(v.Rules))
	for _, e := range v.Entries {
		byID[e.Rule]++
	}
	out := make(map[policy.RuleRef]int, len(byID))
	for id, n := range byID {
		out[v.Rules[id]] = n
	}
	return out
}

func (g group) text(peers string) string {
	verdict, ports := "allow", portsText(g.ports)
	if g.deny {
		verdict = "deny"
	}
	if g.dir == policy.Egress {
		return fmt.Sprintf("%s → %s %s (%s)", verdict, peers, ports, g.rule)
	}
	return fmt.Sprintf("%s %s → %s (%s)", verdict, peers, ports, g.rule)
}

// peers names identities.
func (w wording) peers(ids []mesh.Identity, v policy.Verdicts) string {
	var names []string
	for i, id := range ids {
		if i == maxNames && len(ids) > maxNames+1 {
			names = append(names, fmt.Sprintf("and %d more", len(ids)-i))
			break
		}
		names = append(names, w.name(id, v))
	}
	return strings.Join(names, ", ")
}

func (w wording) name(id mesh.Identity, v policy.Verdicts) string {
	switch {
	case id == policy.AnyIdentity:
		return "anybody"
	case identity.IsReserved(id):
		return identity.ReservedLabels(id).Strings()[0]
	case identity.IsLocal(id):
		for p, n := range v.Prefixes {
			if n == id {
				return p.String()
			}
		}
	}
	return labelsText(w.world[id])
}

// labelsText writes labels as people gave them, without those that every host
// carries.
func labelsText(ls identity.Labels) string {
	var out []string
	for _, l := range ls {
		if !strings.HasPrefix(l.Key, "io.cilium.") && !strings.HasPrefix(l.Key, "io.kubernetes.") {
			out = append(out, l.Key+"="+l.Value)
		}
	}
	if len(out) == 0 {
		return "a host without labels"
	}
	return strings.Join(out, ",")
}

// peersText writes peers as their rule has them.
func peersText(p policy.Peers) string {
	var out []string
	if p.Any {
		out = append(out, "anybody")
	}
	for _, s := range p.Endpoints {
		out = append(out, selectorText(s))
	}
	for _, s := range p.Nodes {
		out = append(out, "node "+selectorText(s))
	}
	for _, e := range p.Entities {
		out = append(out, string(e))
	}
	for _, c := range p.CIDRs {
		out = append(out, exceptText(c.Prefix.String(), c.Except))
	}
	for _, g := range p.Groups {
		name := "group " + g.Name
		if g.Name == "" {
			name = "groups " + selectorText(g.Selector)
		}
		out = append(out, exceptText(name, g.Except))
	}
	if len(out) > maxNames+1 {
		out = append(out[:maxNames], fmt.Sprintf("and %d more", len(out)-maxNames))
	}
	return strings.Join(out, ", ")
}

func exceptText[T fmt.Stringer](what string, except []T) string {
	for i, e := range except {
		if i == 0 {
			what += " except "
		} else {
			what += " and "
		}
		what += e.String()
	}
	return what
}

func selectorText(s identity.Selector) string {
	var out []string
	for _, r := range s {
		out = append(out, requirementText(r))
	}
	if len(out) == 0 {
		return "every host in scope"
	}
	return strings.Join(out, ",")
}

func requirementText(r identity.Requirement) string {
	key := r.Key
	if r.Source != identity.SourceAny && r.Source != identity.SourceK8s {
		key = r.Source + ":" + key
	}
	values := "(" + strings.Join(r.Values, " ") + ")"
	switch r.Operator {
	case identity.In:
		if len(r.Values) == 1 {
			return strings.TrimSuffix(key+"="+r.Values[0], "=")
		}
		return key + " in " + values
	case identity.NotIn:
		return key + " not in " + values
	case identity.DoesNotExist:
		return "no " + key
	}
	return "any " + key
}

// portsText writes blocks of ports as ranges.
func portsText(keys []policy.Key) string {
	type span struct{ first, last int }
	spans := make(map[uint8][]span)
	for _, k := range keys {
		first, last := int(k.Port), int(k.Port)|(1<<(16-k.PortBits)-1)
		of := spans[k.Protocol]
		if n := len(of); n > 0 && of[n-1].last+1 >= first {
			of[n-1].last = max(of[n-1].last, last)
			continue
		}
		spans[k.Protocol] = append(of, span{first, last})
	}
	var out []string
	for _, protocol := range slices.Sorted(maps.Keys(spans)) {
		for _, s := range spans[protocol] {
			out = append(out, portText(protocol, s.first, s.last))
		}
	}
	if len(out) > maxNames+1 {
		out = append(out[:maxNames], fmt.Sprintf("and %d more", len(out)-maxNames))
	}
	return strings.Join(out, ", ")
}

func portText(protocol uint8, first, last int) string {
	name := policy.ProtocolName(protocol)
	switch icmp := protocol == 1 || protocol == 58; {
	case protocol == 0:
		return "every port"
	case first == 0 && last == 65535:
		return name
	case icmp && first>>8 == last>>8:
		return fmt.Sprintf("%s type %d", name, first>>8)
	case icmp:
		return fmt.Sprintf("%s types %d to %d", name, first>>8, last>>8)
	case first == last:
		return fmt.Sprintf("%d/%s", first, name)
	}
	return fmt.Sprintf("%d-%d/%s", first, last, name)
}

// bounded keeps a host's lines few.
func bounded(lines []string) []string {
	if len(lines) <= maxLines {
		return lines
	}
	return append(lines[:maxLines:maxLines], fmt.Sprintf("… and %d more changes", len(lines)-maxLines))
}
