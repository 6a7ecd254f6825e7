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

	ApplyPolicies(context.Context, ApplyRequest) (ApplyResult, error)
	Policies(context.Context) ([]Policy, error)
	DeletePolicy(ctx context.Context, id string) (ApplyResult, error)

	IPCache(context.Context) ([]IPCacheEntry, error)
	PolicyMap(context.Context) ([]PolicyEntry, error)
	Flows(context.Context) ([]FlowEntry, error)
	Counters(context.Context) ([]CounterEntry, error)
	Pinholes(context.Context) ([]Pinhole, error)

	// Observe yields recorded flows that match, then, with Follow, new ones
	// until ctx ends.
	Observe(ctx context.Context, q observe.Query) iter.Seq2[observe.Flow, error]
}
