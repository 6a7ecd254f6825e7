package loader

import (
	"encoding/binary"
	"net/netip"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// model is a slow, obvious version of the programs for a packet of no known
// flow. It shares no code with them and reads whole tables.
type model struct {
	rules    bpfmap.Ruleset
	peers    map[netip.Prefix]datapath.Peer
	pinholes []datapath.Pinhole
}

// sight is what the model sees in a packet.
type sight struct {
	src, dst netip.Addr
	protocol uint8
	port     uint16 // that policy is asked about
	nd       bool
	later    bool // a later fragment
	first    bool // a first fragment
	onLink   bool // of IPv6, with hop limit 255
}

// Short names for the reasons.
const (
	fine      = bpfobj.PlexusDropReasonDROP_NONE
	truncated = bpfobj.PlexusDropReasonDROP_TRUNCATED
	malformed = bpfobj.PlexusDropReasonDROP_MALFORMED
)

// verdict returns why a frame is dropped; fine if it is not.
func (m model) verdict(frame []byte, d policy.Direction, tunnel bool) bpfobj.PlexusDropReason {
	ethertype, body := unframe(frame)
	var s sight
	reason := fine
	switch ethertype {
	case 0x0800:
		s, reason = see4(body)
	case 0x86dd:
		s, reason = see6(body)
	default:
		return fine
	}
	switch {
	case reason != fine:
		return reason
	case s.nd && !(tunnel && d == policy.Ingress):
		return fine
	case s.later:
		return bpfobj.PlexusDropReasonDROP_FRAGMENT
	}
	return m.judge(s, d, tunnel)
}

func (m model) judge(s sight, d policy.Direction, tunnel bool) bpfobj.PlexusDropReason {
	remote, local, in := s.src, s.dst, d == policy.Ingress
	if !in {
		remote, local = s.dst, s.src
	}
	peer, known := longest(m.peers, remote)
	isMesh, isLocal := peer.Flags&datapath.PeerMesh != 0, peer.Flags&datapath.PeerLocal != 0
	switch {
	case tunnel && in && (!isMesh || isLocal):
		return bpfobj.PlexusDropReasonDROP_TUNNEL_SOURCE
	case tunnel && (!isMesh || isLocal):
		return bpfobj.PlexusDropReasonDROP_TUNNEL_DESTINATION
	case !tunnel && in && isLocal:
		return bpfobj.PlexusDropReasonDROP_LOCAL_SOURCE
	case !tunnel && in && isMesh:
		return bpfobj.PlexusDropReasonDROP_MESH_SOURCE_OUTSIDE
	case !tunnel && isMesh:
		return bpfobj.PlexusDropReasonDROP_PLAINTEXT
	}
	if tunnel && !m.ours(local) {
		return bpfobj.PlexusDropReasonDROP_TUNNEL_LOCAL
	}
	for _, h := range m.pinholes {
		everybody := !h.Remote.IsValid()
		if h.Direction == d && h.Protocol == s.protocol && h.Port == s.port && (everybody || h.Remote.Contains(remote)) {
			return fine
		}
	}
	id := peer.Identity
	if !known {
		id = m.stranger(remote)
	}
	return m.ask(id, d, s)
}

// ours reports whether a is an address of the host.
func (m model) ours(a netip.Addr) bool {
	peer, _ := longest(m.peers, a)
	return peer.Flags&datapath.PeerLocal != 0
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

// ask looks at every entry.
func (m model) ask(id mesh.Identity, d policy.Direction, s sight) bpfobj.PlexusDropReason {
	allowed, denied := false, false
	for _, who := range []mesh.Identity{id, policy.AnyIdentity} {
		best, found := -1, policy.Entry{}
		exact := policy.Key{Identity: who, Direction: d, Protocol: s.protocol, Port: s.port, PortBits: 16}
		for k, e := range m.rules.Entries {
			bits := int(k.PortBits) + 1
			if k.Protocol == 0 {
				bits = 0
			}
			if k.Covers(exact) && bits > best {
				best, found = bits, e
			}
		}
		allowed = allowed || best >= 0 && !found.Deny
		denied = denied || best >= 0 && found.Deny
	}
	switch {
	case denied:
		return bpfobj.PlexusDropReasonDROP_POLICY_DENY
	case allowed:
		return fine
	}
	return bpfobj.PlexusDropReasonDROP_POLICY
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

// unframe returns what stands behind the Ethernet header and up to two tags.
func unframe(b []byte) (uint16, []byte) {
	ethertype, b := binary.BigEndian.Uint16(b[12:]), b[14:]
	for range 2 {
		if ethertype != 0x8100 && ethertype != 0x88a8 {
			break
		}
		if len(b) < 4 {
			return 0, nil
		}
		ethertype, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	return ethertype, b
}

func see4(b []byte) (sight, bpfobj.PlexusDropReason) {
	if len(b) < 20 {
		return sight{}, truncated
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || header < 20 || total != 0 && total < header {
		return sight{}, malformed
	}
	if len(b) < header || len(b) < total {
		return sight{}, truncated
	}
	if total != 0 {
		b = b[:total]
	}
	flags := binary.BigEndian.Uint16(b[6:])
	s := sight{
		src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])), protocol: b[9],
		later: flags&0x1fff != 0, first: flags&0x3fff == 0x2000,
	}
	if s.later {
		return s, fine
	}
	return s.transport(b[header:])
}

func see6(b []byte) (sight, bpfobj.PlexusDropReason) {
	if len(b) < 40 {
		return sight{}, truncated
	}
	if b[0]>>4 != 6 {
		return sight{}, malformed
	}
	if n := int(binary.BigEndian.Uint16(b[4:])); n != 0 {
		if len(b) < 40+n {
			return sight{}, truncated
		}
		b = b[: 40+n : len(b)]
	}
	s := sight{src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])), protocol: b[6], onLink: b[7] == 255}
	if s.src.Is4In6() || s.dst.Is4In6() {
		return sight{}, bpfobj.PlexusDropReasonDROP_MAPPED_ADDRESS
	}
	return s.extensions(b)
}

