package device

import (
	"cmp"
	"net"
	"net/netip"
	"path"
	"slices"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Options say what counts as an uplink.
type Options struct {
	Tunnel string // our own device, never an uplink; required
	// Interfaces are names, or patterns as path.Match takes them, of the only
	// links to manage, whatever they are; none lets Discover choose.
	Interfaces []string
	Advertise  []netip.Addr   // a link with one of these is an uplink; they come first
	Exclude    []netip.Prefix // mesh pools: never node addresses
}

// Uplink is a link that joins this host to others.
type Uplink struct {
	Name      string
	Index     int
	MTU       int          // bytes
	Addresses []netip.Addr // usable as node addresses, IPv4 first
	Default   bool         // whether a default route leads through it
}

// State is what Discover finds.
type State struct {
	Uplinks   []Uplink     // by name
	Addresses []netip.Addr // node addresses, preferred first
	MTU       int          // the smallest of the uplinks with a default route, or else of all; 0 without any
	Tunnel    bool         // whether our own device is there and up, so that its loss is news
}

// Equal reports whether both say the same.
func (s State) Equal(o State) bool {
	return s.MTU == o.MTU && s.Tunnel == o.Tunnel && slices.Equal(s.Addresses, o.Addresses) &&
		slices.EqualFunc(s.Uplinks, o.Uplinks, func(a, b Uplink) bool {
			return a.Name == b.Name && a.Index == b.Index && a.MTU == b.MTU && a.Default == b.Default && slices.Equal(a.Addresses, b.Addresses)
		})
}

// facts are what the kernel says of its links.
type facts struct {
	links     []nl.Link
	addresses map[int][]nl.Addr // by link index
	defaults  map[int]bool      // links that a default route leads through
}

// tunnels are link types that carry other networks, not this host's underlay.
var tunnels = []string{"wireguard", "tuntap", "tun", "vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "ipip", "ip6tnl", "sit", "vti", "vti6", "xfrm", "dummy", "ifb", "nlmon"}

// classify decides which links are uplinks. It is pure.
func classify(f facts, o Options) State {
	var s State
	for _, link := range f.links {
		a := link.Attrs()
		s.Tunnel = s.Tunnel || a.Name == o.Tunnel && a.Flags&net.FlagUp != 0
		usable := usableAddresses(f.addresses[a.Index], o.Exclude)
		if isUplink(link, f, o, usable) {
			s.Uplinks = append(s.Uplinks, Uplink{Name: a.Name, Index: a.Index, MTU: a.MTU, Addresses: usable, Default: f.defaults[a.Index]})
		}
	}
	slices.SortFunc(s.Uplinks, func(a, b Uplink) int { return cmp.Compare(a.Name, b.Name) })
	s.Addresses = nodeAddresses(s.Uplinks, o.Advertise)
	s.MTU = smallestMTU(s.Uplinks)
	return s
}

// isUplink applies the rules in order: what is never one, what was asked for,
// what routes or advertised addresses show, and what else has an address.
func isUplink(link nl.Link, f facts, o Options, usable []netip.Addr) bool {
	a := link.Attrs()
	switch {
	case a.Name == o.Tunnel, a.Flags&net.FlagLoopback != 0, a.Flags&net.FlagUp == 0:
		return false
	case len(o.Interfaces) > 0:
		return slices.ContainsFunc(o.Interfaces, func(p string) bool { ok, _ := path.Match(p, a.Name); return ok })
	case a.MasterIndex != 0: // its bond or bridge has the addresses
		return false
	case f.defaults[a.Index], slices.ContainsFunc(usable, func(u netip.Addr) bool { return slices.Contains(o.Advertise, u) }):
		return true
	case link.Type() == "bridge", slices.Contains(tunnels, link.Type()):
		return false
	case link.Type() == "veth":
		return hasSubnet(f.addresses[a.Index], usable)
	}
	return len(usable) > 0
}

// hasSubnet reports whether a usable address has neighbours. The host's end of
// a container's veth pair has none: it has no address, or a host prefix.
func hasSubnet(addrs []nl.Addr, usable []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a nl.Addr) bool {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, bits := a.Mask.Size()
		return ok && ones < bits && slices.Contains(usable, ip.Unmap())
	})
}

// unusable are address flags of what may vanish, or is not there yet.
const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED

// usableAddresses returns those that others may reach this host at: global
// unicast, IPv4 first. Temporary privacy addresses (RFC 8981) change by the day
// and are left out; IFA_F_TEMPORARY means "secondary" for IPv4.
func usableAddresses(addrs []nl.Addr, exclude []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		switch {
		case !ok, !ip.IsGlobalUnicast(), a.Flags&unusable != 0:
		case ip.Is6() && a.Flags&unix.IFA_F_TEMPORARY != 0:
		case slices.ContainsFunc(exclude, func(p netip.Prefix) bool { return p.Contains(ip) }):
		default:
			out = append(out, ip)
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return out
}

// nodeAddresses orders the addresses of uplinks: advertised ones as they were
// given, then those of links with a default route, then the rest.
func nodeAddresses(uplinks []Uplink, advertise []netip.Addr) []netip.Addr {
	out := slices.Clone(advertise)
	for _, byDefault := range []bool{true, false} {
		for _, u := range uplinks {
			if u.Default != byDefault {
				continue
			}
			for _, a := range u.Addresses {
				if !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

func smallestMTU(uplinks []Uplink) int {
	least := func(onlyDefault bool) int {
		mtu := 0
		for _, u := range uplinks {
			if (u.Default || !onlyDefault) && (mtu == 0 || u.MTU < mtu) {
				mtu = u.MTU
			}
		}
		return mtu
	}
	return cmp.Or(least(true), least(false))
}
