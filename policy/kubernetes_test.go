package policy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/identity"
)

// kubernetes returns a NetworkPolicy of namespace default with a spec in flow
// style.
func kubernetes(name, spec string) string {
	return fmt.Sprintf("---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

const podDB = "podSelector: {matchLabels: {app: db}}, "

func inNetworkPolicy(spec string) string {
	return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n" + spec
}

func inFrom(peer string) string {
	return inNetworkPolicy("spec:\n  podSelector: {}\n  ingress:\n  - from:\n    - " + peer + "\n")
}

func inKubernetesPort(port string) string {
	return inNetworkPolicy("spec:\n  podSelector: {}\n  ingress:\n  - ports:\n    - " + port + "\n")
}

// refusedKubernetes are faults of NetworkPolicies.
var refusedKubernetes = []refusal{
	{inNetworkPolicy(""), `f.yaml:1: spec: is missing: write spec with podSelector`},
	{inNetworkPolicy("spec: {}\n"), `f.yaml:4: spec: selects no host: write podSelector, with {} for every host of the namespace`},
	{inNetworkPolicy("spec: {podSelector: {}, policyTypes: [ingress]}\n"), `f.yaml:4: spec.policyTypes[0]: "ingress" is no policy type: write Ingress or Egress`},
	{inNetworkPolicy("spec: {podSelector: {}, policyTypes: [Egress, Egress]}\n"), `f.yaml:4: spec.policyTypes[1]: Egress is given twice: keep one`},
	{inNetworkPolicy("spec: {podSelector: {}, policyTypes: [Egress], ingress: [{}]}\n"), `f.yaml:4: spec.ingress: does nothing, as policyTypes leaves ingress open: add Ingress to policyTypes, or remove the list`},
	{inNetworkPolicy("spec: {podSelector: {}, egress: []}\n"), `f.yaml:4: spec.egress: does nothing, as policyTypes leaves egress open: add Egress to policyTypes, or remove the list`},
	{inNetworkPolicy("spec: {podSelector: {}, ingressDeny: [{}]}\n"), `f.yaml:4: spec.ingressDeny: unknown field "ingressDeny": use egress, ingress, podSelector, policyTypes`},
	{inNetworkPolicy("spec: {podSelector: {matchLabels: {k8s:app: db}}}\n"), `f.yaml:4: spec.podSelector: label key "k8s:app" has a source, which Kubernetes does not know: leave out what stands before ':'`},
	{inFrom("{}"), `f.yaml:8: spec.ingress[0].from[0]: names nobody: write podSelector, namespaceSelector or ipBlock`},
	{inFrom("{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}"), `f.yaml:8: spec.ingress[0].from[0]: ipBlock stands beside a selector, which Kubernetes refuses: write an item for each`},
	{inFrom("{ipBlock: {}}"), `f.yaml:8: spec.ingress[0].from[0].ipBlock.cidr: is missing: write a prefix such as 192.0.2.0/24`},
	{inFrom("{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}"), `f.yaml:8: spec.ingress[0].from[0].ipBlock.except: leaves nothing of 10.0.0.0/8, which Kubernetes refuses: remove the item`},
	{inFrom("{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}"), `f.yaml:8: spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/8 is not inside 10.0.0.0/8: except takes parts of cidr`},
	{inFrom("{namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}"), `f.yaml:8: spec.ingress[0].from[0].namespaceSelector.matchExpressions[0]: operator In on "a" needs at least one value`},
	{inNetworkPolicy("spec:\n  podSelector: {}\n  egress:\n  - from: [{podSelector: {}}]\n"), `f.yaml:7: spec.egress[0].from: unknown field "from": did you mean to?`},
	{inKubernetesPort(`{port: "80"}`), `f.yaml:8: spec.ingress[0].ports[0].port: "80" is not a port: write a number from 1 to 65535 without quotes, or a name in lower case, or leave port out for every port`},
	{inKubernetesPort(`{port: HTTP}`), `f.yaml:8: spec.ingress[0].ports[0].port: "HTTP" is not a port: write a number from 1 to 65535 without quotes, or a name in lower case, or leave port out for every port`},
	{inKubernetesPort(`{port: 0}`), `f.yaml:8: spec.ingress[0].ports[0].port: the number 0 is not a port: write a number from 1 to 65535 without quotes, or a name in lower case, or leave port out for every port`},
	{inKubernetesPort(`{port: 0443}`), `f.yaml:8: spec.ingress[0].ports[0].port: the number 0443 is not a port: write a number from 1 to 65535 without quotes, or a name in lower case, or leave port out for every port`}, // 291 to many
	{inKubernetesPort(`{endPort: 90}`), `f.yaml:8: spec.ingress[0].ports[0].endPort: needs port, where the range begins`},
	{inKubernetesPort(`{port: 80, endPort: 0}`), `f.yaml:8: spec.ingress[0].ports[0].endPort: 0 is out of range: write a number from port, 80, to 65535`},
	{inKubernetesPort(`{port: http, endPort: 90}`), `f.yaml:8: spec.ingress[0].ports[0].endPort: a range cannot begin at the name "http": write its first port as a number`},
	{inKubernetesPort(`{port: 80, protocol: tcp}`), `f.yaml:8: spec.ingress[0].ports[0].protocol: protocol "tcp" is unknown: use TCP, UDP or SCTP`},
}

func TestParseTranslatesNetworkPolicies(t *testing.T) {
	got := mustParse(t, `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: prod}
spec:
  policyTypes: [Egress, Ingress]
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: web}}
    - namespaceSelector: {matchLabels: {team: a}}
      podSelector: {matchExpressions: [{key: tier, operator: Exists}]}
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
    ports: [{port: 5432}, {port: pg, protocol: UDP}, {protocol: SCTP}, {port: 8000, endPort: 8010}]
`)
	label := func(key, value string) identity.Requirement {
		return identity.Requirement{Source: "k8s", Key: key, Operator: "In", Values: []string{value}}
	}
	want := []Policy{{
		Kind: Kubernetes, Name: "db", Namespace: "prod",
		Rules: []Rule{{
			Path: "spec", Subject: identity.Selector{label("app", "db")}, DefaultDeny: [2]bool{true, true},
			Clauses: []Clause{{
				Direction: Ingress, Section: "ingress[0]", Line: 8,
				Peers: Peers{
					Endpoints: []identity.Selector{
						{label("app", "web"), label("io.kubernetes.pod.namespace", "prod")},
						{label("io.cilium.k8s.namespace.labels.team", "a"), {Source: "k8s", Key: "tier", Operator: "Exists"}},
					},
					CIDRs: []CIDR{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}},
				},
				Ports:     []PortRange{{6, 5432, 5432}, {132, 0, 65535}, {6, 8000, 8010}},
				PortNames: []PortName{{17, "pg"}},
			}},
		}},
	}}
	if diff := cmp.Diff(want, got, samePolicy, cmpopts.IgnoreFields(Policy{}, "Source")); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	if got[0].ID() != "networkpolicy:prod/db" {
		t.Errorf("ID is %s", got[0].ID())
	}
}

func TestNetworkPolicyPeers(t *testing.T) {
	tell(t, []story{
		{"labels alone mean the own namespace and mesh", kubernetes("a", podDB+"ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]"), `
			db <- web 22/TCP allow networkpolicy:default/a ingress[0]
			db <- stage 22/TCP deny -
			db <- pod 22/TCP deny -`},
		{"a namespace alone means all of its hosts", kubernetes("a", podDB+"ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: staging}}}]}]"), `
			db <- stage 22/TCP allow
			db <- web 22/TCP deny`},
		{"both must match", kubernetes("a", podDB+"ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [default]}]}, podSelector: {matchLabels: {app: web}}}]}]"), `
			db <- stage 22/TCP allow
			db <- web 22/TCP deny
			db <- admin 22/TCP deny`},
		{"{} is every namespace of the mesh", kubernetes("a", podDB+"ingress: [{from: [{namespaceSelector: {}}]}]"), `
			db <- stage 22/TCP allow
			db <- web 22/TCP allow
			db <- pod 22/TCP deny
			db <- host 22/TCP deny
			db <- 192.0.2.1 22/TCP deny`},
		{"labels that name a cluster leave the own", kubernetes("a", podDB+"ingress: [{from: [{podSelector: {matchLabels: {io.cilium.k8s.policy.cluster: k8s}}}]}]"), `
			db <- pod 22/TCP allow
			db <- web 22/TCP deny`},
		{"several peers of one item are a union", kubernetes("a", podDB+"ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]}]"), `
			db <- web 22/TCP allow
			db <- 192.0.2.1 22/TCP allow
			db <- 192.0.2.200 22/TCP deny
			db <- stage 22/TCP deny`},
		{"no peers, or none in the list, are everybody", kubernetes("a", podDB+"ingress: [{ports: [{port: 22}]}, {from: [], ports: [{port: 23}]}]"), `
			db <- web 22/TCP allow
			db <- 192.0.2.1 23/TCP allow
			db <- unknown 22/TCP allow
			db <- web 24/TCP deny
			db <- web 22/UDP deny`},
	})
}

func TestNetworkPolicyIsolation(t *testing.T) {
	tell(t, []story{
		{"without policyTypes ingress alone", kubernetes("a", "podSelector: {matchLabels: {app: db}}"), `
			db <- web 22/TCP deny -
			db -> web 22/TCP allow -
			web <- db 22/TCP allow -
			stage <- db 22/TCP allow -`},
		{"and egress where it has rules", kubernetes("a", podDB+"egress: [{to: [{podSelector: {}}]}]"), `
			db <- web 22/TCP deny -
			db -> web 22/TCP allow networkpolicy:default/a egress[0]
			db -> 192.0.2.1 22/TCP deny -`},
		{"policyTypes choose", kubernetes("a", podDB+"policyTypes: [Egress]"), `
			db <- web 22/TCP allow -
			db -> web 22/TCP deny -`},
		{"an empty list of rules denies all", kubernetes("a", podDB+"policyTypes: [Ingress, Egress], ingress: [], egress: [{}]"), `
			db <- web 22/TCP deny -
			db -> unknown 22/TCP allow networkpolicy:default/a egress[0]
			db -> web ICMP:8 allow`},
		{"an empty list of ports is every protocol", kubernetes("a", podDB+"ingress: [{from: [{podSelector: {}}], ports: []}]"), `
			db <- web 22/TCP allow
			db <- web GRE allow`},
		{"Cilium's policies join in", kubernetes("a", podDB+"ingress: [{}]") + clusterwide("b", toDB+"ingressDeny: [{fromEntities: [world]}]"), `
			db <- web 22/TCP allow networkpolicy:default/a ingress[0]
			db <- 192.0.2.1 22/TCP deny b ingressDeny[0]`},
	})
}
