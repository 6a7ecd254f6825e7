package schema

import (
	"net"
	"net/netip"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// ipPair is Cilium's identity.IPIdentityPair.
type ipPair struct {
	IP                string
	Mask              net.IPMask // null for a single address; base64 in JSON
	HostIP            string
	ID                uint32
	Key               uint8
	Metadata          string
	K8sNamespace      string      `json:",omitempty"`
	K8sPodName        string      `json:",omitempty"`
	K8sServiceAccount string      `json:",omitempty"`
	NamedPorts        []namedPort `json:",omitempty"`
}

// namedPort is Cilium's identity.NamedPort.
type namedPort struct {
	Name     string
	Port     uint16
	Protocol string
}

// EncodeEndpoint renders an endpoint for [Layout.Endpoint].
func EncodeEndpoint(e mesh.Endpoint) ([]byte, error) {
	out := ipPair{
		IP: e.Prefix.Addr().String(), ID: uint32(e.Identity), Key: e.Key,
		K8sNamespace: e.Namespace, K8sPodName: e.Name, K8sServiceAccount: e.ServiceAccount,
	}
	if e.Host.IsValid() {
		out.HostIP = e.Host.String()
	}
	if !e.Prefix.IsSingleIP() {
		out.Mask = net.CIDRMask(e.Prefix.Bits(), e.Prefix.Addr().BitLen())
	}
	for _, p := range e.NamedPorts {
		out.NamedPorts = append(out.NamedPorts, namedPort(p))
	}
	return encode(out)
}

// DecodeEndpoint reads the endpoint of cluster found under that name, which is
// the key after the prefix. Its identity is one of the cluster or a reserved
// one; a cluster's own "host" is a remote node to everybody else.
func DecodeEndpoint(cluster mesh.Cluster, name string, value []byte) (mesh.Endpoint, error) {
	key := Layout{Cluster: cluster.Name}.Prefix(IPs) + name
	in, err := decode[ipPair](key, value)
	if err != nil {
		return mesh.Endpoint{}, err
	}
	e := mesh.Endpoint{
		Key: in.Key, Namespace: in.K8sNamespace, Name: in.K8sPodName,
		ServiceAccount: in.K8sServiceAccount, NamedPorts: usable(in.NamedPorts),
	}
	if e.Prefix, err = in.prefix(key, name); err != nil {
		return mesh.Endpoint{}, err
	}
	if e.Identity, err = foreignIdentity(key, cluster, mesh.Identity(in.ID)); err != nil {
		return mesh.Endpoint{}, err
	}
	e.Host, err = in.host(key)
	return e, err
}

// prefix returns what the value is about, which must be what the key says.
func (in *ipPair) prefix(key, name string) (netip.Prefix, error) {
	p, ok := parseEndpointName(name)
	if !ok {
		return netip.Prefix{}, refuse(key, "key", "%q is no address or prefix in its shortest form", name)
	}
	addr, err := netip.ParseAddr(in.IP)
	if err != nil {
		return netip.Prefix{}, refuse(key, "IP", "%q is no IP address", in.IP)
	}
	bits := addr.BitLen()
	if in.Mask != nil {
		ones, size := in.Mask.Size()
		if size != bits {
			return netip.Prefix{}, refuse(key, "Mask", "%x is no mask of %s", []byte(in.Mask), addr)
		}
		bits = ones
	}
	if netip.PrefixFrom(addr, bits) != p {
		return netip.Prefix{}, refuse(key, "IP", "is %s/%d, unlike the key", addr, bits)
	}
	return p, nil
}

// foreignIdentity applies the rules under which a reader believes an identity.
func foreignIdentity(key string, cluster mesh.Cluster, id mesh.Identity) (mesh.Identity, error) {
	first, last := identity.Range(cluster.ID)
	switch {
	case id == identity.Host:
		return identity.RemoteNode, nil
	case identity.IsReserved(id), first <= id && id <= last:
		return id, nil
	}
	return 0, refuse(key, "ID", "%d is outside %d to %d of cluster %q", id, first, last, cluster.Name)
}

// host returns the node that the endpoint is behind; none is known for some.
func (in *ipPair) host(key string) (netip.Addr, error) {
	if in.HostIP == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(in.HostIP)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, refuse(key, "HostIP", "%q is no IP address", in.HostIP)
	}
	return a.Unmap(), nil
}

// protocols are those in which a policy may name a port.
var protocols = map[string]bool{"TCP": true, "UDP": true, "SCTP": true}

// usable returns the named ports that a policy can use; others mean nothing.
func usable(in []namedPort) []mesh.NamedPort {
	var out []mesh.NamedPort
	for _, p := range in {
		if p.Name != "" && p.Port != 0 && protocols[p.Protocol] {
			out = append(out, mesh.NamedPort(p))
		}
	}
	return out
}
