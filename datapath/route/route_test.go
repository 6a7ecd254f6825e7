package route_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/route"
	"github.com/plexusmesh/plexus/datapath/route/routetest"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// via leads a prefix into the tunnel; source may be "".
func via(prefix, source string) datapath.Route {
	r := datapath.Route{Prefix: netip.MustParsePrefix(prefix)}
	if source != "" {
		r.Source = netip.MustParseAddr(source)
	}
	return r
}

func nowhere(prefix string) datapath.Route {
	return datapath.Route{Prefix: netip.MustParsePrefix(prefix), Unreachable: true}
}

func open(t *testing.T, k *routetest.Kernel) *route.Table {
	t.Helper()
	table, err := route.New(route.Options{Device: "tun9", Netlink: k})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func pass(t *testing.T, table *route.Table, want []datapath.Route, orphans bool) error {
	t.Helper()
	return errors.Join(table.Ensure(t.Context(), want), table.Prune(t.Context(), orphans))
}

// foreign is a route of somebody else.
func foreign(t *testing.T, k *routetest.Kernel, prefix string, metric int) {
	t.Helper()
	_, dst, err := net.ParseCIDR(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.RouteAdd(&nl.Route{Dst: dst, Priority: metric, LinkIndex: 1, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST}); err != nil {
		t.Fatal(err)
	}
}

func TestTransitions(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	foreign(t, k, "0.0.0.0/0", 0)
	const theirs = "0.0.0.0/0 type=1 link=1 src=<nil> metric=0 proto=4\n"
	table := open(t, k)
	for _, step := range []struct {
		name string
		want []datapath.Route
		text string
	}{
		{"nothing", nil, theirs},
		{"both families, with a floor", []datapath.Route{via("10.1.0.0/16", "10.1.0.1"), nowhere("10.1.0.0/16"), via("fd01::/48", "fd01::1")},
			theirs + "10.1.0.0/16 type=1 link=2 src=10.1.0.1 metric=1 proto=158\n10.1.0.0/16 type=7 link=0 src=<nil> metric=10000 proto=158\nfd01::/48 type=1 link=2 src=fd01::1 metric=1 proto=158\n"},
		{"another source", []datapath.Route{via("10.1.0.0/16", "10.1.0.2"), nowhere("10.1.0.0/16")},
			theirs + "10.1.0.0/16 type=1 link=2 src=10.1.0.2 metric=1 proto=158\n10.1.0.0/16 type=7 link=0 src=<nil> metric=10000 proto=158\n"},
		{"nothing again", nil, theirs},
	} {
		if err := pass(t, table, step.want, false); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.text, k.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		before := len(k.Calls())
		if err := pass(t, table, step.want, true); err != nil || len(k.Calls()) != before {
			t.Errorf("%s, again: %v, calls %v; want none", step.name, err, k.Calls()[before:])
		}
	}
}

// TestAddsBeforeDeletes moves the mesh to another pool.
func TestAddsBeforeDeletes(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	table := open(t, k)
	for _, want := range [][]datapath.Route{{via("10.1.0.0/16", ""), nowhere("10.1.0.0/16")}, {via("10.2.0.0/16", ""), nowhere("10.2.0.0/16")}} {
		if err := pass(t, table, want, false); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"route-add 10.1.0.0/16", "route-add 10.1.0.0/16", "route-add 10.2.0.0/16", "route-add 10.2.0.0/16", "route-del 10.1.0.0/16", "route-del 10.1.0.0/16"}
	if diff := cmp.Diff(want, k.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestConflictIsNamed(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	foreign(t, k, "10.1.0.0/16", route.TunnelMetric)
	foreign(t, k, "10.2.0.0/16", route.TunnelMetric+1) // ours comes before it
	before := k.String()
	err := pass(t, open(t, k), []datapath.Route{via("10.1.0.0/16", ""), via("10.2.0.0/16", ""), via("fd01::/48", "")}, true)
	if err == nil || !strings.Contains(err.Error(), "10.1.0.0/16") || !strings.Contains(err.Error(), "metric 1, interface 1") || strings.Contains(err.Error(), "10.2.0.0") {
		t.Errorf("error %v; want the route in the way, and only that", err)
	}
	got, err := open(t, k).List(t.Context())
	if diff := cmp.Diff([]datapath.Route{via("10.2.0.0/16", ""), via("fd01::/48", "")}, got, cmp.Comparer(func(a, b datapath.Route) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("our routes (-want +got): %v\n%s", err, diff)
	}
	if err := open(t, k).Remove(t.Context()); err != nil || k.String() != before {
		t.Errorf("after removal of ours: %v\n%s\nwant\n%s", err, k, before)
	}
}

func TestOrphansWait(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	if err := pass(t, open(t, k), []datapath.Route{via("10.1.0.0/16", "")}, true); err != nil {
		t.Fatal(err)
	}
	table := open(t, k)
	if err := table.Prune(t.Context(), true); err != nil || k.String() == "" {
		t.Fatalf("prune before anything is wanted: %v, left %q", err, k)
	}
	for _, orphans := range []bool{false, true} {
		if err := pass(t, table, nil, orphans); err != nil || (k.String() == "") != orphans {
			t.Errorf("prune with orphans %t: %v, left %q", orphans, err, k)
		}
	}
}

// TestFailuresHeal fails each operation in a pass and expects the next one to
// reach the state that is reached without.
func TestFailuresHeal(t *testing.T) {
	from := []datapath.Route{via("10.1.0.0/16", "10.1.0.1"), nowhere("10.1.0.0/16"), via("10.2.0.0/16", "")}
	to := []datapath.Route{via("10.1.0.0/16", "10.1.0.2"), nowhere("10.1.0.0/16"), via("fd01::/48", ""), nowhere("fd01::/48")}
	run := func(t *testing.T, op string) string {
		k := routetest.New("eth0", "tun9")
		table := open(t, k)
		if err := pass(t, table, from, false); err != nil {
			t.Fatal(err)
		}
		if op != "" {
			broken := errors.New("planted")
			k.FailNext(op, broken)
			if err := pass(t, table, to, false); !errors.Is(err, broken) {
				t.Fatalf("error %v, want the planted one", err)
			}
		}
		if err := pass(t, table, to, false); err != nil {
			t.Fatalf("pass after the failure: %v", err)
		}
		return k.String()
	}
	want := run(t, "")
	for _, op := range routetest.Ops {
		t.Run(op, func(t *testing.T) {
			if diff := cmp.Diff(want, run(t, op)); diff != "" {
				t.Errorf("end state (-without +with failure):\n%s", diff)
			}
		})
	}
}

// TestNoTunnelStillRefuses: without the device the floor is kept.
func TestNoTunnelStillRefuses(t *testing.T) {
	k := routetest.New("eth0")
	err := pass(t, open(t, k), []datapath.Route{via("10.1.0.0/16", ""), nowhere("10.1.0.0/16")}, false)
	if !errors.Is(err, unix.ENODEV) || !strings.HasPrefix(k.String(), "10.1.0.0/16 type=7") {
		t.Errorf("error %v, routes\n%s", err, k)
	}
}
