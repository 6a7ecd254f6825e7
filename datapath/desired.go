package datapath

import (
	"net/netip"

	"github.com/plexusmesh/plexus/mesh"
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
	// PeerNode marks a node address of a direct peer: its packets cross the tunnel,
	// and outside it only in exempt flows. Plaintext between it and an address of
	// this host is dropped.
	PeerNode
)

// Peer is what the kernel knows of an address (struct ipcache_value).
type Peer struct {
	Identity mesh.Identity
	Flags    PeerFlags
}

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
