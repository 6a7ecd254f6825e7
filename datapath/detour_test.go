package datapath_test

import (
	"net/netip"
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

func TestDetourTakes(t *testing.T) {
	server := netip.MustParseAddr("192.0.2.2")
	d := datapath.Detour{
		To: []netip.Addr{server, netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::2")},
		Exempt: []datapath.Pinhole{
			{Direction: policy.Ingress, Protocol: 17, Port: 51871},
			{Direction: policy.Egress, Protocol: 6, Port: 7443, Remote: netip.PrefixFrom(server, 32)},
		},
	}
	for _, tt := range []struct {
		name          string
		protocol      uint8
		local, remote string
		want          bool
	}{
		{"a peer", 6, "192.0.2.1:40000", "192.0.2.3:443", true},
		{"over IPv6", 17, "[2001:db8::1]:40000", "[2001:db8::2]:443", true},
		{"in its mapped form", 6, "192.0.2.1:40000", "[::ffff:192.0.2.3]:443", true},
		{"somebody else", 6, "192.0.2.1:40000", "192.0.2.9:443", false},
		{"the control plane", 6, "192.0.2.1:40000", "192.0.2.2:7443", false},
		{"its port at another peer", 6, "192.0.2.1:40000", "192.0.2.3:7443", true},
		{"its number in another protocol", 17, "192.0.2.1:40000", "192.0.2.2:7443", true},
		{"WireGuard", 17, "192.0.2.1:51871", "192.0.2.3:1024", false},
		{"a flow to the peer's WireGuard port from another", 17, "192.0.2.1:1024", "192.0.2.3:51871", true},
	} {
		f := datapath.Flow{Protocol: tt.protocol, Local: netip.MustParseAddrPort(tt.local), Remote: netip.MustParseAddrPort(tt.remote)}
		if got := d.Takes(f); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
