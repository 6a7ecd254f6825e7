package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/control/client"
)

// Options configures the agent.
type Options struct {
	Config  config.Config
	Logger  *slog.Logger
	Version string
	// Helper is the command that runs WireGuard where the kernel has none.
	Helper []string
}

// agent is one running plexusd.
type agent struct {
	opts  Options
	begin chan *session // holds the session to run next

	busy sync.Mutex // held by init, join and leave, which exclude each other
	mu   sync.Mutex
	now  *session // nil while this host is not a member
}

// Run is plexusd: it answers on its socket and, once this host has joined a
// mesh, keeps it what the mesh wants it to be. It returns nil when ctx ends, and
// leaves everything in the kernel in force.
func Run(ctx context.Context, o Options) error {
	unlock, err := lockState(o.Config.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	a := &agent{opts: o, begin: make(chan *session, 1)}
	server, err := api.NewServer(api.Options{Socket: o.Config.Socket(), Backend: a, Logger: o.Logger})
	if err != nil {
		return err
	}
	if err := a.resume(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return a.membership(ctx) })
	return g.Wait()
}

// resume goes on as the member that this host was when it last stopped.
func (a *agent) resume(ctx context.Context) error {
	e, err := client.Load(a.opts.Config.StateDir)
	if errors.Is(err, fs.ErrNotExist) {
		a.opts.Logger.Info("not joined: waiting for plexus init or plexus join", "socket", a.opts.Config.Socket())
		return nil
	}
	if err != nil {
		return err
	}
	s, err := a.open(ctx, e)
	if err != nil {
		return err
	}
	a.start(s)
	return nil
}

// membership runs one session after another.
func (a *agent) membership(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-a.begin:
			if err := s.run(ctx); err != nil {
				return err
			}
		}
	}
}

// start hands s to membership.
func (a *agent) start(s *session) {
	a.mu.Lock()
	a.now = s
	a.mu.Unlock()
	a.begin <- s
}

// session returns what runs, nil while this host is not a member.
func (a *agent) session() *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// lockState makes sure that one daemon at a time uses a state directory.
func lockState(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("state directory %s is used by another plexusd: stop it, or choose another with --state-dir: %w", dir, err)
	}
	return func() { _ = f.Close() }, nil // closing unlocks; nothing was written
}

// Cleanup removes everything of ours from the kernel. It needs no daemon, and
// refuses to work beside one.
func Cleanup(ctx context.Context, cfg config.Config) error {
	unlock, err := lockState(cfg.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	return removeAll(ctx, cfg)
}
