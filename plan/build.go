package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// Local is what is known of this host without asking anybody.
type Local struct {
	Node    string
	Cluster mesh.Cluster
	Mesh4   netip.Addr // given at enrolment
	Mesh6   netip.Addr
	Pools   []netip.Prefix // all mesh addresses of the own cluster lie in them

	Device    string             // name of the WireGuard device
	Uplinks   []string           // managed interfaces
	Addresses []netip.Addr       // node addresses on them
	MTU       int                // the smallest of the uplinks, bytes
	Port      uint16             // of WireGuard, UDP
	Server    bool               // whether the control plane runs here too
	Control   []uint16           // its ports, TCP, on every server
	Services  map[Service]string // what must stay reachable, and why

	// PeerPinholes are where peers must be for the WireGuard ports that they chose
	// to stay open to them: the zero Prefix for anywhere, none for nowhere.
	PeerPinholes []netip.Prefix

	Policies     []policy.Policy // of this host's own files
	NamedPorts   []mesh.NamedPort
	EveryCluster bool   // policy.Subject.EveryCluster
	Lapsed       uint64 // the pending revision whose window has closed here; 0 for none
	Disarmed     bool   // whether an administrator of this host suspended policy
}

// ID returns the host's name as mesh.Node.ID.
func (l Local) ID() string { return mesh.Node{Name: l.Node, Cluster: l.Cluster}.ID() }

// Service is a port that policy must never cut off. It becomes a pinhole.
type Service = datapath.Pinhole

// Desired is everything that this host should be.
type Desired struct {
	Self     mesh.Identity // 0 while the mesh does not know this host: then nothing of this may be applied
	Tunnel   datapath.Tunnel
	Links    []datapath.Link
	IPCache  map[netip.Prefix]datapath.Peer
	Verdicts policy.Verdicts
	Logs     map[policy.RuleID]string    // what rules of Verdicts want shown with their flows
	Pinholes map[datapath.Pinhole]string // with the reason in words
	// Exemptions are flows with addresses of Detour.To that may be plaintext, with
	// the reason in words.
	Exemptions map[datapath.Pinhole]string
	Peers      map[mesh.Key]encryption.Peer
	Routes     []datapath.Route
	Detour     datapath.Detour
	Revision   uint64 // of the mesh's policies that Verdicts come from
	Lapsed     bool   // whether Verdicts are of before that revision, whose trial has ended here
	Disarmed   bool   // whether policy is suspended: Verdicts let everything pass
	Warnings   []Warning
}

// Builder computes plans. It keeps what makes the next one fast, and nothing
// that shows: a plan depends on what it is computed from alone. The zero Builder
// is ready. It may not be used by several goroutines at once.
type Builder struct {
	compiler policy.Compiler
}

// Build computes what the host l should be in the mesh s.
func Build(s state.Snapshot, l Local) Desired { return new(Builder).Build(s, l) }

// Build computes what the host l should be in the mesh s. Nobody may change what
// it returns: a later plan shares what is as before.
func (b *Builder) Build(s state.Snapshot, l Local) Desired {
	mtu, mtuWarning := encryption.MTU(l.MTU, encryption.Overhead)
	nodes, endpoints := values(s.Nodes), values(s.Endpoints)
	direct := encryption.Direct(nodes, endpoints, l.ID())
	peers, refused := encryption.Plan(nodes, endpoints, l.ID(), encryption.Options{Families: encryption.FamiliesOf(l.Addresses), Direct: direct})
	self := selfIdentity(s, l)
	sub, world, policies := subject(s, l, self), everybody(s), policies(s, l)
	d := Desired{
		Self:     self,
		Tunnel:   datapath.Tunnel{Name: l.Device, MTU: mtu, Addresses: hostPrefixes(l.Mesh4, l.Mesh6)},
		Links:    links(l),
		IPCache:  ipcache(s, l, self),
		Verdicts: disarmed(),
		Pinholes: pinholes(s, l),
		Peers:    peers,
		Routes:   routes(l),
		Detour:   detour(s, l, direct),
		Revision: s.Revision.Number,
		Lapsed:   lapsed(s, l),
		Disarmed: l.Disarmed,
	}
	d.Exemptions = exemptions(s, l, d.Detour.To)
	markNodes(d.IPCache, self, direct[l.ID()], d.Detour.To)
	if !l.Disarmed {
		d.Verdicts = b.compiler.Compile(policies, sub, world)
		d.Logs = logs(policies, d.Verdicts.Rules)
	}
	d.Warnings = sortWarnings(slices.Concat(unknownIdentities(s), refusals(refused), lowMTU(mtuWarning), unmeant(policies, sub, world)))
	return d
}

// pinholes are those of this host's own services, and the WireGuard ports of
// its peers where they chose others, as far as l opens those. A port that a peer
// chose is open to that peer alone: it may be another service's elsewhere.
func pinholes(s state.Snapshot, l Local) map[datapath.Pinhole]string {
	out := make(map[datapath.Pinhole]string, len(l.Services))
	var open []datapath.Pinhole // that may let packets to peers through anyhow
	for p, why := range l.Services {
		out[p] = why
		if p.Direction == policy.Egress && p.Protocol == udp {
			open = append(open, p)
		}
	}
	for _, n := range s.Nodes {
		p := datapath.Pinhole{Direction: policy.Egress, Protocol: udp, Port: n.Port}
		for _, a := range n.Addresses {
			p.Remote = mesh.HostPrefix(a)
			if n.Port != 0 && n.ID() != l.ID() && within(a, l.PeerPinholes) && !passes(open, p) {
				out[p] = "WireGuard of peers"
			}
		}
	}
	return out
}

// within reports whether a lies in one of remotes, as PeerPinholes has them.
func within(a netip.Addr, remotes []netip.Prefix) bool {
	return slices.ContainsFunc(remotes, func(p netip.Prefix) bool { return !p.IsValid() || p.Contains(a.Unmap()) })
}

// passes reports whether one of open lets through what p, for one address, is for.
func passes(open []datapath.Pinhole, p datapath.Pinhole) bool {
	return slices.ContainsFunc(open, func(o datapath.Pinhole) bool {
		return o.Passes(p.Direction, p.Protocol, p.Port, p.Remote.Addr())
	})
}

// selfIdentity is that of our own mesh address, once its labels are known: a
// host that did not know them would take itself for one that no policy selects.
func selfIdentity(s state.Snapshot, l Local) mesh.Identity {
	for _, p := range hostPrefixes(l.Mesh4, l.Mesh6) {
		if e, ok := s.Endpoints[p]; ok && known(s, e.Identity) {
			return e.Identity
		}
	}
	return identity.Unknown
}

func links(l Local) []datapath.Link {
	out := []datapath.Link{{Name: l.Device, Tunnel: true}}
	for _, name := range l.Uplinks {
		out = append(out, datapath.Link{Name: name})
	}
	return out
}

// routes leads the pools into the tunnel. The unreachable twin of each keeps a
// mesh address from following the default route while the device is away.
func routes(l Local) []datapath.Route {
	var out []datapath.Route
	for _, pool := range l.Pools {
		source := l.Mesh4
		if pool.Addr().Is6() {
			source = l.Mesh6
		}
		out = append(out, datapath.Route{Prefix: pool, Source: source}, datapath.Route{Prefix: pool, Unreachable: true})
	}
	return out
}

func hostPrefixes(addrs ...netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		if a.IsValid() {
			out = append(out, mesh.HostPrefix(a))
		}
	}
	return out
}

// values returns those of m in any order: no planner depends on it.
func values[K comparable, V any](m map[K]V) []V { return slices.Collect(maps.Values(m)) }
