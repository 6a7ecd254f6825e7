package scenario

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/policy"
)

// BenchmarkRun reads and plays 5,000 tests under 200 policies; the tests are
// about 100 sorts of hosts.
func BenchmarkRun(b *testing.B) {
	const tests, policies, sorts = 5000, 200, 100
	var docs, file strings.Builder
	for i := range policies {
		fmt.Fprintf(&docs, "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p%d}\nspec: {endpointSelector: {matchLabels: {app: app-%d}}, ingress: [{fromEndpoints: [{matchLabels: {app: app-%d}}], toPorts: [{ports: [{port: \"%d\", protocol: TCP}]}]}]}\n",
			i, i%sorts, (i+1)%sorts, 1000+i)
	}
	file.WriteString("tests:\n")
	for i := range tests {
		n := i % policies
		fmt.Fprintf(&file, "- {name: t%d, from: {labels: {app: app-%d}}, to: {labels: {app: app-%d}}, port: %d/TCP, expect: allow}\n", i, (n+1)%sorts, n%sorts, 1000+n)
	}
	parsed, err := policy.Parse("bench.yaml", []byte(docs.String()))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f, err := Parse("tests.yaml", []byte(file.String()))
		if err != nil {
			b.Fatal(err)
		}
		results, err := Run(parsed, f, Options{})
		if err != nil || len(results) != tests {
			b.Fatalf("%d results, %v", len(results), err)
		}
		for _, r := range results {
			if !r.Pass {
				b.Fatalf("%s does not pass: %+v", r.Test.Name, r.Answer)
			}
		}
	}
}
