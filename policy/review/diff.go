package review

import (
	"cmp"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// changes returns what happens to each host, by name, without those to whom
// nothing does.
func (r *reviewer) changes() []HostChange {
	var out []HostChange
	w := r.wording()
	for i, said := range r.parted() {
		s := r.subjects[i]
		d := compare(s.before, s.after)
		c := HostChange{
			Before: len(s.before.Entries), After: len(s.after.Entries),
			Added: d.added, Removed: d.removed, Changed: d.changed, Lines: bounded(w.lines(compare(said.before, said.after))),
		}
		if d.empty() && len(c.Lines) == 0 {
			continue
		}
		for _, h := range s.hosts {
			c.Host = h.Name
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b HostChange) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// diff is the difference of two sets of verdicts.
type diff struct {
	before, after           policy.Verdicts
	added, removed, changed int
	renamed                 int     // of changed: the verdict stays, another rule gives it
	gone, come              []ruled // entries whose verdict is no longer, or newly, there
}

// ruled is an entry with its key and where its rule stands.
type ruled struct {
	key  policy.Key
	deny bool
	ref  policy.RuleRef
}

func compare(before, after policy.Verdicts) diff {
	d := diff{before: before, after: after}
	for k, is := range after.Entries {
		was, existed := before.Entries[k]
		switch {
		case !existed:
			d.added++
			d.come = append(d.come, ruled{k, is.Deny, after.Rules[is.Rule]})
		case was.Deny != is.Deny:
			d.changed++
			d.gone = append(d.gone, ruled{k, was.Deny, before.Rules[was.Rule]})
			d.come = append(d.come, ruled{k, is.Deny, after.Rules[is.Rule]})
		case where(before, was) != where(after, is):
			d.changed++
			d.renamed++
		}
	}
	for k, was := range before.Entries {
		if _, stays := after.Entries[k]; !stays {
			d.removed++
			d.gone = append(d.gone, ruled{k, was.Deny, before.Rules[was.Rule]})
		}
	}
	return d
}

// where returns the rule of an entry without its line, which changes with every
// line of comment before it.
func where(v policy.Verdicts, e policy.Entry) policy.RuleRef {
	ref := v.Rules[e.Rule]
	ref.Line = 0
	return ref
}

func (d diff) empty() bool {
	return d.added+d.removed+d.changed == 0 && d.before.Enforced == d.after.Enforced
}

// group are entries with one rule and one verdict.
type group struct {
	rule  policy.RuleRef
	deny  bool
	dir   policy.Direction
	peers []mesh.Identity // sorted
	ports []policy.Key    // without the peer, sorted
	count int
}

// groups gathers entries by rule, in a stable order. That a direction is open is
// no rule's doing.
func groups(entries []ruled) []group {
	type name struct {
		rule policy.RuleRef
		deny bool
	}
	byRule := make(map[name]*group)
	for _, e := range entries {
		if e.ref == (policy.RuleRef{}) {
			continue
		}
		g, known := byRule[name{e.ref, e.deny}]
		if !known {
			g = &group{rule: e.ref, deny: e.deny, dir: e.key.Direction}
			byRule[name{e.ref, e.deny}] = g
		}
		port := e.key
		port.Identity = 0
		g.peers, g.ports = append(g.peers, e.key.Identity), append(g.ports, port)
		g.count++
	}
	out := make([]group, 0, len(byRule))
	for _, g := range byRule {
		slices.Sort(g.peers)
		slices.SortFunc(g.ports, policy.Key.Compare)
		g.peers, g.ports = slices.Compact(g.peers), slices.Compact(g.ports)
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.rule.Policy, b.rule.Policy), cmp.Compare(a.rule.Line, b.rule.Line),
			cmp.Compare(a.rule.Section, b.rule.Section), cmp.Compare(len(a.peers), len(b.peers)))
	})
	return out
}
