package contest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/plexusmesh/plexus/internal/lab"
	"github.com/plexusmesh/plexus/test/bench/traffic"
)

// wireDevice is each host's end of a veth pair that leads straight to the other.
const wireDevice = "wire0"

// wire is two hosts on a cable of their own.
type wire struct {
	ends [2]*lab.Host // by side
}

// hardware are the MAC addresses by side.
var hardware = [2]net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}

// newWire connects both hosts. They are told where their neighbour is, so that
// nothing but the load has to pass.
func newWire(ctx context.Context, ends [2]*lab.Host) (*wire, error) {
	w := &wire{ends}
	var there *os.File
	err := ends[server].Enter(func() (err error) {
		there, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open network namespace of %s: %w", ends[server].Name, err)
	}
	defer there.Close()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: wireDevice, HardwareAddr: hardware[client]},
		PeerName:  wireDevice, PeerHardwareAddr: hardware[server], PeerNamespace: netlink.NsFd(int(there.Fd())),
	}
	if err := ends[client].Enter(func() error { return netlink.LinkAdd(veth) }); err != nil {
		return nil, fmt.Errorf("connect %s and %s: %w", ends[client].Name, ends[server].Name, err)
	}
	return w, errors.Join(w.setUp(ctx, client), w.setUp(ctx, server))
}

// settings are for speed: ports of closed connections are free at once, and a
// connection is not held back, neither by a model of the path, as BBR does, nor
// because it rested.
var settings = []string{"net.ipv4.tcp_max_tw_buckets=0", "net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_slow_start_after_idle=0"}

func (w *wire) setUp(ctx context.Context, s side) error {
	own, other := clientAddress, serverAddress
	if s == server {
		own, other = other, own
	}
	for _, line := range []string{
		fmt.Sprintf("ip addr add %s/24 dev %s", own, wireDevice),
		fmt.Sprintf("ip link set %s up", wireDevice),
		fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev %s", other, hardware[1-s], wireDevice),
		"sysctl -qw " + strings.Join(settings, " "),
	} {
		if err := w.ends[s].Run(ctx, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// path is the way of the load.
func (w *wire) path() traffic.Path {
	return traffic.Path{
		From: w.ends[client].Enter, Source: netip.AddrPortFrom(clientAddress, 0),
		To: w.ends[server].Enter, Destination: netip.AddrPortFrom(serverAddress, loadPort),
	}
}
