package policy

import (
	"reflect"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// Compiler compiles for one subject again and again, and remembers what it
// needs to be fast where little has changed: the verdicts about one peer depend
// on nothing but the clauses that mean this peer, so that a change has those of
// the peers that it touches made anew, and no others. The zero Compiler is
// ready. It may not be used by several goroutines at once.
//
// It takes for granted that nobody changes what it was given: policies, labels
// and ports that lie where they lay before are taken to say what they said.
type Compiler struct {
	subject   Subject
	world     World
	groups    []*Policy
	peers     *index
	effective *memo
	staged    *memo // with staged rules; nil while none selects the subject
}

// Compile returns exactly what [Compile] returns. Nobody may change the maps: a
// later result shares what is as before.
func (c *Compiler) Compile(policies []Policy, subject Subject, world World) Verdicts {
	return c.compile(policies, c.learn(policies, subject, world))
}

func (c *Compiler) compile(policies []Policy, news news) Verdicts {
	all := selecting(policies, news.compiler.subject.Labels)
	effective := inForce(all)
	v := c.effective.compile(effective, news)
	if len(effective) == len(all) {
		c.staged = nil
		return v
	}
	if c.staged == nil {
		c.staged = new(memo)
	}
	staged := c.staged.compile(all, news)
	v.Staged = &staged
	return v
}

// news is what a memo must know of the world besides the rules.
type news struct {
	compiler compiler        // without CIDR peers
	peers    []mesh.Identity // whose labels or ports have changed
	groups   bool            // whether some CIDR group has changed
}

// learn takes up what surrounds the rules. Another subject begins anew, apart
// from the index.
func (c *Compiler) learn(policies []Policy, subject Subject, world World) news {
	var changed []mesh.Identity
	if c.peers == nil {
		c.peers = newIndex(world.Labels)
	} else {
		relabelled := differing(c.world.Labels, world.Labels)
		c.peers.update(relabelled, world.Labels)
		changed = append(relabelled, differing(c.world.Ports, world.Ports)...)
	}
	if c.effective == nil || !c.subject.equal(subject) {
		c.effective, c.staged = new(memo), nil
	}
	c.subject, c.world = subject, world
	groups := cidrGroups(policies)
	regrouped := !slices.EqualFunc(c.groups, groups, sameGroup)
	if regrouped {
		c.groups = cloneEach(groups)
	}
	return news{compiler{subject: subject, world: world, groups: c.groups, peers: c.peers}, changed, regrouped}
}

// differing returns the identities that have something else in one map than in
// the other.
func differing[S ~[]T, T comparable](was, is map[mesh.Identity]S) []mesh.Identity {
	var out []mesh.Identity
	kept := 0
	for id, now := range is {
		before, known := was[id]
		if known {
			kept++
		}
		if !known || !sameSlice(before, now) {
			out = append(out, id)
		}
	}
	if kept == len(was) {
		return out
	}
	for id := range was {
		if _, known := is[id]; !known {
			out = append(out, id)
		}
	}
	return out
}

// sameSlice is slices.Equal, at once where both are one.
func sameSlice[S ~[]T, T comparable](a, b S) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

func sameGroup(a, b *Policy) bool {
	return a.ID() == b.ID() && sameSlice(a.Labels, b.Labels) && sameSlice(a.Prefixes, b.Prefixes)
}

// cloneEach copies policies out of a slice that others own and that need not
// stay in memory.
func cloneEach(policies []*Policy) []*Policy {
	out := make([]*Policy, len(policies))
	for i, p := range policies {
		own := *p
		out[i] = &own
	}
	return out
}

// sameRule reports whether a and b, of policies that compare as equal, say the
// same.
func sameRule(a, b selection) bool {
	return a.policy.Namespace == b.policy.Namespace && (a.rule == b.rule || reflect.DeepEqual(a.rule, b.rule))
}

// update takes up that changed have other labels in world, or none.
func (x *index) update(changed []mesh.Identity, world map[mesh.Identity]identity.Labels) {
	if len(changed) > len(world)/8 {
		*x = *newIndex(world)
		return
	}
	for _, id := range changed {
		if managed(id) {
			x.move(id, world)
		}
	}
	x.labels = world
	if len(changed) > 0 {
		clear(x.resolved)
	}
}

// move takes id from where its labels put it to where those of world do.
func (x *index) move(id mesh.Identity, world map[mesh.Identity]identity.Labels) {
	if was, known := x.labels[id]; known {
		x.sorted = without(x.sorted, id)
		for _, l := range was {
			x.managed[l.Key][l.Value] = without(x.managed[l.Key][l.Value], id)
			if len(x.managed[l.Key][l.Value]) == 0 {
				delete(x.managed[l.Key], l.Value)
			}
		}
	}
	if is, known := world[id]; known {
		x.sorted = with(x.sorted, id)
		for _, l := range is {
			if x.managed[l.Key] == nil {
				x.managed[l.Key] = make(map[string][]mesh.Identity)
			}
			x.managed[l.Key][l.Value] = with(x.managed[l.Key][l.Value], id)
		}
	}
}

// without and with return sorted ids, which they change, without or with id.
func without(ids []mesh.Identity, id mesh.Identity) []mesh.Identity {
	if at, found := slices.BinarySearch(ids, id); found {
		return slices.Delete(ids, at, at+1)
	}
	return ids
}

func with(ids []mesh.Identity, id mesh.Identity) []mesh.Identity {
	at, found := slices.BinarySearch(ids, id)
	if found {
		return ids
	}
	return slices.Insert(ids, at, id)
}
