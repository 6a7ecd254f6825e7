package review

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// host returns the n-th host of mesh "vms", at 192.0.2.n and 10.210.0.n.
func host(n int, name string, labels ...string) Host {
	given := make(map[string]string)
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		given[k] = v
	}
	return Host{
		Name: name, Identity: mesh.Identity(1<<16 | 256 + n), Labels: identity.HostLabels(given, "default", mesh.Cluster{Name: "vms"}),
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), netip.AddrFrom4([4]byte{10, 210, 0, byte(n)})},
	}
}

// meshOf returns the mesh of hosts.
func meshOf(hosts ...Host) Mesh {
	m := Mesh{Cluster: "vms", Hosts: hosts, ControlPorts: []uint16{2379, 7443}}
	m.World = policy.World{Labels: make(map[mesh.Identity]identity.Labels), Ports: make(map[mesh.Identity][]mesh.NamedPort)}
	for _, h := range hosts {
		m.World.Labels[h.Identity], m.World.Ports[h.Identity] = h.Labels, h.NamedPorts
	}
	return m
}

func parse(t testing.TB, docs ...string) []policy.Policy {
	t.Helper()
	if len(docs) == 0 {
		return nil
	}
	policies, err := policy.Parse("test.yaml", []byte(strings.Join(docs, "---\n")))
	if err != nil {
		t.Fatal(err)
	}
	return policies
}

// doc returns a clusterwide policy with its spec in flow style.
func doc(name, spec string) string {
	return fmt.Sprintf("apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}
