package routetest

import (
	"fmt"
	"net"
	"slices"
	"strings"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Choose makes src what the main table gives packets without a source address.
func (k *Kernel) Choose(src net.IP) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.choice = src
}

// RouteGetWithOptions answers as a main table does that leads everywhere by the
// first link.
func (k *Kernel) RouteGetWithOptions(destination net.IP, _ *nl.RouteGetOptions) ([]nl.Route, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpGet, destination.String()); err != nil {
		return nil, err
	}
	return []nl.Route{{Src: k.choice, LinkIndex: 1}}, nil
}

// RuleList returns the rules of a family, by priority.
func (k *Kernel) RuleList(family int) ([]nl.Rule, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpRuleList, ""); err != nil {
		return nil, err
	}
	if k.off[family] {
		return nil, unix.EAFNOSUPPORT
	}
	var out []nl.Rule
	for _, r := range k.rules {
		if r.Family == family {
			r.Type = 0 // the library does not read it
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b nl.Rule) int { return a.Priority - b.Priority })
	return out, nil
}

// RuleAdd adds a rule unless there is one just like it.
func (k *Kernel) RuleAdd(r *nl.Rule) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpRuleAdd, describe(*r)); err != nil {
		return err
	}
	if k.off[r.Family] {
		return unix.EAFNOSUPPORT
	}
	if slices.ContainsFunc(k.rules, func(o nl.Rule) bool { return describe(o) == describe(*r) }) {
		return unix.EEXIST
	}
	k.rules = append(k.rules, *r)
	return nil
}

// RuleDel removes a rule that RuleList has shown.
func (k *Kernel) RuleDel(r *nl.Rule) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpRuleDel, describe(*r)); err != nil {
		return err
	}
	i := slices.IndexFunc(k.rules, func(o nl.Rule) bool { return describe(o) == describe(*r) })
	if i < 0 {
		return unix.ENOENT
	}
	k.rules = slices.Delete(k.rules, i, i+1)
	return nil
}

// Rules returns the rules, a line each, sorted.
func (k *Kernel) Rules() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var lines []string
	for _, r := range k.rules {
		lines = append(lines, describe(r)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// describe returns what tells rules apart.
func describe(r nl.Rule) string {
	text := fmt.Sprintf("v%d %d proto=%d", map[int]int{nl.FAMILY_V4: 4, nl.FAMILY_V6: 6}[r.Family], r.Priority, r.Protocol)
	if r.Mark != 0 {
		text += fmt.Sprintf(" mark=%#x", r.Mark)
	}
	if r.IifName != "" {
		text += " iif=" + r.IifName
	}
	if r.Dst != nil {
		text += " to=" + r.Dst.String()
	}
	if r.IPProto != 0 {
		text += fmt.Sprintf(" ipproto=%d", r.IPProto)
	}
	if r.Sport != nil {
		text += fmt.Sprintf(" sport=%d-%d", r.Sport.Start, r.Sport.End)
	}
	if r.Dport != nil {
		text += fmt.Sprintf(" dport=%d-%d", r.Dport.Start, r.Dport.End)
	}
	if r.Goto >= 0 {
		text += fmt.Sprintf(" goto=%d", r.Goto)
	}
	if r.Table != 0 {
		text += fmt.Sprintf(" table=%d", r.Table)
	}
	return text
}
