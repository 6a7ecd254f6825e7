package probe

import (
	"errors"
	"fmt"
	"runtime"

	nl "github.com/vishvananda/netlink"
	nlmsg "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// loopback is the index of the only interface of a fresh network namespace.
const loopback = 1

// apart tries something in a network namespace of its own, which goes with it.
func apart(try func() error) func() error {
	return func() error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends, and the namespace with it
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				done <- fmt.Errorf("make a network namespace: %w", err)
				return
			}
			done <- try()
		}()
		return <-done
	}
}

const (
	nameTCX       = "tcx links"
	nameClsact    = "clsact filters with BPF"
	nameWireGuard = "WireGuard in the kernel"
)

// attachments are the ways to attach programs to interfaces.
func attachments() []Probe {
	return []Probe{
		{
			Name: nameTCX, Ask: apart(func() error { return attach(unix.BPF_PROG_TYPE_SCHED_CLS, pass, atTCXIngress) }),
			Lost:   "programs are attached by clsact filters, which other tools can remove",
			Remedy: "run Linux 6.6 or later",
		},
		{
			Name: nameClsact, Required: true, Unless: nameTCX, Ask: apart(askClsact),
			Lost:   "without tcx links either, programs cannot be attached: plexusd governs no interface; with them nothing",
			Remedy: "modprobe sch_ingress; modprobe cls_bpf (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)",
		},
		{
			Name: "XDP links", Ask: apart(func() error { return attach(unix.BPF_PROG_TYPE_XDP, pass, atXDP) }),
			Lost:   "packets of denied prefixes are not dropped before the rest of the network stack sees them",
			Remedy: "run Linux 5.9 or later",
		},
	}
}

func askClsact() error {
	program, err := loadProgram(unix.BPF_PROG_TYPE_SCHED_CLS, pass)
	if err != nil {
		return err
	}
	defer unix.Close(program)
	qdisc := &nl.Clsact{QdiscAttrs: nl.QdiscAttrs{LinkIndex: loopback, Handle: nl.MakeHandle(0xffff, 0), Parent: nl.HANDLE_CLSACT}}
	if err := nl.QdiscAdd(qdisc); err != nil {
		return Absent(fmt.Errorf("add clsact: %w", err))
	}
	filter := &nl.BpfFilter{
		FilterAttrs: nl.FilterAttrs{LinkIndex: loopback, Parent: nl.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
		Fd:          program, Name: "probe", DirectAction: true,
	}
	if err := nl.FilterAdd(filter); err != nil {
		return Absent(fmt.Errorf("add BPF filter: %w", err))
	}
	return nil
}

// tunnels are the ways to have WireGuard.
func tunnels() []Probe {
	return []Probe{
		{
			Name: nameWireGuard, Ask: apart(askWireGuard),
			Lost:   "the tunnel runs in a process beside plexusd, and carries less",
			Remedy: "modprobe wireguard (CONFIG_WIREGUARD, Linux 5.6 or later)",
		},
		{
			Name: "TUN devices", Required: true, Unless: nameWireGuard, Ask: apart(askTUN),
			Lost:   "without WireGuard in the kernel either, there is no tunnel; with it nothing",
			Remedy: "modprobe tun (CONFIG_TUN); in a container, give it /dev/net/tun",
		},
		{
			Name: "routing rules with ports", Ask: apart(askPortRules),
			Lost:   "all traffic with node addresses of members is dropped while encryption.nodeAddresses is on, as it is unless set",
			Remedy: "run Linux 4.17 or later, with CONFIG_IP_MULTIPLE_TABLES, or set encryption.nodeAddresses: false before joining",
		},
	}
}

func askWireGuard() error {
	if err := nl.LinkAdd(&nl.Wireguard{LinkAttrs: nl.LinkAttrs{Name: "probe0"}}); err != nil {
		return Absent(fmt.Errorf("make a WireGuard device: %w", err))
	}
	return nil
}

func askTUN() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return Absent(fmt.Errorf("open /dev/net/tun: %w", err))
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("probe1")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return Absent(fmt.Errorf("make a TUN device: %w", err))
	}
	return nil
}

// askPortRules reads its rule back: kernels that do not know of ports take it
// without.
func askPortRules() error {
	if err := addPortRule(); err != nil {
		return Absent(fmt.Errorf("add a rule: %w", err))
	}
	all, err := nl.RuleList(nl.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	for _, r := range all {
		if r.Priority == rulePriority && r.Sport != nil {
			return nil
		}
	}
	return Absent(errors.New("the kernel left the port out of a rule"))
}

const rulePriority = 100

// addPortRule writes a rule by hand, since the library adds an attribute that the
// kernel complains about in its log (linux/fib_rules.h). Its ports are from 0x101
// to 0x101.
func addPortRule() error {
	request := nlmsg.NewNetlinkRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(&nlmsg.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Type: unix.FR_ACT_TO_TBL, Table: unix.RT_TABLE_MAIN}})
	request.AddData(nlmsg.NewRtAttr(nlmsg.FRA_PRIORITY, nlmsg.Uint32Attr(rulePriority)))
	request.AddData(nlmsg.NewRtAttr(nlmsg.FRA_IP_PROTO, []byte{unix.IPPROTO_UDP}))
	request.AddData(nlmsg.NewRtAttr(nlmsg.FRA_SPORT_RANGE, []byte{1, 1, 1, 1}))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// diagnosis are the probes of sock_diag(7), by family and protocol.
func diagnosis() []Probe {
	var out []Probe
	for _, kind := range []struct {
		name   string
		family uint8
		list   func(uint8) ([]*nl.Socket, error)
	}{
		{"TCP over IPv4", unix.AF_INET, nl.SocketDiagTCP}, {"TCP over IPv6", unix.AF_INET6, nl.SocketDiagTCP},
		{"UDP over IPv4", unix.AF_INET, nl.SocketDiagUDP}, {"UDP over IPv6", unix.AF_INET6, nl.SocketDiagUDP},
	} {
		out = append(out, Probe{
			Name: "socket diagnosis of " + kind.name, Ask: apart(func() error { _, err := kind.list(kind.family); return Absent(err) }),
			Lost:   "such connections that are open when policy is first enforced may be judged in the wrong direction, and cut",
			Remedy: "modprobe inet_diag; modprobe tcp_diag; modprobe udp_diag (CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG)",
		})
	}
	return out
}
