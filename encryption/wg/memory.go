package wg

import (
	"net/netip"

	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/mesh"
)

// memory is what this run has wanted so far. It tells what we withdraw, which
// goes at once, from what an earlier run left, which may wait for its source.
type memory struct {
	// endpoints are those last configured: a new one replaces what the device
	// has, an old one does not undo roaming.
	endpoints map[mesh.Key]netip.AddrPort
	prefixes  map[mesh.Key]map[netip.Prefix]bool // every peer wanted, with every prefix
}

func newMemory() memory {
	return memory{
		endpoints: make(map[mesh.Key]netip.AddrPort),
		prefixes:  make(map[mesh.Key]map[netip.Prefix]bool),
	}
}

// wanted notes peers.
func (m memory) wanted(peers map[mesh.Key]encryption.Peer) {
	for k, p := range peers {
		if m.prefixes[k] == nil {
			m.prefixes[k] = make(map[netip.Prefix]bool)
		}
		for _, a := range p.AllowedIPs {
			m.prefixes[k][a] = true
		}
	}
}

// had reports whether this run wanted the peer k, or prefix p of it if p is valid.
func (m memory) had(k mesh.Key, p netip.Prefix) bool {
	prefixes, ok := m.prefixes[k]
	return ok && (!p.IsValid() || prefixes[p])
}

// forget drops whatever want does not name, once it is gone from the device.
func (m memory) forget(want map[mesh.Key]encryption.Peer) {
	clear(m.prefixes)
	m.wanted(want)
	for k := range m.endpoints {
		if _, ok := want[k]; !ok {
			delete(m.endpoints, k)
		}
	}
}
