package scenario

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/policy"
)

// policies that the tests of a file are played under.
const policies = `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: db}
spec:
  description: the database serves the web
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: pg, protocol: TCP}]}]
  - fromCIDR: [203.0.113.0/24]
    icmps: [{fields: [{type: EchoRequest, family: IPv4}]}]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: web-out}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress:
  - toEntities: [cluster]
  egressDeny:
  - toPorts: [{ports: [{port: "25", protocol: TCP}]}]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: soon}
spec:
  enforcement: staged
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{}]
`

const hosts = `
cluster: vms
hosts:
  web-1: {labels: {app: web}, addresses: [192.0.2.1]}
  db-1: {labels: {app: db}, addresses: [192.0.2.2, "2001:db8::2"], ports: [pg=5432/TCP]}
  far-1: {labels: {app: web}, cluster: k8s, addresses: [192.0.2.9]}
`

// results says in a line for each test what became of it.
func results(t *testing.T, tests string, o Options) string {
	t.Helper()
	parsed, err := policy.Parse("policies.yaml", []byte(policies))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("tests.yaml", []byte(hosts+tests))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := Run(parsed, f, o)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&out, "%v %s %s %s:%d\n", r.Pass, r.Answer.Verdict, orDash(r.Answer.Rule.String()), r.File, r.Test.Line)
		for _, j := range r.Answer.Judgements {
			fmt.Fprintf(&out, "  %s at %s, %s: %s: %s\n", j.Direction, j.Host, j.Peer, j.Verdict, j.Why)
			if j.Staged != nil {
				fmt.Fprintf(&out, "    staged: %s %s\n", j.Staged.Verdict, j.Staged.Rule)
			}
		}
		for _, n := range r.Answer.Notes {
			fmt.Fprintf(&out, "  note: %s\n", n)
		}
	}
	return out.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name, test, want string
	}{
		{
			"two directions", `{name: a, from: {labels: {app: web}}, to: {host: db-1}, port: pg/TCP, expect: allow, rule: "default/db ingress[0]"}`,
			`true allow default/db ingress[0]
  egress at app=web, db-1: allow: allowed by web-out egress[0]
  ingress at db-1, app=web: allow: allowed by default/db ingress[0]
`,
		}, {
			"a test that fails", `{name: a, from: {labels: {app: web}}, to: {labels: {app: db}}, port: 22/TCP, expect: allow}`,
			`false deny -
  egress at app=web, app=db: allow: allowed by web-out egress[0]
  ingress at app=db, app=web: deny: denied: policy default/db selects app=db for ingress, and no rule allows this
`,
		}, {
			"the wrong rule", `{name: a, from: {labels: {app: web}}, to: {labels: {app: db}}, port: 25/TCP, expect: deny, rule: default/db}`,
			`false deny web-out egressDeny[0]
  egress at app=web, app=db: deny: denied by web-out egressDeny[0]
  ingress at app=db, app=web: deny: denied: policy default/db selects app=db for ingress, and no rule allows this
`,
		}, {
			"an address outside, by ICMP", `{name: a, from: {ip: 203.0.113.7}, to: {host: db-1}, icmp: {type: 8}, expect: allow, rule: default/db}`,
			`true allow default/db ingress[1]
  ingress at db-1, 203.0.113.7: allow: allowed by default/db ingress[1]
`,
		}, {
			"an address of a host", `{name: a, from: {ip: 192.0.2.1}, to: {ip: "2001:db8::2"}, port: 22/TCP, expect: deny, direction: ingress}`,
			`true deny -
  ingress at db-1, 192.0.2.1 (web-1): deny: denied: policy default/db selects db-1 for ingress, and no rule allows this
`,
		}, {
			"of another cluster", `{name: a, from: {host: far-1}, to: {host: web-1}, port: 80/TCP, expect: allow, rule: "-"}`,
			`true allow -
  ingress at web-1, far-1: allow: no policy selects web-1 for ingress: open
    staged: deny 
`,
		}, {
			"as if staged", `{name: a, from: {labels: {app: x, io.kubernetes.pod.namespace: ops}}, to: {host: web-1}, port: GRE, expect: deny, staged: true}`,
			`true deny -
  egress at app=x,io.kubernetes.pod.namespace=ops, web-1: allow: no policy selects app=x,io.kubernetes.pod.namespace=ops for egress: open
  ingress at web-1, app=x,io.kubernetes.pod.namespace=ops: deny: denied: policy soon selects web-1 for ingress, and no rule allows this
`,
		}, {
			"nobody judges", `{name: a, from: {ip: 203.0.113.7}, to: {ip: 203.0.113.8}, port: 53/UDP, expect: deny}`,
			`false allow -
  note: no host of the mesh judges a flow from 203.0.113.7 to 203.0.113.8
`,
		}, {
			"to itself", `{name: a, from: {host: db-1}, to: {ip: 192.0.2.2}, port: 53/UDP, expect: allow}`,
			`true allow -
  note: what db-1 sends to itself never leaves it: nothing judges it
`,
		}, {
			"neighbour discovery", `{name: a, from: {host: web-1}, to: {host: db-1}, icmp: {type: NeighborSolicitation}, family: IPv6, expect: deny, direction: ingress}`,
			`true deny -
  ingress at db-1, web-1: deny: denied: policy default/db selects db-1 for ingress, and no rule allows this
  note: neighbour discovery on the link passes before any policy is asked
`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := results(t, "tests:\n- "+tt.test, Options{})
			want := strings.Replace(tt.want, "\n", " tests.yaml:8\n", 1)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultLocalCluster(t *testing.T) {
	const far = "tests:\n- {name: a, from: {host: far-1}, to: {host: db-1}, port: pg/TCP, expect: allow}"
	every, local := true, false
	for _, tt := range []struct {
		tests string
		o     Options
		want  bool
	}{
		{far, Options{}, false},
		{"defaultLocalCluster: false\n" + far, Options{}, true},
		{far, Options{EveryCluster: &every}, true},
		{"defaultLocalCluster: false\n" + far, Options{EveryCluster: &local}, false},
	} {
		if got := strings.HasPrefix(results(t, tt.tests, tt.o), "true"); got != tt.want {
			t.Errorf("%q %+v: pass %v, want %v", tt.tests, tt.o, got, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"nothing", "", "t.yaml: holds no test: write tests, a list"},
		{"no list", "tests: []", "t.yaml:1: tests: holds no test: write at least one"},
		{"two documents", "tests: []\n---\ntests: []", "t.yaml: holds several documents: write one, with all tests in one list"},
		{"not YAML", "tests: [", "t.yaml:1: not well-formed YAML: did not find expected node content"},
		{"all at once", `
cluster: default
host: {}
hosts:
  Web: {labels: {app: web}}
  a: {addresses: [192.0.2.1, 192.0.2.0/24], ports: [pg=0/TCP]}
  b: {addresses: [192.0.2.1]}
tests:
- {name: x, from: {labels: {app: web}, ip: 192.0.2.7}, to: {host: c}, port: 70000/TCP, expect: maybe}
- {name: x, from: {ip: 192.0.2.7%eth0}, to: {}, port: ICMP, expct: allow}
- {name: y, from: {ip: 192.0.2.7}, to: {labels: {"reserved:world": ""}}, icmp: {type: Ping}, family: IPv5, direction: up, staged: 1}
- {from: {ip: 192.0.2.7}, to: {host: a}, rule: ""}
- {from: {ip: 192.0.2.7}, to: {host: a}, port: nil/TCP}
- {name: z, from: {ip: 192.0.2.7}, to: {host: a}, port: web/TCP, expect: deny, family: IPv4}
- &a {name: 5}
- {name: q, name: r, to: null}
`, `t.yaml:2: cluster: cluster name "default" is kept for clusters that never federate: choose another
t.yaml:3: host: unknown field: use cluster, defaultLocalCluster, hosts, tests
t.yaml:5: hosts.Web: host name "Web" is malformed: use at most 63 lower-case letters, digits, inner dashes and dots
t.yaml:6: hosts.a.addresses[1]: "192.0.2.0/24" is not an address: write it as 192.0.2.1 or 2001:db8::1
t.yaml:6: hosts.a.ports[0]: "pg=0/TCP" is no named port: write it as pg=5432/TCP, with TCP, UDP or SCTP
t.yaml:7: hosts.b.addresses: 192.0.2.1 is an address of a already: give it to one host
t.yaml:9: tests[0].from: wants one of labels, ip and host, and has 2 of them
t.yaml:9: tests[0].to.host: host "c" is not among hosts: describe it there, or write labels
t.yaml:9: tests[0].port: port "70000/TCP" is malformed: write a number from 1 to 65535, or the name of a port, before /TCP
t.yaml:9: tests[0].expect: "maybe" is no verdict: write allow or deny
t.yaml:10: tests[1].from.ip: "192.0.2.7%eth0" is not an address: write it as 192.0.2.1 or 2001:db8::1
t.yaml:10: tests[1].to: wants one of labels, ip and host, and has 0 of them
t.yaml:10: tests[1].port: port "ICMP": ICMP has types instead of ports: ask for the type, such as EchoRequest
t.yaml:10: tests[1].expct: unknown field: use direction, expect, family, from, icmp, name, port, rule, staged, to
t.yaml:10: tests[1].name: "x" is the name of the test in line 9 already: give each its own
t.yaml:11: tests[2].to.labels.reserved:world: nobody is given a label reserved:world: write an ip for somebody outside the mesh
t.yaml:11: tests[2].direction: "up" is no direction: write egress to judge where the flow begins alone, ingress where it ends, or both
t.yaml:11: tests[2].staged: want true or false, not "1"
t.yaml:11: tests[2].icmp: "IPv5" is no family: write IPv4 or IPv6
t.yaml:12: tests[3].rule: is empty: write "POLICY SECTION", such as "default/db ingress[0]", a policy alone, or "-" for no rule
t.yaml:13: tests[4].name: is missing: give the test a name of its own
t.yaml:13: tests[4].expect: is missing: write allow or deny
t.yaml:14: tests[5].family: is of icmp alone: leave it out
t.yaml:15: tests[6]: YAML anchors, aliases and tags are not accepted: write the value out where it is used
t.yaml:16: tests[7].name: is given twice: keep one
t.yaml:16: tests[7].to: field has no value: give it one, or leave the field out`},
		{"a name that the port has not", "hosts: {a: {ports: [pg=1/TCP]}}\ntests: [{name: z, from: {ip: 192.0.2.7}, to: {host: a}, port: pg/UDP, expect: deny}]",
			"t.yaml:2: tests[0].port: a declares no port pg/UDP: write the number, or declare it under hosts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("t.yaml", []byte(tt.file))
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(hosts + "tests:\n- {name: a, from: {labels: {app: web}}, to: {host: db-1}, port: pg/TCP, expect: allow}"))
	f.Add([]byte("tests:\n- {name: a, from: {ip: 192.0.2.1}, to: {labels: {}}, icmp: {type: EchoRequest}, family: IPv6, expect: deny, rule: '-'}"))
	f.Add([]byte("hosts: *a\ntests: [&a null]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f.yaml", data)
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a reason")
			}
			return
		}
		if _, err := Run(nil, file, Options{}); err != nil {
			t.Errorf("what is accepted cannot be played: %v", err)
		}
	})
}
