package policy

import (
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// memo holds the verdicts of some rules for one subject, and how they came about.
type memo struct {
	compiler compiler    // as of the last call, CIDR peers included
	selected []*selected // in order of precedence
	rows     rows
	verdicts Verdicts // as of the last call
}

// selected is a selection with a policy of its own, and what its rule states.
type selected struct {
	selection
	statements []*statement
}

// statement is a clause with what rows need of it.
type statement struct {
	clause  *Clause
	entry   Entry
	places  func(mesh.Identity) []place
	rank    int  // in precedence: the lowest decides among equals
	fresh   bool // in no row yet
	gone    bool // no longer stated
	renamed bool // has another rule id than rows had it with, since ids collide
}

// compile returns the verdicts of the rules that select the subject. Where there
// are too many, nothing is remembered: verdicts on the way from one set to another
// may have been too many for a moment only, and what does not fit is of no use.
func (m *memo) compile(selecting []selection, n news) Verdicts {
	began := m.rows.entries != nil
	v := m.update(selecting, n)
	if m.rows.beyond == 0 {
		return v
	}
	if began {
		*m = memo{}
		return m.compile(selecting, n)
	}
	v.AtLeast = len(v.Entries) + m.rows.beyond
	*m = memo{}
	return v
}

func (m *memo) update(selecting []selection, n news) Verdicts {
	m.surround(n.compiler)
	changed := n.peers
	if m.merge(selecting, n.groups) {
		m.name()
		changed = slices.Concat(changed, m.renumber(m.compiler.prefixesOf(selecting)))
		m.rows.sweep()
	}
	m.reconsider(changed)
	m.state()
	m.verdicts.Enforced = enforced(selecting)
	m.verdicts.Entries = m.rows.settle(m.verdicts.Enforced)
	m.verdicts.Prefixes = m.compiler.numbers
	return m.verdicts
}

// surround takes up the world as it is now; CIDR peers stay as they are.
func (m *memo) surround(c compiler) {
	if m.rows.entries == nil {
		m.rows = newRows()
		c.number(nil)
		m.compiler, m.verdicts.Rules = c, make(rules)
		return
	}
	c.prefixes, c.numbers, c.unlocked = m.compiler.prefixes, m.compiler.numbers, m.compiler.unlocked
	m.compiler = c
}

// merge takes up what is selected now, and marks statements that are gone or
// fresh. It reports whether there are any. Both lists are in order, so that what
// is in both is found in one walk.
func (m *memo) merge(selecting []selection, regrouped bool) (changed bool) {
	was := m.selected
	m.selected = make([]*selected, 0, len(selecting))
	drop := func() {
		for _, st := range was[0].statements {
			st.gone = true
		}
		was, changed = was[1:], true
	}
	for _, s := range selecting {
		for len(was) > 0 && was[0].compare(s) < 0 {
			drop()
		}
		if len(was) > 0 && was[0].compare(s) == 0 && sameRule(was[0].selection, s) && !(regrouped && s.rule.refers()) {
			m.selected, was = append(m.selected, was[0]), was[1:]
			continue
		}
		m.selected, changed = append(m.selected, m.stated(s)), true
	}
	for len(was) > 0 {
		drop()
	}
	return changed
}

// stated returns s in a form that keeps nothing of the caller's.
func (m *memo) stated(s selection) *selected {
	own := *s.policy
	s.policy = &own
	out := &selected{selection: s}
	for i := range s.rule.Clauses {
		clause := &s.rule.Clauses[i]
		out.statements = append(out.statements, &statement{
			clause: clause, places: m.compiler.places(clause), entry: Entry{Deny: clause.Deny}, fresh: true,
		})
	}
	return out
}

// refers reports whether r means prefixes that stand elsewhere.
func (r *Rule) refers() bool {
	return slices.ContainsFunc(r.Clauses, func(c Clause) bool { return len(c.Peers.Groups) > 0 })
}

// name gives every statement its rank and its rule id.
func (m *memo) name() {
	named, rank := make(rules, len(m.verdicts.Rules)), 0
	for _, s := range m.selected {
		for _, st := range s.statements {
			id := named.add(s.policy.Kind, RuleRef{Policy: s.id, Section: st.clause.Section, Line: st.clause.Line})
			st.renamed = !st.fresh && st.entry.Rule != id
			st.entry.Rule, st.rank = id, rank
			rank++
		}
	}
	m.verdicts.Rules = named
}

// renumber makes prefixes the CIDR peers, and returns the numbers that mean
// another prefix than before, or none.
func (m *memo) renumber(prefixes []netip.Prefix) []mesh.Identity {
	if slices.Equal(m.compiler.prefixes, prefixes) {
		return nil
	}
	was := m.compiler.numbers
	m.compiler.number(prefixes)
	var out []mesh.Identity
	for p, n := range m.compiler.numbers {
		if was[p] != n {
			out = append(out, n)
		}
	}
	for p, n := range was {
		if m.compiler.numbers[p] != n {
			out = append(out, n)
		}
	}
	return out
}

// reconsider asks of every statement that rows have which of changed it means.
func (m *memo) reconsider(changed []mesh.Identity) {
	if len(changed) == 0 {
		return
	}
	among := make(map[mesh.Identity]bool, len(changed))
	for _, id := range changed {
		among[id] = true
		m.rows.empty(id)
	}
	small := m.compiler.confinedTo(among)
	for _, s := range m.selected {
		for _, st := range s.statements {
			if st.fresh {
				continue // stated to everybody later
			}
			for _, id := range small.peersOf(s.policy, st.clause) {
				if among[id] {
					m.rows.state(id, st)
				}
			}
		}
	}
}

// confinedTo returns a compiler for which nobody but those of some, and reserved
// identities, exist. What a clause means does not depend on who else does.
func (c *compiler) confinedTo(some map[mesh.Identity]bool) *compiler {
	out := *c
	out.world = World{Labels: make(map[mesh.Identity]identity.Labels), Ports: make(map[mesh.Identity][]mesh.NamedPort)}
	for id := range some {
		if ls, known := c.world.Labels[id]; known {
			out.world.Labels[id] = ls
		}
		if ports, known := c.world.Ports[id]; known {
			out.world.Ports[id] = ports
		}
	}
	out.peers = newIndex(out.world.Labels)
	var prefixes []netip.Prefix
	for _, p := range c.prefixes {
		if some[c.numbers[p]] {
			prefixes = append(prefixes, p)
		}
	}
	out.about(prefixes, c.numbers)
	return &out
}

// state has the rows take up fresh statements.
func (m *memo) state() {
	for _, s := range m.selected {
		for _, st := range s.statements {
			if !st.fresh {
				continue
			}
			st.fresh = false
			for _, id := range m.compiler.peersOf(s.policy, st.clause) {
				m.rows.state(id, st)
			}
		}
	}
}
