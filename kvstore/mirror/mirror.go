package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"

	"github.com/plexusmesh/plexus/kvstore"
)

// ErrDataLost means that etcd came back empty and with a history shorter than
// what was seen before: it was built anew. The copy is kept until etcd has
// keys again.
var ErrDataLost = errors.New("etcd lost its data")

// Lister is the part of kvstore.Client that a mirror uses.
type Lister interface {
	ListAndWatch(ctx context.Context, prefix string) iter.Seq[kvstore.Event]
}

var _ Lister = (*kvstore.Client)(nil)

// Options configures a [Mirror]. The functions are called one at a time, in
// order, by Run.
type Options struct {
	Lister Lister       // required
	Prefix string       // ends in a slash, or is one key; required
	Logger *slog.Logger // required

	// OnPut is called for every key, named by what follows the prefix, at the
	// start, whenever it is written, and again after every reconnect. Required.
	OnPut func(name string, value []byte)
	// OnDelete is called when a key is gone. Required.
	OnDelete func(name string)
	// OnRevision is called when the puts and deletes since its last call are a
	// whole: all of one revision of etcd, or all that a list found and lacked. A
	// consumer that must never show half of a transaction takes over at this call
	// what it was told before. Optional.
	OnRevision func(etcdRevision int64)
	// OnSynced is called when the copy is complete, after OnRevision: first at the
	// start, then after every reconnect. Optional.
	OnSynced func()
}

// Mirror follows one prefix.
type Mirror struct {
	opts Options
	seen map[string]bool // names held; true once confirmed by this connection

	mu     sync.Mutex
	status Status
}

// Status says how far a mirror is.
type Status struct {
	Prefix    string
	Synced    bool  // the copy has been complete once; it stays so through outages
	Connected bool  // the copy follows etcd now
	Err       error // why it does not
	Revision  int64 // of etcd, last seen
	Keys      int
}

// New checks opts. It starts nothing.
func New(opts Options) (*Mirror, error) {
	if opts.Lister == nil || opts.Logger == nil || opts.Prefix == "" || opts.OnPut == nil || opts.OnDelete == nil {
		return nil, fmt.Errorf("mirror %q: lister, prefix, logger, OnPut and OnDelete are required", opts.Prefix)
	}
	if opts.OnRevision == nil {
		opts.OnRevision = func(int64) {}
	}
	return &Mirror{opts: opts, seen: make(map[string]bool), status: Status{Prefix: opts.Prefix}}, nil
}

// Synced reports whether the copy has been complete once.
func (m *Mirror) Synced() bool { return m.Status().Synced }

// Status returns how far the mirror is. It may be called at any time.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

// Run follows the prefix until ctx ends, and returns nil then. The consumer's
// copy outlives it.
func (m *Mirror) Run(ctx context.Context) error {
	for ev := range m.opts.Lister.ListAndWatch(ctx, m.opts.Prefix) {
		m.apply(ev)
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("mirror %s: the watch ended by itself", m.opts.Prefix)
}

func (m *Mirror) apply(ev kvstore.Event) {
	name := strings.TrimPrefix(ev.KV.Key, m.opts.Prefix)
	switch ev.Type {
	case kvstore.Put:
		m.seen[name] = true
		m.opts.OnPut(name, ev.KV.Value)
		m.moved(ev)
	case kvstore.Delete:
		m.drop(name)
		m.moved(ev)
	case kvstore.Listed:
		m.listed(ev.Revision)
	case kvstore.Lost:
		m.lost(ev.Err)
	}
}

// drop forgets a key, if it was known.
func (m *Mirror) drop(name string) {
	if _, ok := m.seen[name]; ok {
		delete(m.seen, name)
		m.opts.OnDelete(name)
	}
}

// lost keeps everything and waits for it to be confirmed.
func (m *Mirror) lost(err error) {
	for name := range m.seen {
		m.seen[name] = false
	}
	if m.Status().Connected {
		m.opts.Logger.Warn("etcd is away: keeping what is known", "prefix", m.opts.Prefix, "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Connected, m.status.Err = false, err
}

// listed sweeps what the new list does not confirm.
func (m *Mirror) listed(revision int64) {
	before := m.Status()
	err := m.sweep(revision < before.Revision)
	if before.Synced {
		m.opts.Logger.Info("following etcd again", "prefix", m.opts.Prefix, "keys", len(m.seen))
	}
	m.mu.Lock()
	m.status.Synced, m.status.Connected = true, true
	m.status.Err, m.status.Keys = err, len(m.seen)
	if err == nil { // else the next list would pass for one of whole data, and sweep all
		m.status.Revision = revision
	}
	m.mu.Unlock()
	m.opts.OnRevision(revision)
	if m.opts.OnSynced != nil {
		m.opts.OnSynced()
	}
}

// sweep drops keys that were not confirmed, unless that would be all of them
// because etcd forgot.
func (m *Mirror) sweep(backwards bool) error {
	var gone []string
	for name, confirmed := range m.seen {
		if !confirmed {
			gone = append(gone, name)
		}
	}
	if backwards && len(gone) > 0 && len(gone) == len(m.seen) {
		m.opts.Logger.Error("etcd lost its data: keeping what is known", "prefix", m.opts.Prefix, "keys", len(gone))
		return ErrDataLost
	}
	for _, name := range gone {
		m.drop(name)
	}
	return nil
}

// moved notes progress, and passes on that a revision is whole.
func (m *Mirror) moved(ev kvstore.Event) {
	m.mu.Lock()
	m.status.Revision, m.status.Keys = max(m.status.Revision, ev.Revision), len(m.seen)
	m.mu.Unlock()
	if !ev.More {
		m.opts.OnRevision(ev.Revision)
	}
}
