package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

func parse(t testing.TB, doc string) []policy.Policy {
	t.Helper()
	policies, err := policy.Parse("test.yaml", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return policies
}

// rule returns a document of a policy for the host db.
func rule(name, spec string) string {
	return "---\napiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: " + name +
		"}\nspec: {endpointSelector: {matchLabels: {app: db}}, " + spec + "}\n"
}

// planned returns the plan of a host that knows full, after f has changed what
// is known.
func planned(t testing.TB, l Local, f func(*state.Tables)) Desired {
	t.Helper()
	s := state.New("own")
	full.say(t, s)
	s.Update("own", f)
	return Build(s.Snapshot(), l)
}

func unchanged(*state.Tables) {}

// web5432 is what dbPolicy allows.
var web5432 = policy.Flow{Peer: web.id(), Protocol: 6, Port: 5432}

func TestPoliciesOfTheHostJoinThoseOfTheMesh(t *testing.T) {
	l := local()
	l.Policies = parse(t, rule("db", "ingressDeny: [{fromEntities: [all]}]"))
	l.Policies[0].Local = true
	d := planned(t, l, unchanged)
	if got := d.Verdicts.Judge(web5432); got.Allowed || got.Ref.Policy != "local:db" {
		t.Errorf("a local deny beside a policy of the same name in the mesh: %+v", got)
	}
	if len(d.Verdicts.Rules) != 2 {
		t.Errorf("rules %v, want those of both policies", d.Verdicts.Rules)
	}
}

// TestALapsedRevisionIsTakenBack has a revision on trial that changed one
// policy, made one and deleted one.
func TestALapsedRevisionIsTakenBack(t *testing.T) {
	before := parse(t, rule("db", "ingressDeny: [{fromEntities: [all]}]")+rule("gone", "egress: [{}]"))
	for _, tt := range []struct {
		name   string
		lapsed uint64
		window time.Duration
		back   bool
	}{
		{"while it is on trial", 0, time.Minute, false},
		{"lapsed", 7, time.Minute, true},
		{"another lapsed before", 6, time.Minute, false},
		{"confirmed", 7, 0, false},
	} {
		l := local()
		l.Lapsed = tt.lapsed
		d := planned(t, l, func(tables *state.Tables) {
			made := parse(t, rule("made", "ingress: [{fromEndpoints: [{}]}]"))[0]
			tables.Policies[made.ID()] = made
			tables.Revision = state.Revision{Number: 7, Window: tt.window, Undo: map[string]*policy.Policy{"db": &before[0], "gone": &before[1], "made": nil}}
		})
		var names []string
		for _, ref := range d.Verdicts.Rules {
			names = append(names, ref.String())
		}
		slices.Sort(names)
		want := []string{"db ingress[0]", "made ingress[0]"}
		if tt.back {
			want = []string{"db ingressDeny[0]", "gone egress[0]"}
		}
		if diff := cmp.Diff(want, names); diff != "" || d.Lapsed != tt.back || d.Revision != 7 {
			t.Errorf("%s: revision %d, lapsed %v, rules (-want +got):\n%s", tt.name, d.Revision, d.Lapsed, diff)
		}
	}
}

func TestNamedPortsAreThoseOfTheReceiver(t *testing.T) {
	l := local()
	l.NamedPorts = []mesh.NamedPort{{Name: "pg", Port: 5432, Protocol: "TCP"}}
	d := planned(t, l, func(tables *state.Tables) {
		clear(tables.Policies)
		p := parse(t, rule("a", `ingress: [{toPorts: [{ports: [{port: pg, protocol: TCP}]}]}], egress: [{toEntities: [cluster], toPorts: [{ports: [{port: http, protocol: TCP}]}]}]`))[0]
		tables.Policies[p.ID()] = p
		for i, e := range web.endpoints() { // its two addresses say different things: both count
			e.NamedPorts = []mesh.NamedPort{{Name: "http", Port: uint16(8080 + i), Protocol: "TCP"}}
			tables.Endpoints[e.Prefix] = e
		}
	})
	for f, want := range map[policy.Flow]bool{
		web5432: true,
		{Peer: web.id(), Direction: policy.Egress, Protocol: 6, Port: 8080}:   true,
		{Peer: web.id(), Direction: policy.Egress, Protocol: 6, Port: 8081}:   true,
		{Peer: other.id(), Direction: policy.Egress, Protocol: 6, Port: 8080}: false,
	} {
		if got := d.Verdicts.Judge(f).Allowed; got != want {
			t.Errorf("%+v: allowed %v, want %v", f, got, want)
		}
	}
}

func TestSelectorsReachEveryClusterIfTheMeshSaysSo(t *testing.T) {
	for _, every := range []bool{false, true} {
		l := local()
		l.EveryCluster = every
		d := planned(t, l, func(tables *state.Tables) {
			ls := slices.Clone(web.labels())
			for i := range ls {
				if ls[i].Value == east.Name {
					ls[i].Value = "west"
				}
			}
			tables.Identities[web.id()] = ls
		})
		if got := d.Verdicts.Judge(web5432).Allowed; got != every {
			t.Errorf("every cluster %v: a peer of another one is allowed: %v", every, got)
		}
	}
}

func TestADisarmedHostIsOpen(t *testing.T) {
	l := local()
	l.Disarmed = true
	d := planned(t, l, func(tables *state.Tables) {
		p := parse(t, rule("staged", "egress: [{}]"))[0]
		p.Rules[0].Staged = true
		tables.Policies[p.ID()] = p
	})
	want := map[policy.Key]policy.Entry{{Direction: policy.Ingress}: {}, {Direction: policy.Egress}: {}}
	if diff := cmp.Diff(want, d.Verdicts.Entries); diff != "" || d.Verdicts.Enforced != [2]bool{} || d.Verdicts.Staged != nil {
		t.Errorf("enforced %v, staged %v, entries (-want +got):\n%s", d.Verdicts.Enforced, d.Verdicts.Staged, diff)
	}
	if !d.Disarmed || planned(t, local(), unchanged).Disarmed {
		t.Error("the plan does not say whether policy is suspended")
	}
}

func TestStagedRulesArePlannedApart(t *testing.T) {
	d := planned(t, local(), func(tables *state.Tables) {
		p := parse(t, rule("staged", "ingressDeny: [{fromEntities: [all]}]"))[0]
		p.Rules[0].Staged = true
		tables.Policies[p.ID()] = p
	})
	if !d.Verdicts.Judge(web5432).Allowed || d.Verdicts.Staged == nil || d.Verdicts.Staged.Judge(web5432).Allowed {
		t.Errorf("verdicts %+v", d.Verdicts)
	}
}

func TestWarnsOfWhatPoliciesNameInVain(t *testing.T) {
	named := []mesh.NamedPort{{Name: "pg", Port: 5432, Protocol: "TCP"}}
	group := policy.Policy{Kind: policy.CIDRGroup, Name: "office", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	for _, tt := range []struct {
		name, doc string
		local     bool
		want      string // code and a part of the text; "" for no warning
	}{
		{"deny of a port that this host declares", rule("a", `ingressDeny: [{toPorts: [{ports: [{port: pg}]}]}]`), false, ""},
		{"deny of a port that it does not", rule("a", `ingressDeny: [{toPorts: [{ports: [{port: http}]}]}]`), false, `port-name-undeclared: a ingressDeny[0] denies port "http"`},
		{"deny of a port that no host declares", rule("a", `egressDeny: [{toPorts: [{ports: [{port: pg}]}]}]`), false, `port-name-undeclared: a egressDeny[0] denies port "pg"`},
		{"allow of a port that nobody declares", rule("a", `ingress: [{toPorts: [{ports: [{port: http}]}]}]`), false, ""},
		{"a group that exists", rule("a", `egress: [{toCIDRSet: [{cidrGroupRef: office}]}]`), false, ""},
		{"a group that does not", rule("a", `egress: [{toCIDRSet: [{cidrGroupRef: home}]}]`), false, `cidr-group-missing: a egress[0] refers to CIDR group "home"`},
		{"of another host", strings.ReplaceAll(rule("a", `egress: [{toCIDRSet: [{cidrGroupRef: home}]}]`), "app: db", "app: web"), false, ""},
		{"the host's own file about another", strings.ReplaceAll(rule("a", `egress: [{}]`), "app: db", "app: web"), true, "local-policy-unused: local:a is"},
		{"the host's own file about it", rule("a", `egress: [{}]`), true, ""},
	} {
		l := local()
		l.NamedPorts = named
		ps := parse(t, tt.doc)
		if ps[0].Local = tt.local; tt.local {
			l.Policies = ps
		}
		d := planned(t, l, func(tables *state.Tables) {
			tables.Policies[group.ID()] = group
			if !tt.local {
				tables.Policies[ps[0].ID()] = ps[0]
			}
		})
		var got []string
		for _, w := range d.Warnings {
			got = append(got, w.Code+": "+w.Text)
		}
		if len(got) > 1 || (len(got) == 1) != (tt.want != "") || tt.want != "" && !strings.HasPrefix(got[0], tt.want) {
			t.Errorf("%s: warnings %q, want %q", tt.name, got, tt.want)
		}
	}
}
