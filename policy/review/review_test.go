package review

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

func small() Mesh {
	server := host(1, "srv-1", "role=server")
	server.Server = true
	db := host(3, "db-1", "app=db")
	db.Listening = []mesh.Listener{{Protocol: "TCP", Port: 22}, {Protocol: "TCP", Port: 5432}}
	db.NamedPorts = []mesh.NamedPort{{Name: "pg", Port: 5432, Protocol: "TCP"}, {Name: "dns", Port: 53, Protocol: "UDP"}}
	return meshOf(server, host(2, "web-1", "app=web"), db)
}

func office(cidr string) string {
	return "apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: office, labels: {site: a}}\nspec: {externalCIDRs: [" + cidr + "]}\n"
}

const webToDB = `endpointSelector: {matchLabels: {app: db}}, ingress: [{fromEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: "5432", protocol: TCP}]}]}]`

var findings = []struct {
	name          string
	before, after string // documents, parted by "---"
	options       Options
	want          []string
}{
	{name: "nothing to say", after: doc("db", webToDB)},
	{
		name: "a selector that matches no host", after: doc("x", `endpointSelector: {matchLabels: {app: dbb}}, ingress: [{}]`),
		want: []string{"error selects-nobody test.yaml:4 spec: selects no host: app=dbb; did you mean app=db?; correct it (plexus identity list shows the labels of hosts), or accept it for hosts to come with --allow-empty"},
	},
	{
		name: "accepted", after: doc("x", `endpointSelector: {matchLabels: {app: mail}}, ingress: [{}]`), options: Options{AllowEmpty: true},
		want: []string{"warning selects-nobody test.yaml:4 spec: selects no host: app=mail"},
	},
	{
		name: "a namespace without hosts", after: "# comment\n" + strings.Replace(strings.Replace(doc("x", `endpointSelector: {}, ingress: [{}]`), "{name: x}", "{name: x, namespace: prod}", 1), "Clusterwide", "", 1),
		want: []string{"error selects-nobody test.yaml:5 spec: selects no host of namespace prod: every host in scope; correct it (plexus identity list shows the labels of hosts), or accept it for hosts to come with --allow-empty"},
	},
	{
		name: "peers that nobody is", after: doc("db", `endpointSelector: {matchLabels: {app: db}}, ingress: [{fromEndpoints: [{matchLabels: {app: wbe}}, {matchLabels: {ap: web}}, {matchLabels: {app: gone}}]}]`),
		want: []string{
			"warning peer-nobody test.yaml:4 spec.ingress[0]: selects no peer: nobody in its scope is app=wbe; did you mean app=web?",
			"warning peer-nobody test.yaml:4 spec.ingress[0]: selects no peer: nobody in its scope is ap=web; did you mean app=web?",
			"warning peer-nobody test.yaml:4 spec.ingress[0]: selects no peer: nobody in its scope is app=gone",
		},
	},
	{
		name:   "a deny over all that is allowed",
		before: doc("never", `endpointSelector: {matchLabels: {app: db}}, ingressDeny: [{fromEntities: [cluster]}]`),
		after:  doc("never", `endpointSelector: {matchLabels: {app: db}}, ingressDeny: [{fromEntities: [cluster]}]`) + "---\n" + doc("db", webToDB),
		want:   []string{"warning shadowed test.yaml:9 spec.ingress[0]: allows nothing: all of it is denied by never ingressDeny[0], and a deny beats every allow"},
	},
	{
		name:  "a deny of anybody",
		after: doc("never", `endpointSelector: {matchLabels: {app: db}}, ingressDeny: [{toPorts: [{ports: [{port: "5432", protocol: TCP}]}]}]`) + "---\n" + doc("db", webToDB),
		want:  []string{"warning shadowed test.yaml:9 spec.ingress[0]: allows nothing: all of it is denied by never ingressDeny[0], and a deny beats every allow"},
	},
	{
		name: "a deny over a part", after: doc("never", `endpointSelector: {matchLabels: {app: db}}, ingressDeny: [{fromCIDR: [10.1.0.0/16]}]`) + "---\n" +
			doc("db", `endpointSelector: {matchLabels: {app: db}}, ingress: [{fromCIDR: [10.0.0.0/8]}]`),
	},
	{
		name: "a deny over a narrower prefix", after: doc("never", `endpointSelector: {matchLabels: {app: db}}, ingressDeny: [{fromCIDR: [10.0.0.0/8, 10.1.2.0/24]}]`) + "---\n" +
			doc("db", `endpointSelector: {matchLabels: {app: db}}, ingress: [{fromCIDR: [10.1.0.0/16]}]`),
		want: []string{"warning shadowed test.yaml:9 spec.ingress[0]: allows nothing: all of it is denied by never ingressDeny[0], and a deny beats every allow"},
	},
	{
		name: "said twice is no shadow", after: doc("a", webToDB) + "---\n" + doc("b", webToDB),
	},
	{
		name: "nobody listens", after: doc("db", `endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "5433", protocol: TCP}, {port: "5432", protocol: ANY}, {port: "80", endPort: 90}]}]}]`),
		want: []string{"warning nobody-listens test.yaml:4 spec.ingress[0]: allows 5433/TCP, and no program waits at it on db-1: is it another port, or is the service not running?"},
	},
	{
		name: "a group that is not there", after: doc("x", `endpointSelector: {}, ingress: [{fromCIDRSet: [{cidrGroupRef: office}, {cidrGroupSelector: {matchLabels: {site: a}}}]}]`),
		want: []string{
			`error cidr-group-missing test.yaml:4 spec.ingress[0]: refers to CIDR group "office", which does not exist: apply it together with the policy`,
			"warning cidr-group-missing test.yaml:4 spec.ingress[0]: no CIDR group has the labels site=a: the entry means nobody",
		},
	},
	{
		name: "groups that are there", after: doc("x", `endpointSelector: {}, ingress: [{fromCIDRSet: [{cidrGroupRef: office}, {cidrGroupSelector: {matchLabels: {site: a}}}]}]`) + "---\n" + office("198.51.100.0/24"),
	},
	{
		name: "names of ports", after: doc("x", `endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: pg, protocol: TCP}]}]}], ingressDeny: [{toPorts: [{ports: [{port: http}]}]}], egressDeny: [{toPorts: [{ports: [{port: http}, {port: pg}]}]}]`),
		want: []string{
			"error named-port-undeclared test.yaml:4 spec.egressDeny[0]: names port http of its peers, which is declared by nobody in the mesh: the rule means no port; add it to named-ports in their configuration, or write the number",
			"error named-port-undeclared test.yaml:4 spec.ingressDeny[0]: names port http, which is not declared by db-1, srv-1, web-1: the rule means no port there; add it to named-ports in the configuration, or write the number",
			"warning named-port-undeclared test.yaml:4 spec.ingress[0]: names port pg/TCP, which is not declared by srv-1, web-1: the rule means no port there; add it to named-ports in the configuration, or write the number",
		},
	},
	{
		name: "a named port at which nobody waits", after: doc("x", `endpointSelector: {matchLabels: {app: db}}, ingress: [{toPorts: [{ports: [{port: dns, protocol: UDP}]}]}]`),
		want: []string{"warning nobody-listens test.yaml:4 spec.ingress[0]: allows dns/UDP, and no program waits at it on db-1: is it another port, or is the service not running?"},
	},
	{
		name: "a staged rule", after: doc("db", "enforcement: staged, "+webToDB),
		want: []string{"warning staged test.yaml:4 spec: is staged: flows say what it would decide, and it decides nothing yet"},
	},
	{
		name: "what stays is not spoken of", before: doc("x", `endpointSelector: {matchLabels: {app: mail}}, ingress: [{}]`),
		after: doc("x", `endpointSelector: {matchLabels: {app: mail}}, ingress: [{}]`) + "---\n" + doc("db", webToDB),
	},
}

