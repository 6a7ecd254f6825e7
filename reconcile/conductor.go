package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/internal/calm"
)

// Quiet and Latest say when changes are applied: once nothing has changed for
// Quiet, and no later than Latest after the first change.
const (
	Quiet  = 10 * time.Millisecond
	Latest = 100 * time.Millisecond
)

// Resync is how often everything is compared again although nothing changed, so
// that what others did to our things is put right.
const Resync = time.Minute

// Options configures a Conductor.
type Options[D any] struct {
	Name   string    // of what it conducts, for logs; required
	Steps  []Step[D] // in order: each may rely on those before it
	Logger *slog.Logger
	// Synced reports whether every source has been heard from, or waited for
	// long enough, so that what an earlier run left may go. Required.
	Synced func() bool
	// Applied, if set, is called after every pass with what it worked on.
	Applied func(d D, err error)
}

// Conductor applies the latest desired state to its resources: Ensure forward,
// Prune backward.
type Conductor[D any] struct {
	opts Options[D]
	kick chan struct{}

	mu     sync.Mutex
	latest *D
	health map[string]Health
}

// New returns a Conductor that has no desired state yet. It starts nothing.
func New[D any](opts Options[D]) *Conductor[D] {
	c := &Conductor[D]{opts: opts, kick: make(chan struct{}, 1), health: make(map[string]Health)}
	for _, s := range opts.Steps {
		c.health[s.Resource.Name()] = Health{Name: s.Resource.Name()}
	}
	return c
}

// Set replaces the desired state and has it applied soon. It never blocks.
func (c *Conductor[D]) Set(d D) {
	c.mu.Lock()
	c.latest = &d
	c.mu.Unlock()
	c.Kick()
}

// Kick has the desired state compared with reality soon, as when something
// outside may have changed.
func (c *Conductor[D]) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Health returns how each step stands, in order.
func (c *Conductor[D]) Health() []Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Health, 0, len(c.opts.Steps))
	for _, s := range c.opts.Steps {
		out = append(out, c.health[s.Resource.Name()])
	}
	return out
}

// Run applies until ctx ends, and removes nothing then. It returns nil when
// asked to stop.
func (c *Conductor[D]) Run(ctx context.Context) error {
	timer := time.NewTimer(Resync)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.kick:
			calm.Wait(ctx, calm.Options{Changes: c.kick, Quiet: Quiet, Latest: Latest})
		case <-timer.C:
		}
		timer.Reset(c.pass(ctx))
	}
}

// pass applies the desired state once and returns when to look again.
func (c *Conductor[D]) pass(ctx context.Context) time.Duration {
	c.mu.Lock()
	latest := c.latest
	c.mu.Unlock()
	if latest == nil {
		return Resync
	}
	errs := c.ensure(ctx, *latest)
	c.prune(ctx, *latest, errs)
	if ctx.Err() != nil {
		return Resync
	}
	next := c.record(errs)
	if c.opts.Applied != nil {
		c.opts.Applied(*latest, joined(errs))
	}
	return next
}

// errHeld marks a step that was not tried.
var errHeld = errors.New("held back")

func (c *Conductor[D]) ensure(ctx context.Context, d D) map[string]error {
	errs := make(map[string]error, len(c.opts.Steps))
	for _, s := range c.opts.Steps {
		name := s.Resource.Name()
		if i := slices.IndexFunc(s.Needs, func(n string) bool { return errs[n] != nil }); i >= 0 {
			errs[name] = fmt.Errorf("%s: %w: it needs %s", name, errHeld, s.Needs[i])
			continue
		}
		if err := s.Resource.Ensure(ctx, d); err != nil {
			errs[name] = fmt.Errorf("ensure %s: %w", name, err)
		}
	}
	return errs
}

func (c *Conductor[D]) prune(ctx context.Context, d D, errs map[string]error) {
	orphans := c.opts.Synced()
	for _, s := range slices.Backward(c.opts.Steps) {
		name := s.Resource.Name()
		if err := s.Resource.Prune(ctx, d, orphans); err != nil {
			errs[name] = errors.Join(errs[name], fmt.Errorf("prune %s: %w", name, err))
		}
	}
}

// record keeps the outcome and logs what changed since the last pass.
func (c *Conductor[D]) record(errs map[string]error) (next time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next = Resync
	for name, was := range c.health {
		now := was.next(errs[name])
		c.health[name] = now
		if now.Err != nil {
			next = min(next, retryDelay(now.Failures))
		}
		c.log(was, now)
	}
	return next
}

func (h Health) next(err error) Health {
	if err == nil {
		return Health{Name: h.Name}
	}
	n := Health{Name: h.Name, Err: err, Held: errors.Is(err, errHeld), Failures: h.Failures + 1, Since: h.Since}
	if h.Failures == 0 {
		n.Since = time.Now()
	}
	return n
}

// log speaks when a resource begins or ceases to fail, or fails in another way.
func (c *Conductor[D]) log(was, now Health) {
	switch {
	case now.Err == nil && was.Err != nil:
		c.opts.Logger.Info("resource recovered", "conductor", c.opts.Name, "resource", now.Name, "failures", was.Failures)
	case now.Err != nil && (was.Err == nil || was.Err.Error() != now.Err.Error()):
		c.opts.Logger.Error("resource failing", "conductor", c.opts.Name, "resource", now.Name, "error", now.Err)
	}
}

func joined(errs map[string]error) error {
	all := make([]error, 0, len(errs))
	for _, err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}
