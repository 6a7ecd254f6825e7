package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// BenchmarkCompile compiles 1,000 policies for a host that all of them select,
// in a mesh of 10,000 identities. Each policy has a selector of its own that
// selects 10 peers, each tenth allows the whole mesh one port.
func BenchmarkCompile(b *testing.B) {
	const hosts, groups, policies = 10_000, 1_000, 1_000
	world := make(map[mesh.Identity]identity.Labels, hosts)
	for i := range hosts {
		given := map[string]string{"app": fmt.Sprintf("app-%d", i%groups), "zone": fmt.Sprintf("z%d", i%3), "env": "prod", "host": fmt.Sprintf("h%d", i)}
		world[1<<16|mesh.Identity(256+i)] = identity.HostLabels(given, "default", mesh.Cluster{Name: "vms"})
	}
	var parsed []Policy
	for i := range policies {
		parsed = append(parsed, mustParse(b, benchPolicy(i))...)
	}
	subject := Subject{Identity: 1<<16 | 256, Labels: world[1<<16|256], Cluster: "vms"}
	b.ReportAllocs()
	for b.Loop() {
		v := Compile(parsed, subject, World{Labels: world})
		b.ReportMetric(float64(len(v.Entries)), "entries")
	}
}

func benchPolicy(i int) string {
	clauses := []string{
		fmt.Sprintf(`{fromEndpoints: [{matchLabels: {app: app-%d}}], toPorts: [{ports: [{port: "%d", protocol: TCP}]}]}`, i, 1000+i),
		fmt.Sprintf(`{fromCIDR: [10.%d.%d.0/24]}`, i/256, i%256),
	}
	if i%10 == 0 {
		clauses = append(clauses, fmt.Sprintf(`{fromEntities: [cluster], toPorts: [{ports: [{port: "%d", protocol: TCP}]}]}`, 20000+i))
	}
	return namespaced("default", fmt.Sprintf("p%d", i), "endpointSelector: {matchLabels: {env: prod}}, ingress: ["+strings.Join(clauses, ", ")+"]")
}

// BenchmarkParse reads 1,000 policies in one file.
func BenchmarkParse(b *testing.B) {
	var file strings.Builder
	for i := range 1000 {
		file.WriteString(benchPolicy(i))
	}
	data := []byte(file.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("bench.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}
