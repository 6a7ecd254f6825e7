package routetest

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The operations that can be made to fail.
const (
	OpLink    = "link-by-name"
	OpList    = "route-list"
	OpAdd     = "route-add"
	OpReplace = "route-replace"
	OpDel     = "route-del"

	OpRuleList = "rule-list"
	OpRuleAdd  = "rule-add"
	OpRuleDel  = "rule-del"
	OpGet      = "route-get"
)

// Ops are those on routes, and RuleOps those on rules.
var (
	Ops     = []string{OpLink, OpList, OpAdd, OpReplace, OpDel}
	RuleOps = []string{OpRuleList, OpRuleAdd, OpRuleDel}
)

// Kernel has links, routing tables and rules.
type Kernel struct {
	mu     sync.Mutex
	links  map[string]int // index by name
	routes []nl.Route
	rules  []nl.Rule
	choice net.IP       // source address that the main table has for everybody
	off    map[int]bool // families that the kernel runs without
	fail   map[string]error
	calls  []string
}

// New returns a Kernel with links of these names, numbered from 1.
func New(links ...string) *Kernel {
	k := &Kernel{links: make(map[string]int), off: make(map[int]bool), fail: make(map[string]error)}
	for i, name := range links {
		k.links[name] = i + 1
	}
	return k
}

// FailNext makes the next call of op fail with err and change nothing.
func (k *Kernel) FailNext(op string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail[op] = err
}

// SwitchOff is what ipv6.disable=1 does: dumps of the family fail from now on, as
// does whatever is added.
func (k *Kernel) SwitchOff(family int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.off[family] = true
}

// Calls returns the operations so far, but for those that only look.
func (k *Kernel) Calls() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(k.calls), func(c string) bool {
		return strings.HasPrefix(c, OpLink) || strings.HasPrefix(c, OpList) || strings.HasPrefix(c, OpRuleList) || strings.HasPrefix(c, OpGet)
	})
}

// begin records the call and returns a planted error.
func (k *Kernel) begin(op, what string) error {
	k.calls = append(k.calls, op+" "+what)
	err := k.fail[op]
	delete(k.fail, op)
	return err
}

// LinkByName implements the seam of package route.
func (k *Kernel) LinkByName(name string) (nl.Link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpLink, name); err != nil {
		return nil, err
	}
	index, ok := k.links[name]
	if !ok {
		return nil, fmt.Errorf("link %s: %w", name, unix.ENODEV)
	}
	return &nl.GenericLink{LinkAttrs: nl.LinkAttrs{Name: name, Index: index}}, nil
}

// RouteListFiltered returns the routes of a family in a table.
func (k *Kernel) RouteListFiltered(family int, filter *nl.Route, _ uint64) ([]nl.Route, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpList, ""); err != nil {
		return nil, err
	}
	if k.off[family] {
		return nil, unix.EAFNOSUPPORT
	}
	var out []nl.Route
	for _, r := range k.routes {
		if familyOf(r) == family && tableOf(r) == tableOf(*filter) {
			out = append(out, r)
		}
	}
	return out, nil
}

// RouteAdd adds a route unless one for its prefix and metric is there.
func (k *Kernel) RouteAdd(r *nl.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpAdd, r.Dst.String()); err != nil {
		return err
	}
	if k.off[familyOf(*r)] {
		return unix.EAFNOSUPPORT
	}
	if k.at(r) >= 0 {
		return unix.EEXIST
	}
	k.routes = append(k.routes, *r)
	return nil
}

// RouteReplace puts r in the place of the route for its prefix and metric.
func (k *Kernel) RouteReplace(r *nl.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpReplace, r.Dst.String()); err != nil {
		return err
	}
	if i := k.at(r); i >= 0 {
		k.routes[i] = *r
		return nil
	}
	k.routes = append(k.routes, *r)
	return nil
}

// RouteDel removes the route for r's prefix and metric.
func (k *Kernel) RouteDel(r *nl.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpDel, r.Dst.String()); err != nil {
		return err
	}
	i := k.at(r)
	if i < 0 {
		return unix.ESRCH
	}
	k.routes = slices.Delete(k.routes, i, i+1)
	return nil
}

func (k *Kernel) at(r *nl.Route) int {
	return slices.IndexFunc(k.routes, func(o nl.Route) bool {
		return o.Dst.String() == r.Dst.String() && o.Priority == r.Priority && tableOf(o) == tableOf(*r)
	})
}

// tableOf returns the table of r; none stands for the main one.
func tableOf(r nl.Route) int { return cmp.Or(r.Table, unix.RT_TABLE_MAIN) }

func familyOf(r nl.Route) int {
	if r.Dst.IP.To4() != nil && len(r.Dst.Mask) == net.IPv4len {
		return nl.FAMILY_V4
	}
	return nl.FAMILY_V6
}

// String returns the routes, a line each, sorted.
func (k *Kernel) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var lines []string
	for _, r := range k.routes {
		lines = append(lines, fmt.Sprintf("%s%s type=%d link=%d src=%s metric=%d proto=%d\n", elsewhere(r), r.Dst, r.Type, r.LinkIndex, r.Src, r.Priority, int(r.Protocol)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// elsewhere names a table that is not the main one.
func elsewhere(r nl.Route) string {
	if tableOf(r) == unix.RT_TABLE_MAIN {
		return ""
	}
	return fmt.Sprintf("table %d ", r.Table)
}
