package device

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// link is a link of facts, in short form.
type link struct {
	name, kind string
	mtu        int
	addrs      string // with spaces; a "!" after one makes it tentative, "~" deprecated, "?" temporary
	byDefault  bool
	master     int
	down, lo   bool
}

func gathered(t *testing.T, links ...link) facts {
	t.Helper()
	f := facts{addresses: make(map[int][]nl.Addr), defaults: make(map[int]bool)}
	for i, l := range links {
		a := nl.LinkAttrs{Name: l.name, Index: i + 1, MTU: l.mtu, MasterIndex: l.master}
		if !l.down {
			a.Flags |= net.FlagUp
		}
		if l.lo {
			a.Flags |= net.FlagLoopback
		}
		f.links = append(f.links, &nl.GenericLink{LinkAttrs: a, LinkType: l.kind})
		f.defaults[a.Index] = l.byDefault
		for s := range strings.FieldsSeq(l.addrs) {
			f.addresses[a.Index] = append(f.addresses[a.Index], address(t, s))
		}
	}
	return f
}

func address(t *testing.T, s string) nl.Addr {
	t.Helper()
	flags := map[byte]int{'!': unix.IFA_F_TENTATIVE, '~': unix.IFA_F_DEPRECATED, '?': unix.IFA_F_TEMPORARY}[s[len(s)-1]]
	ip, n, err := net.ParseCIDR(strings.TrimRight(s, "!~?"))
	if err != nil {
		t.Fatal(err)
	}
	return nl.Addr{IPNet: &net.IPNet{IP: ip, Mask: n.Mask}, Flags: flags}
}

// text renders a state: uplinks, addresses, MTU.
func text(s State) string {
	var names []string
	for _, u := range s.Uplinks {
		names = append(names, u.Name)
	}
	return fmt.Sprint(names, s.Addresses, s.MTU)
}

