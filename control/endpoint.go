package control

import (
	"net/netip"

	"github.com/plexusmesh/plexus/mesh"
)

// Endpoints returns the ip entries of a host: its mesh addresses, which have its
// identity and named ports, and are reached, encrypted, at its first node address.
func Endpoints(n mesh.Node, id mesh.Identity, namespace string) []mesh.Endpoint {
	var host netip.Addr
	if len(n.Addresses) > 0 {
		host = n.Addresses[0]
	}
	var out []mesh.Endpoint
	for _, p := range n.MeshPrefixes() {
		out = append(out, mesh.Endpoint{
			Prefix: p, Identity: id, Host: host, Key: mesh.EncryptedWireGuard,
			Namespace: namespace, Name: n.Name, ServiceAccount: "default", NamedPorts: n.NamedPorts,
		})
	}
	return out
}

// HostPrefixes returns the valid ones of addresses as host prefixes.
func HostPrefixes(addresses ...netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addresses {
		if a.IsValid() {
			out = append(out, mesh.HostPrefix(a))
		}
	}
	return out
}
