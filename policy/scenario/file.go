package scenario

import (
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// DefaultCluster is the name of a test file's mesh unless it gives one.
const DefaultCluster = "mesh"

// File is a file of policy tests, with the mesh that they play in.
type File struct {
	Name  string
	Mesh  Mesh
	Tests []Test
}

// Test is one flow with what policy is expected to say to it.
type Test struct {
	Name     string
	Line     int // in the file
	Question Question
	Expected Verdict
	Rule     *string // expected: "policy section", a policy alone, or "" for no rule; nil where all are fine
}

// Result is what became of a Test.
type Result struct {
	Test   Test
	File   string
	Answer Answer
	Pass   bool
}

// Options of a run.
type Options struct {
	// EveryCluster, unless nil, takes the place of what a file says.
	EveryCluster *bool
}

// Run plays the tests of f under policies, in order.
func Run(policies []policy.Policy, f *File, o Options) ([]Result, error) {
	m := f.Mesh
	if o.EveryCluster != nil {
		m.EveryCluster = *o.EveryCluster
	}
	questions := make([]Question, len(f.Tests))
	for i, t := range f.Tests {
		questions[i] = t.Question
	}
	answers, err := Explain(policies, m, questions...)
	if err != nil {
		return nil, err
	}
	out := make([]Result, len(f.Tests))
	for i, t := range f.Tests {
		a := answers[i]
		out[i] = Result{Test: t, File: f.Name, Answer: a, Pass: a.Verdict == t.Expected && t.ruleIs(a.Rule)}
	}
	return out, nil
}

// ruleIs reports whether ref is the rule that t expects.
func (t Test) ruleIs(ref policy.RuleRef) bool {
	return t.Rule == nil || *t.Rule == ref.String() || *t.Rule != "" && *t.Rule == ref.Policy
}

// people numbers the labels that a file speaks of: each set is one identity.
type people struct {
	world policy.World
	ids   map[string]mesh.Identity
}

func newPeople() people {
	return people{
		world: policy.World{Labels: make(map[mesh.Identity]identity.Labels), Ports: make(map[mesh.Identity][]mesh.NamedPort)},
		ids:   make(map[string]mesh.Identity),
	}
}

// firstIdentity is one that a mesh would give out.
const firstIdentity mesh.Identity = 1<<16 | identity.MinimalNumber

// is returns the identity with labels.
func (p people) is(labels identity.Labels) mesh.Identity {
	key := labels.String()
	id, known := p.ids[key]
	if !known {
		id = firstIdentity + mesh.Identity(len(p.ids))
		p.ids[key], p.world.Labels[id] = id, labels
	}
	return id
}