func TestClassify(t *testing.T) {
	lo := link{name: "lo", mtu: 65536, addrs: "127.0.0.1/8 ::1/128 192.0.2.250/32", lo: true}
	eth0 := link{name: "eth0", kind: "device", mtu: 1500, addrs: "192.0.2.1/24 2001:db8::1/64 fe80::1/64", byDefault: true}
	tunnel := link{name: "plexus0", kind: "tuntap", mtu: 1420, addrs: "10.210.0.1/32 fd00::1/128"}
	plain := Options{Tunnel: "plexus0", Exclude: []netip.Prefix{netip.MustParsePrefix("10.210.0.0/16")}}
	for _, tt := range []struct {
		name  string
		links []link
		opts  func(*Options)
		want  string
	}{
		{"a server", []link{lo, eth0, tunnel}, nil, "[eth0] [192.0.2.1 2001:db8::1] 1500"},
		{"nothing", []link{lo, tunnel}, nil, "[] [] 0"},
		{"default route first, smaller MTU elsewhere does not count",
			[]link{{name: "a0", kind: "device", mtu: 1400, addrs: "198.51.100.1/24"}, eth0}, nil, "[a0 eth0] [192.0.2.1 2001:db8::1 198.51.100.1] 1500"},
		{"no default route", []link{{name: "a0", kind: "device", mtu: 1400, addrs: "198.51.100.1/24"}}, nil, "[a0] [198.51.100.1] 1400"},
		{"default route without an address", []link{{name: "ppp0", kind: "ppp", mtu: 1492, byDefault: true}}, nil, "[ppp0] [] 1492"},
		{"down", []link{{name: "eth1", kind: "device", mtu: 1500, addrs: "198.51.100.1/24", down: true}}, nil, "[] [] 0"},
		{"bond and its slaves", []link{{name: "bond0", kind: "bond", mtu: 9000, addrs: "192.0.2.1/24", byDefault: true},
			{name: "eth0", kind: "device", mtu: 1500, master: 1}}, nil, "[bond0] [192.0.2.1] 9000"},
		{"container host", []link{eth0, {name: "docker0", kind: "bridge", mtu: 1500, addrs: "172.17.0.1/16"},
			{name: "veth1", kind: "veth", mtu: 1500, master: 2}, {name: "cali1", kind: "veth", mtu: 1500, addrs: "fe80::2/64"},
			{name: "ptp1", kind: "veth", mtu: 1500, addrs: "10.1.0.1/32"}, {name: "cilium_vxlan", kind: "vxlan", mtu: 1500, addrs: "10.2.0.1/24"},
			{name: "tailscale0", kind: "tuntap", mtu: 1280, addrs: "100.64.0.1/32"}}, nil, "[eth0] [192.0.2.1 2001:db8::1] 1500"},
		{"inside a container", []link{{name: "eth0", kind: "veth", mtu: 1500, addrs: "172.17.0.2/16"}}, nil, "[eth0] [172.17.0.2] 1500"},
		{"bridge as uplink", []link{{name: "br0", kind: "bridge", mtu: 1500, addrs: "192.0.2.1/24", byDefault: true}}, nil, "[br0] [192.0.2.1] 1500"},
		{"bridge that is asked for", []link{eth0, {name: "docker0", kind: "bridge", mtu: 1450, addrs: "172.17.0.1/16"}},
			func(o *Options) { o.Interfaces = []string{"docker*"} }, "[docker0] [172.17.0.1] 1450"},
		{"the tunnel, asked for", []link{tunnel}, func(o *Options) { o.Interfaces = []string{"*"} }, "[] [] 0"},
		{"advertised", []link{eth0, {name: "docker0", kind: "bridge", mtu: 1500, addrs: "172.17.0.1/16"}},
			func(o *Options) {
				o.Advertise = []netip.Addr{netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("203.0.113.5")}
			},
			"[docker0 eth0] [172.17.0.1 203.0.113.5 192.0.2.1 2001:db8::1] 1500"},
		{"addresses that may vanish", []link{{name: "eth0", kind: "device", mtu: 1500, byDefault: true,
			addrs: "2001:db8::1/64! 2001:db8::2/64~ 2001:db8::3/64? 2001:db8::4/64 169.254.1.1/16 10.210.3.4/16 192.0.2.9/24?"}}, nil, "[eth0] [192.0.2.9 2001:db8::4] 1500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := plain
			if tt.opts != nil {
				tt.opts(&o)
			}
			if diff := cmp.Diff(tt.want, text(classify(gathered(t, tt.links...), o))); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStateEqual(t *testing.T) {
	o := Options{Tunnel: "plexus0"}
	one := link{name: "eth0", kind: "device", mtu: 1500, addrs: "192.0.2.1/24", byDefault: true}
	s := classify(gathered(t, one), o)
	if !s.Equal(classify(gathered(t, one), o)) {
		t.Error("a state differs from itself")
	}
	for _, change := range []func(*link){
		func(l *link) { l.mtu = 1400 },
		func(l *link) { l.addrs = "192.0.2.2/24" },
		func(l *link) { l.name = "eth1" },
		func(l *link) { l.byDefault = false },
	} {
		other := one
		change(&other)
		if s.Equal(classify(gathered(t, other), o)) {
			t.Errorf("%+v equals %+v", one, other)
		}
	}
}

func TestDefaultRoutes(t *testing.T) {
	_, all4, _ := net.ParseCIDR("0.0.0.0/0")
	_, some, _ := net.ParseCIDR("10.0.0.0/8")
	got := make(map[int]bool)
	addDefaults(got, []nl.Route{
		{LinkIndex: 1, Type: unix.RTN_UNICAST},
		{LinkIndex: 2, Dst: all4, Type: unix.RTN_UNICAST},
		{LinkIndex: 3, Dst: some, Type: unix.RTN_UNICAST},
		{LinkIndex: 4, Dst: all4, Type: unix.RTN_UNREACHABLE},
		{Dst: all4, Type: unix.RTN_UNICAST, MultiPath: []*nl.NexthopInfo{{LinkIndex: 5}, {LinkIndex: 6}}},
	})
	if diff := cmp.Diff(map[int]bool{1: true, 2: true, 5: true, 6: true}, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

// The agent makes the tunnel anew when it hears that it is gone.
func TestTheTunnelIsNewsButNoUplink(t *testing.T) {
	o := Options{Tunnel: "plexus0"}
	uplink := link{name: "eth0", kind: "device", mtu: 1500, addrs: "192.0.2.1/24", byDefault: true}
	with := classify(gathered(t, uplink, link{name: "plexus0", kind: "tuntap", mtu: 1420, addrs: "10.210.0.1/32"}), o)
	without := classify(gathered(t, uplink), o)
	if !with.Tunnel || without.Tunnel || with.Equal(without) {
		t.Errorf("with the tunnel %+v, without %+v: they must differ", with, without)
	}
	if len(with.Uplinks) != 1 {
		t.Errorf("uplinks %+v, want eth0 alone", with.Uplinks)
	}
}
