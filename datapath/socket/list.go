package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

// TCP states of include/net/tcp_states.h. A UDP socket that is connected is
// "established", one that is not is "closed".
const (
	established = 1
	finWait1    = 4
	finWait2    = 5
	closed      = 7
	closeWait   = 8
	listening   = 10
)

// open reports whether data can still flow in a state: also one side of a
// half-closed connection goes on sending, for as long as it likes.
func open(state uint8) bool {
	return state == established || state == finWait1 || state == finWait2 || state == closeWait
}

// grace is how long a listed connection may be silent until its next packet:
// as long as connection tracking lets one that it saw (bpf/lib/conntrack.h).
var grace = map[uint8]time.Duration{unix.IPPROTO_TCP: 6 * time.Hour, unix.IPPROTO_UDP: 3 * time.Minute}

// List returns the connections of the network namespace that it is called in,
// those within the host left out. It goes on past a table that it cannot read.
func List() ([]datapath.Flow, error) {
	var out []datapath.Flow
	var errs []error
	for _, table := range []struct {
		name     string
		protocol uint8
		read     func(family uint8) ([]*nl.Socket, error)
		waiting  uint8 // state of a socket that takes whoever comes
	}{
		{"TCP", unix.IPPROTO_TCP, nl.SocketDiagTCP, listening},
		{"UDP", unix.IPPROTO_UDP, nl.SocketDiagUDP, closed},
	} {
		var all []*nl.Socket
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			sockets, err := table.read(family)
			if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
				errs = append(errs, fmt.Errorf("list %s sockets: %w", table.name, err))
				continue
			}
			all = append(all, sockets...)
		}
		out = append(out, flows(all, table.protocol, table.waiting)...)
	}
	return out, errors.Join(errs...)
}

// flows turns the connected ones of sockets into flows. A connection whose local
// port somebody waits at was opened by the other side; every other by us.
func flows(sockets []*nl.Socket, protocol, waiting uint8) []datapath.Flow {
	served := make(map[uint16]bool)
	for _, s := range sockets {
		if s.State == waiting {
			served[s.ID.SourcePort] = true
		}
	}
	var out []datapath.Flow
	for _, s := range sockets {
		local, remote := end(s.ID.Source, s.ID.SourcePort), end(s.ID.Destination, s.ID.DestinationPort)
		if !open(s.State) || remote.Addr().IsLoopback() || remote.Addr().IsUnspecified() {
			continue
		}
		f := datapath.Flow{Direction: policy.Egress, Protocol: protocol, Local: local, Remote: remote, Expires: grace[protocol]}
		if served[local.Port()] {
			f.Direction = policy.Ingress
		}
		out = append(out, f)
	}
	return out
}

func end(ip []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}
