package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// live is a mesh with two hosts that are alike, one that is not, and a pod of a
// cluster that federates.
func live() Mesh {
	m := Mesh{Cluster: "vms", World: policy.World{Labels: make(map[mesh.Identity]identity.Labels)}, Owners: make(map[netip.Prefix]mesh.Identity)}
	for i, h := range []struct{ name, app string }{{"web-1", "web"}, {"web-2", "web"}, {"db-1", "db"}} {
		id := firstIdentity + mesh.Identity(len(h.app))
		labels := identity.HostLabels(map[string]string{"app": h.app}, "default", mesh.Cluster{Name: "vms"})
		m.World.Labels[id] = labels
		m.Hosts = append(m.Hosts, Host{Name: h.name, Identity: id, Labels: labels, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}})
	}
	pod := mesh.Identity(2<<16 | 300)
	m.World.Labels[pod] = identity.HostLabels(map[string]string{"app": "web", "kind": "pod"}, "default", mesh.Cluster{Name: "k8s"})
	m.Owners[netip.MustParsePrefix("10.0.0.0/30")] = pod
	m.Hosts[2].NamedPorts = []mesh.NamedPort{{Name: "pg", Port: 5432, Protocol: "TCP"}}
	m.Hosts[2].Pinholes = map[datapath.Pinhole]string{
		{Direction: policy.Ingress, Protocol: 6, Port: 22, Remote: netip.MustParsePrefix("192.0.2.0/31")}: "SSH server that listens on this host",
	}
	return m
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		name, from, to, port string
		change               func(*Mesh)
		want                 string
	}{
		{"hosts", "web-1", "db-1", "pg/TCP", nil, `allow default/db ingress[0]
egress at web-1, db-1: allow: allowed by web-out egress[0] (p.yaml:20 )
ingress at db-1, web-1: allow: allowed by default/db ingress[0] (p.yaml:9 the database serves the web)`},
		{"a pinhole", "192.0.2.1", "db-1", "22/TCP", nil, `allow web-out egress[0]
egress at web-1, db-1: allow: allowed by web-out egress[0] (p.yaml:20 )
ingress at db-1, 192.0.2.1 (web-1): allow: pinhole: SSH server that listens on this host (192.0.2.0/31); it passes whatever policy says`},
		{"a pinhole for others", "192.0.2.2", "db-1", "22/TCP", nil, `deny 
egress at web-2, db-1: allow: allowed by web-out egress[0] (p.yaml:20 )
ingress at db-1, 192.0.2.2 (web-2): deny: denied: policy default/db selects db-1 for ingress, and no rule allows this`},
		{"a pinhole for one of two", "app=web", "db-1", "22/TCP", func(m *Mesh) { delete(m.World.Labels, 2<<16|300) }, `mixed 
egress at web-1, …, db-1: allow: allowed by web-out egress[0] (p.yaml:20 )
ingress at db-1, web-1, …: deny: denied: policy default/db selects db-1 for ingress, and no rule allows this; but pinhole: SSH server that listens on this host (192.0.2.0/31); it passes whatever policy says`},
		{"labels of hosts and of a pod", "app=web", "db-1", "5432/TCP", nil, `mixed 
egress at web-1, …, db-1: allow: allowed by web-out egress[0] (p.yaml:20 )
ingress at db-1, web-1, …: allow: allowed by default/db ingress[0] (p.yaml:9 the database serves the web)
ingress at db-1, app=web,io.cilium.k8s.policy.cluster=k8s,kind=pod: deny: denied: policy default/db selects db-1 for ingress, and no rule allows this`},
		{"an address of a pod", "10.0.0.1", "db-1", "5432/TCP", func(m *Mesh) { m.EveryCluster = true }, `allow default/db ingress[0]
ingress at db-1, 10.0.0.1 (app=web,io.cilium.k8s.policy.cluster=k8s,kind=pod): allow: allowed by default/db ingress[0] (p.yaml:9 the database serves the web)`},
		{"pinholes that are not known", "198.51.100.1", "db-1", "22/TCP", func(m *Mesh) { m.Hosts[2].Pinholes = nil }, `deny 
what passes on db-1 whatever policy says is known there alone: plexus policy failsafe on it lists that
ingress at db-1, 198.51.100.1: deny: denied: policy default/db selects db-1 for ingress, and no rule allows this`},
		{"disarmed", "198.51.100.1", "db-1", "80/TCP", func(m *Mesh) { m.Hosts[2].Disarmed = true }, `allow 
ingress at db-1, 198.51.100.1: allow: policy is suspended on db-1 (plexus disarm): everything passes`},
		{"a host's own file", "198.51.100.1", "db-1", "80/TCP", func(m *Mesh) {
			own, err := policy.Parse("own.yaml", []byte("apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: own}\nspec: {endpointSelector: {}, ingress: [{fromEntities: [world]}]}"))
			if err != nil {
				panic(err)
			}
			own[0].Local = true
			m.Hosts[2].Policies = own
		}, `allow local:own ingress[0]
ingress at db-1, 198.51.100.1: allow: allowed by local:own ingress[0] (own.yaml:4 )`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parsed, err := policy.Parse("p.yaml", []byte(policies))
			if err != nil {
				t.Fatal(err)
			}
			m := live()
			if tt.change != nil {
				tt.change(&m)
			}
			answers, err := Explain(parsed, m, ask(t, tt.from, tt.to, tt.port))
			if err != nil {
				t.Fatal(err)
			}
			a := answers[0]
			got := []string{fmt.Sprintf("%s %s", a.Verdict, a.Rule)}
			got = append(got, a.Notes...)
			for _, j := range a.Judgements {
				line := fmt.Sprintf("%s at %s, %s: %s: %s", j.Direction, j.Host, j.Peer, j.Verdict, j.Why)
				if j.Policy != nil {
					line += fmt.Sprintf(" (%s:%d %s)", j.Policy.File, j.Policy.FileLine(j.Rule.Line), j.Description)
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func ask(t *testing.T, from, to, port string) Question {
	t.Helper()
	f, err := ParseParty(from)
	if err != nil {
		t.Fatal(err)
	}
	o, err := ParseParty(to)
	if err != nil {
		t.Fatal(err)
	}
	flow, err := ParsePort(port)
	if err != nil {
		t.Fatal(err)
	}
	return Question{From: f, To: o, Flow: flow}
}

func TestExplainRefuses(t *testing.T) {
	for _, tt := range []struct{ from, to, port, want string }{
		{"mail-1", "db-1", "80/TCP", `from: host "mail-1" does not exist: known are db-1, web-1, web-2`},
		{"web-1", "app=mail", "80/TCP", "to: nobody carries the labels app=mail: see plexus identity list"},
		{"web-1", "web-2", "pg/TCP", "web-2 declares no port pg/TCP: write the number"},
	} {
		if _, err := Explain(nil, live(), ask(t, tt.from, tt.to, tt.port)); err == nil || err.Error() != tt.want {
			t.Errorf("%s to %s: error %v, want %s", tt.from, tt.to, err, tt.want)
		}
	}
	for _, s := range []string{"", "a b", "192.0.2.300", "fe80::1%eth0", "app=web,tier", "=x"} {
		if p, err := ParseParty(s); err == nil {
			t.Errorf("ParseParty(%q) = %+v", s, p)
		}
	}
	for _, s := range []string{"", "TCP", "0/TCP", "65536/TCP", "80/ICMP", "80/GRE", "ANY", "80/ANY", "80", "080/TCP", "a b/TCP"} {
		if f, err := ParsePort(s); err == nil {
			t.Errorf("ParsePort(%q) = %+v", s, f)
		}
	}
}
