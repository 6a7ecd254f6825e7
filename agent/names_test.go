package agent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

func TestNames(t *testing.T) {
	const web = mesh.Identity(65792)
	east := mesh.Cluster{Name: "east", ID: 1}
	labels := identity.HostLabels(map[string]string{"app": "web"}, "default", east)
	node := mesh.Node{Name: "web-1", Cluster: east, Mesh4: netip.MustParseAddr("10.210.0.1"), Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	s := state.Snapshot{Tables: state.Tables{
		Nodes:      map[string]mesh.Node{node.ID(): node},
		Identities: map[mesh.Identity]identity.Labels{web: labels},
	}}
	outer, inner := netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("198.51.100.128/25")
	numbers := identity.NumberPrefixes([]netip.Prefix{outer, inner})
	d := plan.Desired{
		IPCache: map[netip.Prefix]datapath.Peer{
			netip.MustParsePrefix("10.210.0.1/32"): {Identity: web}, netip.MustParsePrefix("192.0.2.1/32"): {Identity: web},
		},
		Verdicts: policy.Verdicts{Prefixes: numbers},
		Logs:     map[policy.RuleID]string{7: "audited"},
	}
	n := &names{rules: func(policy.RuleID) string { return "db ingress[0]" }}
	n.book.Store(newBook(s, d))
	for _, tt := range []struct {
		address  string
		identity mesh.Identity
		node     string
	}{
		{"10.210.0.1", web, "web-1"},
		{"192.0.2.1", web, "web-1"},
		{"198.51.100.1", numbers[outer], ""},
		{"198.51.100.200", numbers[inner], ""},
		{"203.0.113.1", identity.WorldIPv4, ""},
		{"2001:db8::9", identity.WorldIPv6, ""},
	} {
		id, host := n.Address(netip.MustParseAddr(tt.address))
		if id != tt.identity || host != tt.node {
			t.Errorf("Address(%s) = %d, %q; want %d, %q", tt.address, id, host, tt.identity, tt.node)
		}
	}
	if diff := cmp.Diff(labels.Strings(), n.Labels(web)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"reserved:host"}, n.Labels(identity.Host)); diff != "" {
		t.Error(diff)
	}
	if n.Log(7) != "audited" || n.Log(8) != "" {
		t.Errorf("logs of rules 7 and 8: %q, %q", n.Log(7), n.Log(8))
	}
	if got := n.Labels(numbers[inner]); len(got) == 0 {
		t.Error("a CIDR peer has no labels to show")
	}
}

func TestNamesAreEmptyBeforeTheFirstPlan(t *testing.T) {
	n := &names{rules: func(policy.RuleID) string { return "" }}
	if id, host := n.Address(netip.MustParseAddr("192.0.2.1")); id != identity.WorldIPv4 || host != "" {
		t.Errorf("Address = %d, %q", id, host)
	}
	if n.LinkName(1) == "" {
		t.Error("the loopback interface has no name")
	}
	if got := n.LinkName(1 << 30); got != "" {
		t.Errorf("an interface that does not exist is called %q", got)
	}
}

// A flow that an earlier revision allowed may still name its rule.
func TestRulesOfTheRevisionBeforeKeepTheirNames(t *testing.T) {
	v := &verdicts{}
	rules := func(id policy.RuleID, name string) map[policy.RuleID]policy.RuleRef {
		return map[policy.RuleID]policy.RuleRef{id: {Policy: name, Section: "ingress[0]"}}
	}
	v.recordLocked(policyStage{Rules: rules(1, "old")})
	v.recordLocked(policyStage{Rules: rules(2, "new")})
	v.recordLocked(policyStage{Rules: rules(2, "new")})
	for id, want := range map[policy.RuleID]string{1: "old ingress[0]", 2: "new ingress[0]", 3: ""} {
		if got := v.Rule(id); got != want {
			t.Errorf("Rule(%d) = %q, want %q", id, got, want)
		}
	}
}
