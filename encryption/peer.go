package encryption

import (
	"net/netip"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/mesh"
)

// Peer is one WireGuard peer that this host should have.
type Peer struct {
	Node       string // mesh.Node.ID of the host behind it
	Key        mesh.Key
	Endpoint   netip.AddrPort // where to reach it first; WireGuard follows it when it roams
	AllowedIPs []netip.Prefix // what it may send and be sent; sorted, without duplicates
	Keepalive  time.Duration  // whole seconds up to 65535; 0 sends none
}

// Equal reports whether both describe the same peer.
func (p Peer) Equal(o Peer) bool {
	return p.Node == o.Node && p.Key == o.Key && p.Endpoint == o.Endpoint &&
		p.Keepalive == o.Keepalive && slices.Equal(p.AllowedIPs, o.AllowedIPs)
}

// Refusal says why a node, or one prefix of it, is not in the tunnel.
type Refusal struct {
	Node   string       // mesh.Node.ID
	Prefix netip.Prefix // the prefix refused; zero when the whole node is
	Reason string       // in words, with the names of all who are involved
}

// String returns one line for a log or a warning.
func (r Refusal) String() string {
	if r.Prefix.IsValid() {
		return "prefix " + r.Prefix.String() + " of node " + r.Node + ": " + r.Reason
	}
	return "node " + r.Node + ": " + r.Reason
}

// Families is a set of IP families.
type Families uint8

// The families of underlay addresses that a host can send to.
const (
	IPv4 Families = 1 << iota
	IPv6
)

// FamiliesOf returns the families that addrs have.
func FamiliesOf(addrs []netip.Addr) Families {
	var f Families
	for _, a := range addrs {
		f |= familyOf(a)
	}
	return f
}

func familyOf(a netip.Addr) Families {
	switch {
	case a.Is4(), a.Is4In6():
		return IPv4
	case a.Is6():
		return IPv6
	}
	return 0
}
