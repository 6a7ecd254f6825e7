package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	end    context.CancelFunc
	ending context.Context
	done   chan struct{} // closed once run has returned
}

// wireGuardKey is the file of this host's WireGuard key.
func wireGuardKey(stateDir string) string { return filepath.Join(stateDir, "wireguard.key") }

// open prepares a session for a host that has joined. On a server it brings the
// control plane back, and goes on without one that does not come.
func (a *agent) open(ctx context.Context, e control.Enrolment) (*session, error) {
	k, err := a.openKernel()
	if err != nil {
		return nil, err
	}
	k.known = true
	var s *serving
	if bootstrap.Made(a.opts.Config.StateDir) {
		s = a.serve(nil)
		if a.quick() {
			s.set(nil, errWaits)
		} else {
			s.begin(ctx)
		}
	}
	return a.assemble(e, k, s)
}

// quick reports whether this host has something to do by itself that must not
// wait for its control plane: to end a trial, or to stay open. An etcd that takes
// the daemon down with it, as on a full disk, could otherwise keep it from that
// at each start.
func (a *agent) quick() bool {
	for _, file := range []string{trialFile(a.opts.Config.StateDir), disarmedFile(a.opts.Config.StateDir)} {
		if _, err := os.Stat(file); err == nil {
			return true
		}
	}
	return false
}

// serve returns the control plane of this server, which may run already.
func (a *agent) serve(running *bootstrap.Server) *serving {
	return &serving{
		logger: a.opts.Logger, server: running,
		start: func(ctx context.Context) (*bootstrap.Server, error) {
			return bootstrap.Start(ctx, a.opts.Config.StateDir, a.opts.Logger)
		},
	}
}

// openKernel opens the datapath with this host's key, which it makes if need be.
func (a *agent) openKernel() (*kernel, error) {
	key, err := keys.LoadOrCreate(wireGuardKey(a.opts.Config.StateDir))
	if err != nil {
		return nil, err
	}
	return openKernel(a.opts, key)
}

// assemble joins a member and a control plane, nil on a host that is no server;
// it closes what it was given if it cannot.
func (a *agent) assemble(e control.Enrolment, k *kernel, plane *serving) (*session, error) {
	m, err := newMember(a.opts, e, k)
	if err != nil {
		return nil, errors.Join(err, plane.Close())
	}
	m.serving = plane
	s := &session{member: m, done: make(chan struct{})}
	s.ending, s.end = context.WithCancel(context.Background())
	return s, nil
}

// run runs all parts until ctx ends or stop is called, and closes them.
func (s *session) run(ctx context.Context) error {
	defer close(s.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release := context.AfterFunc(s.ending, cancel)
	defer release()
	g, ctx := errgroup.WithContext(ctx)
	if s.member.serving != nil {
		g.Go(func() error { return s.member.serving.Run(ctx) })
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
