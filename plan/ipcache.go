package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/state"
)

// ipcache says which address has which identity. A mesh address has that of its
// endpoint. A node address has that of the host which has it, so that policy
// judges a host alike on every path to it. Ours stay ours whatever others say.
//
// An address whose identity has no known labels is left out, so that its
// traffic is dropped in the tunnel: no rule, and no deny rule, could match it.
func ipcache(s state.Snapshot, l Local, self mesh.Identity) map[netip.Prefix]datapath.Peer {
	out := make(map[netip.Prefix]datapath.Peer, 2*len(s.Endpoints))
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) { // of two with one address always the same one
		n := s.Nodes[id]
		for _, a := range n.Addresses {
			out[mesh.HostPrefix(a)] = datapath.Peer{Identity: nodeIdentity(s, n)}
		}
	}
	for p, e := range s.Endpoints {
		if known(s, e.Identity) {
			out[p] = datapath.Peer{Identity: e.Identity, Flags: datapath.PeerMesh}
		}
	}
	for _, p := range hostPrefixes(l.Mesh4, l.Mesh6) {
		out[p] = datapath.Peer{Identity: self, Flags: datapath.PeerMesh | datapath.PeerLocal}
	}
	for _, p := range hostPrefixes(l.Addresses...) {
		out[p] = datapath.Peer{Identity: self, Flags: datapath.PeerLocal}
	}
	for _, p := range loopback {
		out[p] = datapath.Peer{Identity: self, Flags: datapath.PeerLocal}
	}
	return out
}

// loopback addresses are the host's own, and never come in from outside (RFC 1122,
// section 3.2.1.3; RFC 4291, section 2.5.3). The kernel drops such packets too,
// except for IPv4 where route_localnet is set, as Kubernetes' proxy does.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// known reports whether labels are known for id.
func known(s state.Snapshot, id mesh.Identity) bool {
	_, ok := s.Identities[id]
	return ok || identity.IsReserved(id)
}

// nodeIdentity is that of the node's mesh address. A node without one is no
// Plexus host: Cilium gives its addresses the identity remote-node.
func nodeIdentity(s state.Snapshot, n mesh.Node) mesh.Identity {
	for _, p := range n.MeshPrefixes() {
		if e, ok := s.Endpoints[p]; ok {
			return e.Identity
		}
	}
	return identity.RemoteNode
}
