package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/plexusmesh/plexus/datapath"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks a route as ours (rtm_protocol, rtnetlink(7)). iproute2 shows it
// as "proto 158"; no program in its list uses it.
const Protocol = 0x9e

// Metrics of our routes. Where both hold for a prefix, the tunnel is taken while
// its device is there, and nothing else ever.
const (
	TunnelMetric      = 1
	UnreachableMetric = 10000
)

// families are those in which routes are kept.
var families = []int{nl.FAMILY_V4, nl.FAMILY_V6}

// netlink is what a Table uses of the kernel.
type netlink interface {
	LinkByName(name string) (nl.Link, error)
	RouteListFiltered(family int, filter *nl.Route, mask uint64) ([]nl.Route, error)
	RouteAdd(*nl.Route) error
	RouteReplace(*nl.Route) error
	RouteDel(*nl.Route) error
}

var _ netlink = (*nl.Handle)(nil)

// Options say where routes lead.
type Options struct {
	Device  string  // the tunnel; required
	Netlink netlink // nil takes the kernel, in the network namespace of the caller
	number  int     // of the routing table; 0 for the main one
}

// Table keeps our routes. Its methods may be called concurrently.
type Table struct {
	device string
	number int
	kernel netlink

	mu     sync.Mutex
	want   map[id]datapath.Route // of the last Ensure; nil before the first
	wanted map[id]bool           // by this run, until pruned
}

// id is what the kernel tells routes of one table apart by.
type id struct {
	prefix netip.Prefix
	metric int
}

// New returns a driver. It opens nothing.
func New(o Options) (*Table, error) {
	if o.Device == "" {
		return nil, errors.New("keep routes: no tunnel device given")
	}
	if o.Netlink == nil {
		o.Netlink = &nl.Handle{} // the zero Handle opens a socket for each request
	}
	return &Table{device: o.Device, number: cmp.Or(o.number, unix.RT_TABLE_MAIN), kernel: o.Netlink, wanted: make(map[id]bool)}, nil
}

// List returns the routes of the table that are ours, sorted.
func (t *Table) List(ctx context.Context) ([]datapath.Route, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, err := t.read(ctx)
	if err != nil {
		return nil, err
	}
	var out []datapath.Route
	for _, r := range have {
		if r.Protocol == Protocol {
			out = append(out, describe(r))
		}
	}
	slices.SortFunc(out, compare)
	return out, nil
}

// Ensure adds the routes that are missing and corrects those of ours that
// differ. It removes none: that is for Prune. A route that cannot be had stops
// no other; the errors are joined.
func (t *Table) Ensure(ctx context.Context, want []datapath.Route) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want = make(map[id]datapath.Route, len(want))
	for _, w := range want {
		t.want[idOf(w)] = w
		t.wanted[idOf(w)] = true
	}
	have, err := t.read(ctx)
	if err != nil {
		return err
	}
	index, linkErr := t.tunnel(want)
	at := make(map[netip.Prefix][]nl.Route)
	for _, h := range have {
		at[prefixOf(h)] = append(at[prefixOf(h)], h)
	}
	errs := []error{linkErr}
	for _, w := range sorted(t.want) {
		if linkErr == nil || w.Unreachable {
			errs = append(errs, t.ensure(w, index, at[w.Prefix]))
		}
	}
	return errors.Join(errs...)
}

// tunnel returns the index of the device if any route of want needs it.
func (t *Table) tunnel(want []datapath.Route) (int, error) {
	if !slices.ContainsFunc(want, func(r datapath.Route) bool { return !r.Unreachable }) {
		return 0, nil
	}
	link, err := t.kernel.LinkByName(t.device)
	if err != nil {
		return 0, fmt.Errorf("look up tunnel device %s for routes: %w", t.device, err)
	}
	return link.Attrs().Index, nil
}

// ensure brings one route into the kernel, which has these for its prefix.
func (t *Table) ensure(w datapath.Route, index int, have []nl.Route) error {
	r := t.toKernel(w, index)
	same := -1
	for i, h := range have {
		if h.Protocol != Protocol && h.Priority <= r.Priority {
			return t.conflict(w, h)
		}
		if h.Protocol == Protocol && h.Priority == r.Priority {
			same = i
		}
	}
	switch {
	case same < 0:
		if err := t.kernel.RouteAdd(r); err != nil {
			return fmt.Errorf("add route %s: %w", w.Prefix, err)
		}
	case !equal(have[same], *r):
		if err := t.kernel.RouteReplace(r); err != nil {
			return fmt.Errorf("replace route %s: %w", w.Prefix, err)
		}
	}
	return nil
}

