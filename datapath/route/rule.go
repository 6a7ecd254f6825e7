package route

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Priorities of our rules (ip-rule(8)): what is exempt jumps over the look-up
// in our table, and goes on with whatever rules come after.
const (
	exemptPriority = 7060
	lookupPriority = 7061
	behindPriority = 7062
)

// steered are the IPv4 protocols that take the detour. The list stands for
// "every packet": a look-up for a packet says its protocol. One that says none is
// made for no packet, but by ARP, which answers a neighbour only if the way back
// to it leads where its question came from (rp_filter=1, or arp_filter=1 in
// Documentation/networking/ip-sysctl.rst). A rule for all would send that into the
// tunnel too, and the neighbour, WireGuard's packets included, would find this
// host no more. Neighbour discovery looks nothing up.
//
// Raw sockets that write their own headers ask as IPPROTO_RAW. What is not listed
// follows the main table, and is dropped on the interface there.
var steered = []uint8{
	unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_SCTP, unix.IPPROTO_UDPLITE, unix.IPPROTO_DCCP,
	unix.IPPROTO_GRE, unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6, unix.IPPROTO_RAW,
}

// rule is one of our rules; at most one of jump and table is set.
type rule struct {
	family       int
	priority     int
	jump         bool // to behindPriority
	table        int
	own          bool // for this host's packets alone, not those that it forwards
	mark         uint32
	protocol     uint8
	sport, dport uint16
	to           netip.Prefix
}

// rulesFor returns what d needs, in the order in which it can be added without
// a packet of WireGuard ever going into the tunnel.
func rulesFor(d datapath.Detour) []rule {
	var all []rule
	for _, family := range families {
		if !slices.ContainsFunc(d.To, func(a netip.Addr) bool { return familyOf(a) == family }) {
			continue
		}
		all = append(all, rule{family: family, priority: behindPriority}, rule{family: family, priority: exemptPriority, jump: true, mark: Mark})
		all = append(all, exemptRules(d.Exempt, family)...)
		all = append(all, lookupRules(family)...)
	}
	return all
}

// exemptRules match packets by what they carry, not by a mark alone: reverse-path
// filtering asks with the addresses and ports of a packet that came in swapped,
// and without a mark (fib_validate_source in net/ipv4/fib_frontend.c, since Linux
// 5.3). They hold for this host's own packets, which iif lo stands for there too.
func exemptRules(exempt []datapath.Pinhole, family int) []rule {
	var out []rule
	for _, p := range exempt {
		if p.Remote.IsValid() && familyOf(p.Remote.Addr()) != family {
			continue
		}
		r := rule{family: family, priority: exemptPriority, jump: true, own: true, protocol: p.Protocol}
		if p.Remote.Bits() > 0 {
			r.to = p.Remote
		}
		if p.Direction == policy.Ingress {
			r.sport = p.Port
		} else {
			r.dport = p.Port
		}
		out = append(out, r)
	}
	return out
}

func lookupRules(family int) []rule {
	if family == nl.FAMILY_V6 {
		return []rule{{family: family, priority: lookupPriority, table: DetourTable}}
	}
	var out []rule
	for _, p := range steered {
		out = append(out, rule{family: family, priority: lookupPriority, table: DetourTable, protocol: p})
	}
	return out
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return nl.FAMILY_V4
	}
	return nl.FAMILY_V6
}

// toKernel returns r as netlink has it. The action of the rule that is jumped to
// is to do nothing.
func (r rule) toKernel() *nl.Rule {
	k := nl.NewRule()
	k.Family, k.Priority, k.Protocol, k.Mark, k.IPProto = r.family, r.priority, Protocol, r.mark, int(r.protocol)
	switch {
	case r.jump:
		k.Type, k.Goto = unix.FR_ACT_GOTO, behindPriority
	case r.table != 0:
		k.Type, k.Table = unix.FR_ACT_TO_TBL, r.table
	default:
		k.Type = unix.FR_ACT_NOP
	}
	if r.own {
		k.IifName = "lo"
	}
	if r.sport != 0 {
		k.Sport = nl.NewRulePortRange(r.sport, r.sport)
	}
	if r.dport != 0 {
		k.Dport = nl.NewRulePortRange(r.dport, r.dport)
	}
	if r.to.IsValid() {
		k.Dst = &net.IPNet{IP: r.to.Addr().AsSlice(), Mask: net.CIDRMask(r.to.Bits(), r.to.Addr().BitLen())}
	}
	return k
}

// ruleOf reads back what toKernel wrote; false for a rule that it cannot have
// written.
func ruleOf(k nl.Rule) (rule, bool) {
	r := rule{family: k.Family, priority: k.Priority, jump: k.Goto == behindPriority, table: k.Table, own: k.IifName == "lo", mark: k.Mark, protocol: uint8(k.IPProto)}
	if k.Sport != nil {
		r.sport = k.Sport.Start
	}
	if k.Dport != nil {
		r.dport = k.Dport.Start
	}
	if k.Dst != nil {
		a, _ := netip.AddrFromSlice(k.Dst.IP)
		ones, _ := k.Dst.Mask.Size()
		r.to = netip.PrefixFrom(a.Unmap(), ones)
	}
	odd := k.Src != nil || k.Invert || k.OifName != "" || k.UIDRange != nil || k.Tos != 0 || k.TunID != 0 || k.SuppressPrefixlen >= 0 || k.SuppressIfgroup >= 0 ||
		k.Mask != nil && *k.Mask != 0xffffffff || k.Goto >= 0 && !r.jump || k.IifName != "" && !r.own ||
		k.Sport != nil && k.Sport.End != r.sport || k.Dport != nil && k.Dport.End != r.dport
	return r, !odd
}

// removal orders what goes: first the look-up, last what the others jump to.
func removal(a, b nl.Rule) int {
	rank := func(r nl.Rule) int {
		return slices.Index([]int{lookupPriority, exemptPriority, behindPriority}, r.Priority)
	}
	return cmp.Compare(rank(a), rank(b))
}
