package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

const (
	tcp = 6
	udp = 17
)

// detour leads the node addresses of direct peers into the tunnel: by what all
// hosts know, whatever addresses this one has now, since a host that took one of
// its own for lost would speak in plaintext. Only what its programs speak from by
// themselves depends on that. An address of a peer that this host has itself is
// nowhere else to be reached.
func detour(s state.Snapshot, l Local, direct map[string][]netip.Addr) datapath.Detour {
	var d datapath.Detour
	for id, addrs := range direct {
		for _, a := range addrs {
			switch here, own := slices.Contains(l.Addresses, a), id == l.ID(); {
			case here && own:
				d.From = append(d.From, a)
			case !here && !own:
				d.To = append(d.To, a)
			}
		}
	}
	slices.SortFunc(d.To, netip.Addr.Compare)
	d.Exempt = slices.SortedFunc(maps.Keys(unled(s, l, d.To)), datapath.Pinhole.Compare)
	return d
}

// dhcp is how a host gets the address that a tunnel needs, also from a peer that
// serves it. IPv6 does that by link-local addresses and multicast.
var dhcp = []datapath.Pinhole{
	{Direction: policy.Egress, Protocol: udp, Port: 67, Remote: everywhere4}, {Direction: policy.Ingress, Protocol: udp, Port: 68, Remote: everywhere4}, // a client
	{Direction: policy.Ingress, Protocol: udp, Port: 67, Remote: everywhere4}, {Direction: policy.Egress, Protocol: udp, Port: 68, Remote: everywhere4}, // a server
}

var everywhere4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// unled are the flows with direct peers, at these addresses, that never go
// through the tunnel, with the reason in words: what the tunnel is made of, and
// what mends it. WireGuard sends from its one port, whoever answers; the control
// plane is mutual TLS. A port of these numbers on a host that is no server is like
// any other.
func unled(s state.Snapshot, l Local, to []netip.Addr) map[datapath.Pinhole]string {
	if len(to) == 0 {
		return nil
	}
	out := map[datapath.Pinhole]string{{Direction: policy.Ingress, Protocol: udp, Port: l.Port}: "WireGuard of this host"}
	for _, p := range dhcp {
		out[p] = "DHCP (RFC 2131)"
	}
	for _, port := range l.Control {
		if l.Server {
			out[datapath.Pinhole{Direction: policy.Ingress, Protocol: tcp, Port: port}] = "control plane of this server"
		}
		for _, a := range serverAddresses(s, to) {
			out[datapath.Pinhole{Direction: policy.Egress, Protocol: tcp, Port: port, Remote: mesh.HostPrefix(a)}] = "control plane of the mesh's servers"
		}
	}
	return out
}

// serverAddresses returns those of to that servers have.
func serverAddresses(s state.Snapshot, to []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, n := range s.Nodes {
		for _, a := range n.Addresses {
			if _, there := slices.BinarySearchFunc(to, a, netip.Addr.Compare); there && n.Server {
				out = append(out, a)
			}
		}
	}
	return out
}

// exemptions are the flows with direct peers that may be plaintext, with the
// reason in words: those that no rule leads into the tunnel, and of WireGuard also
// what this host sends first, to the port that each peer has.
func exemptions(s state.Snapshot, l Local, to []netip.Addr) map[datapath.Pinhole]string {
	out := unled(s, l, to)
	for _, n := range s.Nodes {
		for _, a := range n.Addresses {
			if _, there := slices.BinarySearchFunc(to, a, netip.Addr.Compare); there && n.Port != 0 {
				out[datapath.Pinhole{Direction: policy.Egress, Protocol: udp, Port: n.Port, Remote: mesh.HostPrefix(a)}] = "WireGuard of " + n.Name
			}
		}
	}
	return out
}

// markNodes has the datapath accept addresses of direct peers in the tunnel, and
// refuse them in plaintext with an address of this host: also with one that it has
// no more and that the others still know it by.
func markNodes(cache map[netip.Prefix]datapath.Peer, self mesh.Identity, own, to []netip.Addr) {
	for _, a := range own {
		cache[mesh.HostPrefix(a)] = datapath.Peer{Identity: self, Flags: datapath.PeerLocal}
	}
	for _, a := range to {
		p := cache[mesh.HostPrefix(a)]
		p.Flags |= datapath.PeerNode
		cache[mesh.HostPrefix(a)] = p
	}
}