// conflict says whose route takes the traffic of w.
func (t *Table) conflict(w datapath.Route, h nl.Route) error {
	remedy := ", or give the mesh another address pool"
	if t.number != unix.RT_TABLE_MAIN {
		remedy = fmt.Sprintf(" table %d", t.number)
	}
	return fmt.Errorf("route %s into the mesh: a route of protocol %s, metric %d, interface %d, already leads there: remove it with ip route del %s proto %d%s",
		w.Prefix, h.Protocol, h.Priority, h.LinkIndex, w.Prefix, int(h.Protocol), remedy)
}

// Prune removes routes of ours that this run wanted once and wants no more.
// With orphans it also removes those that it never wanted. Before the first
// Ensure it does nothing.
func (t *Table) Prune(ctx context.Context, orphans bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.want == nil {
		return nil
	}
	have, err := t.read(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range have {
		key := id{prefixOf(h), h.Priority}
		if _, ok := t.want[key]; ok || h.Protocol != Protocol || !orphans && !t.wanted[key] {
			continue
		}
		if err := t.kernel.RouteDel(&h); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route %s: %w", key.prefix, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	clear(t.wanted)
	for key := range t.want {
		t.wanted[key] = true
	}
	return nil
}

// Remove removes every route of ours, whoever made it. It needs no memory, for
// cleaning up.
func (t *Table) Remove(ctx context.Context) error {
	if err := t.Ensure(ctx, nil); err != nil {
		return err
	}
	return t.Prune(ctx, true)
}

// read returns the table, of both families.
func (t *Table) read(ctx context.Context) ([]nl.Route, error) {
	var all []nl.Route
	for _, family := range families {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rs, err := t.kernel.RouteListFiltered(family, &nl.Route{Table: t.number}, nl.RT_FILTER_TABLE)
		if err != nil && !none(err) {
			return nil, fmt.Errorf("list routes of table %d: %w", t.number, err)
		}
		for _, r := range rs {
			r.Family = family
			all = append(all, r)
		}
	}
	return all, nil
}

// none reports whether err, of a dump, says that there is nothing: the kernel has
// the family switched off (ipv6.disable=1), or no such thing at all.
func none(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}

func idOf(r datapath.Route) id {
	if r.Unreachable {
		return id{r.Prefix, UnreachableMetric}
	}
	return id{r.Prefix, TunnelMetric}
}

func sorted(want map[id]datapath.Route) []datapath.Route {
	out := make([]datapath.Route, 0, len(want))
	for _, w := range want {
		out = append(out, w)
	}
	slices.SortFunc(out, compare)
	return out
}

// compare orders by prefix; for one prefix the refusal comes first, so that no
// packet slips by before the tunnel's route is there.
func compare(a, b datapath.Route) int {
	if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
		return c
	}
	if c := a.Prefix.Bits() - b.Prefix.Bits(); c != 0 {
		return c
	}
	return strings.Compare(rank(a), rank(b))
}

func rank(r datapath.Route) string {
	if r.Unreachable {
		return "0"
	}
	return "1"
}

func (t *Table) toKernel(w datapath.Route, index int) *nl.Route {
	r := &nl.Route{
		Table:    t.number,
		Protocol: Protocol,
		Dst:      &net.IPNet{IP: w.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(w.Prefix.Bits(), w.Prefix.Addr().BitLen())},
	}
	if w.Unreachable {
		r.Type, r.Priority = unix.RTN_UNREACHABLE, UnreachableMetric
		return r
	}
	r.Type, r.Priority, r.LinkIndex = unix.RTN_UNICAST, TunnelMetric, index
	if w.Source.IsValid() {
		r.Src = w.Source.AsSlice()
	}
	if w.Prefix.Addr().Is4() {
		r.Scope = nl.SCOPE_LINK // straight onto the device, by no gateway
	}
	return r
}

// equal reports whether h is what r asks for. The kernel gives an unreachable
// IPv6 route the loopback device.
func equal(h, r nl.Route) bool {
	return h.Type == r.Type && h.Src.Equal(r.Src) && (r.Type == unix.RTN_UNREACHABLE || h.LinkIndex == r.LinkIndex)
}

func describe(r nl.Route) datapath.Route {
	src, _ := netip.AddrFromSlice(r.Src)
	return datapath.Route{Prefix: prefixOf(r), Source: src.Unmap(), Unreachable: r.Type == unix.RTN_UNREACHABLE}
}

// prefixOf returns where r leads; nil is the default route.
func prefixOf(r nl.Route) netip.Prefix {
	if r.Dst == nil {
		if r.Family == nl.FAMILY_V6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	a, _ := netip.AddrFromSlice(r.Dst.IP)
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}
