package plan

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/policy"
)

func TestDeniedPrefixes(t *testing.T) {
	for name, tt := range map[string]struct {
		spec string
		want []string
	}{
		"none":               {"ingress: [{fromCIDR: [192.0.2.0/24]}]", nil},
		"denied":             {`ingressDeny: [{fromCIDR: [198.51.100.0/24, "2001:db8::/32", 192.0.2.0/24]}]`, []string{"192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"}},
		"denied on a port":   {`ingressDeny: [{fromCIDR: [192.0.2.0/24], toPorts: [{ports: [{port: "22"}]}]}]`, nil},
		"denied outwards":    {"egressDeny: [{toCIDR: [192.0.2.0/24]}]", nil},
		"allowed in between": {`ingressDeny: [{fromCIDR: [192.0.2.0/24]}], ingress: [{fromCIDR: [192.0.2.0/24], toPorts: [{ports: [{port: "22"}]}]}]`, []string{"192.0.2.0/24"}},
		"parts excepted":     {"ingressDeny: [{fromCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}]}]", []string{"192.0.2.0/24"}},
		"named inside":       {"ingressDeny: [{fromCIDR: [192.0.2.0/24]}], ingress: [{fromCIDR: [192.0.2.128/25]}]", []string{"192.0.2.0/24", "192.0.2.128/25"}},
		"the world":          {"ingressDeny: [{fromEntities: [world]}], ingress: [{fromCIDR: [192.0.2.0/24]}]", []string{"192.0.2.0/24"}},
	} {
		policies, err := policy.Parse("p.yaml", []byte("apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p}\nspec: {endpointSelector: {}, "+tt.spec+"}\n"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var want []netip.Prefix
		for _, p := range tt.want {
			want = append(want, netip.MustParsePrefix(p))
		}
		v := policy.Compile(policies, policy.Subject{}, policy.World{})
		if diff := cmp.Diff(want, DeniedPrefixes(v), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
