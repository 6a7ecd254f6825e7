package policy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/identity"
)

// groupDocument returns a document with prefixes in flow style.
func groupDocument(name, labels, prefixes string) string {
	return fmt.Sprintf("---\napiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: %s, labels: {%s}}\nspec: {externalCIDRs: [%s]}\n", name, labels, prefixes)
}

func inGroup(spec string) string {
	return "apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: a}\n" + spec
}

// refusedGroups are faults of CIDR groups.
var refusedGroups = []refusal{
	{inGroup(""), `f.yaml:1: spec: is missing: write spec with externalCIDRs`},
	{inGroup("spec: {}\n"), `f.yaml:4: spec.externalCIDRs: is missing: write a list of prefixes, [] for none yet`},
	{inGroup("spec: {externalCIDRs: [192.0.2.1]}\n"), `f.yaml:4: spec.externalCIDRs[0]: "192.0.2.1" is not a prefix: write an address and a length, such as 192.0.2.0/24 or 2001:db8::/32`},
	{inGroup("specs: []\n"), "f.yaml:4: specs: unknown field \"specs\": did you mean spec?"},
	{"apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: a, namespace: b}\nspec: {externalCIDRs: []}\n", `f.yaml:3: metadata.namespace: a CiliumCIDRGroup has no namespace: remove it, as it stands for every one`},
	{"apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: a, labels: {k8s:a: b}}\nspec: {externalCIDRs: []}\n", `f.yaml:3: metadata.labels.k8s:a: a document's label has no source: leave out what stands before ':'`},
}

func TestParseReadsCIDRGroups(t *testing.T) {
	doc := "apiVersion: cilium.io/v2alpha1\nkind: CiliumCIDRGroup\nmetadata: {name: office, labels: {site: a}}\nspec:\n  externalCIDRs: [198.51.100.7/24, 192.0.2.0/24, 192.0.2.0/24]\n"
	got := mustParse(t, doc)
	want := []Policy{{
		Kind: CIDRGroup, Name: "office", Labels: identity.Labels{{Source: "k8s", Key: "site", Value: "a"}},
		Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")},
	}}
	if diff := cmp.Diff(want, got, samePolicy, cmpopts.IgnoreFields(Policy{}, "Source")); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	if got[0].ID() != "cidrgroup:office" {
		t.Errorf("ID is %s", got[0].ID())
	}
	if got := mustParse(t, inGroup("spec: {externalCIDRs: []}\n")); len(got[0].Prefixes) != 0 {
		t.Errorf("an empty group has %v", got[0].Prefixes)
	}
}

func TestCIDRGroups(t *testing.T) {
	groups := groupDocument("office", "site: a, kind: vpn", `192.0.2.0/24, "2001:db8::/32"`) + groupDocument("lab", "site: b", "198.51.100.0/24, 203.0.113.0/28")
	tell(t, []story{
		{"by name, without a part", groups + clusterwide("a", toDB+"ingress: [{fromCIDRSet: [{cidrGroupRef: office, except: [192.0.2.128/25]}]}]"), `
			db <- 192.0.2.1 22/TCP allow a ingress[0]
			db <- 192.0.2.200 22/TCP deny -
			db <- 2001:db8::1 22/TCP allow
			db <- 198.51.100.1 22/TCP deny
			db <- web 22/TCP deny`},
		{"an exception may hold a prefix as a whole", groups + clusterwide("a", toDB+"ingress: [{fromCIDRSet: [{cidrGroupRef: lab, except: [198.51.0.0/16]}]}]"), `
			db <- 198.51.100.1 22/TCP deny
			db <- 203.0.113.1 22/TCP allow`},
		{"by label", groups + clusterwide("a", toDB+"ingress: [{fromCIDRSet: [{cidrGroupSelector: {matchExpressions: [{key: site, operator: Exists}, {key: kind, operator: DoesNotExist}]}}]}]"), `
			db <- 198.51.100.1 22/TCP allow
			db <- 192.0.2.1 22/TCP deny`},
		{"a union with prefixes", groups + clusterwide("a", toDB+"ingressDeny: [{fromCIDRSet: [{cidrGroupRef: lab}]}], ingress: [{fromCIDRSet: [{cidr: 198.51.0.0/16}, {cidrGroupRef: office}]}]"), `
			db <- 198.51.1.1 22/TCP allow
			db <- 198.51.100.1 22/TCP deny a ingressDeny[0]
			db <- 192.0.2.1 22/TCP allow`},
		{"a group that does not exist is nobody", clusterwide("a", toDB+"ingress: [{fromCIDRSet: [{cidrGroupRef: office}]}, {fromCIDRSet: [{cidrGroupSelector: {matchLabels: {site: a}}}]}]"), `
			db <- 192.0.2.1 22/TCP deny -
			db <- web 22/TCP deny -`},
	})
}
