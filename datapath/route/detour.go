package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/plexusmesh/plexus/datapath"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// DetourTable is the routing table that leads node addresses into the tunnel.
	DetourTable = 0x706c
	// Mark is on WireGuard's own packets, so that they do not go into the tunnel
	// that they are. Its bits are none that Kubernetes, Cilium, Calico or Tailscale
	// give a meaning.
	Mark = 0x70
)

// ruler is what a Detour uses of the kernel.
type ruler interface {
	netlink
	RuleList(family int) ([]nl.Rule, error)
	RuleAdd(*nl.Rule) error
	RuleDel(*nl.Rule) error
	RouteGetWithOptions(destination net.IP, o *nl.RouteGetOptions) ([]nl.Route, error)
}

// Detour keeps the table and the rules that lead traffic to node addresses into
// the tunnel. Its methods may be called concurrently.
type Detour struct {
	table  *Table
	kernel ruler

	mu     sync.Mutex
	want   map[rule]bool // of the last Ensure; nil before the first
	wanted map[rule]bool // by this run, until pruned
}

// DetourOptions say where a Detour leads.
type DetourOptions struct {
	Device string // the tunnel; required
	Kernel ruler  // nil takes the kernel, in the network namespace of the caller
}

// NewDetour returns a driver. It opens nothing.
func NewDetour(o DetourOptions) (*Detour, error) {
	if o.Kernel == nil {
		o.Kernel = &rulekernel{}
	}
	table, err := New(Options{Device: o.Device, Netlink: o.Kernel, number: DetourTable})
	if err != nil {
		return nil, err
	}
	return &Detour{table: table, kernel: o.Kernel, wanted: make(map[rule]bool)}, nil
}

// Ensure adds what is missing and removes nothing: that is for Prune. Nothing
// leads into the tunnel before all exemptions are there: a tunnel whose own
// packets went into it could never be repaired. Once they are, everything does,
// though it be unreachable for want of the device. A family that the kernel runs
// without is left out: nothing of it can leave.
func (d *Detour) Ensure(ctx context.Context, want datapath.Detour) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	have, off, err := d.read(ctx)
	if err != nil {
		return err
	}
	want.To = slices.DeleteFunc(slices.Clone(want.To), func(a netip.Addr) bool { return off[familyOf(a)] })
	rules := rulesFor(want)
	d.want = make(map[rule]bool, len(rules))
	for _, r := range rules {
		d.want[r], d.wanted[r] = true, true
	}
	leads := func(r rule) bool { return r.table != 0 }
	if err := d.add(rules, have, func(r rule) bool { return !leads(r) }); err != nil {
		return err
	}
	led, err := d.led(ctx, have)
	if err != nil {
		return err
	}
	routes, err := d.routes(want)
	err = errors.Join(err, d.table.Ensure(ctx, routes), d.add(rules, have, leads))
	return errors.Join(err, d.shake(want.To, led))
}

// add adds those of rules that which picks and have lacks.
func (d *Detour) add(rules []rule, have map[rule]nl.Rule, which func(rule) bool) error {
	var errs []error
	for _, r := range rules {
		if _, there := have[r]; there || !which(r) {
			continue
		}
		if err := d.kernel.RuleAdd(r.toKernel()); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("add routing rule of priority %d: %w", r.priority, err))
		}
	}
	return errors.Join(errs...)
}

// routes returns what the table should hold. The refusal behind each route keeps
// traffic from the main table while the device is away.
func (d *Detour) routes(want datapath.Detour) ([]datapath.Route, error) {
	var out []datapath.Route
	var errs []error
	for _, a := range want.To {
		source, err := d.source(a, want.From)
		prefix := netip.PrefixFrom(a, a.BitLen())
		out = append(out, datapath.Route{Prefix: prefix, Source: source}, datapath.Route{Prefix: prefix, Unreachable: true})
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// source returns which of own programs without a choice of their own speak from
// to a peer: where there are several of its family, the one that the main table
// would give them, which it is asked for with the mark that leads there.
func (d *Detour) source(to netip.Addr, own []netip.Addr) (netip.Addr, error) {
	own = slices.DeleteFunc(slices.Clone(own), func(a netip.Addr) bool { return familyOf(a) != familyOf(to) })
	if len(own) == 0 {
		return netip.Addr{}, nil
	}
	if len(own) == 1 {
		return own[0], nil
	}
	routes, err := d.kernel.RouteGetWithOptions(to.AsSlice(), &nl.RouteGetOptions{Mark: Mark})
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES): // no way there but the tunnel
		return own[0], nil
	case err != nil:
		return own[0], fmt.Errorf("look up source address for %s: %w", to, err)
	}
	for _, r := range routes {
		if a, ok := netip.AddrFromSlice(r.Src); ok && slices.Contains(own, a.Unmap()) {
			return a.Unmap(), nil
		}
	}
	return own[0], nil
}

// Prune removes rules and routes of ours that this run wanted once and wants no
// more, the look-up first. With orphans it also removes those that it never
// wanted. Before the first Ensure it does nothing.
func (d *Detour) Prune(ctx context.Context, orphans bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.want == nil {
		return nil
	}
	have, _, err := d.ours(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(have, removal)
	var errs []error
	for _, h := range have {
		r, known := ruleOf(h)
		if known && (d.want[r] || !orphans && !d.wanted[r]) || !known && !orphans {
			continue
		}
		if err := d.kernel.RuleDel(&h); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove routing rule of priority %d: %w", h.Priority, err))
		}
	}
	err = errors.Join(errs...)
	if err == nil {
		clear(d.wanted)
		for r := range d.want {
			d.wanted[r] = true
		}
	}
	return errors.Join(err, d.table.Prune(ctx, orphans))
}

// Remove removes every rule and route of ours, whoever made it. It needs no
// memory, for cleaning up.
func (d *Detour) Remove(ctx context.Context) error {
	if err := d.Ensure(ctx, datapath.Detour{}); err != nil {
		return err
	}
	return d.Prune(ctx, true)
}

// read returns our rules as far as this version writes them, and the families
// that are switched off.
func (d *Detour) read(ctx context.Context) (map[rule]nl.Rule, map[int]bool, error) {
	all, off, err := d.ours(ctx)
	if err != nil {
		return nil, nil, err
	}
	out := make(map[rule]nl.Rule, len(all))
	for _, k := range all {
		if r, known := ruleOf(k); known {
			out[r] = k
		}
	}
	return out, off, nil
}

// ours returns the rules of both families that carry our mark, and which family
// is switched off.
func (d *Detour) ours(ctx context.Context) (out []nl.Rule, off map[int]bool, _ error) {
	off = make(map[int]bool)
	for _, family := range families {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		rules, err := d.kernel.RuleList(family)
		off[family] = errors.Is(err, unix.EAFNOSUPPORT) // while a kernel without any rules answers to adding one that it cannot
		if err != nil && !none(err) {
			return nil, nil, fmt.Errorf("list routing rules: %w", err)
		}
		for _, r := range rules {
			if r.Protocol == Protocol {
				r.Family = family
				out = append(out, r)
			}
		}
	}
	return out, off, nil
}
