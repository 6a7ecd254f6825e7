package encryption

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/mesh"
)

// Options refine [Plan]. The zero value is usable.
type Options struct {
	// Families are those in which this host can reach others. 0 takes those of
	// its own node addresses, or both while it has none.
	Families  Families
	Keepalive time.Duration // of every peer; 0 sends none
	// Direct are node addresses that peers may use too, by node ID, as [Direct]
	// returns them.
	Direct map[string][]netip.Addr
}

// Plan returns the peers that the host with node ID self should have, and what
// it leaves out and why, sorted by node. The outcome depends on no order.
//
// Two nodes that publish the same key are both refused, and so is a node that
// publishes ours: guessing who is genuine would hand one node's traffic to the
// other. For the same reason a prefix that two nodes claim goes to neither;
// nested prefixes are no conflict, because the longest match decides.
func Plan(nodes []mesh.Node, endpoints []mesh.Endpoint, self string, o Options) (map[mesh.Key]Peer, []Refusal) {
	o.Families = families(nodes, self, o.Families)
	accepted, refused := admit(nodes, self, o.Families)
	prefixes, conflicts := allot(accepted, nodes, endpoints)
	for id, addrs := range o.Direct {
		prefixes[id] = withHosts(prefixes[id], addrs)
	}
	peers := make(map[mesh.Key]Peer, len(accepted))
	for _, n := range accepted {
		if n.ID() == self {
			continue
		}
		peers[n.Key] = Peer{
			Node:       n.ID(),
			Key:        n.Key,
			Endpoint:   endpoint(n, o.Families),
			AllowedIPs: prefixes[n.ID()],
			Keepalive:  o.Keepalive,
		}
	}
	refused = append(refused, dropSelf(conflicts, self)...)
	slices.SortFunc(refused, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), comparePrefix(a.Prefix, b.Prefix), cmp.Compare(a.Reason, b.Reason))
	})
	return peers, refused
}

// families returns asked, or else what self's own addresses show.
func families(nodes []mesh.Node, self string, asked Families) Families {
	var own Families
	for _, n := range nodes {
		if n.ID() == self {
			own |= FamiliesOf(n.Addresses)
		}
	}
	return cmp.Or(asked, own, IPv4|IPv6)
}

// admit splits nodes into those that can be peers, with self among them so that
// its prefixes are defended, and refusals.
func admit(nodes []mesh.Node, self string, have Families) (accepted []mesh.Node, refused []Refusal) {
	holders := make(map[mesh.Key][]string)
	for _, n := range nodes {
		holders[n.Key] = append(holders[n.Key], n.ID())
	}
	for _, n := range nodes {
		reason := ""
		if n.ID() != self {
			reason = unfit(n, holders[n.Key], self, have)
		}
		if reason == "" {
			accepted = append(accepted, n)
			continue
		}
		refused = append(refused, Refusal{Node: n.ID(), Reason: reason})
	}
	return accepted, refused
}

// unfit returns why n cannot be a peer, or "".
func unfit(n mesh.Node, holders []string, self string, have Families) string {
	switch {
	case n.Key.IsZero():
		return "it has published no WireGuard key"
	case slices.Contains(holders, self):
		return fmt.Sprintf("it publishes the WireGuard key %s of this host: make a new key on it", n.Key)
	case len(holders) > 1:
		return fmt.Sprintf("its WireGuard key %s is published by %s: make new keys on all but one", n.Key, names(holders))
	case len(n.Addresses) == 0:
		return "it has no node address"
	case !endpoint(n, have).IsValid():
		return "it has no node address of a family that this host has"
	}
	return ""
}

// names joins node IDs in a fixed order.
func names(ids []string) string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return strings.Join(ids, " and ")
}

// endpoint returns the first IPv4 address of n, or else the first IPv6 address,
// of a family that this host has. IPv4 is preferred because its WireGuard
// header is 20 bytes shorter and it crosses more middleboxes.
func endpoint(n mesh.Node, have Families) netip.AddrPort {
	port := cmp.Or(n.Port, uint16(mesh.WireGuardPort))
	for _, f := range []Families{IPv4, IPv6} {
		for _, a := range n.Addresses {
			if have&f != 0 && familyOf(a) == f {
				return netip.AddrPortFrom(a.Unmap(), port)
			}
		}
	}
	return netip.AddrPort{}
}

// allot gives each accepted node the prefixes of the endpoints behind its
// addresses. A prefix that several of all nodes claim goes to none: a refused
// node still disputes it.
func allot(accepted, all []mesh.Node, endpoints []mesh.Endpoint) (map[string][]netip.Prefix, []Refusal) {
	claims := claimants(all, endpoints)
	fit := make(map[string]bool, len(accepted))
	for _, n := range accepted {
		fit[n.ID()] = true
	}
	allotted := make(map[string][]netip.Prefix)
	var refused []Refusal
	for prefix, by := range claims {
		if len(by) > 1 {
			refused = append(refused, disputed(prefix, by)...)
		} else if fit[by[0]] {
			allotted[by[0]] = append(allotted[by[0]], prefix)
		}
	}
	for _, ps := range allotted {
		slices.SortFunc(ps, comparePrefix)
	}
	return allotted, refused
}

// withHosts adds addresses to prefixes, and sorts them. None of them is among
// the prefixes already.
func withHosts(prefixes []netip.Prefix, addrs []netip.Addr) []netip.Prefix {
	for _, a := range addrs {
		prefixes = append(prefixes, mesh.HostPrefix(a))
	}
	slices.SortFunc(prefixes, comparePrefix)
	return prefixes
}

// claimants returns, for each prefix, the IDs of the nodes that it is said to
// be behind, without duplicates.
func claimants(nodes []mesh.Node, endpoints []mesh.Endpoint) map[netip.Prefix][]string {
	at := make(map[netip.Addr][]string)
	for _, n := range nodes {
		for _, a := range n.Addresses {
			at[a.Unmap()] = append(at[a.Unmap()], n.ID())
		}
	}
	claims := make(map[netip.Prefix][]string)
	for _, e := range endpoints {
		if !e.Prefix.IsValid() {
			continue
		}
		prefix := e.Prefix.Masked()
		for _, id := range at[e.Host.Unmap()] {
			if !slices.Contains(claims[prefix], id) {
				claims[prefix] = append(claims[prefix], id)
			}
		}
	}
	return claims
}

func disputed(prefix netip.Prefix, by []string) []Refusal {
	var refused []Refusal
	for _, id := range by {
		refused = append(refused, Refusal{Node: id, Prefix: prefix, Reason: "it is claimed by " + names(by)})
	}
	return refused
}

// dropSelf leaves out refusals about this host itself: the other side of each
// dispute is named by the refusal of the other node.
func dropSelf(refused []Refusal, self string) []Refusal {
	return slices.DeleteFunc(refused, func(r Refusal) bool { return r.Node == self })
}

// comparePrefix orders IPv4 before IPv6, then by address and length.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
