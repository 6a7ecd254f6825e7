package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/policy"
)

func TestLogs(t *testing.T) {
	policies, err := policy.Parse("test.yaml", []byte(`
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: db}
specs:
- endpointSelector: {}
  log: {value: audited}
  ingress: [{fromEntities: [world]}]
- endpointSelector: {}
  ingress: [{fromEntities: [host]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	v := policy.Compile(policies, policy.Subject{Cluster: "east"}, policy.World{})
	got := make(map[string]string)
	for id, text := range logs(policies, v.Rules) {
		got[v.Rules[id].String()] = text
	}
	if diff := cmp.Diff(map[string]string{policies[0].ID() + " specs[0].ingress[0]": "audited"}, got); diff != "" {
		t.Errorf("logs (-want +got):\n%s\nof %v", diff, v.Rules)
	}
	if got := logs(nil, v.Rules); len(got) != 0 {
		t.Errorf("logs of no policy: %v", got)
	}
}
