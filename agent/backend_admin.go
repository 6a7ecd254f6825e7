package agent

import (
	"context"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/policy"
)

// localAuthor is who acts through the daemon's socket, which only root may use.
const localAuthor = "root"

// CreateToken makes a join token.
func (a *agent) CreateToken(ctx context.Context, r api.TokenRequest) (api.TokenCreated, error) {
	service, _, err := a.registry()
	if err != nil {
		return api.TokenCreated{}, err
	}
	text, t, err := service.CreateToken(ctx, registry.TokenOptions{
		TTL: r.TTL, Uses: r.Uses, Labels: r.Labels, Namespace: r.Namespace, Ephemeral: r.Ephemeral,
		Server: r.Server, Description: r.Description, Author: localAuthor,
	})
	if err != nil {
		return api.TokenCreated{}, worded(err)
	}
	return api.TokenCreated{Token: text, ID: t.ID, Expires: t.Expires}, nil
}

// Tokens lists join tokens, without their secrets.
func (a *agent) Tokens(ctx context.Context) ([]api.Token, error) {
	service, _, err := a.registry()
	if err != nil {
		return nil, err
	}
	tokens, err := service.Tokens(ctx)
	if err != nil {
		return nil, worded(err)
	}
	out := make([]api.Token, 0, len(tokens))
	for _, t := range tokens {
		out = append(out, api.Token{
			ID: t.ID, State: string(t.State), Created: t.Created, Expires: t.Expires, UsesLeft: t.UsesLeft,
			Labels: t.Labels, Namespace: t.Namespace, Ephemeral: t.Ephemeral, Description: t.Description,
		})
	}
	return out, nil
}

// RevokeToken makes a join token useless.
func (a *agent) RevokeToken(ctx context.Context, id string) error {
	service, _, err := a.registry()
	if err != nil {
		return err
	}
	return worded(service.RevokeToken(ctx, id))
}

// RemoveNode takes a host out of the mesh.
func (a *agent) RemoveNode(ctx context.Context, name string) error {
	service, m, err := a.registry()
	if err != nil {
		return err
	}
	if name == m.enrolment.Node {
		return &api.Error{Code: "conflict", Text: "node " + name + " is this host: use plexus leave"}
	}
	return worded(service.RemoveNode(ctx, name, registry.Removal{Author: localAuthor, Reason: "removed by an administrator"}))
}

// ApplyPolicies changes the mesh's policies, all of those given or none.
func (a *agent) ApplyPolicies(ctx context.Context, r api.ApplyRequest) (api.ApplyResult, error) {
	service, m, err := a.registry()
	if err != nil {
		return api.ApplyResult{}, err
	}
	files := make([]registry.File, 0, len(r.Files))
	for _, f := range r.Files {
		files = append(files, registry.File{Name: f.Name, Data: f.Data})
	}
	parsed, err := registry.ParsePolicies(files)
	if err != nil {
		return api.ApplyResult{}, worded(err)
	}
	if err := m.refuseIdle(parsed, r.AllowEmpty); err != nil {
		return api.ApplyResult{}, err
	}
	current, changes, err := service.ApplyPolicies(ctx, registry.ApplyOptions{Author: localAuthor}, parsed)
	if err != nil {
		return api.ApplyResult{}, worded(err)
	}
	return m.applyResult(current.Revision, changes...), nil
}

// refuseIdle refuses policies that select no host: they would protect nobody
// while looking as if they did.
func (m *member) refuseIdle(policies []policy.Policy, allowed bool) error {
	var idle []string
	for _, p := range policies {
		if !allowed && len(m.selected(p)) == 0 {
			idle = append(idle, p.ID())
		}
	}
	if len(idle) == 0 {
		return nil
	}
	return &api.Error{Code: "invalid", Text: "no host is selected by policy " + strings.Join(idle, ", ") +
		": correct its selector (plexus identity list shows the labels that hosts carry), or apply it for hosts to come with --allow-empty"}
}

// selected returns the hosts of the mesh that p is about, sorted.
func (m *member) selected(p policy.Policy) []string {
	names := []string{}
	s := m.store.Snapshot()
	for _, n := range s.Nodes {
		for _, prefix := range n.MeshPrefixes() {
			if labels, known := s.Identities[s.Endpoints[prefix].Identity]; known && p.Selects(labels) {
				names = append(names, n.Name)
				break
			}
		}
	}
	slices.Sort(names)
	return names
}

func (m *member) applyResult(revision uint64, changes ...registry.Change) api.ApplyResult {
	out := api.ApplyResult{Revision: revision, Policies: []api.PolicyChange{}}
	for _, c := range changes {
		out.Policies = append(out.Policies, api.PolicyChange{Name: c.ID, Change: c.Change, Selects: m.selected(c.Policy)})
	}
	return out
}

// Policies lists the mesh's policies.
func (a *agent) Policies(ctx context.Context) ([]api.Policy, error) {
	service, m, err := a.registry()
	if err != nil {
		return nil, err
	}
	policies, _, err := service.Policies(ctx)
	if err != nil {
		return nil, worded(err)
	}
	out := make([]api.Policy, 0, len(policies))
	for _, p := range policies {
		out = append(out, api.Policy{
			Name: p.Name, Namespace: p.Namespace, Kind: string(p.Kind), ID: p.ID(), Revision: p.Revision,
			Author: p.Author, Changed: p.Time, Selects: m.selected(p.Policy), Source: p.Source,
		})
	}
	return out, nil
}

// DeletePolicy removes one policy.
func (a *agent) DeletePolicy(ctx context.Context, id string) (api.ApplyResult, error) {
	service, m, err := a.registry()
	if err != nil {
		return api.ApplyResult{}, err
	}
	current, change, err := service.DeletePolicy(ctx, registry.ApplyOptions{Author: localAuthor}, id)
	if err != nil {
		return api.ApplyResult{}, worded(err)
	}
	return m.applyResult(current.Revision, change), nil
}