// extensions walks the chain. A header may begin where the stated length ends and
// lie in what pads the frame: the next one, or the transport, is then outside.
func (s sight) extensions(b []byte) (sight, bpfobj.PlexusDropReason) {
	whole, at := b[:cap(b)], 40
	for range 9 {
		if at > len(b) {
			return s, truncated
		}
		size := 2
		switch s.protocol {
		case fragmentHeader:
			size = 8
		case hopByHop, routing, destinationOptions, authentication:
		default:
			return s.transport(b[at:])
		}
		if at+size > len(whole) {
			return s, truncated
		}
		h := whole[at:]
		switch s.protocol {
		case fragmentHeader:
			off := binary.BigEndian.Uint16(h[2:])
			s.protocol, at = h[0], at+8
			if off&0xfff8 != 0 {
				s.later = true
				return s, fine
			}
			s.first = s.first || off&1 != 0
		case authentication:
			s.protocol, at = h[0], at+(int(h[1])+2)*4
		default:
			s.protocol, at = h[0], at+(int(h[1])+1)*8
		}
	}
	return s, bpfobj.PlexusDropReasonDROP_EXTENSION_HEADERS
}

func (s sight) transport(b []byte) (sight, bpfobj.PlexusDropReason) {
	v6 := s.src.Is6()
	need := map[uint8]int{tcp: 20, udp: 8, sctp: 16}[s.protocol]
	icmp := s.protocol == icmp4 && !v6 || s.protocol == icmp6 && v6
	if icmp {
		need = 8
	}
	if len(b) < need {
		return s, truncated
	}
	switch {
	case icmp:
		s.port = binary.BigEndian.Uint16(b)
		s.nd = s.onLink && b[0] >= 133 && b[0] <= 137 && !s.first
	case need > 0:
		s.port = binary.BigEndian.Uint16(b[2:])
	}
	return s, fine
}
