package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/identity"
)

// samePolicy compares what policies say, wherever they were read.
var samePolicy = cmp.Options{
	cmpopts.IgnoreFields(Policy{}, "File", "Line"),
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

const everything = `# Who may speak to the database.
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: db.main
  namespace: prod
  labels: {team: storage}
  annotations: {note: "any text; even: this"}
spec:
  description: the database
  labels: [{key: owner, value: storage, source: k8s}]
  log: {value: "databáse; audited"}
  enforcement: staged
  endpointSelector:
    matchLabels: {app: db, "k8s:tier": gold}
    matchExpressions:
    - {key: zone, operator: NotIn, values: [c, b, c]}
  enableDefaultDeny: {egress: false}
  ingress:
  - fromEndpoints:
    - {}
    toPorts:
    - ports: [{port: "5432", protocol: TCP}, {port: "6000", endPort: 6010}]
    - ports: [{port: "0", protocol: udp}, {port: Metrics-2, protocol: TCP}, {protocol: gre}]
  egressDeny:
  - toCIDRSet: [{cidr: 10.9.8.7/8, except: [10.1.0.0/16]}]
specs:
- endpointSelector: {}
  enforcement: enforced
  egress:
  - toEntities: [world]
  - toNodes: [{matchLabels: {app: db}}]
    icmps: [{fields: [{type: 8}, {type: EchoReply, family: IPv6}, {type: "3"}]}]
  - toCIDRSet: [{cidrGroupRef: office, except: [192.0.2.0/28]}, {cidrGroupSelector: {matchLabels: {site: a}}}]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: a}
spec: {nodeSelector: {}, ingress: [{}]}
`

func TestParseReadsEverything(t *testing.T) {
	got := mustParse(t, everything)
	want := []Policy{{
		Kind: Namespaced, Name: "db.main", Namespace: "prod",
		Labels: identity.Labels{{Source: "k8s", Key: "team", Value: "storage"}},
		Rules: []Rule{{
			Path: "spec", Description: "the database", DefaultDeny: [2]bool{true, false}, Log: "databáse; audited", Staged: true,
			Labels: identity.Labels{{Source: "k8s", Key: "owner", Value: "storage"}},
			Subject: identity.Selector{
				{Source: "any", Key: "app", Operator: "In", Values: []string{"db"}},
				{Source: "k8s", Key: "tier", Operator: "In", Values: []string{"gold"}},
				{Source: "any", Key: "zone", Operator: "NotIn", Values: []string{"b", "c"}},
			},
			Clauses: []Clause{
				{Direction: Ingress, Section: "ingress[0]", Line: 19, Peers: Peers{Endpoints: []identity.Selector{nil}},
					Ports: []PortRange{{6, 5432, 5432}, {0, 6000, 6010}, {17, 0, 65535}, {47, 0, 65535}}, PortNames: []PortName{{6, "metrics-2"}}},
				{Direction: Egress, Deny: true, Section: "egressDeny[0]", Line: 25, Peers: Peers{CIDRs: []CIDR{{
					Prefix: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}}}},
			},
		}, {
			Path: "specs[0]", DefaultDeny: [2]bool{false, true},
			Clauses: []Clause{
				{Direction: Egress, Section: "specs[0].egress[0]", Line: 30, Peers: Peers{Entities: []Entity{EntityWorld}}},
				{Direction: Egress, Section: "specs[0].egress[1]", Line: 31, Peers: Peers{Nodes: []identity.Selector{
					{{Source: "any", Key: "app", Operator: "In", Values: []string{"db"}}}}},
					Ports: []PortRange{{1, 0x800, 0x8ff}, {58, 0x8100, 0x81ff}, {1, 0x300, 0x3ff}}},
				{Direction: Egress, Section: "specs[0].egress[2]", Line: 33, Peers: Peers{Groups: []GroupRef{
					{Name: "office", Except: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}},
					{Selector: identity.Selector{{Source: "any", Key: "site", Operator: "In", Values: []string{"a"}}}}}}},
			},
		}},
	}, {
		Kind: Clusterwide, Name: "a",
		Rules: []Rule{{Path: "spec", DefaultDeny: [2]bool{true, false}, Clauses: []Clause{{Section: "ingress[0]", Line: 4}}}},
	}}
	if diff := cmp.Diff(want, got, samePolicy, cmpopts.IgnoreFields(Policy{}, "Source")); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	if got[0].ID() != "prod/db.main" || got[1].ID() != "a" || got[1].Line != 37 || got[1].File != "test.yaml" {
		t.Errorf("got %s and %s, the second in %s:%d", got[0].ID(), got[1].ID(), got[1].File, got[1].Line)
	}
	for _, p := range got {
		if diff := cmp.Diff([]Policy{p}, mustParse(t, p.Source), samePolicy); diff != "" {
			t.Errorf("source of %s says something else:\n%s", p.ID(), diff)
		}
	}
}

