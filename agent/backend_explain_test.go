package agent

import (
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/agent/facts"
	"github.com/plexusmesh/plexus/agent/localpolicy"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// explaining is a host that is no server and enforces policy "web".
func explaining(t *testing.T) (*agent, *member) {
	t.Helper()
	m := newKnowing(t)
	failsafe, err := facts.ParseFailsafe(facts.DefaultFailsafe())
	if err != nil {
		t.Fatal(err)
	}
	m.failsafe = failsafe
	m.uplinks = &device.State{Uplinks: []device.Uplink{{Name: "eth0"}}}
	m.desired = &plan.Desired{Self: webID}
	m.store.Update("mesh", func(tables *state.Tables) { tables.Policies["web"] = parseFile(t, webOnly("web")[0]) })
	return &agent{now: &session{member: m}}, m
}

func parseFile(t *testing.T, f api.PolicyFile) policy.Policy {
	t.Helper()
	ps, err := policy.Parse(f.Name, f.Data)
	if err != nil {
		t.Fatal(err)
	}
	return ps[0]
}

func TestExplain(t *testing.T) {
	open := strings.Replace(string(webOnly("web")[0].Data), "fromEndpoints: [{matchLabels: {app: web}}]", "fromEntities: [world]", 1)
	for _, tt := range []struct {
		name                string
		change              func(*member)
		files               []api.PolicyFile
		port, verdict, rule string
		why                 string
	}{
		{name: "denied", port: "443/TCP", verdict: "deny", why: "policy web selects web-1 for ingress, and no rule allows this"},
		{name: "as if applied", files: []api.PolicyFile{{Name: "new.yaml", Data: []byte(open)}}, port: "443/TCP", verdict: "allow", rule: "web ingress[0]", why: "allowed by web"},
		{name: "a pinhole of its own", port: "7443/TCP", verdict: "allow", why: "pinhole: join API of this server"},
		{name: "its own files", change: func(m *member) {
			own := parseFile(t, api.PolicyFile{Name: "own.yaml", Data: []byte(strings.Replace(open, "{name: web}", "{name: own}", 1))})
			own.Local = true
			m.own = localpolicy.Set{Policies: []policy.Policy{own}}
		}, port: "443/TCP", verdict: "allow", rule: "local:own ingress[0]", why: "allowed by local:own"},
		{name: "suspended", change: func(m *member) { m.suspension = &suspension{} }, port: "443/TCP", verdict: "allow", why: "policy is suspended on web-1"},
		{name: "a lapsed revision", change: func(m *member) {
			m.desired.Lapsed = true
			m.store.Update("mesh", func(tables *state.Tables) {
				tables.Revision = state.Revision{Number: 3, Window: 1, Undo: map[string]*policy.Policy{"web": nil}}
			})
		}, port: "443/TCP", verdict: "allow", why: "no policy selects web-1 for ingress: open"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, m := explaining(t)
			if tt.change != nil {
				tt.change(m)
			}
			e, err := a.Explain(t.Context(), api.ExplainRequest{From: "198.51.100.1", To: "web-1", Port: tt.port, Files: tt.files})
			if err != nil {
				t.Fatal(err)
			}
			if e.Verdict != tt.verdict || e.Rule != tt.rule || len(e.Directions) != 1 || !strings.Contains(e.Directions[0].Why, tt.why) {
				t.Errorf("got %+v, want %s by %q: %s", e, tt.verdict, tt.rule, tt.why)
			}
		})
	}
}

func TestExplainRefuses(t *testing.T) {
	a, m := explaining(t)
	ask := func(r api.ExplainRequest) error {
		_, err := a.Explain(t.Context(), r)
		return err
	}
	good := api.ExplainRequest{From: "198.51.100.1", To: "web-1", Port: "443/TCP"}
	for what, bad := range map[string]func(*api.ExplainRequest){
		"from: ":                       func(r *api.ExplainRequest) { r.From = "a b" },
		`host "db-9" does not exist`:   func(r *api.ExplainRequest) { r.To = "db-9" },
		"names no protocol":            func(r *api.ExplainRequest) { r.Port = "443/ANY" },
		"exclude each other":           func(r *api.ExplainRequest) { r.ICMP = "8" },
		`bad.yaml:1: kind: is missing`: func(r *api.ExplainRequest) { r.Files = []api.PolicyFile{{Name: "bad.yaml", Data: []byte("a: 1")}} },
	} {
		r := good
		bad(&r)
		wantCode(t, what, ask(r), api.CodeInvalid, what)
	}
	m.desired = nil
	wantCode(t, "before the first plan", ask(good), api.CodeUnavailable, "plexus status")
	wantCode(t, "unjoined", func() error { _, err := (&agent{}).Explain(t.Context(), good); return err }(), api.CodeUnjoined, "plexus init")
}
