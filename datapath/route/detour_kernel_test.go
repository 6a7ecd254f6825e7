package route_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/route"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// TestDetourRealKernel asks the kernel where packets go, under reverse-path
// filtering at its strictest.
func TestDetourRealKernel(t *testing.T) {
	netnstest.Run(t, func() {
		for _, line := range []string{"link add up0 type veth peer name far0", "addr add 192.0.2.1/24 dev up0", "addr add 192.0.2.11/24 dev up0", "addr add 2001:db8::1/64 dev up0 nodad",
			"link set far0 up", "link set up0 up", "tuntap add dev tun9 mode tun", "link set tun9 up", "addr add 10.1.0.1/32 dev tun9"} {
			ip(t, line)
		}
		for _, dev := range []string{"all", "up0", "tun9"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+dev+"/rp_filter", []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
		}
		d, err := route.NewDetour(route.DetourOptions{Device: "tun9"})
		if err != nil {
			t.Fatal(err)
		}
		want := detour()
		want.From = addrs("192.0.2.11", "192.0.2.1", "2001:db8::1") // the main table chooses the second
		want.Exempt = append(want.Exempt, datapath.Pinhole{Direction: policy.Ingress, Protocol: 6, Port: 2379})
		for range 2 {
			if err := lead(t, d, want, true); err != nil {
				t.Fatal(err)
			}
		}
		asksTheKernel(t)
		changesItsAddress(t, d, want)
		ip(t, "link set tun9 down")
		for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
			if out, err := exec.Command("ip", "route", "get", to).CombinedOutput(); err == nil {
				t.Errorf("route to %s without the tunnel: %s; want it refused", to, out)
			}
		}
		ip(t, "route get 192.0.2.2 ipproto 6 dport 7443") // the control plane is still there
		if err := d.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		routes, rules := ip(t, "route show table all proto 158")+ip(t, "-6 route show table all proto 158"), ip(t, "rule")+ip(t, "-6 rule")
		if routes != "" || strings.Contains(rules, "proto 158") {
			t.Errorf("left after removal:\n%s%s", routes, rules)
		}
	})
}

// changesItsAddress gives the uplink other addresses. Nothing takes it to those of
// want, neither before the table is told nor after.
func changesItsAddress(t *testing.T, d *route.Detour, want datapath.Detour) {
	t.Helper()
	for _, line := range []string{"addr flush dev up0", "addr add 192.0.2.9/24 dev up0", "addr add 2001:db8::9/64 dev up0 nodad"} {
		ip(t, line)
	}
	astray := func(when, tunnel string) {
		for _, to := range []string{"192.0.2.2", "192.0.2.2 from 192.0.2.9", "2001:db8::2", "2001:db8::2 from 2001:db8::9"} {
			out, err := exec.Command("ip", strings.Fields("route get "+to+" ipproto 6")...).CombinedOutput()
			if strings.Contains(string(out), "dev up0") || err != nil && tunnel != "" || err == nil && !strings.Contains(string(out), tunnel) {
				t.Errorf("%s, route get %s: %v, %s", when, to, err, out)
			}
		}
	}
	astray("at first", "")
	want.From = nil
	if err := lead(t, d, want, true); err != nil {
		t.Fatal(err)
	}
	astray("once told", "dev tun9")
	if got := ip(t, "route get 192.0.2.2 ipproto 6"); !strings.Contains(got, "src 10.1.0.1 ") {
		t.Errorf("speaks from another than the mesh address: %s", got)
	}
}

func asksTheKernel(t *testing.T) {
	t.Helper()
	// Protocols are numbers: not every machine has /etc/protocols.
	const wg = "ipproto 17 sport 51871 dport 1024"
	for _, tt := range []struct{ ask, want string }{
		{"192.0.2.2 ipproto 6", "dev tun9 table 28780 src 192.0.2.1 "},
		{"192.0.2.2 ipproto 1", "dev tun9 table 28780 src 192.0.2.1 "},
		{"192.0.2.2 from 192.0.2.11 ipproto 17 dport 53", "dev tun9"},
		{"2001:db8::2 ipproto 6", "dev tun9 table 28780 proto 158 src 2001:db8::1 "},
		{"192.0.2.3 ipproto 6", "dev up0 src 192.0.2.1 "},
		{"192.0.2.2 " + wg, "dev up0 src 192.0.2.1 "},
		{"2001:db8::2 " + wg, "dev up0 "},
		{"192.0.2.2 mark 0x70", "dev up0 src 192.0.2.1 "},
		{"2001:db8::2 mark 0x70", "dev up0 "},
		{"192.0.2.2 ipproto 6 dport 7443", "dev up0 "},
		{"2001:db8::2 ipproto 6 dport 7443", "dev up0 "},
		{"192.0.2.2 ipproto 17 dport 7443", "dev tun9 "},
		{"192.0.2.2 ipproto 6 sport 2379", "dev up0 "},
		{"2001:db8::2 ipproto 6 sport 2379", "dev up0 "},
		// As they come in: answers to what this host opened, and flows to its ports.
		{"192.0.2.1 from 192.0.2.2 iif tun9 ipproto 6 sport 80", "local 192.0.2.1"},
		{"192.0.2.1 from 192.0.2.2 iif up0 ipproto 17 sport 1024 dport 51871", "local 192.0.2.1"},
		{"192.0.2.1 from 192.0.2.2 iif up0 ipproto 6 sport 7443 dport 40000", "local 192.0.2.1"},
		{"192.0.2.1 from 192.0.2.2 iif up0 ipproto 6 sport 40000 dport 2379", "local 192.0.2.1"},
		{"192.0.2.1 from 192.0.2.3 iif up0 ipproto 6 sport 80", "local 192.0.2.1"},
	} {
		if got := ip(t, "route get "+tt.ask); !strings.Contains(got, tt.want) {
			t.Errorf("route get %s: %s; want %q", tt.ask, got, tt.want)
		}
	}
	if out, err := exec.Command("ip", "route", "get", "192.0.2.1", "from", "192.0.2.2", "iif", "up0", "ipproto", "6", "sport", "80").CombinedOutput(); err == nil {
		t.Errorf("what belongs into the tunnel may come in by the interface under strict filtering, so that this test says nothing of it: %s", out)
	}
}
