package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/scenario"
	"github.com/plexusmesh/plexus/state"
)

// Scene is the mesh s as questions about policy see it from the host l, with the
// policies that count there. Of other hosts it is not known what passes whatever
// policy says, nor what their own files hold.
func Scene(s state.Snapshot, l Local) ([]policy.Policy, scenario.Mesh) {
	shared := l
	shared.Policies = nil
	m := scenario.Mesh{Cluster: l.Cluster.Name, EveryCluster: l.EveryCluster, World: everybody(s), Owners: make(map[netip.Prefix]mesh.Identity)}
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if h, ok := actor(s, l, s.Nodes[id]); ok {
			m.Hosts = append(m.Hosts, h)
		}
	}
	for p, peer := range ipcache(s, l, selfIdentity(s, l)) {
		m.Owners[p] = peer.Identity
	}
	stored := policies(s, shared)
	for i := range stored {
		stored[i].File = "" // it was read from etcd
	}
	return stored, m
}

// actor is n as a host that enforces policy; false for a node of another cluster
// and for one that the mesh does not know well enough.
func actor(s state.Snapshot, l Local, n mesh.Node) (scenario.Host, bool) {
	h := scenario.Host{Name: n.Name, Addresses: slices.Clone(n.Addresses)}
	for _, p := range n.MeshPrefixes() {
		h.Addresses = append(h.Addresses, p.Addr())
		if e, ok := s.Endpoints[p]; ok && h.Identity == identity.Unknown {
			h.Identity, h.NamedPorts = e.Identity, e.NamedPorts
		}
	}
	h.Labels = s.Identities[h.Identity]
	if n.ID() == l.ID() {
		h.NamedPorts, h.Pinholes, h.Policies, h.Disarmed = l.NamedPorts, pinholes(s, l), l.Policies, l.Disarmed
		h.Addresses = append(h.Addresses, l.Addresses...)
	}
	return h, n.Cluster == l.Cluster && h.Labels != nil
}
