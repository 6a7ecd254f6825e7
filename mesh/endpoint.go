package mesh

import (
	"net/netip"
	"slices"
)

// Identity is a numeric security identity; package identity says which numbers
// mean what. The zero Identity is "unknown".
type Identity uint32

// EncryptedWireGuard is the value of Endpoint.Key for traffic that must be
// encrypted by WireGuard (Cilium IPIdentityPair.Key, Node.EncryptionKey).
const EncryptedWireGuard = 255

// Endpoint is a prefix with the identity of the workload behind it: one entry
// of cilium/state/ip/v1/default/<ip>.
type Endpoint struct {
	Prefix         netip.Prefix // a mesh address as host prefix, or a CIDR behind a host
	Identity       Identity
	Host           netip.Addr // node address of the node that it is behind
	Key            uint8      // EncryptedWireGuard, or 0 for plaintext
	Namespace      string
	Name           string // of the workload; for a Plexus host its node name
	ServiceAccount string
	NamedPorts     []NamedPort
}

// Equal reports whether both describe the same endpoint.
func (e Endpoint) Equal(o Endpoint) bool {
	return e.Prefix == o.Prefix && e.Identity == o.Identity && e.Host == o.Host && e.Key == o.Key &&
		e.Namespace == o.Namespace && e.Name == o.Name && e.ServiceAccount == o.ServiceAccount &&
		slices.Equal(e.NamedPorts, o.NamedPorts)
}

// NamedPort gives a workload's port a name that policy may use.
type NamedPort struct {
	Name     string
	Port     uint16
	Protocol string // "TCP", "UDP" or "SCTP"
}
