package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// led returns the addresses that go into the tunnel already, by the rules that
// there are.
func (d *Detour) led(ctx context.Context, have map[rule]nl.Rule) (map[netip.Addr]bool, error) {
	out := make(map[netip.Addr]bool)
	routes, err := d.table.List(ctx)
	for _, r := range routes {
		a := r.Prefix.Addr()
		if _, looked := have[lookupRules(familyOf(a))[0]]; looked && !r.Unreachable {
			out[a] = true
		}
	}
	return out, err
}

// shake has open sockets look for their way again, to those of to that were not
// led away before. IPv4 does so by itself whenever a rule or route changes. In IPv6
// a socket keeps the route that it found until something changes on the path to it
// within the same table (fn_sernum in net/ipv6/ip6_fib.c), and neither a rule nor
// a route in another table is. So the main table gets a copy of the very route
// that it has for the address, which goes at once.
func (d *Detour) shake(to []netip.Addr, led map[netip.Addr]bool) error {
	var errs []error
	for _, a := range to {
		if a.Is4() || led[a] {
			continue
		}
		routes, err := d.kernel.RouteGetWithOptions(a.AsSlice(), &nl.RouteGetOptions{Mark: Mark})
		if err != nil || len(routes) == 0 || routes[0].LinkIndex == 0 {
			continue // no way there but the tunnel, and so no socket that has one
		}
		r := &nl.Route{
			Table: unix.RT_TABLE_MAIN, Protocol: Protocol, Priority: TunnelMetric, LinkIndex: routes[0].LinkIndex, Gw: routes[0].Gw,
			Dst: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
		}
		if err := d.kernel.RouteAdd(r); err != nil {
			if !errors.Is(err, unix.EEXIST) {
				errs = append(errs, fmt.Errorf("have sockets look for their way to %s again: %w", a, err))
			}
			continue
		}
		if err := d.kernel.RouteDel(r); err != nil {
			errs = append(errs, fmt.Errorf("remove route %s, which had sockets look again: %w", a, err))
		}
	}
	return errors.Join(errs...)
}
