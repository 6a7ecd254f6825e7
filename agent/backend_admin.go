package agent

import (
	"context"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/registry"
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
