package facts

import (
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

const (
	tcp = 6
	udp = 17
)

// Ports are those that keep this host part of its mesh and in reach. Those of
// servers are what the enrolment names, not what this host is configured with: a
// host that could not reach them would never hear of the policy that mends it.
type Ports struct {
	WireGuard uint16   // UDP, of this host
	API       []uint16 // TCP, of the mesh's servers
	Etcd      []uint16 // TCP, of the mesh's servers, for clients
	Server    bool     // whether this host serves API and etcd
	SSH       []uint16 // TCP, that an SSH server of this host listens on
}

// Services returns the new flows that pass under any policy, as far as f opens
// them, with the reason in words.
//
// Neighbour discovery and other traffic that is never policy's business needs no
// pinhole: the datapath passes it before it looks for one.
func Services(p Ports, f Failsafe) map[datapath.Pinhole]string {
	out := make(map[datapath.Pinhole]string)
	for _, h := range f.ports {
		out[h] = "configured: failsafe"
	}
	services := p.byGroup()
	for _, name := range groups {
		limit, open := f.groups[name]
		if !open {
			continue
		}
		for _, s := range services[name] {
			for _, h := range widen(s.hole, limit[s.hole.Direction]) {
				out[h] = s.why
			}
		}
	}
	return out
}

// service is a pinhole of a group, for everybody.
type service struct {
	hole datapath.Pinhole
	why  string
}

func incoming(protocol uint8, port uint16, why string) service {
	return service{datapath.Pinhole{Direction: policy.Ingress, Protocol: protocol, Port: port}, why}
}

func outgoing(protocol uint8, port uint16, why string) service {
	return service{datapath.Pinhole{Direction: policy.Egress, Protocol: protocol, Port: port}, why}
}

func (p Ports) byGroup() map[string][]service {
	return map[string][]service{
		groupWireGuard: {incoming(udp, p.WireGuard, "WireGuard of this host"), outgoing(udp, p.WireGuard, "WireGuard of peers")},
		groupDHCP: {
			outgoing(udp, 67, "DHCP server (RFC 2131)"), incoming(udp, 68, "DHCP client (RFC 2131)"),
			outgoing(udp, 547, "DHCPv6 server (RFC 8415)"), incoming(udp, 546, "DHCPv6 client (RFC 8415)"),
		},
		groupServers: slices.Concat(p.controlPlane(p.API, "join API"), p.controlPlane(p.Etcd, "etcd")),
		groupSSH:     p.ssh(),
	}
}

// controlPlane is the way to the servers, and on one of them the way in.
func (p Ports) controlPlane(ports []uint16, what string) []service {
	var all []service
	for _, port := range ports {
		all = append(all, outgoing(tcp, port, what+" of the mesh's servers"))
		if p.Server {
			all = append(all, incoming(tcp, port, what+" of this server"))
		}
	}
	return all
}

func (p Ports) ssh() []service {
	var all []service
	for _, port := range p.SSH {
		all = append(all, incoming(tcp, port, "SSH server that listens on this host"))
	}
	return all
}
