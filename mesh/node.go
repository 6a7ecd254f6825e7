package mesh

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

// WireGuardPort is the UDP port that Cilium and Plexus share for WireGuard.
const WireGuardPort = 51871

// Node is a host as a mesh knows it: a fact that a server has checked, read
// from cilium/state/nodes/v1/<cluster>/<node>.
type Node struct {
	Name      string
	Cluster   Cluster
	Addresses []netip.Addr // underlay (node) addresses, preferred first; Cilium's InternalIP
	Direct    []netip.Addr // those of Addresses that the host itself has, and takes through the tunnel
	Mesh4     netip.Addr   // zero for a Cilium node
	Mesh6     netip.Addr   // zero for a Cilium node
	Key       Key          // zero while the host has published none
	Port      uint16       // WireGuard UDP port
	Server    bool         // whether it runs the control plane
	Version   string       // of its agent

	NamedPorts []NamedPort // sorted; that it declares, as its ip entries say too
}

// ID returns the name that no other node of any cluster has.
func (n Node) ID() string { return n.Cluster.Name + "/" + n.Name }

// MeshPrefixes returns the mesh addresses as host prefixes, IPv4 first.
func (n Node) MeshPrefixes() []netip.Prefix {
	var ps []netip.Prefix
	for _, a := range []netip.Addr{n.Mesh4, n.Mesh6} {
		if a.IsValid() {
			ps = append(ps, HostPrefix(a))
		}
	}
	return ps
}

// Equal reports whether both describe the same node in the same state.
func (n Node) Equal(o Node) bool {
	return n.Name == o.Name && n.Cluster == o.Cluster && slices.Equal(n.Addresses, o.Addresses) &&
		slices.Equal(n.Direct, o.Direct) && n.Mesh4 == o.Mesh4 && n.Mesh6 == o.Mesh6 && n.Key == o.Key && n.Port == o.Port &&
		n.Server == o.Server && n.Version == o.Version && slices.Equal(n.NamedPorts, o.NamedPorts)
}

// Claim is what a host says of itself in plexus/v1/claims/<node>. Nobody but
// the leading server believes it, and that only after checking it.
type Claim struct {
	Node      string
	Addresses []netip.Addr
	Direct    []netip.Addr // those of Addresses that are on its interfaces, and that it wants reached through the tunnel
	Key       Key
	Port      uint16
	Version   string

	NamedPorts []NamedPort // that policy may name
	Listening  []Listener  // sorted; ports that programs of the host wait at, as far as others may depend on them; nil: not known
	Pinholes   []string    // sorted, each as datapath.ParsePinhole reads it: what passes there whatever policy says; nil: not known
}

// Listener is a port at which a program waits.
type Listener struct {
	Protocol string // "TCP" or "UDP"
	Port     uint16
}

// Equal reports whether both say the same.
func (c Claim) Equal(o Claim) bool {
	return c.Node == o.Node && slices.Equal(c.Addresses, o.Addresses) &&
		slices.Equal(c.Direct, o.Direct) && c.Key == o.Key &&
		c.Port == o.Port && c.Version == o.Version && slices.Equal(c.NamedPorts, o.NamedPorts) &&
		sameList(c.Listening, o.Listening) && sameList(c.Pinholes, o.Pinholes)
}

// sameList compares lists of which nil is none that is known.
func sameList[T comparable](a, b []T) bool {
	return (a == nil) == (b == nil) && slices.Equal(a, b)
}

// nodeName is a DNS subdomain (RFC 1123, section 2.1), as Kubernetes node names are.
var nodeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// ValidateNodeName reports why name cannot name a host.
func ValidateNodeName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("node name is empty: set one with --node-name")
	case len(name) > 63:
		return fmt.Errorf("node name %q has %d characters: choose one of at most 63 with --node-name", name, len(name))
	case !nodeName.MatchString(name):
		return fmt.Errorf("node name %q is malformed: use lower-case letters, digits, inner dashes and dots; choose one with --node-name", name)
	}
	return nil
}