func TestFindings(t *testing.T) {
	for _, tt := range findings {
		t.Run(tt.name, func(t *testing.T) {
			r := Review(parseMany(t, tt.before), parseMany(t, tt.after), small(), tt.options)
			var got []string
			for _, f := range r.Findings {
				got = append(got, fmt.Sprintf("%s %s %s:%d %s: %s", f.Severity, f.Code, f.File, f.Line, f.Path, f.Text))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			refused := len(tt.want) > 0 && strings.HasPrefix(tt.want[0], "error")
			if r.Refused() != refused {
				t.Errorf("refused %v, want %v", r.Refused(), refused)
			}
		})
	}
}

func parseMany(t *testing.T, text string) []policy.Policy {
	t.Helper()
	if text == "" {
		return nil
	}
	return parse(t, text)
}

const fromOffice = `endpointSelector: {matchLabels: {app: db}}, ingress: [{fromCIDRSet: [{cidrGroupRef: office}]}]`

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after string
		want          string // of db-1
	}{
		{name: "a first policy", after: doc("db", webToDB), want: `db-1 2→2 +1 -1 ~0
			ingress: now denies what no rule allows (was open)
			+ allow app=web → 5432/TCP (db ingress[0])`},
		{name: "its end", before: doc("db", webToDB), want: `db-1 2→2 +1 -1 ~0
			ingress: now open to what no rule denies (denied what no rule allows)
			- allow app=web → 5432/TCP (db ingress[0])`},
		{name: "another port", before: doc("db", webToDB), after: doc("db", strings.ReplaceAll(webToDB, "5432", "5433")), want: `db-1 2→2 +1 -1 ~0
			- allow app=web → 5432/TCP (db ingress[0])
			+ allow app=web → 5433/TCP (db ingress[0])`},
		{name: "one peer more", before: doc("db", webToDB), after: doc("db", strings.Replace(webToDB, "matchLabels: {app: web}", "matchExpressions: [{key: app, operator: Exists}]", 1)), want: `db-1 2→3 +1 -0 ~0
			+ allow app=db → 5432/TCP (db ingress[0])`},
		{name: "turned into a deny", before: doc("db", webToDB), after: doc("db", strings.Replace(webToDB, "ingress:", "ingressDeny:", 1)), want: `db-1 2→2 +0 -0 ~1
			- allow app=web → 5432/TCP (db ingress[0])
			+ deny app=web → 5432/TCP (db ingressDeny[0])`},
		{name: "renamed", before: doc("db", webToDB), after: doc("base", webToDB), want: `db-1 2→2 +0 -0 ~1
			= 1 with the same verdict, from another rule`},
		{name: "prefixes and ranges", after: doc("out", `endpointSelector: {matchLabels: {app: db}}, egress: [{toCIDRSet: [{cidr: 198.51.100.0/24, except: [198.51.100.7/32]}], toPorts: [{ports: [{port: "8000", endPort: 8010, protocol: TCP}, {port: "53", protocol: UDP}]}]}, {toEntities: [cluster]}]`), want: `db-1 2→15 +14 -1 ~0
			egress: now denies what no rule allows (was open)
			+ allow → 198.51.100.0/24 except 198.51.100.7/32 8000-8010/TCP, 53/UDP (out egress[0])
			+ allow → cluster every port (out egress[1])`},
		{name: "a staged rule", after: doc("db", "enforcement: staged, "+webToDB), want: `db-1 2→2 +0 -0 ~0
			staged, without effect: ingress: now denies what no rule allows (was open)
			staged, without effect: + allow app=web → 5432/TCP (db ingress[0])`},
		{name: "its promotion", before: doc("db", "enforcement: staged, "+webToDB), after: doc("db", webToDB), want: `db-1 2→2 +1 -1 ~0
			ingress: now denies what no rule allows (was open)
			+ allow app=web → 5432/TCP (db ingress[0])`},
		{name: "a group that grows", before: doc("db", fromOffice) + "---\n" + office("198.51.100.0/24"), after: doc("db", fromOffice) + "---\n" + office("198.51.100.0/24, 203.0.113.0/24"), want: `db-1 2→3 +1 -0 ~0
			+ allow 203.0.113.0/24 → every port (db ingress[0])`},
		{name: "a prefix that is no longer left out", before: doc("db", `endpointSelector: {matchLabels: {app: db}}, ingress: [{fromCIDRSet: [{cidr: 198.51.100.0/24, except: [198.51.100.128/25]}]}]`), after: doc("db", `endpointSelector: {matchLabels: {app: db}}, ingress: [{fromCIDRSet: [{cidr: 198.51.100.0/24}]}]`), want: `db-1 2→2 +0 -0 ~0
			+ allow 198.51.100.128/25 → every port (db ingress[0])`},
		{name: "a comment", before: doc("db", webToDB), after: "# why\n" + doc("db", webToDB)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Review(parseMany(t, tt.before), parseMany(t, tt.after), small(), Options{})
			var got strings.Builder
			for _, h := range r.Hosts {
				fmt.Fprintf(&got, "%s %d→%d +%d -%d ~%d\n\t\t\t", h.Host, h.Before, h.After, h.Added, h.Removed, h.Changed)
				got.WriteString(strings.Join(h.Lines, "\n\t\t\t"))
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

// A policy that no host could hold is refused, with the host and the count.
func TestOverflow(t *testing.T) {
	hosts := []Host{host(1, "db-1", "app=db")}
	for i := range 2200 {
		hosts = append(hosts, host(2+i, fmt.Sprintf("web-%d", i), fmt.Sprintf("n=%d", i)))
	}
	wide := doc("wide", `endpointSelector: {matchLabels: {app: db}}, ingress: [{fromEntities: [cluster], toPorts: [{ports: [{port: "1", endPort: 65534, protocol: TCP}]}]}]`)
	r := Review(nil, parse(t, wide), meshOf(hosts...), Options{})
	if len(r.Findings) != 1 || r.Findings[0].Code != CodeOverflow || !r.Refused() {
		t.Fatalf("findings: %+v", r.Findings)
	}
	count := fmt.Sprint(r.Hosts[0].After)
	if text := r.Findings[0].Text; !strings.Contains(text, "policy of db-1 would not fit") || !strings.Contains(text, count) {
		t.Errorf("%q names not both host and count, %s", text, count)
	}
	staged := Review(nil, parse(t, strings.Replace(wide, "spec: {", "spec: {enforcement: staged, ", 1)), meshOf(hosts...), Options{})
	if !staged.Refused() || !slices.ContainsFunc(staged.Findings, func(f Finding) bool { return f.Code == CodeOverflow && strings.Contains(f.Text, count) }) {
		t.Errorf("findings where the rule is staged: %+v", staged.Findings)
	}
}

func TestLinesAreBounded(t *testing.T) {
	var docs []string
	for i := range maxLines + 5 {
		docs = append(docs, doc(fmt.Sprintf("p%02d", i), strings.ReplaceAll(webToDB, "5432", fmt.Sprint(1000+i))))
	}
	r := Review(nil, parse(t, docs...), small(), Options{})
	if len(r.Hosts) != 1 || len(r.Hosts[0].Lines) != maxLines+1 || r.Hosts[0].Lines[maxLines] != "… and 6 more changes" {
		t.Errorf("%+v", r.Hosts)
	}
}

func TestCuts(t *testing.T) {
	ssh := datapath.Pinhole{Direction: policy.Ingress, Protocol: tcp, Port: 22}
	narrow := ssh
	narrow.Remote = netip.MustParsePrefix("203.0.113.0/28")
	etcd := datapath.Pinhole{Direction: policy.Egress, Protocol: tcp, Port: 2379}
	join := datapath.Pinhole{Direction: policy.Egress, Protocol: tcp, Port: 7443}
	closed := doc("db", webToDB)
	shut := doc("shut", `endpointSelector: {matchLabels: {app: db}}, egress: [{toEntities: [none]}]`)
	inward := doc("inward", `endpointSelector: {matchLabels: {app: web}}, egress: [{toEntities: [none]}, {toEntities: [cluster], toPorts: [{ports: [{port: "2379"}, {port: "7443"}]}]}]`)
	server := doc("server", `endpointSelector: {matchLabels: {role: server}}, ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]`)
	for _, tt := range []struct {
		name          string
		before, after string
		pinholes      []datapath.Pinhole // of db-1
		terminal      string
		want          []Cut
	}{
		{"a terminal from outside", "", closed, nil, "203.0.113.77", []Cut{{"db-1", "your own connection: from 203.0.113.77 to 22/TCP of db-1"}}},
		{"a terminal on a host of the mesh", "", closed, nil, "192.0.2.2", []Cut{{"db-1", "your own connection: from 192.0.2.2 to 22/TCP of db-1"}}},
		{"a terminal on a host that may no longer go out", "", inward, nil, "192.0.2.2", []Cut{{"web-1", "your own connection: from 192.0.2.2 to 22/TCP of db-1"}}},
		{"a terminal on a host that may go there", "", strings.Replace(inward, "none", "cluster", 1), nil, "192.0.2.2", nil},
		{"with a pinhole", "", closed, []datapath.Pinhole{ssh}, "203.0.113.77", nil},
		{"with one for others", "", closed, []datapath.Pinhole{narrow}, "203.0.113.77", []Cut{{"db-1", "your own connection: from 203.0.113.77 to 22/TCP of db-1"}}},
		{"with one for them", "", closed, []datapath.Pinhole{narrow}, "203.0.113.7", nil},
		{"denied before", closed, "# why\n" + closed, nil, "203.0.113.77", nil},
		{"the way to the servers", "", shut, nil, "", []Cut{
			{"db-1", "its way to the mesh's server srv-1 at 2379/TCP"}, {"db-1", "its way to the mesh's server srv-1 at 7443/TCP"},
		}},
		{"with a pinhole for one of them", "", shut, []datapath.Pinhole{etcd}, "", []Cut{{"db-1", "its way to the mesh's server srv-1 at 7443/TCP"}}},
		{"with pinholes for both", "", shut, []datapath.Pinhole{etcd, join}, "", nil},
		{"at the server", "", server, nil, "", []Cut{
			{"srv-1", "the way of db-1 to its control port 2379/TCP"}, {"srv-1", "the way of db-1 to its control port 7443/TCP"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := small()
			m.Hosts[2].Pinholes = tt.pinholes
			if tt.terminal != "" {
				m.Terminal = &Terminal{Host: "db-1", Remote: netip.MustParseAddr(tt.terminal), Port: 22}
			}
			r := Review(parseMany(t, tt.before), parseMany(t, tt.after), m, Options{})
			if diff := cmp.Diff(tt.want, r.Cuts); diff != "" {
				t.Errorf("cuts (-want +got):\n%s", diff)
			}
		})
	}
}
