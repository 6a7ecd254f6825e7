package plan

import (
	"net/netip"
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/scenario"
	"github.com/plexusmesh/plexus/state"
)

func TestScene(t *testing.T) {
	web, db := host{1, "web"}, host{2, "db"}
	pod := mesh.Endpoint{Prefix: netip.MustParsePrefix("10.0.0.5/32"), Identity: 2<<16 | 300}
	s := state.Snapshot{Tables: state.Tables{
		Nodes: map[string]mesh.Node{}, Endpoints: map[netip.Prefix]mesh.Endpoint{pod.Prefix: pod},
		Identities: map[mesh.Identity]identity.Labels{web.id(): web.labels(), db.id(): db.labels(), pod.Identity: web.labels()},
		Policies:   map[string]policy.Policy{"new": {Kind: policy.Clusterwide, Name: "new", File: "new"}},
	}}
	for _, h := range []host{web, db} {
		s.Nodes[h.node().ID()] = h.node()
		for _, e := range h.endpoints() {
			e.NamedPorts = []mesh.NamedPort{{Name: "http", Port: 80, Protocol: "TCP"}}
			s.Endpoints[e.Prefix] = e
		}
	}
	far := mesh.Node{Name: "far", Cluster: mesh.Cluster{Name: "k8s", ID: 2}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.99")}}
	s.Nodes[far.ID()] = far
	ssh := datapath.Pinhole{Protocol: 6, Port: 22}
	l := Local{
		Node: "h1", Cluster: east, Mesh4: web.node().Mesh4, Disarmed: true, EveryCluster: true,
		Services: map[datapath.Pinhole]string{ssh: "SSH"}, Policies: []policy.Policy{{Kind: policy.Clusterwide, Name: "own", Local: true}},
	}
	policies, m := Scene(s, l)
	if len(policies) != 1 || policies[0].Name != "new" || policies[0].File != "" || s.Policies["new"].File == "" {
		t.Errorf("policies of the mesh: %+v", policies)
	}
	if len(m.Hosts) != 2 || m.Cluster != "east" || !m.EveryCluster {
		t.Fatalf("mesh: %+v", m)
	}
	own, other := m.Hosts[0], m.Hosts[1]
	if own.Name != "h1" || !own.Disarmed || own.Pinholes[ssh] != "SSH" || len(own.Policies) != 1 || len(own.NamedPorts) != 0 {
		t.Errorf("this host: %+v", own)
	}
	if other.Name != "h2" || other.Disarmed || other.Pinholes != nil || other.Identity != db.id() || len(other.NamedPorts) != 1 || len(other.Addresses) != 4 {
		t.Errorf("the other: %+v", other)
	}
	if m.Owners[pod.Prefix] != pod.Identity || m.Owners[netip.MustParsePrefix("192.0.2.99/32")] != 6 {
		t.Errorf("owners: %v", m.Owners)
	}
	if _, err := scenario.Explain(policies, m, scenario.Question{From: scenario.Party{Host: "far"}, To: scenario.Party{Host: "h1"}}); err == nil {
		t.Error("a node of another cluster counts as a host of ours")
	}
}

func TestSceneWithoutALapsedRevision(t *testing.T) {
	before := policy.Policy{Kind: policy.Clusterwide, Name: "p", Line: 7}
	s := state.Snapshot{Tables: state.Tables{
		Policies: map[string]policy.Policy{"p": {Kind: policy.Clusterwide, Name: "p", Line: 9}},
		Revision: state.Revision{Number: 4, Window: 1, Undo: map[string]*policy.Policy{"p": &before}},
	}}
	if policies, _ := Scene(s, Local{Lapsed: 4}); len(policies) != 1 || policies[0].Line != 7 {
		t.Errorf("lapsed: %+v", policies)
	}
	if policies, _ := Scene(s, Local{}); len(policies) != 1 || policies[0].Line != 9 {
		t.Errorf("on trial: %+v", policies)
	}
}
