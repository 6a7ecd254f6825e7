package api

import (
	"context"
	"net/http"
)

// Policies lists the mesh's policies.
func (c *Client) Policies(ctx context.Context) ([]Policy, error) {
	return call[[]Policy](ctx, c, http.MethodGet, pathPolicies, nil)
}

// ReviewPolicies asks what a change of policy would do.
func (c *Client) ReviewPolicies(ctx context.Context, r ReviewRequest) (Review, error) {
	return call[Review](ctx, c, http.MethodPost, pathReview, r)
}

// ApplyPolicies creates, updates and deletes policies.
func (c *Client) ApplyPolicies(ctx context.Context, r ApplyRequest) (ApplyResult, error) {
	return call[ApplyResult](ctx, c, http.MethodPost, pathPolicies, r)
}

// ConfirmPolicies keeps the revision on trial.
func (c *Client) ConfirmPolicies(ctx context.Context, r ConfirmRequest) (Revision, error) {
	return call[Revision](ctx, c, http.MethodPost, pathConfirm, r)
}

// RollbackPolicies undoes changes of policy by a new one.
func (c *Client) RollbackPolicies(ctx context.Context, r RollbackRequest) (ApplyResult, error) {
	return call[ApplyResult](ctx, c, http.MethodPost, pathRollback, r)
}

// PolicyHistory lists the changes of policy, the last one first.
func (c *Client) PolicyHistory(ctx context.Context) ([]Revision, error) {
	return call[[]Revision](ctx, c, http.MethodGet, pathHistory, nil)
}

// Disarm suspends policy on this host.
func (c *Client) Disarm(ctx context.Context, r DisarmRequest) (Disarmed, error) {
	return call[Disarmed](ctx, c, http.MethodPost, pathDisarm, r)
}

// Arm puts policy in force on this host again.
func (c *Client) Arm(ctx context.Context) (Armed, error) {
	return call[Armed](ctx, c, http.MethodPost, pathArm, empty{})
}

// Pinholes lists what passes whatever policy says.
func (c *Client) Pinholes(ctx context.Context) ([]Pinhole, error) {
	return call[[]Pinhole](ctx, c, http.MethodGet, pathFailsafe, nil)
}
