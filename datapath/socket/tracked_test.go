package socket

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// wired makes a device whose network has those addresses of ours.
func wired(t *testing.T, name string, prefixes ...string) {
	t.Helper()
	if err := nl.LinkAdd(&nl.Veth{LinkAttrs: nl.LinkAttrs{Name: name}, PeerName: "far" + name}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{name, "far" + name} {
		dev, err := nl.LinkByName(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := nl.LinkSetUp(dev); err != nil {
			t.Fatal(err)
		}
	}
	dev, err := nl.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes {
		a, err := nl.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := nl.AddrAdd(dev, a); err != nil {
			t.Fatal(err)
		}
	}
}

// tracked is a flow: what its opener wrote, and the answer.
type tracked struct {
	protocol, state            uint8
	opener, wrote, goal, reads string
}

// track has the kernel know a flow.
func track(t *testing.T, in tracked) {
	t.Helper()
	tuple := func(src, dst string) nl.IPTuple {
		s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
		return nl.IPTuple{Protocol: in.protocol, SrcIP: net.IP(s.Addr().AsSlice()), SrcPort: s.Port(), DstIP: net.IP(d.Addr().AsSlice()), DstPort: d.Port()}
	}
	f := &nl.ConntrackFlow{FamilyType: unix.AF_INET, Forward: tuple(in.opener, in.wrote), Reverse: tuple(in.goal, in.reads), TimeOut: 300}
	if netip.MustParseAddrPort(in.opener).Addr().Is6() {
		f.FamilyType = unix.AF_INET6
	}
	if in.protocol == unix.IPPROTO_TCP {
		f.ProtoInfo = &nl.ProtoInfoTCP{State: in.state}
	}
	if err := nl.ConntrackCreate(nl.ConntrackTable, nl.InetFamily(f.FamilyType), f); err != nil {
		t.Fatal(err)
	}
}

// TestTracked has a host with a container (172.30.0.2, fd00:30::2) behind a device
// that is not governed, and another host (192.0.2.9, 2001:db8::9) behind one that is.
func TestTracked(t *testing.T) {
	flow := func(d policy.Direction, protocol uint8, local, remote string) datapath.Flow {
		return datapath.Flow{Direction: d, Protocol: protocol, Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote), Expires: grace[protocol]}
	}
	for _, tt := range []struct {
		name string
		in   tracked
		want []datapath.Flow
	}{
		{"a container behind NAT connects out", tracked{6, 3, "172.30.0.2:4000", "192.0.2.9:80", "192.0.2.9:80", "192.0.2.1:5000"},
			[]datapath.Flow{flow(policy.Egress, 6, "192.0.2.1:5000", "192.0.2.9:80")}},
		{"the same, IPv6", tracked{6, 3, "[fd00:30::2]:4000", "[2001:db8::9]:80", "[2001:db8::9]:80", "[2001:db8::1]:5000"},
			[]datapath.Flow{flow(policy.Egress, 6, "[2001:db8::1]:5000", "[2001:db8::9]:80")}},
		{"a published port", tracked{6, 5, "192.0.2.9:4000", "192.0.2.1:8080", "172.30.0.2:80", "192.0.2.9:4000"},
			[]datapath.Flow{flow(policy.Ingress, 6, "192.0.2.1:8080", "192.0.2.9:4000")}},
		{"datagrams to a guest with a routed address", tracked{17, 0, "[2001:db8::9]:4000", "[fd00:30::2]:53", "[fd00:30::2]:53", "[2001:db8::9]:4000"},
			[]datapath.Flow{flow(policy.Ingress, 17, "[fd00:30::2]:53", "[2001:db8::9]:4000")}},
		{"from the governed device back through it", tracked{6, 3, "192.0.2.9:4000", "192.0.2.1:9090", "192.0.2.8:80", "192.0.2.1:4000"},
			[]datapath.Flow{flow(policy.Ingress, 6, "192.0.2.1:9090", "192.0.2.9:4000"), flow(policy.Egress, 6, "192.0.2.1:4000", "192.0.2.8:80")}},
		{"one that is not open yet", tracked{6, 1, "172.30.0.2:4000", "192.0.2.9:80", "192.0.2.9:80", "192.0.2.1:5000"}, nil},
		{"one that stays within the host", tracked{6, 3, "172.30.0.2:4000", "172.30.0.1:80", "172.30.0.1:80", "172.30.0.2:4000"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				wired(t, "plx0", "192.0.2.1/24", "2001:db8::1/64")
				wired(t, "inner0", "172.30.0.1/24", "fd00:30::1/64")
				track(t, tt.in)
				got, err := Tracked([]string{"plx0", "gone0"})
				if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
			})
		})
	}
}

func TestTrackedWithoutTracking(t *testing.T) {
	netnstest.Run(t, func() {
		wired(t, "plx0", "192.0.2.1/24")
		if got, err := Tracked([]string{"plx0"}); err != nil || len(got) != 0 {
			t.Errorf("listed %v, %v; want nothing", got, err)
		}
	})
}
