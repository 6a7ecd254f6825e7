package cilium

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/identity"
	plexus "github.com/plexusmesh/plexus/policy"
)

// difference is a reason why verdicts on a flow may differ.
type difference struct {
	why     string
	applies func(c contest, p peer, f plexus.Flow, allowed bool) bool // allowed is what Plexus says

	// An example, which must differ, so that the table holds nothing that was settled.
	rule  string // of a policy that selects the subject
	nodes bool
	peer  string // the beginning of its name
	flow  plexus.Flow
}

var (
	toWeb   = plexus.Flow{Direction: plexus.Egress, Protocol: 6, Port: 80}
	fromWeb = plexus.Flow{Direction: plexus.Ingress, Protocol: 6, Port: 80}
)

// differences are all that may differ.
var differences = []difference{
	{
		why: "enableDefaultDeny of a direction without entries: Plexus enforces the direction, as is written and as docs/policy.md teaches; Cilium 1.20 forgets it, as nothing is left of such a rule",
		applies: func(c contest, _ peer, f plexus.Flow, allowed bool) bool {
			return !allowed && c.hasRule(func(r plexus.Rule) bool {
				return r.DefaultDeny[f.Direction] && !slices.ContainsFunc(r.Clauses, func(cl plexus.Clause) bool { return cl.Direction == f.Direction })
			})
		},
		rule: "ingress: [{}], enableDefaultDeny: {egress: true}", peer: ownHost, flow: toWeb,
	},
	{
		why: "entity remote-node: each host of the own mesh is a node, and has one identity for all its addresses; to Cilium that identity is an endpoint's",
		applies: func(c contest, p peer, f plexus.Flow, _ bool) bool {
			return !c.nodes && p.cluster() == localCluster && c.names(f.Direction, plexus.EntityRemoteNode)
		},
		rule: "ingress: [{fromEntities: [remote-node]}]", peer: ownHost, flow: fromWeb,
	},
	{
		why: "entities remote-node and cluster: hosts of another mesh are none of this one's nodes; to Cilium every node of a federated cluster is one",
		applies: func(c contest, p peer, f plexus.Flow, _ bool) bool {
			return c.nodes && p.cluster() == otherCluster && c.names(f.Direction, plexus.EntityRemoteNode, plexus.EntityCluster)
		},
		rule: "ingress: [{fromEntities: [cluster]}]", nodes: true, peer: otherHost, flow: fromWeb,
	},
	{
		why: "a selector of negations alone that nothing confines: Cilium 1.20.2 finds its aggregate identities in it, and with them everybody, though its notes say that no selector may (pkg/policy/aggregate.go); Plexus asks each identity",
		applies: func(c contest, _ peer, f plexus.Flow, _ bool) bool {
			return c.hasClause(f.Direction, func(cl plexus.Clause) bool { return slices.ContainsFunc(cl.Peers.Endpoints, c.unboundNegation) })
		},
		rule: "ingress: [{fromEndpoints: [{matchExpressions: [{key: \"reserved:host\", operator: DoesNotExist}, {key: app, operator: DoesNotExist}]}]}]", peer: ownHost, flow: fromWeb,
	},
	{
		why: "a selector of reserved:world: Plexus gives that label to every address outside, so that a rule does not change with the family; a Cilium of both families labels world-ipv4 and world-ipv6 alone",
		applies: func(c contest, p peer, f plexus.Flow, _ bool) bool {
			return p.outside && c.hasClause(f.Direction, func(cl plexus.Clause) bool {
				return slices.ContainsFunc(cl.Peers.Endpoints, func(s identity.Selector) bool { return s.Mentions("world") })
			})
		},
		rule: "egress: [{toEndpoints: [{matchLabels: {\"reserved:world\": \"\"}}]}]", peer: "192.0.2.1", flow: toWeb,
	},
}

// The names of peers in examples begin with their identities.
const (
	ownHost   = "65838 "
	otherHost = "131373 "
)

// TestDifferencesStand tries the example of every difference.
func TestDifferencesStand(t *testing.T) {
	for _, d := range differences {
		g := generator{Rand: rand.New(rand.NewPCG(1, 0)), nodes: d.nodes}
		s := g.setting()
		s.docs = []string{"apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: a}\nspec: {endpointSelector: {}, " + d.rule + "}\n"}
		c, err := s.contest()
		if err != nil {
			t.Errorf("%s: %v", d.why, err)
			continue
		}
		i := slices.IndexFunc(c.peers, func(p peer) bool { return strings.HasPrefix(p.name, d.peer) })
		ours, theirs := c.judge(c.peers[i], d.flow)
		if ours.Allowed == theirs || !d.applies(c, c.peers[i], d.flow, ours.Allowed) {
			t.Errorf("%s: both say %v now, or the table does not tell: take it out", d.why, theirs)
		}
	}
}

// unboundNegation reports whether every requirement of a peer's selector is one
// that identities without labels fulfil, those that its scope adds included.
func (c contest) unboundNegation(s identity.Selector) bool {
	positive := func(r identity.Requirement) bool { return r.Operator == identity.In || r.Operator == identity.Exists }
	if len(s) == 0 || slices.ContainsFunc(s, positive) {
		return false
	}
	reserved := slices.ContainsFunc(s, func(r identity.Requirement) bool { return r.Source == identity.SourceReserved })
	byNamespace := s.Mentions(identity.KeyNamespace) || slices.ContainsFunc(s, func(r identity.Requirement) bool {
		return strings.HasPrefix(r.Key, "io.cilium.k8s.namespace.labels.")
	})
	return reserved || byNamespace && (c.subject.EveryCluster || s.Mentions(identity.KeyCluster))
}

func (p peer) cluster() string {
	name, _ := p.labels.Get(identity.SourceK8s, identity.KeyCluster)
	return name
}

// names reports whether a clause of a direction names one of entities.
func (c contest) names(dir plexus.Direction, entities ...plexus.Entity) bool {
	return c.hasClause(dir, func(cl plexus.Clause) bool {
		return slices.ContainsFunc(cl.Peers.Entities, func(e plexus.Entity) bool { return slices.Contains(entities, e) })
	})
}

func (c contest) hasClause(dir plexus.Direction, f func(plexus.Clause) bool) bool {
	return c.hasRule(func(r plexus.Rule) bool {
		return slices.ContainsFunc(r.Clauses, func(cl plexus.Clause) bool { return cl.Direction == dir && f(cl) })
	})
}

func (c contest) hasRule(f func(plexus.Rule) bool) bool {
	return slices.ContainsFunc(c.policies, func(p plexus.Policy) bool { return slices.ContainsFunc(p.Rules, f) })
}

func (c contest) differs(p peer, f plexus.Flow, allowed bool) bool {
	return slices.ContainsFunc(differences, func(d difference) bool { return d.applies(c, p, f, allowed) })
}
