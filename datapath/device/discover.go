package device

import (
	"errors"
	"fmt"
	"net"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Discover returns the uplinks of the network namespace that it is called in.
func Discover(o Options) (State, error) {
	f, err := gather()
	if err != nil {
		return State{}, err
	}
	return classify(f, o), nil
}

// Silent reports whether a link is there but of no use to this host at the
// moment: it is down, or has no usable address. One that belongs to a bridge or
// bond is not silent, since it carries packets for that.
func Silent(name string) bool {
	link, err := nl.LinkByName(name)
	if err != nil || link.Attrs().MasterIndex != 0 {
		return false
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return true
	}
	addrs, err := whole(nl.AddrList(link, nl.FAMILY_ALL))
	return err == nil && len(usableAddresses(addrs, nil)) == 0
}

func gather() (facts, error) {
	f := facts{addresses: make(map[int][]nl.Addr), defaults: make(map[int]bool)}
	var err error
	if f.links, err = whole(nl.LinkList()); err != nil {
		return f, fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := whole(nl.AddrList(nil, nl.FAMILY_ALL))
	if err != nil {
		return f, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		f.addresses[a.LinkIndex] = append(f.addresses[a.LinkIndex], a)
	}
	for _, family := range []int{nl.FAMILY_V4, nl.FAMILY_V6} {
		routes, err := whole(nl.RouteListFiltered(family, &nl.Route{Table: unix.RT_TABLE_MAIN}, nl.RT_FILTER_TABLE))
		if err != nil {
			return f, fmt.Errorf("list routes: %w", err)
		}
		addDefaults(f.defaults, routes)
	}
	return f, nil
}

// whole accepts a dump that a change interrupted: the change that did announces
// itself, and Watch looks again.
func whole[T any](list []T, err error) ([]T, error) {
	if errors.Is(err, nl.ErrDumpInterrupted) {
		return list, nil
	}
	return list, err
}

// addDefaults notes the links of the default routes among routes.
func addDefaults(defaults map[int]bool, routes []nl.Route) {
	for _, r := range routes {
		if !isDefault(r) || r.Type != unix.RTN_UNICAST {
			continue
		}
		if r.LinkIndex != 0 {
			defaults[r.LinkIndex] = true
		}
		for _, hop := range r.MultiPath {
			defaults[hop.LinkIndex] = true
		}
	}
}

func isDefault(r nl.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}
