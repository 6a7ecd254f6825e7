package datapath

import (
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/policy"
)

// Detour is traffic that the main routing table would send in plaintext, and
// that takes the tunnel instead: to node addresses of direct peers.
type Detour struct {
	To   []netip.Addr // node addresses of direct peers, sorted
	From []netip.Addr // node addresses of this host that those take out of the tunnel, preferred first

	// Exempt are flows that go where the main table shows all the same, sorted: an
	// ingress one is what this host answers from the port.
	Exempt []Pinhole
}

// Takes reports whether the packets of f, once they leave, take the tunnel.
func (d Detour) Takes(f Flow) bool {
	remote := f.Remote.Addr().Unmap()
	if _, there := slices.BinarySearchFunc(d.To, remote, netip.Addr.Compare); !there {
		return false
	}
	return !slices.ContainsFunc(d.Exempt, func(p Pinhole) bool {
		return p.Passes(policy.Egress, f.Protocol, f.Remote.Port(), remote) ||
			p.Passes(policy.Ingress, f.Protocol, f.Local.Port(), remote)
	})
}