// refusal is a file with one fault, and all that is said about it.
type refusal struct{ doc, want string }

func inSpec(s string) string {
	return "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a}\nspec:\n  endpointSelector: {}\n" + s
}

func inEgress(s string) string { return inSpec("  egress:\n  - " + s + "\n") }

func inPorts(s string) string { return inEgress("toPorts: [{ports: [" + s + "]}]") }

// refusedFiles are texts that hold no documents, or none that are safe to read.
var refusedFiles = []refusal{
	{"", `f.yaml: holds no policy: write at least one document`},
	{"# nothing\n", `f.yaml: holds no policy: write at least one document`},
	{"\xff\xfe", `f.yaml: policy is not text in UTF-8: save it with that encoding`},
	{inSpec("  ingress: [{}]\n---\n"), `f.yaml:8: document is empty: remove its "---", or write a policy`},
	{"a: [\n", `f.yaml:1: not well-formed YAML: did not find expected node content`},
	{"- a\n", `f.yaml:1: want a policy document, not a list`},
	{strings.Repeat("[", 500), `f.yaml:1: not well-formed YAML: did not find expected node content`},
	{"a: " + strings.Repeat("[", 30) + strings.Repeat("]", 30), `f.yaml:1: document nests deeper than 24 levels, more than any policy needs: check brackets and indentation`},
	{"a: &x 1\nb: *x\n", `f.yaml:1: YAML anchors and aliases are not accepted: write the value out where it is used`},
	{"a: !!binary aGk=\n", `f.yaml:1: YAML tag "!!binary" is not accepted: leave it out`},
	{inSpec("  ingress: [{}]\u2028--- {}\n"), "f.yaml:1: document holds a second one behind an unusual line break: separate them by a line \"---\""},
}

// refusedDocuments are faults outside spec.
var refusedDocuments = []refusal{
	{"kind: Pod\n", `f.yaml:1: kind: "Pod" is not a kind of policy: write CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, CiliumCIDRGroup or NetworkPolicy`},
	{"a: 1\n", `f.yaml:1: kind: is missing: write CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, CiliumCIDRGroup or NetworkPolicy`},
	{"kind: NetworkPolicy\napiVersion: cilium.io/v2\n", `f.yaml:2: apiVersion: "cilium.io/v2" is not known: write networking.k8s.io/v1`},
	{"kind: CiliumCIDRGroup\n", `f.yaml:1: apiVersion: "" is not known: write cilium.io/v2`},
	{"kind: CiliumNetworkPolicy\napiVersion: v1\n", `f.yaml:2: apiVersion: "v1" is not known: write cilium.io/v2`},
	{"kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nspec: {endpointSelector: {}, ingress: [{}]}\n", `f.yaml:1: metadata: is missing: give the policy a name`},
	{"kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {}\nspec: {endpointSelector: {}, ingress: [{}]}\n", `f.yaml:3: metadata.name: is missing: give the policy a name`},
	{"kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {name: a}\n", `f.yaml:1: spec: is missing: write spec, or specs with at least one item`},
	{"kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {name: a/b}\nspec: {endpointSelector: {}, ingress: [{}]}\n", `f.yaml:3: metadata.name: "a/b" is malformed: use at most 253 lower-case letters, digits, inner dashes and dots`},
	{"kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {name: a, namespace: B}\nspec: {endpointSelector: {}, ingress: [{}]}\n", `f.yaml:3: metadata.namespace: namespace "B" is malformed: use at most 63 lower-case letters, digits and inner dashes`},
	{"kind: CiliumClusterwideNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {name: a, namespace: b}\nspec: {endpointSelector: {}, ingress: [{}]}\n", `f.yaml:3: metadata.namespace: a CiliumClusterwideNetworkPolicy has no namespace: remove it, as it stands for every one`},
	{inSpec("  ingress: [{}]\nstatus: {}\n"), `f.yaml:7: status: status is not accepted: it is written by a Kubernetes cluster: remove it`},
	{inSpec("  ingress: [{}]\n---\n") + "", `f.yaml:8: document is empty: remove its "---", or write a policy`},
	{inSpec("  ingress: [{}]\n") + "---\n" + inSpec("  ingress: [{}]\n"), `f.yaml:8: metadata.name: CiliumNetworkPolicy default/a is already defined in line 1 of f.yaml: rename or remove one`},
}

