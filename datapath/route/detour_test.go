package route_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/route"
	"github.com/plexusmesh/plexus/datapath/route/routetest"
	"github.com/plexusmesh/plexus/policy"
)

func addrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// detour leads to peers of both families, on a host that is a client of one server.
func detour() datapath.Detour {
	return datapath.Detour{
		To: addrs("192.0.2.2", "2001:db8::2"), From: addrs("192.0.2.1", "2001:db8::1"),
		Exempt: []datapath.Pinhole{
			{Direction: policy.Ingress, Protocol: 17, Port: 51871},
			{Direction: policy.Ingress, Protocol: 17, Port: 68, Remote: netip.MustParsePrefix("0.0.0.0/0")},
			{Direction: policy.Egress, Protocol: 6, Port: 7443, Remote: netip.MustParsePrefix("192.0.2.2/32")},
			{Direction: policy.Egress, Protocol: 6, Port: 7443, Remote: netip.MustParsePrefix("2001:db8::2/128")},
		},
	}
}

func openDetour(t *testing.T, k *routetest.Kernel) *route.Detour {
	t.Helper()
	d, err := route.NewDetour(route.DetourOptions{Device: "tun9", Kernel: k})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func lead(t *testing.T, d *route.Detour, want datapath.Detour, orphans bool) error {
	t.Helper()
	return errors.Join(d.Ensure(t.Context(), want), d.Prune(t.Context(), orphans))
}

const (
	wantRoutes = "table 28780 192.0.2.2/32 type=1 link=2 src=192.0.2.1 metric=1 proto=158\n" +
		"table 28780 192.0.2.2/32 type=7 link=0 src=<nil> metric=10000 proto=158\n" +
		"table 28780 2001:db8::2/128 type=1 link=2 src=2001:db8::1 metric=1 proto=158\n" +
		"table 28780 2001:db8::2/128 type=7 link=0 src=<nil> metric=10000 proto=158\n"
	wantRules6 = "v6 7060 proto=158 iif=lo ipproto=17 sport=51871-51871 goto=7062\n" +
		"v6 7060 proto=158 iif=lo to=2001:db8::2/128 ipproto=6 dport=7443-7443 goto=7062\n" +
		"v6 7060 proto=158 mark=0x70 goto=7062\n" +
		"v6 7061 proto=158 table=28780\n" +
		"v6 7062 proto=158\n"
)

func TestDetourTransitions(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	theirs := nl.NewRule()
	theirs.Family, theirs.Priority, theirs.Table = nl.FAMILY_V4, 7061, 254
	if err := k.RuleAdd(theirs); err != nil {
		t.Fatal(err)
	}
	before := k.Rules()
	d := openDetour(t, k)
	only6 := detour()
	only6.To = only6.To[1:]
	for _, step := range []struct {
		name  string
		want  datapath.Detour
		check func(routes, rules string) bool
	}{
		{"nothing", datapath.Detour{}, func(routes, rules string) bool { return routes == "" && rules == before }},
		{"both families", detour(), func(routes, rules string) bool {
			return routes == wantRoutes && strings.HasSuffix(rules, wantRules6) && strings.Contains(rules, "v4 7060 proto=158 iif=lo to=192.0.2.2/32 ipproto=6 dport=7443-7443 goto=7062\n") &&
				strings.Contains(rules, "v4 7060 proto=158 iif=lo ipproto=17 sport=68-68 goto=7062\n") &&
				strings.Contains(rules, "v4 7061 proto=158 ipproto=6 table=28780\n") && !strings.Contains(rules, "v4 7061 proto=158 table=28780\n")
		}},
		{"one family", only6, func(routes, rules string) bool {
			return !strings.Contains(routes, "192.0.2") && rules == before+wantRules6
		}},
		{"nothing again", datapath.Detour{}, func(routes, rules string) bool { return routes == "" && rules == before }},
	} {
		if err := lead(t, d, step.want, false); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if !step.check(k.String(), k.Rules()) {
			t.Errorf("%s: routes\n%s\nrules\n%s", step.name, k, k.Rules())
		}
		calls := len(k.Calls())
		if err := lead(t, d, step.want, true); err != nil || len(k.Calls()) != calls {
			t.Errorf("%s, again: %v, calls %q; want none", step.name, err, k.Calls()[calls:])
		}
	}
}

// TestDetourOrder: whatever is exempt is so before anything is led away, and no
// longer than anything is.
func TestDetourOrder(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	d := openDetour(t, k)
	for _, want := range []datapath.Detour{detour(), {}} {
		if err := lead(t, d, want, false); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	for _, c := range k.Calls() {
		what := "route"
		for _, priority := range []string{" 7060 ", " 7061 ", " 7062 "} {
			if strings.Contains(c+" ", priority) {
				what = strings.TrimSpace(priority)
			}
		}
		what = strings.Split(c, "-")[1][:3] + " " + what
		if len(order) == 0 || order[len(order)-1] != what {
			order = append(order, what)
		}
	}
	want := []string{
		"add 7062", "add 7060", "add 7062", "add 7060", "add route", "add 7061", // a family after the other
		"add route", "del route", // has sockets look again
		"del 7061", "del 7060", "del 7062", "del route",
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// TestDetourShakesOnce: what has a socket look for its way again is done when an
// address is led away, for IPv6, and leaves nothing.
func TestDetourShakesOnce(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	d := openDetour(t, k)
	two := detour()
	two.To = append(two.To, netip.MustParseAddr("2001:db8::3"))
	for _, step := range []struct {
		want   datapath.Detour
		shaken []string
	}{
		{detour(), []string{"2001:db8::2/128"}},
		{detour(), nil},
		{two, []string{"2001:db8::3/128"}},
	} {
		before := len(k.Calls())
		if err := lead(t, d, step.want, false); err != nil {
			t.Fatal(err)
		}
		var shaken []string
		for _, c := range k.Calls()[before:] {
			if gone, is := strings.CutPrefix(c, "route-del "); is {
				shaken = append(shaken, gone)
			}
		}
		if diff := cmp.Diff(step.shaken, shaken); diff != "" || strings.Contains("\n"+k.String(), "\n2001") {
			t.Errorf("shaken (-want +got):\n%s\nroutes\n%s", diff, k)
		}
	}
}

func TestDetourLeadsNowhereWithoutExemptions(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	k.FailNext(routetest.OpRuleAdd, errors.New("planted"))
	if err := openDetour(t, k).Ensure(t.Context(), detour()); err == nil || strings.Contains(k.Rules(), " 7061 ") || k.String() != "" {
		t.Errorf("%v; routes\n%s\nrules\n%s", err, k, k.Rules())
	}
}

// TestDetourWithoutTheTunnelRefuses: what should go into the tunnel goes nowhere
// while there is none.
func TestDetourWithoutTheTunnelRefuses(t *testing.T) {
	k := routetest.New("eth0")
	err := openDetour(t, k).Ensure(t.Context(), detour())
	if !errors.Is(err, unix.ENODEV) || strings.Count(k.String(), "type=7") != 2 || !strings.HasSuffix(k.Rules(), wantRules6) {
		t.Errorf("%v; routes\n%s\nrules\n%s", err, k, k.Rules())
	}
}

// TestDetourWithoutIPv6: a kernel that was started without a family answers that
// it does not know it, whatever is asked.
func TestDetourWithoutIPv6(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	k.SwitchOff(nl.FAMILY_V6)
	d := openDetour(t, k)
	for range 2 {
		if err := lead(t, d, detour(), true); err != nil || !strings.Contains(k.Rules(), "v4 7061") || strings.Contains(k.Rules(), "v6") || strings.Count(k.String(), "192.0.2.2") != 2 {
			t.Errorf("%v; routes\n%s\nrules\n%s", err, k, k.Rules())
		}
	}
	if err := d.Remove(t.Context()); err != nil || k.String()+k.Rules() != "" {
		t.Errorf("remove: %v, left\n%s%s", err, k, k.Rules())
	}
}

// TestDetourWithoutRules: a kernel that has no routing rules is nothing to complain
// of until one is wanted.
func TestDetourWithoutRules(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	d := openDetour(t, k)
	k.FailNext(routetest.OpRuleList, unix.EOPNOTSUPP)
	if err := d.Ensure(t.Context(), datapath.Detour{}); err != nil {
		t.Errorf("nothing wanted: %v", err)
	}
	k.FailNext(routetest.OpRuleList, unix.EOPNOTSUPP)
	k.FailNext(routetest.OpRuleAdd, unix.EOPNOTSUPP)
	if err := d.Ensure(t.Context(), detour()); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("rules wanted: %v, want an error", err)
	}
}

func TestDetourKeepsTheSourceAddress(t *testing.T) {
	d := datapath.Detour{To: addrs("192.0.2.2"), From: addrs("192.0.2.1", "2001:db8::1", "198.51.100.1")}
	for choice, want := range map[string]string{"192.0.2.1": "192.0.2.1", "198.51.100.1": "198.51.100.1", "203.0.113.1": "192.0.2.1"} {
		k := routetest.New("eth0", "tun9")
		k.Choose(netip.MustParseAddr(choice).AsSlice())
		if err := openDetour(t, k).Ensure(t.Context(), d); err != nil || !strings.Contains(k.String(), "src="+want+" ") {
			t.Errorf("the main table chooses %s: %v, routes\n%s", choice, err, k)
		}
	}
	lost := datapath.Detour{To: detour().To, From: addrs("2001:db8::1")} // this host has no IPv4 address now
	k := routetest.New("eth0", "tun9")
	if err := lead(t, openDetour(t, k), lost, true); err != nil || k.String() != strings.Replace(wantRoutes, "src=192.0.2.1", "src=<nil>", 1) || !strings.Contains(k.Rules(), "v4 7061") {
		t.Errorf("no address to speak from: %v, routes\n%s\nrules\n%s", err, k, k.Rules())
	}
	k = routetest.New("eth0", "tun9")
	k.FailNext(routetest.OpGet, unix.ENETUNREACH)
	if err := openDetour(t, k).Ensure(t.Context(), d); err != nil || !strings.Contains(k.String(), "src=192.0.2.1 ") {
		t.Errorf("the main table leads nowhere: %v, routes\n%s", err, k)
	}
}

func TestDetourOrphansWait(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	if err := lead(t, openDetour(t, k), detour(), true); err != nil {
		t.Fatal(err)
	}
	odd := nl.NewRule() // as another version may have written it
	odd.Family, odd.Priority, odd.Table, odd.OifName, odd.Protocol = nl.FAMILY_V4, 7061, 77, "eth0", route.Protocol
	if err := k.RuleAdd(odd); err != nil {
		t.Fatal(err)
	}
	d := openDetour(t, k)
	if err := d.Prune(t.Context(), true); err != nil || k.Rules() == "" {
		t.Fatalf("prune before anything is wanted: %v, left %q", err, k.Rules())
	}
	for _, orphans := range []bool{false, true} {
		if err := lead(t, d, datapath.Detour{}, orphans); err != nil || (k.Rules() == "" && k.String() == "") != orphans {
			t.Errorf("prune with orphans %t: %v, left %q", orphans, err, k.Rules())
		}
	}
}

func TestDetourFailuresHeal(t *testing.T) {
	to := datapath.Detour{To: addrs("192.0.2.3"), From: addrs("192.0.2.1"), Exempt: detour().Exempt[:1]}
	run := func(t *testing.T, op string) string {
		k := routetest.New("eth0", "tun9")
		d := openDetour(t, k)
		if err := lead(t, d, detour(), false); err != nil {
			t.Fatal(err)
		}
		to.Exempt = append(to.Exempt, datapath.Pinhole{Direction: policy.Ingress, Protocol: 6, Port: 7443})
		if op != "" {
			broken := errors.New("planted")
			k.FailNext(op, broken)
			if err := lead(t, d, to, false); !errors.Is(err, broken) {
				t.Fatalf("error %v, want the planted one", err)
			}
		}
		if err := lead(t, d, to, false); err != nil {
			t.Fatalf("pass after the failure: %v", err)
		}
		return k.String() + k.Rules()
	}
	want := run(t, "")
	for _, op := range append(routetest.RuleOps, routetest.OpAdd, routetest.OpDel, routetest.OpList) {
		t.Run(op, func(t *testing.T) {
			if diff := cmp.Diff(want, run(t, op)); diff != "" {
				t.Errorf("end state (-without +with failure):\n%s", diff)
			}
		})
	}
}

func TestDetourRemove(t *testing.T) {
	k := routetest.New("eth0", "tun9")
	if err := lead(t, openDetour(t, k), detour(), true); err != nil {
		t.Fatal(err)
	}
	if err := openDetour(t, k).Remove(t.Context()); err != nil || k.String()+k.Rules() != "" {
		t.Errorf("%v, left\n%s%s", err, k, k.Rules())
	}
}
