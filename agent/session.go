package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/bootstrap"
	"github.com/plexusmesh/plexus/encryption/keys"
)

// session is this host's membership while it runs: the member, and on a server
// the control plane beside it.
type session struct {
	member *member
	server *bootstrap.Server // nil on a host that is no server
	end    context.CancelFunc
	ending context.Context
	done   chan struct{} // closed once run has returned
}

// wireGuardKey is the file of this host's WireGuard key.
func wireGuardKey(stateDir string) string { return filepath.Join(stateDir, "wireguard.key") }

// open prepares a session for a host that has joined. On a server it brings the
// control plane back.
func (a *agent) open(ctx context.Context, e control.Enrolment) (*session, error) {
	var server *bootstrap.Server
	if bootstrap.Made(a.opts.Config.StateDir) {
		var err error
		if server, err = bootstrap.Start(ctx, a.opts.Config.StateDir, a.opts.Logger); err != nil {
			return nil, err
		}
	}
	k, err := a.openKernel()
	if err != nil {
		return nil, errors.Join(err, closeServer(server))
	}
	k.known = true
	return a.assemble(e, k, server)
}

// openKernel opens the datapath with this host's key, which it makes if need be.
func (a *agent) openKernel() (*kernel, error) {
	key, err := keys.LoadOrCreate(wireGuardKey(a.opts.Config.StateDir))
	if err != nil {
		return nil, err
	}
	return openKernel(a.opts, key)
}

// assemble joins a member and a server; it closes what it was given if it cannot.
func (a *agent) assemble(e control.Enrolment, k *kernel, server *bootstrap.Server) (*session, error) {
	m, err := newMember(a.opts, e, k)
	if err != nil {
		return nil, errors.Join(err, closeServer(server))
	}
	s := &session{member: m, server: server, done: make(chan struct{})}
	s.ending, s.end = context.WithCancel(context.Background())
	return s, nil
}

func closeServer(s *bootstrap.Server) error {
	if s == nil {
		return nil
	}
	return s.Close()
}

// run runs all parts until ctx ends or stop is called, and closes them.
func (s *session) run(ctx context.Context) error {
	defer close(s.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release := context.AfterFunc(s.ending, cancel)
	defer release()
	g, ctx := errgroup.WithContext(ctx)
	if s.server != nil {
		g.Go(func() error { return s.server.Run(ctx) })
	}
	g.Go(func() error { return s.member.Run(ctx) })
	err := errors.Join(g.Wait(), s.member.Close())
	if err != nil {
		return fmt.Errorf("run as %s of mesh %s: %w", s.member.enrolment.Node, s.member.enrolment.Cluster.Name, err)
	}
	return nil
}

// stop ends run and waits for it. What the kernel holds stays in force.
func (s *session) stop() {
	s.end()
	<-s.done
}
