package facts

import (
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

const (
	tcp = 6
	udp = 17
)

// Ports are those that the mesh itself uses. Those of servers are what the
// enrolment names, not what this host is configured with: a host that could not
// reach them would never hear of the policy that mends it.
type Ports struct {
	WireGuard uint16   // UDP, of this host
	API       []uint16 // TCP, of the mesh's servers
	Etcd      []uint16 // TCP, of the mesh's servers, for clients
	Server    bool     // whether this host serves API and etcd
}

// Services returns the new flows that must pass under any policy, with the
// reason in words. ssh holds the ports that an SSH server listens on.
//
// Neighbour discovery and other traffic that is never policy's business needs no
// pinhole: the datapath passes it before it looks for one.
func Services(p Ports, ssh []uint16) map[datapath.Pinhole]string {
	out := map[datapath.Pinhole]string{
		{Direction: policy.Ingress, Protocol: udp, Port: p.WireGuard}: "WireGuard of this host",
		{Direction: policy.Egress, Protocol: udp, Port: p.WireGuard}:  "WireGuard of peers",
		{Direction: policy.Egress, Protocol: udp, Port: 67}:           "DHCP server (RFC 2131)",
		{Direction: policy.Ingress, Protocol: udp, Port: 68}:          "DHCP client (RFC 2131)",
		{Direction: policy.Egress, Protocol: udp, Port: 547}:          "DHCPv6 server (RFC 8415)",
		{Direction: policy.Ingress, Protocol: udp, Port: 546}:         "DHCPv6 client (RFC 8415)",
	}
	p.controlPlane(out)
	for _, port := range ssh {
		out[datapath.Pinhole{Direction: policy.Ingress, Protocol: tcp, Port: port}] = "SSH server that listens on this host"
	}
	return out
}

// controlPlane adds the way to the servers, and on one of them the way in.
func (p Ports) controlPlane(out map[datapath.Pinhole]string) {
	add := func(ports []uint16, what string) {
		for _, port := range ports {
			out[datapath.Pinhole{Direction: policy.Egress, Protocol: tcp, Port: port}] = what + " of the mesh's servers"
			if p.Server {
				out[datapath.Pinhole{Direction: policy.Ingress, Protocol: tcp, Port: port}] = what + " of this server"
			}
		}
	}
	add(p.API, "join API")
	add(p.Etcd, "etcd")
}
