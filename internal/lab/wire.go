package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "br0"
	// Device is every host's interface on the underlay.
	Device = "eth0"
)

// inside opens the network namespace of h for netlink calls.
func (h *Host) inside(fn func(*netlink.Handle) error) error {
	ns, err := h.namespace()
	if err != nil {
		return err
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", h.Name, err)
	}
	defer handle.Close()
	return fn(handle)
}

func (h *Host) namespace() (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(h.nsPath())
	if err != nil {
		return 0, fmt.Errorf("open network namespace of %s: %w", h.Name, err)
	}
	return ns, nil
}

// wire makes the bridge and joins every host to it.
func (l *Lab) wire() error {
	return l.Fabric.inside(func(fabric *netlink.Handle) error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
		if err := fabric.LinkAdd(bridge); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
		if err := fabric.LinkSetUp(bridge); err != nil {
			return fmt.Errorf("set bridge up: %w", err)
		}
		for _, h := range l.Hosts {
			if err := h.plug(fabric, bridge); err != nil {
				return fmt.Errorf("connect %s: %w", h.Name, err)
			}
		}
		return nil
	})
}

// plug makes the cable between h and the bridge.
func (h *Host) plug(fabric *netlink.Handle, bridge netlink.Link) error {
	ns, err := h.namespace()
	if err != nil {
		return err
	}
	defer ns.Close()
	port := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: h.Name, MasterIndex: bridge.Attrs().Index},
		PeerName:      Device,
		PeerNamespace: netlink.NsFd(ns),
	}
	if err := fabric.LinkAdd(port); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	if err := fabric.LinkSetUp(port); err != nil {
		return fmt.Errorf("set port up: %w", err)
	}
	return h.inside(h.configure)
}

// configure sets the host's own end up, addresses first.
func (h *Host) configure(handle *netlink.Handle) error {
	link, err := handle.LinkByName(Device)
	if err != nil {
		return fmt.Errorf("find %s: %w", Device, err)
	}
	for _, p := range h.prefixes() {
		addr := &netlink.Addr{
			IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
			Flags: unix.IFA_F_NODAD,
		}
		if err := handle.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", Device, err)
	}
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}

func (h *Host) prefixes() []netip.Prefix {
	out := []netip.Prefix{netip.PrefixFrom(h.Addr4, 24)}
	if h.Addr6.IsValid() {
		out = append(out, netip.PrefixFrom(h.Addr6, 64))
	}
	return out
}

// SetLink plugs the host's cable in or out: without it, eth0 has no carrier
// and keeps its addresses.
func (h *Host) SetLink(up bool) error {
	return h.lab.Fabric.inside(func(fabric *netlink.Handle) error {
		port, err := fabric.LinkByName(h.Name)
		if err != nil {
			return fmt.Errorf("find port of %s: %w", h.Name, err)
		}
		set := fabric.LinkSetDown
		if up {
			set = fabric.LinkSetUp
		}
		if err := set(port); err != nil {
			return fmt.Errorf("set link of %s, up=%t: %w", h.Name, up, err)
		}
		return nil
	})
}
