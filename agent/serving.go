package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/bootstrap"
	"github.com/plexusmesh/plexus/kvstore/embedded"
)

// serveWithin is how long a start of plexusd waits for its control plane, which
// takes about a second, before it goes on without.
const serveWithin = 15 * time.Second

// servePause is how long a control plane that has failed is left alone.
const servePause = 5 * time.Second

// serving is the control plane of a server, which may be away. What a host does
// by itself goes on then: an etcd that does not start must neither keep a trial
// from ending here nor plexus disarm from being heard.
type serving struct {
	start  func(context.Context) (*bootstrap.Server, error)
	logger *slog.Logger

	mu     sync.Mutex
	server *bootstrap.Server // nil while it is away
	failed error             // why it is
}

// begin starts the control plane, unless that takes too long.
func (s *serving) begin(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, serveWithin)
	defer cancel()
	s.set(s.start(ctx))
}

// Run runs the control plane until ctx ends, and starts it again whenever it has
// failed. Data that is damaged is left alone: it does not heal, and an etcd that
// has stumbled over it lets go of its ports with the process alone.
func (s *serving) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		server, err := s.now()
		switch {
		case server != nil:
			err = server.Run(ctx)
			if ctx.Err() != nil {
				return err
			}
			s.set(nil, fmt.Errorf("run server: %w", cmp.Or(err, errEnded)))
		case errors.Is(err, embedded.ErrDamaged):
			<-ctx.Done()
		default:
			s.retry(ctx)
		}
	}
	return s.Close() // it may have come up at the last moment
}

var (
	errEnded = errors.New("it ended by itself")
	errWaits = fmt.Errorf("it is started after %s, behind a trial or a suspension of policy that this host minds first", servePause)
)

// retry starts the control plane after a pause.
func (s *serving) retry(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(servePause):
		s.set(s.start(ctx))
	}
}

func (s *serving) set(server *bootstrap.Server, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch was := s.failed; {
	case err != nil && (was == nil || was.Error() != err.Error()):
		s.logger.Error("control plane of this server not running", "error", err)
	case err == nil && was != nil:
		s.logger.Info("control plane of this server running again")
	}
	s.server, s.failed = server, err
}

// now returns the control plane, or why it is away.
func (s *serving) now() (*bootstrap.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server, s.failed
}

// Close lets go of a control plane that is not run.
func (s *serving) Close() error {
	if s == nil {
		return nil
	}
	if server, _ := s.now(); server != nil {
		return server.Close()
	}
	return nil
}

// servingWarnings say that the control plane of this server is away.
func (m *member) servingWarnings() []api.Warning {
	if m.serving == nil {
		return nil
	}
	_, err := m.serving.now()
	if err == nil {
		return nil
	}
	return []api.Warning{{Code: "server-down", Severity: "error", Text: fmt.Sprintf(
		"the control plane of this server is not running; what this host does by itself goes on: mend it and restart plexusd: %v", err)}}
}
