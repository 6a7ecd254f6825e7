package socket

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

const (
	// trackedCount tells how many flows the kernel tracks. Where it is missing or
	// says none, to ask for them would only load the modules for it.
	trackedCount = "/proc/sys/net/netfilter/nf_conntrack_count"
	// mostTracked bounds the time that the start of enforcement may take.
	mostTracked = 1 << 16
	// trackedEstablished is TCP_CONNTRACK_ESTABLISHED; until TCP_CONNTRACK_CLOSE_WAIT
	// one side still sends (include/uapi/linux/netfilter/nf_conntrack_tcp.h).
	trackedEstablished, trackedCloseWait = 3, 5
)

// Tracked lists flows that the kernel's own connection tracking knows, as they
// look on devices, which are named: with the addresses after translation. That is
// where it knows of what no socket of this host tells: connections of containers
// and guests behind it, and who opened a flow of datagrams. It is empty in a
// network namespace in which the kernel tracks nothing, and lists at most 65,536.
func Tracked(devices []string) ([]datapath.Flow, error) {
	if count, err := os.ReadFile(trackedCount); err != nil || bytes.Equal(bytes.TrimSpace(count), []byte("0")) {
		return nil, nil
	}
	w := ways{through: map[netip.Addr]bool{}}
	for _, name := range devices {
		if dev, err := net.InterfaceByName(name); err == nil { // one that is gone carries nothing
			w.devices = append(w.devices, dev.Index)
		}
	}
	var out []datapath.Flow
	var errs []error
	for _, family := range []nl.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, err := nl.ConntrackTableList(nl.ConntrackTable, family)
		if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
			errs = append(errs, fmt.Errorf("list flows that the kernel tracks: %w", err))
		}
		for _, f := range flows {
			if len(out) < mostTracked && isOpen(f) {
				out = append(out, w.seen(f)...)
			}
		}
	}
	return out, errors.Join(errs...)
}

func isOpen(f *nl.ConntrackFlow) bool {
	switch f.Forward.Protocol {
	case unix.IPPROTO_UDP:
		return true
	case unix.IPPROTO_TCP:
		tcp, ok := f.ProtoInfo.(*nl.ProtoInfoTCP)
		return ok && tcp.State >= trackedEstablished && tcp.State <= trackedCloseWait
	}
	return false
}

// ways tells which addresses are reached through some devices.
type ways struct {
	devices []int
	through map[netip.Addr]bool
}

// seen returns what the devices see of a flow: if its opener is reached through
// them, a flow that comes in, to the address that the opener wrote; if its goal
// is, one that goes out, from the address that the goal reads; or both, where it
// is forwarded from one of them to another.
func (w ways) seen(f *nl.ConntrackFlow) []datapath.Flow {
	var out []datapath.Flow
	opener, wrote := end(f.Forward.SrcIP, f.Forward.SrcPort), end(f.Forward.DstIP, f.Forward.DstPort)
	goal, reads := end(f.Reverse.SrcIP, f.Reverse.SrcPort), end(f.Reverse.DstIP, f.Reverse.DstPort)
	flow := datapath.Flow{Protocol: f.Forward.Protocol, Expires: grace[f.Forward.Protocol]}
	if w.leadTo(opener.Addr()) {
		flow.Direction, flow.Remote, flow.Local = policy.Ingress, opener, wrote
		out = append(out, flow)
	}
	if w.leadTo(goal.Addr()) {
		flow.Direction, flow.Remote, flow.Local = policy.Egress, goal, reads
		out = append(out, flow)
	}
	return out
}

func (w ways) leadTo(a netip.Addr) bool {
	known, asked := w.through[a]
	if asked {
		return known
	}
	routes, err := nl.RouteGet(a.AsSlice())
	known = err == nil && len(routes) > 0 && slices.Contains(w.devices, routes[0].LinkIndex)
	w.through[a] = known
	return known
}
