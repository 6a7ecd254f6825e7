package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/scenario"
)

// Explain says what policy says to a flow, by what this host knows of the mesh.
func (a *agent) Explain(_ context.Context, r api.ExplainRequest) (api.Explanation, error) {
	m, err := a.joined()
	if err != nil {
		return api.Explanation{}, err
	}
	question, err := questionOf(r)
	if err != nil {
		return api.Explanation{}, api.Errorf(api.CodeInvalid, "%v", err)
	}
	changed, err := documents(r.Files)
	if err != nil {
		return api.Explanation{}, worded(err)
	}
	local, ok := m.local()
	desired, _ := m.plans()
	if !ok || desired == nil {
		return api.Explanation{}, api.Errorf(api.CodeUnavailable, "explain: this host has not heard of the whole mesh yet: plexus status says what is missing")
	}
	snapshot := m.store.Snapshot()
	if desired.Lapsed {
		local.Lapsed = snapshot.Revision.Number
	}
	policies, scene := plan.Scene(snapshot, local)
	answers, err := scenario.Explain(overlay(policies, changed), scene, question)
	if err != nil {
		return api.Explanation{}, api.Errorf(api.CodeInvalid, "%v", err)
	}
	return api.NewExplanation(answers[0]), nil
}

func questionOf(r api.ExplainRequest) (q scenario.Question, err error) {
	if q.From, err = scenario.ParseParty(r.From); err != nil {
		return q, fmt.Errorf("from: %w", err)
	}
	if q.To, err = scenario.ParseParty(r.To); err != nil {
		return q, fmt.Errorf("to: %w", err)
	}
	q.Flow, err = r.Flow()
	return q, err
}

// documents reads policies that nobody applies.
func documents(files []api.PolicyFile) ([]policy.Policy, error) {
	out := make([]registry.File, 0, len(files))
	for _, f := range files {
		out = append(out, registry.File{Name: f.Name, Data: f.Data})
	}
	return registry.ParsePolicies(out)
}

// overlay returns policies with those of changed in the place of their namesakes.
func overlay(policies, changed []policy.Policy) []policy.Policy {
	byID := make(map[string]policy.Policy, len(policies)+len(changed))
	for _, p := range slices.Concat(policies, changed) {
		byID[p.ID()] = p
	}
	return slices.Collect(maps.Values(byID))
}
