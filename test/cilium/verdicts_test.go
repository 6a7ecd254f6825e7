package cilium

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	ciliumid "github.com/cilium/cilium/pkg/identity"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	plexus "github.com/plexusmesh/plexus/policy"
)

// keptSeeds are those that found a difference, whether it was settled or stands
// in the table now; the first hundred are always tried too.
var keptSeeds = []uint64{}

// TestVerdictsAgree has Plexus and Cilium judge the same flows by the same
// random policies.
func TestVerdictsAgree(t *testing.T) {
	base := rand.Uint64()
	seeds := slices.Clone(keptSeeds)
	for i := range uint64(100) {
		seeds = append(seeds, i)
	}
	for i := range uint64(400) {
		seeds = append(seeds, base+i)
	}
	flows := 0
	for _, seed := range seeds {
		flows += checkSeed(t, seed)
		if t.Failed() {
			break
		}
	}
	t.Logf("base seed %d, %d flows", base, flows)
}

func checkSeed(t *testing.T, seed uint64) (flows int) {
	t.Helper()
	g := generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	g.nodes = g.one(4)
	s := g.setting()
	c, err := s.contest()
	if err != nil {
		t.Errorf("seed %d: %v\n%s", seed, err, strings.Join(s.docs, "---\n"))
		return 0
	}
	for _, p := range c.peers {
		for range 12 {
			f := g.flow()
			flows++
			if c.disagree(p, f) {
				t.Errorf("seed %d: %s", seed, s.shrink(p.name, f))
				return flows
			}
		}
	}
	return flows
}

// setting is what both are given.
type setting struct {
	docs    []string
	subject plexus.Subject
	world   plexus.World
	nodes   bool
}

func (g generator) setting() setting {
	return setting{docs: g.file(), subject: g.subject(), world: g.world(), nodes: g.nodes}
}

// contest is what both make of a setting.
type contest struct {
	setting
	policies []plexus.Policy
	verdicts plexus.Verdicts
	engine   engine
	peers    []peer
}

// peer is one remote side as both know it.
type peer struct {
	name    string
	labels  identity.Labels // of a host or pod
	outside bool            // an address that no mesh knows
	ours    mesh.Identity
	theirs  ciliumid.NumericIdentity
}

func (s setting) contest() (contest, error) {
	c := contest{setting: s}
	var err error
	c.policies, err = plexus.Parse("random.yaml", []byte(strings.Join(s.docs, "---\n")))
	if err != nil {
		return c, fmt.Errorf("parse as Plexus: %w", err)
	}
	c.verdicts = plexus.Compile(c.policies, s.subject, s.world)
	cluster := localCluster
	if s.subject.EveryCluster {
		cluster = ""
	}
	var docs []document
	for _, text := range s.docs {
		// Cilium's nodeSelector means nodes alone, which are no endpoints; a host is both.
		d, err := read(strings.ReplaceAll(text, "nodeSelector", "endpointSelector"), cluster)
		if err != nil {
			return c, fmt.Errorf("read as Cilium: %w", err)
		}
		docs = append(docs, d)
	}
	c.engine, err = newEngine(docs, s.subject, s.world)
	c.peers = c.everyPeer()
	return c, err
}

func (c contest) everyPeer() []peer {
	var out []peer
	for _, id := range slices.Sorted(maps.Keys(c.world.Labels)) {
		labels := c.world.Labels[id]
		p := peer{name: fmt.Sprintf("%d (%s)", id, labels), labels: labels, ours: id, theirs: ciliumid.NumericIdentity(id)}
		if c.nodes {
			p.theirs = asNode(id)
		}
		out = append(out, p)
	}
	for id := identity.Host; id < identity.WorldIPv4; id++ { // addresses stand for the last two
		out = append(out, peer{name: fmt.Sprintf("reserved %d", id), ours: id, theirs: ciliumid.NumericIdentity(id)})
	}
	for _, a := range addresses {
		out = append(out, peer{name: a.String(), outside: true, ours: c.verdicts.Identify(a), theirs: c.engine.identify(a)})
	}
	return out
}

// disagree reports whether verdicts differ without a reason in the table.
func (c contest) disagree(p peer, f plexus.Flow) bool {
	d, theirs := c.judge(p, f)
	return d.Allowed != theirs && !c.differs(p, f, d.Allowed)
}

// judge says how each judges a flow.
func (c contest) judge(p peer, f plexus.Flow) (ours plexus.Decision, theirs bool) {
	f.Peer = p.ours
	port := f.Port
	switch f.Protocol {
	case 1, 58:
		port >>= 8
	case 47, 112:
		port = 1 // Cilium looks up no port 0; that of a protocol without ports does not count
	}
	return c.verdicts.Judge(f), c.engine.allows(p.theirs, f.Direction, f.Protocol, port)
}

// shrink leaves out of the documents all that a disagreement does not need, and
// describes what remains.
func (s setting) shrink(name string, f plexus.Flow) string {
	for again := true; again; {
		again = false
		for i := range s.docs {
			for _, doc := range append([]string{""}, smaller(s.docs[i])...) {
				try := s
				try.docs = slices.Clone(s.docs)
				if try.docs[i] = doc; doc == "" {
					try.docs = slices.Delete(try.docs, i, i+1)
				}
				if try.disagrees(name, f) {
					s, again = try, true
					break
				}
			}
			if again {
				break
			}
		}
	}
	c, err := s.contest()
	if err != nil {
		return err.Error()
	}
	p := c.peers[slices.IndexFunc(c.peers, func(p peer) bool { return p.name == name })]
	ours, theirs := c.judge(p, f)
	return fmt.Sprintf("%s, peer %s, protocol %d, port %d: Plexus allows: %v %s, Cilium: %v\nsubject %s, ports %v, peer's ports %v, every cluster %v, peers are nodes %v\n%s",
		f.Direction, name, f.Protocol, f.Port, ours.Allowed, ours.Ref, theirs, s.subject.Labels, s.subject.Ports, s.world.Ports[p.ours], s.subject.EveryCluster, s.nodes, strings.Join(s.docs, "---\n"))
}

func (s setting) disagrees(name string, f plexus.Flow) bool {
	c, err := s.contest()
	i := slices.IndexFunc(c.peers, func(p peer) bool { return p.name == name })
	return err == nil && i >= 0 && c.disagree(c.peers[i], f)
}
