package registry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// store is the part of kvstore.Client that this package uses.
type store interface {
	Get(ctx context.Context, key string) (kvstore.KV, bool, error)
	List(ctx context.Context, prefix string) ([]kvstore.KV, int64, error)
	Commit(ctx context.Context, conds []kvstore.Cond, ops []kvstore.Op) (bool, error)
	EnsureUser(ctx context.Context, name string, grants []schema.Grant) error
	DeleteUser(ctx context.Context, name string) error
}

var _ store = (*kvstore.Client)(nil)

// Options configures a [Service].
type Options struct {
	Store  store         // as a server's etcd user; required
	CA     *ca.Authority // required
	Logger *slog.Logger  // required

	// Disconnect ends the open watches of an etcd user that was removed;
	// optional. Without it they go on until the host disconnects.
	Disconnect func(user string)
}

// Service does what administrators and joining hosts ask of a server.
type Service struct {
	opts Options
	now  func() time.Time

	mu       sync.Mutex           // serialises this server's transactions, which would only fail each other
	policies sync.Mutex           // the same for changes of policies, which depend on nothing else
	warned   map[string]time.Time // when a host's refusals were last logged; guarded by mu
}

// New returns a Service. It starts nothing.
func New(opts Options) (*Service, error) {
	if opts.Store == nil || opts.CA == nil || opts.Logger == nil {
		return nil, errors.New("make registry: store, CA and logger are required")
	}
	if opts.Disconnect == nil {
		opts.Disconnect = func(string) {}
	}
	return &Service{opts: opts, now: time.Now, warned: make(map[string]time.Time)}, nil
}

// attempts bounds how often a transaction is tried against other servers.
const attempts = 30

// errContended says that other servers were always first.
var errContended = control.Errorf(control.CodeUnavailable, "the servers are busy: try again")

// plan decides what to write, given everything that it may depend on. It may be
// asked again. No ops means that there is nothing left to do.
type plan func(*snapshot) ([]kvstore.Op, error)

// transact carries p out: reads a snapshot, asks p, and writes unless the
// snapshot is out of date by then. A write whose outcome is unknown is looked
// at again, so p must recognise its own work.
func (s *Service) transact(ctx context.Context, p plan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pause kvstore.Backoff
	var last error = errContended
	for range attempts {
		snap, err := s.read(ctx)
		if err != nil {
			return err
		}
		ops, err := p(snap)
		if err != nil || len(ops) == 0 {
			return err
		}
		done, err := s.opts.Store.Commit(ctx, snap.conditions(), append(ops, guard()))
		if done {
			return nil
		}
		if last = errContended; err != nil {
			if last = err; !errors.Is(err, kvstore.ErrUnavailable) {
				return err
			}
		}
		if !pause.Wait(ctx) {
			return context.Cause(ctx)
		}
	}
	return last
}

// guard rewrites the key that every snapshot depends on. Its value never
// changes; its revision does.
func guard() kvstore.Op { return kvstore.OpPut(schema.EnrolmentKey, []byte("1"), 0) }

// joinGrace is how long a host may be joining, and leaveGrace leaving, before
// the server that was at it is taken to have died.
const (
	joinGrace  = 2 * time.Minute
	leaveGrace = time.Minute
)
