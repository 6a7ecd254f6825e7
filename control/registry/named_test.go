package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// TestNamedPortsOfOwnEntries lets one host of two declare ports, and then others.
func TestNamedPortsOfOwnEntries(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.join("web", "192.0.2.1")
	f.join("db", "192.0.2.2")
	f.settled()
	before := f.content()
	c := mesh.Claim{Node: "db", Key: wgKey("db"), Port: 51871, Version: "1"}
	for _, ports := range [][]mesh.NamedPort{
		{{Name: "pg", Port: 5432, Protocol: "TCP"}},
		{{Name: "pg", Port: 5433, Protocol: "TCP"}, {Name: "stats", Port: 8125, Protocol: "UDP"}},
		nil,
	} {
		c.NamedPorts = ports
		f.claims(c)
		fact := f.settled()["db"]
		if diff := cmp.Diff(ports, fact.NamedPorts); diff != "" {
			t.Errorf("the fact's named ports (-want +got):\n%s", diff)
		}
		after := f.content()
		for key := range after {
			own := strings.HasSuffix(key, "/db") || key == schema.EnrolmentKey
			for _, p := range fact.MeshPrefixes() {
				own = own || strings.HasSuffix(key, "/"+schema.EndpointName(p))
			}
			if !own && after[key] != before[key] {
				t.Errorf("%s changed with a claim of db:\n%s", key, cmp.Diff(before[key], after[key]))
			}
		}
		for _, p := range fact.MeshPrefixes() {
			key := (schema.Layout{Cluster: fact.Cluster.Name}).Endpoint(p)
			e, err := schema.DecodeEndpoint(fact.Cluster, schema.EndpointName(p), []byte(after[key]))
			f.must(err)
			if diff := cmp.Diff(ports, e.NamedPorts); diff != "" {
				t.Errorf("named ports of %s (-want +got):\n%s", p, diff)
			}
		}
	}
}
