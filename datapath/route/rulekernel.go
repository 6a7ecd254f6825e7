package route

import (
	"encoding/binary"

	nl "github.com/vishvananda/netlink"
	nlmsg "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rulekernel is the kernel, with rules written as it defines them. The library
// writes the protocol of a rule with four bytes where the kernel has one: Linux
// takes the first of them and complains in its log about each.
type rulekernel struct {
	nl.Handle // the zero Handle opens a socket for each request
}

var _ ruler = (*rulekernel)(nil)

// RuleAdd adds r, unless there is one just like it.
func (k *rulekernel) RuleAdd(r *nl.Rule) error {
	return ruleRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, r)
}

// RuleDel removes the first rule that has all that r says.
func (k *rulekernel) RuleDel(r *nl.Rule) error { return ruleRequest(unix.RTM_DELRULE, 0, r) }

// ruleRequest writes what rule.toKernel uses of r (struct fib_rule_hdr and the
// attributes FRA_* of linux/fib_rules.h).
func ruleRequest(command, flags int, r *nl.Rule) error {
	req := nlmsg.NewNetlinkRequest(command, flags|unix.NLM_F_ACK)
	head := &nlmsg.RtMsg{RtMsg: unix.RtMsg{Family: uint8(r.Family), Type: r.Type}}
	number := func(kind int, n uint32) *nlmsg.RtAttr { return nlmsg.NewRtAttr(kind, nlmsg.Uint32Attr(n)) }
	attrs := []*nlmsg.RtAttr{number(nlmsg.FRA_PRIORITY, uint32(r.Priority)), nlmsg.NewRtAttr(nlmsg.FRA_PROTOCOL, []byte{r.Protocol})}
	if r.Dst != nil {
		ones, _ := r.Dst.Mask.Size()
		head.Dst_len = uint8(ones)
		attrs = append(attrs, nlmsg.NewRtAttr(nlmsg.FRA_DST, r.Dst.IP))
	}
	if r.Goto >= 0 {
		head.Type = unix.FR_ACT_GOTO // also for one that was read, of which the library leaves it out
		attrs = append(attrs, number(nlmsg.FRA_GOTO, uint32(r.Goto)))
	}
	if r.Table != 0 {
		attrs = append(attrs, number(nlmsg.FRA_TABLE, uint32(r.Table)))
	}
	if r.Mark != 0 {
		attrs = append(attrs, number(nlmsg.FRA_FWMARK, r.Mark))
	}
	if r.IifName != "" {
		attrs = append(attrs, nlmsg.NewRtAttr(nlmsg.FRA_IIFNAME, nlmsg.ZeroTerminated(r.IifName)))
	}
	if r.IPProto != 0 {
		attrs = append(attrs, nlmsg.NewRtAttr(nlmsg.FRA_IP_PROTO, []byte{uint8(r.IPProto)}))
	}
	attrs = append(append(attrs, ports(nlmsg.FRA_SPORT_RANGE, r.Sport)...), ports(nlmsg.FRA_DPORT_RANGE, r.Dport)...)
	req.AddData(head)
	for _, a := range attrs {
		req.AddData(a)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// ports is the attribute for p (struct fib_rule_port_range); none for nil.
func ports(kind int, p *nl.RulePortRange) []*nlmsg.RtAttr {
	if p == nil {
		return nil
	}
	raw := binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, p.Start), p.End)
	return []*nlmsg.RtAttr{nlmsg.NewRtAttr(kind, raw)}
}
