package api

import (
	"context"
	"iter"

	"github.com/plexusmesh/plexus/observe"
)

// Backend answers for the daemon. An error that is an *Error reaches the
// client as it is; any other becomes one with code "internal".
type Backend interface {
	Status(context.Context) (Status, error)
	Init(context.Context, InitRequest) (Joined, error)
	Join(context.Context, JoinRequest) (Joined, error)
	Leave(context.Context, LeaveRequest) error

	Nodes(context.Context) ([]Node, error)
	RemoveNode(ctx context.Context, name string) error
	Identities(context.Context) ([]Identity, error)

	CreateToken(context.Context, TokenRequest) (TokenCreated, error)
	Tokens(context.Context) ([]Token, error)
	RevokeToken(ctx context.Context, id string) error

	Policies(context.Context) ([]Policy, error)
	ReviewPolicies(context.Context, ReviewRequest) (Review, error)
	// ApplyPolicies refuses what a review finds errors in, whether or not the
	// client has asked for one.
	ApplyPolicies(context.Context, ApplyRequest) (ApplyResult, error)
	ConfirmPolicies(context.Context, ConfirmRequest) (Revision, error)
	RollbackPolicies(context.Context, RollbackRequest) (ApplyResult, error)
	PolicyHistory(context.Context) ([]Revision, error) // the last change first
	Disarm(context.Context, DisarmRequest) (Disarmed, error)
	Arm(context.Context) (Armed, error)
	Explain(context.Context, ExplainRequest) (Explanation, error)

	IPCache(context.Context) ([]IPCacheEntry, error)
	PolicyMap(context.Context) ([]PolicyEntry, error)
	Flows(context.Context) ([]FlowEntry, error)
	Counters(context.Context) ([]CounterEntry, error)
	Tables(context.Context) ([]TableEntry, error)
	Pinholes(context.Context) ([]Pinhole, error)

	// Observe yields recorded flows that match, then, with Follow, new ones
	// until ctx ends.
	Observe(ctx context.Context, q observe.Query) iter.Seq2[observe.Flow, error]
}
