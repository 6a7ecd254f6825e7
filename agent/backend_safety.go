package agent

import (
	"context"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
)

// armedWithin is how long arm waits for the kernel to enforce policy again.
const armedWithin = 10 * time.Second

// Disarm suspends policy on this host and answers once the kernel lets every
// flow pass. It asks nobody else.
func (a *agent) Disarm(_ context.Context, r api.DisarmRequest) (api.Disarmed, error) {
	m, err := a.joined()
	if err != nil {
		return api.Disarmed{}, err
	}
	s, err := m.disarm(r.Reason)
	if err != nil {
		return api.Disarmed{}, err
	}
	return api.Disarmed(s), nil
}

// Arm ends what Disarm began and answers once the kernel enforces policy again.
func (a *agent) Arm(ctx context.Context) (api.Armed, error) {
	m, err := a.joined()
	if err != nil {
		return api.Armed{}, err
	}
	before, err := m.arm()
	if err != nil {
		return api.Armed{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, armedWithin)
	defer cancel()
	if !m.kernel.verdicts.await(ctx, func(s policyStage) bool { return !s.Disarmed }) {
		return api.Armed{}, &api.Error{Code: "unavailable", Text: "policy is no longer suspended, but every flow still passes: what the mesh wants is not known here yet, or the kernel does not take it: plexus status says why, and policy is enforced as soon as it can be"}
	}
	if before == nil {
		return api.Armed{}, nil
	}
	answer := api.Disarmed(*before)
	return api.Armed{Before: &answer}, nil
}
