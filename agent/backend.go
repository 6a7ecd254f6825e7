package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/observe"
)

var _ api.Backend = (*agent)(nil)

// joined returns the running member, or an error for people.
func (a *agent) joined() (*member, error) {
	s := a.session()
	if s == nil {
		return nil, &api.Error{Code: "unjoined", Text: "this host is not part of a mesh: run plexus init to make one, or plexus join TOKEN"}
	}
	return s.member, nil
}

// registry returns the control plane of this server, or an error that says where
// to go instead.
func (a *agent) registry() (*registry.Service, *member, error) {
	m, err := a.joined()
	if err != nil {
		return nil, nil, err
	}
	if m.serving == nil {
		return nil, nil, &api.Error{Code: "forbidden", Text: "this host is not a server of the mesh: run the command on " + m.serverNames()}
	}
	server, err := m.serving.now()
	if err != nil {
		return nil, nil, &api.Error{Code: "unavailable", Text: fmt.Sprintf("the control plane of this server is not running: mend it and restart plexusd: %v", err)}
	}
	return server.Registry, m, nil
}

// worded turns an answer of the control plane into one of the daemon.
func worded(err error) error {
	var answer *control.Error
	if !errors.As(err, &answer) {
		return err
	}
	return &api.Error{Code: codes[answer.Code], Text: err.Error()}
}

var codes = map[control.Code]string{
	control.CodeInvalid: "invalid", control.CodeVersion: "invalid",
	control.CodeTokenUnknown: "forbidden", control.CodeTokenExpired: "forbidden",
	control.CodeTokenUsedUp: "forbidden", control.CodeTokenRevoked: "forbidden",
	control.CodeNameInUse: "conflict", control.CodeKeyInUse: "conflict", control.CodeConflict: "conflict",
	control.CodeMeshFull: "unavailable", control.CodeUnavailable: "unavailable", control.CodeTooMany: "unavailable",
	control.CodeForbidden: "forbidden", control.CodeNotFound: "not-found", control.CodeInternal: "internal",
}

// catchUpWithin bounds how long Observe waits for the kernel's reports.
const catchUpWithin = time.Second

// Observe yields flows of this host, with all that the kernel reported before.
func (a *agent) Observe(ctx context.Context, q observe.Query) iter.Seq2[observe.Flow, error] {
	m, err := a.joined()
	if err != nil {
		return func(yield func(observe.Flow, error) bool) { yield(observe.Flow{}, err) }
	}
	if q.Last >= 0 {
		m.catchUp(ctx)
	}
	return m.flows.Observe(ctx, q)
}

// catchUp has recorded what the kernel has reported until now. Where that takes
// too long, what is recorded already is still an answer.
func (m *member) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	if err := m.kernel.maps.Events.CatchUp(ctx); err != nil && ctx.Err() == nil {
		m.logger.Warn("flows of the last moment may be missing from an answer", "error", err)
	}
}
