package datapath

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// PeerFlags say where packets of an address may be seen (bpf/lib/types.h, enum peer_flags).
type PeerFlags uint8

const (
	// PeerMesh marks a mesh address: its packets cross the tunnel and nothing
	// else. One that arrives on a managed interface is a spoof; one that leaves
	// by a managed interface would be plaintext. Both are dropped.
	PeerMesh PeerFlags = 1 << iota
	// PeerLocal marks an address of this host. A packet that arrives with it as
	// source is a spoof.
	PeerLocal
)

// Peer is what the kernel knows of an address (struct ipcache_value).
type Peer struct {
	Identity mesh.Identity
	Flags    PeerFlags
}

// Pinhole is a new flow that passes whatever policy says, so that no policy can
// cut a host from its mesh or its operator (struct pinhole_key).
type Pinhole struct {
	Direction policy.Direction
	Protocol  uint8
	Port      uint16       // destination port
	Remote    netip.Prefix // of the other side, masked; the zero Prefix for everybody of both families
}

// String is the pinhole as the configuration key failsafe takes it: "ingress
// 22/TCP from 192.0.2.0/24".
func (p Pinhole) String() string {
	text := fmt.Sprintf("%s %d/%s", p.Direction, p.Port, policy.ProtocolName(p.Protocol))
	switch {
	case !p.Remote.IsValid():
		return text
	case p.Direction == policy.Egress:
		return text + " to " + p.Remote.String()
	}
	return text + " from " + p.Remote.String()
}

// Compare orders pinholes by direction, protocol, port and remote.
func (p Pinhole) Compare(o Pinhole) int {
	return cmp.Or(cmp.Compare(p.Direction, o.Direction), cmp.Compare(p.Protocol, o.Protocol),
		cmp.Compare(p.Port, o.Port), p.Remote.Compare(o.Remote))
}

// mapped is where the kernel's maps hold IPv4 addresses (RFC 4291, section 2.5.5.2).
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// HoldsMapped reports whether p is an IPv6 prefix in which the mapped form of an
// IPv4 address lies: ::/0, for one. No pinhole can be for such a prefix alone.
func HoldsMapped(p netip.Prefix) bool { return p.Addr().Is6() && p.Overlaps(mapped) }

// Link is a network interface whose traffic policy governs.
type Link struct {
	Name   string
	Tunnel bool // plexus0: peers are authenticated by WireGuard there
}

// Tunnel is the WireGuard device as an interface.
type Tunnel struct {
	Name      string
	MTU       int
	Addresses []netip.Prefix // mesh addresses of this host, as host prefixes
}

// Route leads a prefix of mesh addresses into the tunnel.
type Route struct {
	Prefix netip.Prefix
	Source netip.Addr // preferred source: our mesh address of that family
	// Unreachable refuses the prefix instead, so that a mesh address that no
	// peer has never follows the default route. It has a higher metric than a
	// route into the tunnel.
	Unreachable bool
}