// refusedRules are faults of spec itself.
var refusedRules = []refusal{
	{inSpec(""), `f.yaml:5: spec: decides nothing: write ingress, ingressDeny, egress or egressDeny; "ingress: [{}]" denies all that no other policy allows`},
	{inSpec("  ingress: []\n"), `f.yaml:6: spec.ingress: an empty list does nothing: leave it out, or write "ingress: [{}]" to deny all that no other policy allows`},
	{inSpec("  egressDeny: []\n"), `f.yaml:6: spec.egressDeny: an empty list does nothing: leave it out, or write "egress: [{}]" to deny all that no other policy allows`},
	{inSpec("  ingress:\n"), `f.yaml:6: spec.ingress: field has no value: give it one, or leave the field out`},
	{inSpec("  ingress:\n  -\n"), `f.yaml:7: spec.ingress[0]: list item has no value: give it one, or remove the dash`},
	{inSpec("  ingress: {}\n"), `f.yaml:6: spec.ingress: want a list, not a mapping`},
	{inSpec("  ingress: [{}]\n  ingress: [{}]\n"), `f.yaml:7: spec.ingress: field is given twice: keep one`},
	{inSpec("  ingres: [{}]\n"), `f.yaml:6: spec.ingres: unknown field "ingres": did you mean ingress?`},
	{inSpec("  ingress: [{}]\n  zzzzzz: 1\n"), `f.yaml:7: spec.zzzzzz: unknown field "zzzzzz": use description, egress, egressDeny, enableDefaultDeny, endpointSelector, enforcement, ingress, ingressDeny, labels, log, nodeSelector`},
	{inSpec("  ingress: [{}]\n  log: {value: " + strings.Repeat("x", 33) + "}\n"), `f.yaml:7: spec.log.value: "` + strings.Repeat("x", 33) + `" is too long or not printable: use at most 32 printable characters`},
	{inSpec("  ingress: [{}]\n  log: {value: \"a\\tb\"}\n"), `f.yaml:7: spec.log.value: "a\tb" is too long or not printable: use at most 32 printable characters`},
	{inSpec("  ingress: [{}]\n  log: {}\n"), `f.yaml:7: spec.log.value: is missing: write the text to show with flows`},
	{inSpec("  ingress: [{}]\n  enforcement: stage\n"), `f.yaml:7: spec.enforcement: "stage" is unknown: write staged, to report without effect, or enforced`},
	{inSpec("  ingress: [{}]\n  labels: [{value: x}]\n"), `f.yaml:7: spec.labels[0].key: is missing: give the label a key`},
	{inSpec("  ingress: []\n  enableDefaultDeny: {ingress: true}\n"), `f.yaml:6: spec.ingress: an empty list does nothing: leave it out, or write "ingress: [{}]" to deny all that no other policy allows`},
	{inSpec("  ingress: [{}]\n  nodeSelector: {}\n"), "f.yaml:7: spec.nodeSelector: hosts of every namespace are selected by a CiliumClusterwideNetworkPolicy only: use that kind, or endpointSelector\nf.yaml:7: spec: endpointSelector and nodeSelector exclude each other: keep one, both select hosts"},
	{"kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {name: a}\nspec: {ingress: [{}]}\n", `f.yaml:4: spec: selects no host: write endpointSelector, with {} for every host`},
	{inSpec("  ingress: [{}]\n  enableDefaultDeny: {ingress: \"no\"}\n"), `f.yaml:7: spec.enableDefaultDeny.ingress: want true or false, not "no"`},
	{inSpec("  ingressDeny: [{}]\n"), `f.yaml:6: spec.ingressDeny[0]: an empty entry denies nobody: name peers or ports; "fromEntities: [all]" denies everybody`},
	{"kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {name: a}\nspec: {endpointSelector: {matchLabels: {k8s:io.kubernetes.pod.namespace: b}}, ingress: [{}]}\n", `f.yaml:4: spec.endpointSelector: a CiliumNetworkPolicy selects hosts of its own namespace only: remove io.kubernetes.pod.namespace, and set metadata.namespace`},
}

