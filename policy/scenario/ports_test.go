package scenario

import (
	"testing"

	"github.com/plexusmesh/plexus/policy"
)

// A name means with each peer the ports of all who share its labels, as hosts
// have it (plan.Build), wherever in the file they stand.
func TestHostsWithTheSameLabelsShareNamedPorts(t *testing.T) {
	policies, err := policy.Parse("policies.yaml", []byte(`
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: no-metrics}
spec:
  endpointSelector: {matchLabels: {app: web}}
  enableDefaultDeny: {egress: false}
  egressDeny:
  - toEndpoints: [{matchLabels: {app: db}}]
    toPorts: [{ports: [{port: metrics}]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("tests.yaml", []byte(`
hosts:
  db-1: {labels: {app: db}}
  db-2: {labels: {app: db}, ports: [metrics=9100/TCP]}
  db-3: {labels: {app: db}, ports: [metrics=9200/TCP]}
tests:
- {name: of the second, from: {labels: {app: web}}, to: {host: db-2}, port: 9100/TCP, expect: deny}
- {name: of the third, from: {labels: {app: web}}, to: {host: db-3}, port: 9200/TCP, expect: deny}
- {name: of another, from: {labels: {app: web}}, to: {host: db-1}, port: 9200/TCP, expect: deny}
- {name: of nobody, from: {labels: {app: web}}, to: {host: db-3}, port: 9300/TCP, expect: allow}
`))
	if err != nil {
		t.Fatal(err)
	}
	results, err := Run(policies, f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.Pass {
			t.Errorf("port %s: %s, want %s", r.Test.Name, r.Answer.Verdict, r.Test.Expected)
		}
	}
}
