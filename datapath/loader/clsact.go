package loader

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A filter of ours has this handle at this priority; its name starts so. With
// priority 1 no other filter comes first.
const (
	filterHandle   = 0x706c7873 // "plxs"
	filterPriority = 1
	filterPrefix   = "plexus_"
)

func filterParent(h hook) uint32 {
	if h.ingress {
		return netlink.HANDLE_MIN_INGRESS
	}
	return netlink.HANDLE_MIN_EGRESS
}

// filterFor returns the filter that runs a program, or with a nil one the filter
// to remove.
func filterFor(h hook, prog *ebpf.Program, name string) *netlink.BpfFilter {
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: h.index,
			Parent:    filterParent(h),
			Handle:    filterHandle,
			Priority:  filterPriority,
			Protocol:  unix.ETH_P_ALL,
		},
		Name:         filterPrefix + name,
		DirectAction: true,
	}
	if prog != nil {
		f.Fd = prog.FD()
	}
	return f
}

func clsact(index int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index,
		Handle:    netlink.MakeHandle(0xffff, 0),
		Parent:    netlink.HANDLE_CLSACT,
	}}
}

// ensureFilter attaches prog by a clsact filter, in place of one that an earlier
// run left: the kernel swaps the program in one step.
func ensureFilter(h hook, prog *ebpf.Program) error {
	info, err := prog.Info()
	if err != nil {
		return fmt.Errorf("look at loaded program: %w", err)
	}
	id, _ := info.ID() // always there since 4.13
	have, err := findFilter(h)
	if err != nil {
		return err
	}
	if have != nil && have.Id == int(id) {
		return nil
	}
	if err := netlink.QdiscAdd(clsact(h.index)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact to %s: %w", h.device, err)
	}
	err = netlink.FilterReplace(filterFor(h, prog, info.Name))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("attach to %s: a filter of another kind holds priority %d: see tc filter show dev %s %s: %w",
			h, filterPriority, h.device, h.direction(), err)
	}
	if err != nil {
		return fmt.Errorf("attach to %s: %w", h, err)
	}
	return nil
}

// findFilter returns the filter of ours at h, or nil.
func findFilter(h hook) (*netlink.BpfFilter, error) {
	all, err := listFilters(h)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Handle == filterHandle && strings.HasPrefix(b.Name, filterPrefix) {
			return b, nil
		}
	}
	return nil, nil
}

func listFilters(h hook) ([]netlink.Filter, error) {
	dev := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: h.index, Name: h.device}}
	fs, err := netlink.FilterList(dev, filterParent(h))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil, nil // no clsact, or no interface
	}
	if err != nil {
		return nil, fmt.Errorf("list filters at %s: %w", h, err)
	}
	return fs, nil
}

// removeFilter removes the filter of ours at h, if there is one, and clsact with
// it where that holds no filter any more, whoever's.
func removeFilter(h hook) error {
	f, err := findFilter(h)
	if err != nil || f == nil {
		return err
	}
	err = netlink.FilterDel(filterFor(h, nil, ""))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove filter from %s: %w", h, err)
	}
	return removeClsact(h.index)
}

// removeClsact removes clsact from an interface on which it holds no filter.
func removeClsact(index int) error {
	for _, h := range hooks("", index) {
		if fs, err := listFilters(h); err != nil || len(fs) > 0 {
			return err
		}
	}
	err := netlink.QdiscDel(clsact(index))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove clsact from interface %d: %w", index, err)
	}
	return nil
}

// listClsact returns the filters of ours: by interface name, the name of a program.
func listClsact() (map[string]string, error) {
	devs, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := make(map[string]string)
	for _, dev := range devs {
		for _, h := range hooks(dev.Attrs().Name, dev.Attrs().Index) {
			f, err := findFilter(h)
			if err != nil {
				return nil, err
			}
			if f != nil {
				out[h.device] = strings.TrimPrefix(f.Name, filterPrefix)
			}
		}
	}
	return out, nil
}
