package loader

import (
	"net/netip"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// model is a slow, obvious version of the programs. It shares no code with them
// and reads whole tables. Its parser is in model_parse_test.go, and what it
// remembers of flows in model_flow_test.go.
type model struct {
	rules    bpfmap.Ruleset
	peers    map[netip.Prefix]datapath.Peer
	pinholes []datapath.Pinhole
	// exemptions are flows between members' node addresses outside the tunnel.
	exemptions []datapath.Pinhole
}

// question is what of a flow is judged.
type question struct {
	remote, local netip.Addr
	direction     policy.Direction // of the flow
	packet        policy.Direction // of the packet at hand
	tunnel        bool
	protocol      uint8
	port          uint16
}

// judgement is what becomes of a flow, and who the remote side is.
type judgement struct {
	reason   bpfobj.PlexusDropReason
	identity mesh.Identity
	rule     policy.RuleID
}

func (m model) judge(q question) judgement {
	peer, known := longest(m.peers, q.remote)
	id := peer.Identity
	if !known {
		id = m.stranger(q.remote)
	}
	if reason := m.guard(q, peer.Flags); reason != fine {
		return judgement{reason, id, 0}
	}
	if matches(m.pinholes, q) {
		return judgement{fine, id, 0}
	}
	return m.ask(id, q)
}

// guard is what no policy can allow.
func (m model) guard(q question, flags datapath.PeerFlags) bpfobj.PlexusDropReason {
	if reason := guardRemote(q, flags); reason != fine {
		return reason
	}
	ours := m.ours(q.local)
	switch {
	case q.tunnel && !ours:
		return bpfobj.PlexusDropReasonDROP_TUNNEL_LOCAL
	case !q.tunnel && ours && flags&datapath.PeerNode != 0 && !matches(m.exemptions, q):
		return bpfobj.PlexusDropReasonDROP_NODE_PLAINTEXT
	}
	return fine
}

// guardRemote looks at the remote side alone.
func guardRemote(q question, flags datapath.PeerFlags) bpfobj.PlexusDropReason {
	in := q.packet == policy.Ingress
	isMesh, isLocal := flags&datapath.PeerMesh != 0, flags&datapath.PeerLocal != 0
	isPeer := isMesh || flags&datapath.PeerNode != 0
	switch {
	case q.tunnel && in && (!isPeer || isLocal):
		return bpfobj.PlexusDropReasonDROP_TUNNEL_SOURCE
	case q.tunnel && (!isPeer || isLocal):
		return bpfobj.PlexusDropReasonDROP_TUNNEL_DESTINATION
	case !q.tunnel && in && isLocal:
		return bpfobj.PlexusDropReasonDROP_LOCAL_SOURCE
	case !q.tunnel && in && isMesh:
		return bpfobj.PlexusDropReasonDROP_MESH_SOURCE_OUTSIDE
	case !q.tunnel && isMesh:
		return bpfobj.PlexusDropReasonDROP_PLAINTEXT
	}
	return fine
}

// ours reports whether a is an address of this host.
func (m model) ours(a netip.Addr) bool {
	peer, _ := longest(m.peers, a)
	return peer.Flags&datapath.PeerLocal != 0
}

func matches(holes []datapath.Pinhole, q question) bool {
	for _, h := range holes {
		everybody := !h.Remote.IsValid()
		if h.Direction == q.direction && h.Protocol == q.protocol && h.Port == q.port && (everybody || h.Remote.Contains(q.remote)) {
			return true
		}
	}
	return false
}

func (m model) stranger(a netip.Addr) mesh.Identity {
	if id, ok := longest(m.rules.Prefixes, a); ok {
		return id
	}
	if a.Is4() {
		return 9
	}
	return 10
}

// ask looks at every entry. Of two entries that say the same, the peer's own is
// told.
func (m model) ask(id mesh.Identity, q question) judgement {
	own, hasOwn := m.entry(id, q)
	any, hasAny := m.entry(policy.AnyIdentity, q)
	switch {
	case hasOwn && own.Deny:
		return judgement{denied, id, own.Rule}
	case hasAny && any.Deny:
		return judgement{denied, id, any.Rule}
	case hasOwn:
		return judgement{fine, id, own.Rule}
	case hasAny:
		return judgement{fine, id, any.Rule}
	}
	return judgement{undecided, id, 0}
}

func (m model) entry(who mesh.Identity, q question) (found policy.Entry, ok bool) {
	best := -1
	exact := policy.Key{Identity: who, Direction: q.direction, Protocol: q.protocol, Port: q.port, PortBits: 16}
	for k, e := range m.rules.Entries {
		bits := int(k.PortBits) + 1
		if k.Protocol == 0 {
			bits = 0
		}
		if k.Covers(exact) && bits > best {
			best, found = bits, e
		}
	}
	return found, best >= 0
}

func longest[V any](table map[netip.Prefix]V, a netip.Addr) (best V, found bool) {
	bits := -1
	for p, v := range table {
		if p.Contains(a) && p.Bits() > bits {
			best, found, bits = v, true, p.Bits()
		}
	}
	return best, found
}