// refusedPeers are faults of the peers of an entry.
var refusedPeers = []refusal{
	{inEgress("fromEndpoints: [{}]"), `f.yaml:7: spec.egress[0].fromEndpoints: unknown field "fromEndpoints": did you mean toEndpoints?`},
	{inEgress("toFQDNs: [{matchName: example.com}]"), `f.yaml:7: spec.egress[0].toFQDNs: toFQDNs is not accepted: DNS names are not enforced yet: write the addresses in toCIDR`},
	{inEgress("{toEntities: [all], toCIDR: [10.0.0.0/8]}"), `f.yaml:7: spec.egress[0]: toEntities and toCIDR stand in one entry, which Cilium refuses: write an entry for each`},
	{inEgress("toEntities: [wurld]"), `f.yaml:7: spec.egress[0].toEntities[0]: entity "wurld" is unknown: use all, world, world-ipv4, world-ipv6, cluster, cluster-mesh, host, remote-node, kube-apiserver, ingress, init, health, unmanaged, none`},
	{inEgress("toCIDR: [10.0.0.0/33]"), `f.yaml:7: spec.egress[0].toCIDR[0]: "10.0.0.0/33" is not a prefix: write an address and a length, such as 192.0.2.0/24 or 2001:db8::/32`},
	{inEgress(`toCIDR: ["::ffff:10.0.0.0/104"]`), `f.yaml:7: spec.egress[0].toCIDR[0]: "::ffff:10.0.0.0/104" is an IPv4 address written as IPv6: write it as IPv4`},
	{inEgress(`toCIDR: ["fe80::1%eth0"]`), `f.yaml:7: spec.egress[0].toCIDR[0]: "fe80::1%eth0" is not a prefix: write an address and a length, such as 192.0.2.0/24 or 2001:db8::/32`},
	{inEgress("toCIDRSet: [{cidr: 10.0.0.1}]"), `f.yaml:7: spec.egress[0].toCIDRSet[0].cidr: "10.0.0.1" is not a prefix: write an address and a length, such as 192.0.2.0/24 or 2001:db8::/32`},
	{inEgress("toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]"), `f.yaml:7: spec.egress[0].toCIDRSet[0].except[0]: 11.0.0.0/16 is not inside 10.0.0.0/8: except takes parts of cidr`},
	{inEgress("toCIDRSet: [{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}]"), `f.yaml:7: spec.egress[0].toCIDRSet[0].except[0]: 0.0.0.0/0 is not inside 10.0.0.0/8: except takes parts of cidr`},
	{inEgress("toCIDRSet: [{except: []}]"), `f.yaml:7: spec.egress[0].toCIDRSet[0].cidr: is missing: write a prefix such as 192.0.2.0/24, or cidrGroupRef or cidrGroupSelector`},
	{inEgress("toCIDRSet: [{cidrGroupRef: X}]"), `f.yaml:7: spec.egress[0].toCIDRSet[0].cidrGroupRef: "X" is malformed: use at most 253 lower-case letters, digits, inner dashes and dots`},
	{inEgress("toCIDRSet: [{cidrGroupRef: x, cidr: 10.0.0.0/8}]"), `f.yaml:7: spec.egress[0].toCIDRSet[0]: cidrGroupRef and cidr stand in one item, which Cilium refuses: write an item for each`},
	{inEgress("toCIDRSet: [{cidrGroupSelector: {}}]"), `f.yaml:7: spec.egress[0].toCIDRSet[0].cidrGroupSelector: asks for no label that a group has: use matchLabels, In or Exists; Cilium would take it for the whole world`},
	{inEgress("toCIDRSet: [{cidrGroupSelector: {matchLabels: {k8s:a: b}}}]"), `f.yaml:7: spec.egress[0].toCIDRSet[0].cidrGroupSelector: labels of CIDR groups have no source: leave out what stands before ':'`},
	{inEgress("{toNodes: [{}], toCIDR: [10.0.0.0/8]}"), `f.yaml:7: spec.egress[0]: toNodes and toCIDR stand in one entry, which Cilium refuses: write an entry for each`},
	{inEgress("toEndpoints: [{matchLabels: {app: 1}}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchLabels.app: want text, not the number 1: write it in quotes, "1"`},
	{inEgress("toEndpoints: [{matchLabels: {app: a, app: b}}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchLabels.app: key is given twice: keep one`},
	{inEgress("toEndpoints: [{matchLabels: {app: \"a b\"}}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchLabels.app: label value "a b" is malformed: use at most 63 letters, digits, '-', '_' and '.'`},
	{inEgress("toEndpoints: [{matchLabels: {\"cidr:10.0.0.0/8\": \"\"}}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchLabels.cidr:10.0.0.0/8: prefixes are not selected by label: write fromCIDR or toCIDR`},
	{inEgress("toEndpoints: [{matchLabels: {\"container:app\": x}}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchLabels.container:app: label key "container:app" is malformed: use at most 63 letters, digits, '-', '_' and '.', after an optional "any:", "k8s:" or "reserved:" and a DNS name with '/'`},
	{inEgress("toEndpoints: [{matchLabels: {a..b/app: x}}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchLabels.a..b/app: label key "a..b/app" is malformed: use at most 63 letters, digits, '-', '_' and '.', after an optional "any:", "k8s:" or "reserved:" and a DNS name with '/'`},
	{inEgress("toEndpoints: [{matchExpressions: [{key: a, operator: In}]}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchExpressions[0]: operator In on "a" needs at least one value`},
	{inEgress("toEndpoints: [{matchExpressions: [{key: a, operator: in, values: [b]}]}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchExpressions[0]: operator "in" on "a" is unknown: use In, NotIn, Exists or DoesNotExist`},
	{inEgress("toEndpoints: [{matchExpressions: [{operator: Exists}]}]"), `f.yaml:7: spec.egress[0].toEndpoints[0].matchExpressions[0].key: is missing: name a label`},
}

// refusedPorts are faults of toPorts.
var refusedPorts = []refusal{
	{inEgress("toPorts: []"), `f.yaml:7: spec.egress[0].toPorts: is an empty list: leave it out for every port, or name ports`},
	{inEgress("toPorts: [{}]"), `f.yaml:7: spec.egress[0].toPorts[0]: names no port: write ports, or leave toPorts out for every port`},
	{inPorts(""), `f.yaml:7: spec.egress[0].toPorts[0].ports: has 0 ports: write 1 to 40, and further ones as another item of toPorts`},
	{inPorts(strings.Repeat(`{port: "1"}, `, 41)), `f.yaml:7: spec.egress[0].toPorts[0].ports: has 41 ports: write 1 to 40, and further ones as another item of toPorts`},
	{inPorts(`{port: 80}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].port: want text, not the number 80: write it in quotes, "80"`},
	{inPorts(`{protocol: TCP}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].port: is missing: write a number in quotes, "0" for every port`},
	{inPorts(`{port: "65536"}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].port: "65536" is not a port: write a number from 1 to 65535, 0 for every port, or a name of at most 15 letters, digits and inner dashes`},
	{inPorts(`{port: "-1"}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].port: "-1" is not a port: write a number from 1 to 65535, 0 for every port, or a name of at most 15 letters, digits and inner dashes`},
	{inPorts(`{port: "080"}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].port: "080" is not a port: write a number from 1 to 65535, 0 for every port, or a name of at most 15 letters, digits and inner dashes`},
	{inPorts(`{port: a--b}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].port: "a--b" is not a port: write a number from 1 to 65535, 0 for every port, or a name of at most 15 letters, digits and inner dashes`},
	{inPorts(`{port: http, endPort: 90}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].endPort: a range cannot begin at the name "http": write its first port as a number`},
	{inPorts(`{port: "80", protocol: ESP}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].port: protocol ESP has no ports: leave port out, or write "0"`},
	{inPorts(`{port: http, protocol: ESP}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].port: protocol ESP has no ports: leave port out, or write "0"`},
	{inPorts(`{port: "80", endPort: 79}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].endPort: 79 is out of range: write a number from port, 80, to 65535`},
	{inPorts(`{port: "80", endPort: 65536}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].endPort: 65536 is out of range: write a number from port, 80, to 65535`},
	{inPorts(`{port: "8", endPort: 020}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].endPort: want a decimal number, not the number 020`}, // 16 to many
	{inPorts(`{port: "80", endPort: "90"}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].endPort: want a decimal number, not "90"`},
	{inPorts(`{port: "0", endPort: 90}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].endPort: port "0" means every port and begins no range: begin it at "1"`},
	{inPorts(`{port: "80", protocol: TPC}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].protocol: protocol "TPC" is unknown: use TCP, UDP, SCTP, ANY, VRRP, IGMP, GRE, IPIP, IPV6, ESP or AH`},
	{inPorts(`{port: "80", protocol: ICMP}`), `f.yaml:7: spec.egress[0].toPorts[0].ports[0].protocol: protocol ICMP has types, not ports: write icmps instead of toPorts`},
	{inEgress(`toPorts: [{ports: [{port: "80"}], rules: {http: [{}]}}]`), `f.yaml:7: spec.egress[0].toPorts[0].rules: rules is not accepted: application rules (http, dns, kafka) are not enforced: keep to ports, or filter in the application`},
}

// TestParseRefuses names each fault with its line, its field and what to do
// about it.
func TestParseRefuses(t *testing.T) {
	for _, tt := range slices.Concat(refusedFiles, refusedDocuments, refusedRules, refusedPeers, refusedPorts, refusedICMPs, refusedGroups, refusedKubernetes) {
		policies, err := Parse("f.yaml", []byte(tt.doc))
		if err == nil || len(policies) != 0 {
			t.Errorf("accepted:\n%s", tt.doc)
			continue
		}
		if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s\n(-want +got):\n%s", tt.doc, diff)
		}
	}
}

// TestEveryRefusedFieldIsNamed goes through all of Cilium's fields that are not
// enforced, at the places where Cilium has them and anywhere else.
func TestEveryRefusedFieldIsNamed(t *testing.T) {
	for field := range notEnforced {
		for _, format := range []string{
			"spec: {endpointSelector: {}, egress: [{%s: []}]}", "spec: {endpointSelector: {}, egress: [{toPorts: [{ports: [{port: \"1\"}], %s: {}}]}]}",
			"spec: {endpointSelector: {}, ingress: [{}], %s: {}}", "metadata: {name: a, %s: x}",
		} {
			_, err := Parse("", []byte("kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\n"+fmt.Sprintf(format, field)))
			if err == nil || !strings.Contains(err.Error(), field+" is not accepted: ") {
				t.Errorf("field %s in %s: %v", field, format, err)
			}
		}
	}
}

func TestParseReportsAllProblemsInOrder(t *testing.T) {
	_, err := Parse("f.yaml", []byte(`apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: A}
spec:
  endpointSelector: {}
  ingress:
  - toPorts: [{ports: [{port: "x y"}]}]
  - toFQDNs: []
---
kind: Pod
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: b}
spec: {endpointSelector: {}, ingres: [{}]}
`))
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("got %T, want joined errors", err)
	}
	var lines []int
	for _, e := range joined.Unwrap() {
		var p *Problem
		if !errors.As(e, &p) {
			t.Fatalf("got %T, want a Problem", e)
		}
		lines = append(lines, p.Line)
	}
	if want := []int{3, 7, 8, 10, 15}; !slices.Equal(lines, want) {
		t.Errorf("problems in lines %v, want %v:\n%v", lines, want, err)
	}
}

func TestParseReportsOnlyTheFirstHundred(t *testing.T) {
	_, err := Parse("f.yaml", []byte(strings.Repeat("---\nkind: Pod\n", 1000)))
	lines := strings.Split(fmt.Sprint(err), "\n")
	if want := "f.yaml: 900 more problems are not shown"; len(lines) != 101 || lines[100] != want {
		t.Errorf("%d lines, the last %q, want 101 and %q", len(lines), lines[len(lines)-1], want)
	}
}

func TestParseRefusesLargeFilesUnread(t *testing.T) {
	data := []byte(strings.Repeat("- [a, b]\n", 10<<20/9))
	var err error
	took := allocated(func() { _, err = Parse("big.yaml", data) })
	const want = "big.yaml: policy has 10485756 bytes, and at most 1048576 are read: split it into several files"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if took > 64<<10 {
		t.Errorf("%d bytes were allocated for a file that is not read", took)
	}
}

// TestParseBoundsHostileText gives it files of the largest size that are costly
// for careless readers.
func TestParseBoundsHostileText(t *testing.T) {
	for name, pattern := range map[string]string{
		"brackets": "[", "braces": "{a: ", "dashes": "- ", "documents": "---\n", "items": "- a\n", "keys": "? a\n",
		"quotes": "\"\n", "lines": "\n", "colons": "a: b\n", "long": "a", "ends": "...\n", "comments": "#\n",
	} {
		data := []byte(strings.Repeat(pattern, MaxFileSize/len(pattern)))
		var err error
		if took := allocated(func() { _, err = Parse("f.yaml", data) }); took > 400*MaxFileSize {
			t.Errorf("%s: %d MiB were allocated", name, took>>20)
		} else {
			t.Logf("%s: %d MiB", name, took>>20)
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestProblemWithoutFile(t *testing.T) {
	for want, p := range map[string]Problem{
		"policy:3: spec: is wrong": {Line: 3, Path: "spec", Text: "is wrong"},
		"is wrong":                 {Text: "is wrong"},
	} {
		if got := p.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestDuplicatesOfSeveralFiles(t *testing.T) {
	doc := clusterwide("a", toDB+"ingress: [{}]")
	a, _ := Parse("a.yaml", []byte(doc))
	b, _ := Parse("b.yaml", []byte(doc))
	if err := Duplicates(a); err != nil {
		t.Errorf("one policy alone: %v", err)
	}
	const want = "b.yaml:2: metadata.name: CiliumClusterwideNetworkPolicy a is already defined in line 2 of a.yaml: rename or remove one"
	if err := Duplicates(append(a, b...)); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(everything)
	f.Add(clusterwide("a", toDB+`ingressDeny: [{fromCIDRSet: [{cidr: "::/0", except: ["2001:db8::/32"]}], toPorts: [{ports: [{port: "1", endPort: 9}]}]}]`))
	f.Add("--- {kind: CiliumNetworkPolicy, apiVersion: cilium.io/v2, metadata: {name: a}, spec: {endpointSelector: {}, egress: [{}]}}\n...\n")
	f.Add("\ufeffkind: CiliumNetworkPolicy\r\napiVersion: cilium.io/v2\r\nmetadata: {name: a}\r\nspec: {endpointSelector: {}, egress: [{}]}\r\n---\r\n")
	f.Add(groupDocument("office", "site: a", `192.0.2.0/24, "2001:db8::/32"`) + clusterwide("a", toDB+`egress: [{toCIDRSet: [{cidrGroupRef: office, except: [192.0.2.7/32]}, {cidrGroupSelector: {matchLabels: {site: a}}}]}]`))
	f.Add(clusterwide("a", toDB+`enforcement: staged, log: {value: x}, ingress: [{fromNodes: [{}], icmps: [{fields: [{type: 8}, {type: EchoReply, family: IPv6}]}]}, {toPorts: [{ports: [{port: http}, {protocol: GRE}]}]}]`))
	f.Add(kubernetes("a", podDB+`policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}, namespaceSelector: {matchLabels: {a: b}}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80, endPort: 90}, {port: http, protocol: UDP}]}]`))
	f.Add("a: &a [*a]\n---\n%YAML 1.2\n---\n? [b]\n: !!map {}\n")
	f.Fuzz(func(t *testing.T, doc string) {
		policies, err := Parse("f.yaml", []byte(doc))
		if err != nil {
			return
		}
		for _, p := range policies {
			again, err := Parse("f.yaml", []byte(p.Source))
			if err != nil {
				t.Fatalf("source of %s is refused: %v\n%s", p.ID(), err, p.Source)
			}
			if diff := cmp.Diff([]Policy{p}, again, samePolicy); diff != "" {
				t.Fatalf("source of %s says something else:\n%s", p.ID(), diff)
			}
		}
		Compile(policies, castSubject("db"), castWorld())
	})
}
