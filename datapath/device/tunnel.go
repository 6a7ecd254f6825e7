package device

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// EnsureTunnel gives the tunnel interface its MTU and addresses, sets it up, and
// removes the other global addresses that it has; all of them were ours, as the
// interface is. What is right already is not written.
func EnsureTunnel(ctx context.Context, t datapath.Tunnel) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	link, err := nl.LinkByName(t.Name)
	if err != nil {
		return fmt.Errorf("look up tunnel device %s: %w", t.Name, err)
	}
	if link.Attrs().MTU != t.MTU {
		if err := nl.LinkSetMTU(link, t.MTU); err != nil {
			return fmt.Errorf("set MTU of %s to %d: %w", t.Name, t.MTU, err)
		}
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := nl.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", t.Name, err)
		}
	}
	return ensureAddresses(link, t.Addresses)
}

// TunnelAddresses returns the global addresses of the tunnel interface, none
// where there is no such interface.
func TunnelAddresses(name string) ([]netip.Addr, error) {
	link, err := nl.LinkByName(name)
	if _, missing := errors.AsType[nl.LinkNotFoundError](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up tunnel device %s: %w", name, err)
	}
	have, err := nl.AddrList(link, nl.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", name, err)
	}
	var out []netip.Addr
	for _, a := range have {
		if at := prefixOf(a).Addr(); !at.IsLinkLocalUnicast() {
			out = append(out, at)
		}
	}
	return out, nil
}

// ensureAddresses adds before it deletes, so that no packet finds the interface
// without an address, and tries each.
func ensureAddresses(link nl.Link, want []netip.Prefix) error {
	have, err := nl.AddrList(link, nl.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	var errs []error
	for _, w := range want {
		if !slices.ContainsFunc(have, func(a nl.Addr) bool { return prefixOf(a) == w }) {
			errs = append(errs, addAddress(link, w))
		}
	}
	for _, h := range have {
		p := prefixOf(h)
		if p.Addr().IsLinkLocalUnicast() || slices.Contains(want, p) {
			continue
		}
		if err := nl.AddrDel(link, &h); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove address %s of %s: %w", p, link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// addAddress adds p, for IPv6 without duplicate address detection: the link has
// no neighbours to ask, and a tentative address cannot be used (RFC 4862, 5.4).
func addAddress(link nl.Link, p netip.Prefix) error {
	a := &nl.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	err := nl.AddrAdd(link, a)
	name := link.Attrs().Name
	switch {
	case err == nil:
		return nil
	case p.Addr().Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)):
		return fmt.Errorf("add address %s to %s: the kernel has IPv6 switched off there: run sysctl net.ipv6.conf.%s.disable_ipv6=0: %w", p, name, name, err)
	}
	return fmt.Errorf("add address %s to %s: %w", p, name, err)
}

func prefixOf(a nl.Addr) netip.Prefix {
	ip, _ := netip.AddrFromSlice(a.IP)
	ones, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones)
}
