package schema

import (
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
)

// Types of node addresses (Cilium pkg/node/addressing).
const (
	typeInternal       = "InternalIP"
	typeExternal       = "ExternalIP"
	typeCiliumInternal = "CiliumInternalIP"
)

// node is Cilium's node/types.Node, whose JSON names are its Go names. Fields
// without a meaning here are written empty, as Cilium writes them.
type node struct {
	Name                    string
	Cluster                 string
	ClusterID               uint32
	IPAddresses             []nodeAddress
	IPv4AllocCIDR           *struct{}
	IPv4SecondaryAllocCIDRs []struct{}
	IPv6AllocCIDR           *struct{}
	IPv6SecondaryAllocCIDRs []struct{}
	IPv4HealthIP            string
	IPv6HealthIP            string
	IPv4IngressIP           string
	IPv6IngressIP           string
	Source                  string
	EncryptionKey           uint8
	Labels                  map[string]string
	Annotations             map[string]string
	WireguardPubKey         string
	BootID                  string
	Plexus                  *plexusNode `json:",omitempty"`
}

// nodeAddress is one address of a node with its type.
type nodeAddress struct {
	Type string
	IP   string
}

// nodeIn is the part of node that is read. What is not here may have any form,
// as some of it changes between Cilium's versions.
type nodeIn struct {
	Name            string
	Cluster         string
	ClusterID       uint32
	IPAddresses     []nodeAddress
	WireguardPubKey string
	Plexus          *plexusNode
}

// plexusNode is what Cilium's layout lacks.
type plexusNode struct {
	Port     uint16     // WireGuard, UDP
	MeshIPv4 netip.Addr // empty when there is none
	MeshIPv6 netip.Addr
	Server   bool
	Version  string

	NamedPorts []namedPort  `json:",omitempty"` // as its ip entries have them
	Direct     []netip.Addr `json:",omitempty"` // those of IPAddresses that are reached through the tunnel
}

// EncodeNode renders a node for [Layout.Node].
func EncodeNode(n mesh.Node) ([]byte, error) {
	out := node{
		Name: n.Name, Cluster: n.Cluster.Name, ClusterID: n.Cluster.ID,
		IPAddresses: []nodeAddress{}, Source: "kvstore",
		Labels: map[string]string{}, Annotations: map[string]string{},
		WireguardPubKey: n.Key.String(),
		Plexus: &plexusNode{
			Port: n.Port, MeshIPv4: n.Mesh4, MeshIPv6: n.Mesh6, Server: n.Server, Version: n.Version,
			NamedPorts: convert(n.NamedPorts, func(p mesh.NamedPort) namedPort { return namedPort(p) }),
			Direct:     n.Direct,
		},
	}
	for _, a := range n.Addresses {
		out.IPAddresses = append(out.IPAddresses, nodeAddress{typeInternal, a.String()})
	}
	if !n.Key.IsZero() {
		out.EncryptionKey = mesh.EncryptedWireGuard
	}
	return encode(out)
}

// DecodeNode reads the node of cluster found under that name, which is the key
// after the prefix.
func DecodeNode(cluster mesh.Cluster, name string, value []byte) (mesh.Node, error) {
	key := Layout{Cluster: cluster.Name}.Node(name)
	in, err := decode[nodeIn](key, value)
	if err != nil {
		return mesh.Node{}, err
	}
	if err := in.check(key, cluster, name); err != nil {
		return mesh.Node{}, err
	}
	n := mesh.Node{Name: in.Name, Cluster: cluster}
	if n.Addresses, err = in.addresses(key); err != nil {
		return mesh.Node{}, err
	}
	if in.WireguardPubKey != "" {
		if n.Key, err = mesh.ParseKey(in.WireguardPubKey); err != nil {
			return mesh.Node{}, refuse(key, "WireguardPubKey", "%v", err)
		}
		n.Port = mesh.WireGuardPort
	}
	return n, in.plexus(key, &n)
}

func (in *nodeIn) check(key string, cluster mesh.Cluster, name string) error {
	switch {
	case in.Name == "":
		return refuse(key, "Name", "is empty")
	case in.Name != name:
		return refuse(key, "Name", "is %q, unlike the key", in.Name)
	case in.Cluster != cluster.Name:
		return refuse(key, "Cluster", "is %q, want %q", in.Cluster, cluster.Name)
	case in.ClusterID != cluster.ID:
		return refuse(key, "ClusterID", "is %d, want %d", in.ClusterID, cluster.ID)
	}
	return nil
}

// rank orders address types as Cilium does when it picks one to reach a node.
var rank = map[string]int{typeInternal: 0, typeExternal: 1}

// addresses returns those at which the node can be reached, best first.
// Addresses that can belong to no host on a network are left out rather than
// refused, so that one odd entry does not take the node away.
func (in *nodeIn) addresses(key string) ([]netip.Addr, error) {
	type ranked struct {
		addr netip.Addr
		rank int
	}
	var all []ranked
	for _, a := range in.IPAddresses {
		if a.Type == typeCiliumInternal || a.IP == "" {
			continue
		}
		addr, err := netip.ParseAddr(a.IP)
		if err != nil || addr.Zone() != "" {
			return nil, refuse(key, "IPAddresses", "%q is no IP address", a.IP)
		}
		r, known := rank[a.Type]
		if !known {
			r = len(rank)
		}
		if addr = addr.Unmap(); reachable(addr) {
			all = append(all, ranked{addr, r})
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return a.rank - b.rank })
	var out []netip.Addr
	for _, a := range all {
		if !slices.Contains(out, a.addr) {
			out = append(out, a.addr)
		}
	}
	return out, nil
}

func reachable(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast()
}

// plexus adds what a Plexus mesh says beyond Cilium's fields.
func (in *nodeIn) plexus(key string, n *mesh.Node) error {
	p := in.Plexus
	if p == nil {
		return nil
	}
	if p.MeshIPv4.IsValid() && !p.MeshIPv4.Is4() {
		return refuse(key, "Plexus.MeshIPv4", "%s is no IPv4 address", p.MeshIPv4)
	}
	if p.MeshIPv6.IsValid() && (!p.MeshIPv6.Is6() || p.MeshIPv6.Is4In6() || p.MeshIPv6.Zone() != "") {
		return refuse(key, "Plexus.MeshIPv6", "%s is no IPv6 address", p.MeshIPv6)
	}
	n.Port, n.Mesh4, n.Mesh6, n.Server, n.Version = p.Port, p.MeshIPv4, p.MeshIPv6, p.Server, p.Version
	n.NamedPorts = usable(p.NamedPorts)
	for _, a := range p.Direct { // what is no address of the node is none that is reached through its tunnel
		if a = a.Unmap(); slices.Contains(n.Addresses, a) && !slices.Contains(n.Direct, a) {
			n.Direct = append(n.Direct, a)
		}
	}
	return nil
}
