package identity

import (
	"fmt"
	"strconv"

	"github.com/plexusmesh/plexus/mesh"
)

// Reserved identities that Plexus gives out or understands; the numbers and
// names are Cilium's (pkg/identity/numericidentity.go).
const (
	Unknown       mesh.Identity = 0
	Host          mesh.Identity = 1 // the host that judges
	World         mesh.Identity = 2
	Unmanaged     mesh.Identity = 3
	Health        mesh.Identity = 4
	Init          mesh.Identity = 5
	RemoteNode    mesh.Identity = 6
	KubeAPIServer mesh.Identity = 7
	Ingress       mesh.Identity = 8
	WorldIPv4     mesh.Identity = 9
	WorldIPv6     mesh.Identity = 10
)

// MinimalNumber is the first number of a cluster's range that a server gives
// out: those below are kept, as Cilium keeps 0 to 255.
const MinimalNumber = 256

// clusterShift is the number of bits of an identity that a cluster may use by
// itself, with at most 255 clusters (Cilium: max-connected-clusters 255).
const clusterShift = 16

// scopeMask covers the bits that say how far an identity reaches; localScope
// marks one that never leaves the host (Cilium: IdentityScopeLocal).
const (
	scopeMask  = 0xff << 24
	localScope = 0x01 << 24
)

var reservedNames = map[mesh.Identity]string{
	Unknown: "unknown", Host: "host", World: "world", Unmanaged: "unmanaged", Health: "health",
	Init: "init", RemoteNode: "remote-node", KubeAPIServer: "kube-apiserver", Ingress: "ingress",
	WorldIPv4: "world-ipv4", WorldIPv6: "world-ipv6",
}

// Range returns the first and the last identity of a cluster.
func Range(cluster uint32) (first, last mesh.Identity) {
	first = mesh.Identity(cluster << clusterShift)
	return first, first | (1<<clusterShift - 1)
}

// Cluster returns the id of the cluster that gave out id, or 0 for reserved and
// local identities.
func Cluster(id mesh.Identity) uint32 {
	if IsLocal(id) {
		return 0
	}
	return uint32(id) >> clusterShift
}

// IsReserved reports whether id means the same everywhere.
func IsReserved(id mesh.Identity) bool { return id < MinimalNumber }

// IsLocal reports whether id has a meaning on this host alone, as those of CIDR
// peers have.
func IsLocal(id mesh.Identity) bool { return id&scopeMask == localScope }

// ParseNumber decodes the decimal form of an identity.
func ParseNumber(s string) (mesh.Identity, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("decode identity %q: not a number from 0 to 4294967295", s)
	}
	return mesh.Identity(n), nil
}
