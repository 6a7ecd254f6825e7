package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/bootstrap"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/state"
)

// webOnly lets hosts with app=NAME be reached by others of theirs alone.
func webOnly(name string) []api.PolicyFile {
	return []api.PolicyFile{{Name: name + ".yaml", Data: []byte(fmt.Sprintf(`apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: %[1]s}
spec:
  endpointSelector: {matchLabels: {app: %[1]s}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: %[1]s}}]
`, name))}}
}

var (
	meshEast = mesh.Cluster{Name: "east", ID: 1}
	webID    = mesh.Identity(1<<16 | 1)
)

// newServer is an agent that serves a mesh of one host, web-1, with a real etcd
// and nothing in the kernel.
func newServer(t *testing.T) *agent {
	t.Helper()
	etcd := kvtest.Start(t)
	authority, err := ca.New(meshEast.Name)
	if err != nil {
		t.Fatal(err)
	}
	service, err := registry.New(registry.Options{Store: etcd.Client(t), CA: authority, Logger: kvtest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	m := newKnowing(t)
	m.serving = &serving{server: &bootstrap.Server{Registry: service}}
	return &agent{now: &session{member: m}}
}

// newKnowing is a member that knows of a mesh of one host, and has learnt it
// from nobody.
func newKnowing(t *testing.T) *member {
	t.Helper()
	m := &member{
		store: state.New("mesh"),
		opts:  Options{Config: config.Config{Policy: config.Policy{DefaultLocalCluster: true}}},
		enrolment: control.Enrolment{
			Node: "web-1", Cluster: meshEast, Server: true, Servers: []string{"192.0.2.1:7443"}, Etcd: []string{"https://192.0.2.1:2379"},
		},
	}
	labels := hostLabels(t, "app=web")
	m.store.Update("mesh", func(tables *state.Tables) {
		n := mesh.Node{Name: "web-1", Cluster: meshEast, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Mesh4: netip.MustParseAddr("10.210.0.1"), Server: true}
		tables.Nodes[n.ID()] = n
		tables.Identities[webID] = labels
		tables.Endpoints[n.MeshPrefixes()[0]] = mesh.Endpoint{
			Prefix: n.MeshPrefixes()[0], Identity: webID, NamedPorts: []mesh.NamedPort{{Name: "pg", Port: 5432, Protocol: "TCP"}},
		}
	})
	return m
}

func wantCode(t *testing.T, what string, err error, code, text string) {
	t.Helper()
	var answer *api.Error
	if !errors.As(err, &answer) || answer.Code != code || !strings.Contains(answer.Text, text) {
		t.Errorf("%s: %v, want code %s and %q", what, err, code, text)
	}
}

func TestPolicyIsChangedOnTrial(t *testing.T) {
	a, ctx := newServer(t), t.Context()
	review, err := a.ReviewPolicies(ctx, api.ReviewRequest{Files: webOnly("web"), Terminal: &api.Terminal{Remote: netip.MustParseAddr("198.51.100.9"), Port: 22}})
	if err != nil {
		t.Fatal(err)
	}
	if review.Revision != 0 || len(review.Policies) != 1 || review.Policies[0].Change != "created" || !slices.Equal(review.Policies[0].Selects, []string{"web-1"}) {
		t.Errorf("review: %+v", review)
	}
	if len(review.Hosts) != 1 || review.Hosts[0].Host != "web-1" || review.Hosts[0].Added == 0 || len(review.Hosts[0].Lines) == 0 {
		t.Errorf("changes of hosts: %+v", review.Hosts)
	}
	if !slices.ContainsFunc(review.Cuts, func(c api.Cut) bool { return c.Host == "web-1" && strings.Contains(c.What, "198.51.100.9") }) {
		t.Errorf("the terminal is not among what could be cut: %+v", review.Cuts)
	}

	before := time.Now()
	applied, err := a.ApplyPolicies(ctx, api.ApplyRequest{Files: webOnly("web"), Base: &review.Revision, ConfirmWithin: time.Minute, Message: "try"})
	if err != nil {
		t.Fatal(err)
	}
	p := applied.Pending
	if applied.Revision != 1 || p == nil || p.Revision != 1 || p.Seconds < 50 || p.Seconds > 60 || p.ConfirmBy.Before(before.Add(55*time.Second)) {
		t.Errorf("applied %+v, pending %+v", applied, p)
	}
	_, err = a.ApplyPolicies(ctx, api.ApplyRequest{Delete: []string{"web"}})
	wantCode(t, "a change while one is on trial", err, api.CodeConflict, "on trial")

	if r, err := a.ConfirmPolicies(ctx, api.ConfirmRequest{Revision: 1}); err != nil || r.Revision != 1 || r.State != api.StateInForce {
		t.Errorf("confirmed %+v, %v", r, err)
	}
	_, err = a.ConfirmPolicies(ctx, api.ConfirmRequest{Revision: 7})
	wantCode(t, "confirm what is not on trial", err, api.CodeConflict, "7")
	_, err = a.ApplyPolicies(ctx, api.ApplyRequest{Delete: []string{"web"}, Base: &review.Revision})
	wantCode(t, "a change that was reviewed against another revision", err, api.CodeConflict, "review it again")
	if deleted, err := a.ApplyPolicies(ctx, api.ApplyRequest{Delete: []string{"web"}}); err != nil || deleted.Revision != 2 || deleted.Policies[0].Change != "deleted" {
		t.Errorf("deleted %+v, %v", deleted, err)
	}
	back, err := a.RollbackPolicies(ctx, api.RollbackRequest{})
	want := []api.PolicyChange{{Name: "web", Change: "created", Selects: []string{"web-1"}}}
	if diff := cmp.Diff(want, back.Policies); err != nil || back.Revision != 3 || diff != "" {
		t.Errorf("rolled back to revision %d, %v (-want +got):\n%s", back.Revision, err, diff)
	}
	wantHistory(t, a, []string{"3 rollback in force web created ", "2 delete rolled back web deleted ", "1 apply confirmed web created try"})
}

func wantHistory(t *testing.T, a *agent, want []string) {
	t.Helper()
	history, err := a.PolicyHistory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range history {
		if r.Author != localAuthor || r.Time.IsZero() || len(r.Changes) != 1 {
			t.Errorf("revision %+v", r)
			continue
		}
		got = append(got, fmt.Sprint(r.Revision, " ", r.Action, " ", r.State, " ", r.Changes[0].Name, " ", r.Changes[0].Change, " ", r.Message))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// A client that does not ask for a review gets none of what it would refuse past
// the server.
func TestErrorsOfTheReviewRefuseTheChange(t *testing.T) {
	a, ctx := newServer(t), t.Context()
	_, err := a.ApplyPolicies(ctx, api.ApplyRequest{Files: webOnly("nobody")})
	wantCode(t, "a policy for nobody", err, api.CodeInvalid, "nobody.yaml:")
	if policies, err := a.Policies(ctx); err != nil || len(policies) != 0 {
		t.Errorf("policies %+v, %v; want none", policies, err)
	}
	if r, err := a.ApplyPolicies(ctx, api.ApplyRequest{Files: webOnly("nobody"), AllowEmpty: true}); err != nil || r.Revision != 1 {
		t.Errorf("with AllowEmpty: %+v, %v", r, err)
	}
	_, err = a.ApplyPolicies(ctx, api.ApplyRequest{})
	wantCode(t, "no change at all", err, api.CodeInvalid, "neither")
	_, err = a.ReviewPolicies(ctx, api.ReviewRequest{Files: []api.PolicyFile{{Name: "x.yaml", Data: []byte("kind: Pod\n")}}})
	wantCode(t, "no policy", err, api.CodeInvalid, "x.yaml:")
	_, err = a.ReviewPolicies(ctx, api.ReviewRequest{Delete: []string{"nowhere"}})
	wantCode(t, "delete what is not there", err, api.CodeNotFound, "nowhere")
	_, err = a.ApplyPolicies(ctx, api.ApplyRequest{Delete: []string{"local:web"}})
	wantCode(t, "delete what is in a file", err, api.CodeInvalid, "remove it from its file")
}

// What this build cannot read is in nobody's way, and the review says that it
// has not read it.
func TestUnreadablePoliciesAreSaid(t *testing.T) {
	a, ctx := newServer(t), t.Context()
	findings := unread([]string{"old", "gone"}, []registry.Change{{ID: "gone", Change: schema.ChangeDeleted}})
	if len(findings) != 1 || findings[0].Policy != "old" || findings[0].Severity != api.SeverityWarning || refusal(findings) != nil {
		t.Errorf("findings %+v, want one warning about old", findings)
	}
	if _, err := a.ApplyPolicies(ctx, api.ApplyRequest{Files: webOnly("web")}); err != nil {
		t.Error(err)
	}
}

// A host that is no server tells what it enforces, and where to change it.
func TestPoliciesOnAMember(t *testing.T) {
	m := newKnowing(t)
	parsed, err := parsePolicies(append(webOnly("web"), webOnly("db")...), nil)
	if err != nil {
		t.Fatal(err)
	}
	m.store.Update("mesh", func(tables *state.Tables) {
		for _, p := range parsed {
			tables.Policies[p.ID()] = p
		}
	})
	m.own.Policies = slices.Clone(parsed[:1])
	m.own.Policies[0].Local, m.own.Policies[0].File = true, "/etc/plexus/policies/web.yaml"
	a := &agent{now: &session{member: m}}
	policies, err := a.Policies(t.Context())
	if err != nil || len(policies) != 3 || policies[0].ID != "db" || policies[1].ID != "web" {
		t.Fatalf("policies %+v, %v", policies, err)
	}
	if web := policies[1]; !slices.Equal(web.Selects, []string{"web-1"}) || web.Source != string(webOnly("web")[0].Data) || web.Revision != 0 {
		t.Errorf("policy %+v", web)
	}
	if own := policies[2]; own.ID != "local:web" || own.File != "/etc/plexus/policies/web.yaml" || !slices.Equal(own.Selects, []string{"web-1"}) {
		t.Errorf("policy of the host's own files: %+v", own)
	}
	_, err = a.ReviewPolicies(t.Context(), api.ReviewRequest{})
	wantCode(t, "review on a member", err, api.CodeForbidden, "web-1")
	_, err = new(agent).Policies(t.Context())
	wantCode(t, "policies of no mesh", err, api.CodeUnjoined, "plexus join")
}
