package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/plexusmesh/plexus/datapath"
)

// hook is one place that a program is attached to.
type hook struct {
	device  string // interface name
	index   int    // interface index
	ingress bool
}

func (h hook) direction() string {
	if h.ingress {
		return "ingress"
	}
	return "egress"
}

func (h hook) String() string { return h.direction() + " of " + h.device }

// hooks returns both directions of a device.
func hooks(device string, index int) []hook {
	return []hook{{device, index, true}, {device, index, false}}
}

// EnsureLinks attaches the programs to links, or puts the current programs in
// place of those that an earlier run attached, without a packet in between that
// meets neither. A link that is as it should be is left alone. One link that
// fails stops no other.
func (d *Datapath) EnsureLinks(links []datapath.Link) error {
	errs := []error{d.carryWritten()}
	for _, l := range links {
		errs = append(errs, d.ensureLink(l))
	}
	return errors.Join(append(errs, d.retire())...)
}

func (d *Datapath) ensureLink(l datapath.Link) error {
	dev, err := netlink.LinkByName(l.Name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", l.Name, err)
	}
	v, err := variantFor(dev.Attrs())
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range hooks(l.Name, dev.Attrs().Index) {
		errs = append(errs, d.ensureHook(h, d.program(v, l.Tunnel, h.ingress)))
	}
	return errors.Join(errs...)
}

// ensureHook attaches by tcx where the kernel has it, by a clsact filter where
// it has not, and removes what an earlier run attached the other way.
func (d *Datapath) ensureHook(h hook, prog *ebpf.Program) error {
	if !d.opts.ForbidTCX {
		err := ensureTCX(d.opts.Root, h, prog)
		if !errors.Is(err, ebpf.ErrNotSupported) {
			return err
		}
	}
	if err := ensureFilter(h, prog); err != nil {
		return err
	}
	return removeTCX(d.opts.Root, h)
}

// variantFor returns the variant for a device. Those with another link header
// than Ethernet's are refused: their packets would be misread.
func variantFor(dev *netlink.LinkAttrs) (variant, error) {
	switch dev.EncapType {
	case "ether", "loopback":
		return variant{l2Len: 14}, nil
	case "none", "ppp", "unknown519": // 519 is ARPHRD_RAWIP, of cellular modems
		return variant{l2Len: 0}, nil
	}
	return variant{}, fmt.Errorf("govern link %s: its packets start with a %q header, and Plexus reads Ethernet and bare IP: leave it out of the managed interfaces",
		dev.Name, dev.EncapType)
}

func (d *Datapath) program(v variant, tunnel, ingress bool) *ebpf.Program {
	p := d.programs[v]
	switch {
	case tunnel && ingress:
		return p.FromTunnel
	case tunnel:
		return p.ToTunnel
	case ingress:
		return p.FromNetdev
	}
	return p.ToNetdev
}

// PruneLinks detaches from every link that is not in keep.
func (d *Datapath) PruneLinks(keep []datapath.Link) error {
	wanted := make(map[string]bool)
	for _, l := range keep {
		wanted[l.Name] = true
	}
	have, err := d.ListLinks()
	errs := []error{err}
	for _, l := range have {
		if !wanted[l.Name] {
			errs = append(errs, removeLink(d.opts.Root, l.Name))
		}
	}
	return errors.Join(append(errs, d.retire())...)
}

// ListLinks returns the links that a program of ours is attached to, sorted by
// name. One whose interface is gone is listed until it is pruned.
func (d *Datapath) ListLinks() ([]datapath.Link, error) { return listLinks(d.opts.Root) }

// removeLink detaches from a link, however and whenever it was attached.
func removeLink(root, device string) error {
	index := 0
	if dev, err := netlink.LinkByName(device); err == nil {
		index = dev.Attrs().Index
	}
	var errs []error
	for _, h := range hooks(device, index) {
		errs = append(errs, removeTCX(root, h))
		if index != 0 {
			errs = append(errs, removeFilter(h))
		}
	}
	return errors.Join(errs...)
}
