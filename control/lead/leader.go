package lead

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// office is what servers compete for.
const office = "server"

// quiet is how long the leader waits for more changes before it settles.
const quiet = 10 * time.Millisecond

// store is the part of kvstore.Client that this package uses.
type store interface {
	Lead(ctx context.Context, name, id string, fn func(context.Context) error) error
	ListAndWatch(ctx context.Context, prefix string) iter.Seq[kvstore.Event]
	Get(ctx context.Context, key string) (kvstore.KV, bool, error)
	Put(ctx context.Context, key string, value []byte, lease int64) (int64, error)
}

var _ store = (*kvstore.Client)(nil)

// hosts is the part of registry.Service that this package uses.
type hosts interface {
	Settle(ctx context.Context) (changed int, err error)
	Sweep(ctx context.Context) error
}

// policies is another part of it.
type policies interface {
	RollbackExpired(ctx context.Context, now time.Time) (closes time.Time, err error)
}

var (
	_ hosts    = (*registry.Service)(nil)
	_ policies = (*registry.Service)(nil)
)

// Options configures a [Leader]. All fields are required.
type Options struct {
	Store    store // as a server's etcd user
	Hosts    hosts
	Policies policies
	Cluster  mesh.Cluster
	Node     string // of this server
	Logger   *slog.Logger
}

// Leader does the leader's duties while this server leads.
type Leader struct{ opts Options }

// New returns a Leader. It starts nothing.
func New(opts Options) (*Leader, error) {
	if opts.Store == nil || opts.Hosts == nil || opts.Policies == nil || opts.Logger == nil || opts.Node == "" || opts.Cluster.Name == "" {
		return nil, errors.New("make leader: store, hosts, policies, cluster, node and logger are required")
	}
	return &Leader{opts}, nil
}

// Run competes for leadership, and leads when it has it, until ctx ends. Then it
// returns nil.
func (l *Leader) Run(ctx context.Context) error {
	return l.opts.Store.Lead(ctx, schema.LeaderPrefix(office), l.opts.Node, l.lead)
}

// lead serves one term. It returns nil once ctx ends.
func (l *Leader) lead(ctx context.Context) error {
	changed, revised := make(chan struct{}, 1), make(chan struct{}, 1)
	var parts sync.WaitGroup
	for _, prefix := range []string{schema.ClaimsPrefix, schema.HostsPrefix} {
		parts.Go(func() { l.follow(ctx, prefix, changed) })
	}
	parts.Go(func() { l.follow(ctx, schema.PolicyRevisionKey, revised) })
	parts.Go(func() { l.expire(ctx, revised) })
	l.serve(ctx, changed)
	parts.Wait()
	return nil
}

// follow announces changes under prefix.
func (l *Leader) follow(ctx context.Context, prefix string, changed chan<- struct{}) {
	for ev := range l.opts.Store.ListAndWatch(ctx, prefix) {
		if ev.Type == kvstore.Lost {
			continue
		}
		select {
		case changed <- struct{}{}:
		default: // announced already
		}
	}
}

// serve settles after every change, and shows the mesh's life every minute.
// What fails is tried again: by then etcd may be back.
func (l *Leader) serve(ctx context.Context, changed <-chan struct{}) {
	minute := time.NewTicker(schema.HeartbeatPeriod)
	defer minute.Stop()
	var pause kvstore.Backoff
	for again := l.duties(ctx); ; {
		var retry <-chan time.Time
		if again {
			retry = time.After(pause.Next())
		} else {
			pause.Reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-retry:
			again = l.duties(ctx)
		case <-minute.C:
			again = l.duties(ctx)
		case <-changed:
			if sleep(ctx, quiet) {
				again = l.settle(ctx) != nil || again
			}
		}
	}
}

// duties does everything there is to do, facts before the canaries that
// announce them; the heartbeat depends on none of it, as without it Cilium
// clusters give up the connection. It reports whether some of it must be tried
// again.
func (l *Leader) duties(ctx context.Context) (again bool) {
	err := l.settle(ctx)
	if err == nil {
		err = l.announce(ctx)
	}
	err = errors.Join(err, l.beat(ctx), l.opts.Hosts.Sweep(ctx))
	if err != nil && ctx.Err() == nil {
		l.opts.Logger.Warn("leader's duties not done", "error", err)
	}
	return err != nil
}

func (l *Leader) settle(ctx context.Context) error {
	n, err := l.opts.Hosts.Settle(ctx)
	if n > 0 {
		l.opts.Logger.Info("claims became facts", "hosts", n)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
