package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plexusmesh/plexus/kvstore"
)

// DefaultTTL is how long leased keys outlive their host.
const DefaultTTL = 30 * time.Second

// Store is the part of kvstore.Client that a publisher uses.
type Store interface {
	ListAndWatch(ctx context.Context, prefix string) iter.Seq[kvstore.Event]
	Put(ctx context.Context, key string, value []byte, lease int64) (revision int64, err error)
	Delete(ctx context.Context, key string) error
	KeepLease(ctx context.Context, ttl time.Duration, granted func(lease int64)) error
}

var _ Store = (*kvstore.Client)(nil)

// Value is what a key should hold.
type Value struct {
	Data   []byte
	Leased bool // it goes when this host has been silent for TTL
}

// Equal reports whether both want the same.
func (v Value) Equal(o Value) bool { return v.Leased == o.Leased && bytes.Equal(v.Data, o.Data) }

// Options configures a [Publisher].
type Options struct {
	Store  Store         // required
	Scopes []string      // prefixes (ending in a slash) or keys that cover all keys to publish; each is watched; required
	TTL    time.Duration // of the lease; default 30 s
	Logger *slog.Logger  // required
}

// Publisher keeps keys as they should be.
type Publisher struct {
	opts    Options
	changed chan struct{} // holds one token while want has news

	mu     sync.Mutex
	want   map[string]Value
	status Status
}

// Status says what is still to be written.
type Status struct {
	Pending int   // keys that are not yet as they should be
	Err     error // the last failure; nil once all is written
}

// New checks opts. It starts nothing.
func New(opts Options) (*Publisher, error) {
	if opts.Store == nil || opts.Logger == nil || len(opts.Scopes) == 0 {
		return nil, errors.New("publish: store, scopes and logger are required")
	}
	if opts.TTL == 0 {
		opts.TTL = DefaultTTL
	}
	return &Publisher{opts: opts, changed: make(chan struct{}, 1), want: make(map[string]Value)}, nil
}

// Set says what all keys should hold from now on. Keys that an earlier Set had
// and this one lacks are removed. The caller leaves the values alone
// afterwards.
func (p *Publisher) Set(want map[string]Value) error {
	for key := range want {
		if _, ok := p.scopeOf(key); !ok {
			return fmt.Errorf("publish %s: the key is outside %s", key, strings.Join(p.opts.Scopes, ", "))
		}
	}
	p.mu.Lock()
	p.want = maps.Clone(want)
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default: // the news is waiting already
	}
	return nil
}

// Status returns what is still to be written. It may be called at any time.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *Publisher) scopeOf(key string) (string, bool) {
	for _, s := range p.opts.Scopes {
		if key == s || strings.HasSuffix(s, "/") && strings.HasPrefix(key, s) {
			return s, true
		}
	}
	return "", false
}

// observed is an event with the scope that it was seen in.
type observed struct {
	scope string
	event kvstore.Event
}

// Run publishes until ctx ends, and returns nil then. It leaves the keys in
// place: the leased ones lapse by themselves, unless the next run takes over.
func (p *Publisher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	events, leases := make(chan observed), make(chan int64, 1)
	for _, scope := range p.opts.Scopes {
		g.Go(func() error { return p.observe(ctx, scope, events) })
	}
	g.Go(func() error {
		return p.opts.Store.KeepLease(ctx, p.opts.TTL, func(id int64) { replace(leases, id) })
	})
	g.Go(func() error {
		newWriter(p).run(ctx, events, leases)
		return nil
	})
	return g.Wait()
}

func (p *Publisher) observe(ctx context.Context, scope string, out chan<- observed) error {
	for ev := range p.opts.Store.ListAndWatch(ctx, scope) {
		send(ctx, out, observed{scope, ev})
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("publish under %s: the watch ended by itself", scope)
}

func send[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case <-ctx.Done():
	case to <- v:
	}
}

// replace leaves v as the only value in a channel of one place, without
// waiting for its reader. It has one caller at a time.
func replace[T any](in chan T, v T) {
	select {
	case <-in: // nobody needs the older one
	default:
	}
	in <- v
}
