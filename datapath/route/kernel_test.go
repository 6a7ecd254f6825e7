package route_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/route"
	"github.com/plexusmesh/plexus/internal/netnstest"
)

func ip(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
	if err != nil {
		t.Errorf("ip %s: %v\n%s", line, err, out)
	}
	return string(out)
}

// TestRealKernel runs the driver against rtnetlink, with a TUN device.
func TestRealKernel(t *testing.T) {
	netnstest.Run(t, func() {
		for _, line := range []string{"tuntap add dev tun9 mode tun", "link set tun9 up", "addr add 10.1.0.1/32 dev tun9",
			"addr add 10.1.0.2/32 dev tun9", "addr add fd01::1/128 dev tun9 nodad", "route add 10.7.0.0/16 dev lo metric 1", "-6 route add fd07::/48 dev lo metric 1"} {
			ip(t, line)
		}
		table, err := route.New(route.Options{Device: "tun9"})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range [][]datapath.Route{
			{nowhere("10.1.0.0/16"), via("10.1.0.0/16", "10.1.0.1"), nowhere("fd01::/48"), via("fd01::/48", "fd01::1")},
			{nowhere("10.1.0.0/16"), via("10.1.0.0/16", "10.1.0.2"), via("fd01::/48", "fd01::1"), via("fd02::/64", "")},
		} {
			for range 2 {
				if err := pass(t, table, want, false); err != nil {
					t.Fatal(err)
				}
				got, err := table.List(t.Context())
				if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b datapath.Route) bool { return a == b })); diff != "" || err != nil {
					t.Errorf("routes (-want +got): %v\n%s", err, diff)
				}
			}
		}
		checkLookups(t)
		checkConflicts(t, table)
		if err := table.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		if left := ip(t, "route show table all proto 158") + ip(t, "-6 route show table all proto 158"); left != "" {
			t.Errorf("left after removal:\n%s", left)
		}
		ip(t, "route get 10.7.0.1") // theirs stays
	})
}

// checkLookups asks the kernel where packets would go, with the device and without.
func checkLookups(t *testing.T) {
	t.Helper()
	for dst, want := range map[string]string{"10.1.9.9": "dev tun9 src 10.1.0.2", "fd01::9": "dev tun9 proto 158 src fd01::1"} {
		if got := ip(t, "route get "+dst); !strings.Contains(got, want) {
			t.Errorf("route to %s: %s; want %q", dst, got, want)
		}
	}
	ip(t, "link set tun9 down")
	if out, err := exec.Command("ip", "route", "get", "10.1.9.9").CombinedOutput(); err == nil || !strings.Contains(string(out), "No route to host") {
		t.Errorf("route without the tunnel: %s, %v; want it refused", out, err)
	}
	ip(t, "link set tun9 up")
}

func checkConflicts(t *testing.T, table *route.Table) {
	t.Helper()
	err := table.Ensure(t.Context(), []datapath.Route{via("10.7.0.0/16", ""), via("fd07::/48", "")})
	if err == nil || !strings.Contains(err.Error(), "ip route del 10.7.0.0/16") || !strings.Contains(err.Error(), "ip route del fd07::/48") {
		t.Errorf("error %v; want both routes that stand in the way", err)
	}
}
