package policy

import "github.com/plexusmesh/plexus/mesh"

// compileAnew is what [Compile] must come to: every verdict is gathered in one
// table, whose settling can be seen at a glance. It forgets nothing and
// remembers nothing, and takes the memory that it takes.
func compileAnew(policies []Policy, subject Subject, world World) Verdicts {
	c := compiler{subject: subject, world: world, groups: cidrGroups(policies), peers: newIndex(world.Labels)}
	all := selecting(policies, subject.Labels)
	effective := inForce(all)
	v := c.compile(effective)
	if len(effective) < len(all) {
		staged := c.compile(all)
		v.Staged = &staged
	}
	return v
}

// compile returns the verdicts of the rules that select the subject. A compiler
// may compile several times.
func (c compiler) compile(selecting []selection) Verdicts {
	c.number(c.prefixesOf(selecting))
	v := Verdicts{Prefixes: c.numbers, Rules: make(map[RuleID]RuleRef), Enforced: enforced(selecting)}
	t := table{entries: make(map[Key]Entry)}
	for _, s := range selecting {
		for i := range s.rule.Clauses {
			clause := &s.rule.Clauses[i]
			ref := RuleRef{Policy: s.id, Section: clause.Section, Line: clause.Line}
			entry := Entry{Deny: clause.Deny, Rule: rules(v.Rules).add(s.policy.Kind, ref)}
			keys := c.keys(clause)
			for _, peer := range c.peersOf(s.policy, clause) {
				t.put(peer, clause.Direction, keys(peer), entry)
			}
		}
	}
	v.Entries = t.resolve(v.Enforced)
	return v
}

// table gathers entries and settles which of them stand.
type table struct {
	entries map[Key]Entry
	denied  map[peerFlows]bool // where some entry denies
}

// peerFlows are the flows of one peer in one direction.
type peerFlows struct {
	peer      mesh.Identity
	direction Direction
}

// put adds an entry for each key, which lack peer and direction.
func (t *table) put(peer mesh.Identity, direction Direction, keys []Key, e Entry) {
	for _, k := range keys {
		k.Identity, k.Direction = peer, direction
		t.add(k, e)
	}
}

// add adds an entry. Of two for the same key, the one that denies stands, or
// else the first.
func (t *table) add(k Key, e Entry) {
	was, exists := t.entries[k]
	if exists && (was.Deny || !e.Deny) {
		return
	}
	t.entries[k] = e
	if e.Deny {
		if t.denied == nil {
			t.denied = make(map[peerFlows]bool)
		}
		t.denied[peerFlows{k.Identity, k.Direction}] = true
	}
}

// resolve returns the entries with which the longest match decides rightly. A
// direction that nothing enforces is open to every peer.
func (t *table) resolve(enforced [2]bool) map[Key]Entry {
	for dir, on := range enforced {
		if !on {
			t.add(Key{Identity: AnyIdentity, Direction: Direction(dir)}, Entry{})
		}
	}
	for k, e := range t.entries {
		if t.shadowed(k, e) {
			delete(t.entries, k)
		}
	}
	return t.entries
}

// shadowed reports whether k's entry is an allow under a broader deny of the
// same peer: by its length it would win where it must not.
func (t *table) shadowed(k Key, e Entry) bool {
	return !e.Deny && t.denied[peerFlows{k.Identity, k.Direction}] &&
		underDeny(k, func(k Key) bool { return t.entries[k].Deny })
}
