package control

import (
	"crypto/rand"
	"fmt"
	"net/netip"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// DefaultPool4 is where mesh IPv4 addresses come from unless init says otherwise.
var DefaultPool4 = netip.MustParsePrefix("10.210.0.0/16")

// ValidatePool4 reports why p cannot be the pool of mesh IPv4 addresses of hosts
// with the given node addresses.
func ValidatePool4(p netip.Prefix, nodes []netip.Addr) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4():
		return fmt.Errorf("pool %q is no IPv4 prefix: use one such as %s", p, DefaultPool4)
	case p != p.Masked():
		return fmt.Errorf("pool %s has bits set after its length: use %s", p, p.Masked())
	case p.Bits() < 8 || p.Bits() > 28:
		return fmt.Errorf("pool %s has a length of %d bits: use 8 to 28", p, p.Bits())
	case p.Addr().IsLoopback() || p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() || p.Addr().IsUnspecified():
		return fmt.Errorf("pool %s is no unicast network: use one such as %s", p, DefaultPool4)
	}
	for _, a := range nodes {
		if p.Contains(a.Unmap()) {
			return fmt.Errorf("pool %s holds this host's own address %s: choose another with --pool4", p, a)
		}
	}
	return nil
}

// NewPool6 draws a unique local /48 (RFC 4193, section 3.2.2) and returns its
// first /64, where mesh IPv6 addresses come from.
func NewPool6() netip.Prefix {
	var b [16]byte
	_, _ = rand.Read(b[1:6]) // never an error: crypto/rand ends the process instead
	b[0] = 0xfd
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// FirstFree returns the lowest address of pool that is not taken. The network
// and the broadcast address are never given out. It is false when pool is full.
func FirstFree(pool netip.Prefix, taken map[netip.Addr]bool) (netip.Addr, bool) {
	for a := pool.Masked().Addr().Next(); pool.Contains(a); a = a.Next() {
		last := a.Is4() && !pool.Contains(a.Next())
		if !taken[a] && !last {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// FirstNumber returns the identity of labels: the one that already stands for
// them, or else the first free number of the cluster.
func FirstNumber(cluster mesh.Cluster, labels identity.Labels, known map[mesh.Identity]string) (mesh.Identity, error) {
	want := labels.String()
	for id, have := range known {
		if have == want {
			return id, nil
		}
	}
	first, last := identity.Range(cluster.ID)
	for id := first + identity.MinimalNumber; id <= last; id++ {
		if _, taken := known[id]; !taken {
			return id, nil
		}
	}
	return 0, Errorf(CodeMeshFull, "mesh %s has no identity left: %d sets of labels are in use", cluster.Name, len(known))
}
