package agent

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

const stagedPolicies = `
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: now}
spec:
  endpointSelector: {}
  ingress:
  - fromCIDR: [198.51.100.0/24]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: soon}
spec:
  enforcement: staged
  endpointSelector: {}
  ingressDeny:
  - fromCIDR: [198.51.100.128/25]
  ingress:
  - fromEndpoints: [{}]
    toPorts: [{ports: [{port: "443", protocol: TCP}]}]
  - icmps: [{fields: [{family: IPv4, type: 8}]}]
`

// stagedNames is the book of a host that policies select.
func stagedNames(t *testing.T, text string) *names {
	t.Helper()
	policies, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	east := mesh.Cluster{Name: "east", ID: 1}
	labels := identity.HostLabels(map[string]string{"app": "web"}, "default", east)
	world := policy.World{Labels: map[mesh.Identity]identity.Labels{65792: labels, 65793: labels}}
	d := plan.Desired{
		Verdicts: policy.Compile(policies, policy.Subject{Identity: 65792, Labels: labels, Cluster: "east"}, world),
		Pinholes: map[datapath.Pinhole]string{
			{Direction: policy.Ingress, Protocol: 6, Port: 22, Remote: netip.MustParsePrefix("198.51.100.0/24")}: "SSH",
		},
	}
	n := &names{rules: func(policy.RuleID) string { return "" }}
	n.book.Store(newBook(state.Snapshot{}, d))
	return n
}

// event is one of a packet of TCP from a remote address to this host.
func event(remote string, id mesh.Identity, port uint16) datapath.Event {
	return datapath.Event{
		Direction: policy.Ingress, Protocol: 6, Remote: id,
		Src: netip.AddrPortFrom(netip.MustParseAddr(remote), 40000), Dst: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port),
	}
}

func dropped(e datapath.Event, reason bpfobj.PlexusDropReason) datapath.Event {
	e.Dropped, e.ReasonCode = true, uint8(reason)
	return e
}

func answer(e datapath.Event) datapath.Event {
	e.Reply, e.Src, e.Dst = true, e.Dst, e.Src
	return e
}

func ping(kind uint8) datapath.Event {
	e := event("203.0.113.9", identity.WorldIPv4, uint16(kind))
	e.Protocol, e.ICMPType = 1, kind
	return e
}

func TestStaged(t *testing.T) {
	const peer = mesh.Identity(65793)
	byPolicy := bpfobj.PlexusDropReasonDROP_POLICY
	var inForce mesh.Identity
	n := stagedNames(t, stagedPolicies)
	for _, id := range n.read().spans {
		inForce = id
	}
	for _, tt := range []struct {
		name    string
		event   datapath.Event
		allowed bool
		rule    string
		unknown bool
	}{
		{name: "denied by a prefix that nothing in force names", event: event("198.51.100.200", inForce, 80), rule: "soon ingressDeny[0]"},
		{name: "allowed now, and still", event: event("198.51.100.7", inForce, 80), allowed: true, rule: "now ingress[0]"},
		{name: "dropped now, allowed soon", event: dropped(event("10.210.0.9", peer, 443), byPolicy), allowed: true, rule: "soon ingress[0]"},
		{name: "dropped now, and still", event: dropped(event("10.210.0.9", peer, 80), byPolicy)},
		{name: "dropped by a guard", event: dropped(event("10.210.0.9", peer, 443), bpfobj.PlexusDropReasonDROP_MESH_SOURCE_OUTSIDE)},
		{name: "a pinhole", event: event("198.51.100.200", inForce, 22), allowed: true},
		{name: "behind the pinhole's prefix", event: dropped(event("203.0.113.9", identity.WorldIPv4, 22), byPolicy)},
		{name: "an answer that is cut", event: dropped(answer(event("198.51.100.200", inForce, 80)), byPolicy), rule: "soon ingressDeny[0]"},
		{name: "an echo request", event: dropped(ping(8), byPolicy), allowed: true, rule: "soon ingress[1]"},
		{name: "an echo reply", event: func() datapath.Event { e := answer(ping(8)); e.ICMPType = 0; return e }(), allowed: true, rule: "soon ingress[1]"},
		{name: "another answer of ICMP", event: answer(ping(14)), unknown: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			allowed, rule, ok := n.Staged(tt.event)
			if allowed != tt.allowed || rule != tt.rule || ok == tt.unknown {
				t.Errorf("allowed %v by %q, known %v; want %v by %q", allowed, rule, ok, tt.allowed, tt.rule)
			}
		})
	}
}

func TestNothingIsStaged(t *testing.T) {
	n := stagedNames(t, strings.Split(stagedPolicies, "---")[0])
	if _, _, ok := n.Staged(event("198.51.100.7", identity.WorldIPv4, 80)); ok {
		t.Error("a verdict of staged rules that nobody wrote")
	}
	if _, _, ok := (&names{}).Staged(event("198.51.100.7", identity.WorldIPv4, 80)); ok {
		t.Error("a verdict before the first plan")
	}
}
