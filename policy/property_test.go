package policy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// seed is one random case. Wide cases use all of the language; the others what
// issue 2 had, so that its kept seeds still mean what they meant.
type seed struct {
	n    uint64
	wide bool
}

// keptSeeds are those that found a mistake: so far planted ones, as 1 did with
// an allow under a broader deny and with a lookup of AnyIdentity left out, and
// the next with a deny one bit broader than the allow; the third found "::/0" to
// hold IPv4 in the kernel's map.
var keptSeeds = []seed{{n: 1}, {n: 11229042837124134751}, {n: 10041359327951475218}}

// TestCompileAgreesWithRules compares the compiled verdicts of random policies
// with what their rules say when read one by one.
func TestCompileAgreesWithRules(t *testing.T) {
	const cases = 600
	for _, s := range keptSeeds {
		checkSeed(t, s)
	}
	base := rand.Uint64()
	for i := range uint64(cases) {
		if checkSeed(t, seed{base + i, i%4 > 0}); t.Failed() {
			return
		}
	}
}

// randomCase is what a seed stands for.
type randomCase struct {
	doc      string
	policies []Policy
	subject  Subject
	world    World
}

func (g generator) randomCase(t *testing.T) randomCase {
	t.Helper()
	c := randomCase{doc: g.file()}
	policies, err := Parse("random.yaml", []byte(c.doc))
	if err != nil {
		t.Fatalf("generated policies are refused:\n%v\n%s", err, c.doc)
	}
	c.policies = policies
	c.subject = Subject{Identity: 1<<16 | 300, Labels: g.hostLabels(), Cluster: "mesh", EveryCluster: g.one(4)}
	c.world = World{Labels: g.world()}
	if g.wide {
		c.subject.Ports = g.namedPorts()
		c.world.Ports = make(map[mesh.Identity][]mesh.NamedPort)
		for id := range mesh.Identity(12) {
			c.world.Ports[1<<16|300+id] = g.namedPorts()
		}
	}
	return c
}

func checkSeed(t *testing.T, s seed) {
	t.Helper()
	g := generator{rand.New(rand.NewPCG(s.n, 0)), s.wide}
	c := g.randomCase(t)
	v := Compile(c.policies, c.subject, c.world)
	g.Shuffle(len(c.policies), func(i, j int) { c.policies[i], c.policies[j] = c.policies[j], c.policies[i] })
	if diff := cmp.Diff(v, compileAnew(c.policies, c.subject, c.world), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Fatalf("seed %v: verdicts depend on the order of policies:\n%s\n%s", s, diff, c.doc)
	}
	reference := slow{policies: c.policies, subject: c.subject, labels: toMap(c.subject.Labels), ports: c.world.Ports}
	if reference.anyStaged() != (v.Staged != nil) {
		t.Fatalf("seed %v: staged verdicts are %v\n%s", s, v.Staged, c.doc)
	}
	ok := g.judges(t, reference, v, c)
	if ok && v.Staged != nil {
		reference.staged = true
		ok = g.judges(t, reference, *v.Staged, c)
	}
	if !ok {
		t.Errorf("seed %v: subject %+v, staged %v\n%s", s, c.subject, reference.staged, c.doc)
	}
}

// judges compares verdicts on random flows with what the reference says.
func (g generator) judges(t *testing.T, reference slow, v Verdicts, c randomCase) bool {
	t.Helper()
	for _, p := range g.peers(v, c.world.Labels) {
		for range 12 {
			f := g.flow(p.identity)
			got := v.Judge(f)
			want, by := reference.judge(p, f)
			if got.Allowed != want || !slices.Contains(by, got.Ref.String()) || (got.Rule == 0) != (got.Ref == RuleRef{}) {
				t.Errorf("peer %v with ports %v, flow %+v: got %+v, want allowed %v by one of %q", p, c.world.Ports[p.identity], f, got, want, by)
				return false
			}
		}
	}
	return true
}

func toMap(ls identity.Labels) map[string]string {
	out := make(map[string]string, len(ls))
	for _, l := range ls {
		out[l.Source+":"+l.Key] = l.Value
	}
	return out
}
