package datapath

import (
	"net/netip"

	"github.com/plexusmesh/plexus/policy"
)

// Passes reports whether p lets a new flow through, as the kernel decides it
// (bpf/lib/pinhole.h): port is the destination's, remote the address that is not
// the host's. The zero remote is some unknown address.
func (p Pinhole) Passes(direction policy.Direction, protocol uint8, port uint16, remote netip.Addr) bool {
	if p.Direction != direction || p.Protocol != protocol || p.Port != port {
		return false
	}
	return !p.Remote.IsValid() || p.Remote.Contains(remote.Unmap())
}
