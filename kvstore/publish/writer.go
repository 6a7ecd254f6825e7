package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/kvstore"
)

// calm is how long a key must have stood before the next correction of it
// comes without a pause that grows.
const calm = 5 * time.Second

// writer compares what should be with what is, in one goroutine.
type writer struct {
	*Publisher
	listed map[string]bool       // scopes that are followed now
	have   map[string]kvstore.KV // keys in those scopes
	items  map[string]*item      // keys that are or were ours
	lease  int64                 // 0 while there is none
}

// item is the history of a key of ours.
type item struct {
	value Value     // as last attempted
	at    time.Time // of the last attempt
	retry time.Time // no attempt before
	pause kvstore.Backoff
}

func newWriter(p *Publisher) *writer {
	return &writer{
		Publisher: p, listed: make(map[string]bool),
		have: make(map[string]kvstore.KV), items: make(map[string]*item),
	}
}

func (w *writer) run(ctx context.Context, events <-chan observed, leases <-chan int64) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-events:
			w.apply(o)
			if !w.listed[o.scope] {
				continue // in the middle of a list; nothing is known to differ yet
			}
		case id := <-leases:
			w.lease = id
		case <-w.changed:
		case <-timer.C:
		}
		if next := w.pass(ctx); next > 0 {
			timer.Reset(next)
		}
	}
}

// apply notes what is in etcd. Events may trail behind our own writes.
func (w *writer) apply(o observed) {
	kv := o.event.KV
	switch o.event.Type {
	case kvstore.Put:
		if kv.ModRevision >= w.have[kv.Key].ModRevision {
			w.have[kv.Key] = kv
		}
	case kvstore.Delete:
		if kv.ModRevision > w.have[kv.Key].ModRevision {
			delete(w.have, kv.Key)
		}
	case kvstore.Listed:
		w.listed[o.scope] = true
	case kvstore.Lost:
		w.listed[o.scope] = false
		maps.DeleteFunc(w.have, func(key string, _ kvstore.KV) bool {
			scope, _ := w.scopeOf(key)
			return scope == o.scope
		})
		w.report(w.Status().Pending, o.event.Err)
	}
}

// pass writes what differs. It returns when to look again, or 0 when only
// news can change anything.
func (w *writer) pass(ctx context.Context) (next time.Duration) {
	want := w.wanted()
	for key := range want {
		if w.items[key] == nil {
			w.items[key] = &item{}
		}
	}
	var errs []error
	pending := 0
	for _, key := range slices.Sorted(maps.Keys(w.items)) {
		v, wanted := want[key]
		done, err := w.settle(ctx, key, v, wanted)
		if err != nil {
			errs = append(errs, err)
		}
		if done {
			if !wanted {
				delete(w.items, key)
			}
			continue
		}
		pending++
		if in := time.Until(w.items[key].retry); w.writable(key, v) && (next == 0 || in < next) {
			next = max(in, time.Millisecond)
		}
	}
	w.report(pending, errors.Join(errs...))
	return next
}

func (w *writer) wanted() map[string]Value {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.want
}

// writable reports whether a write has a chance now.
func (w *writer) writable(key string, v Value) bool {
	scope, _ := w.scopeOf(key)
	return w.listed[scope] && (!v.Leased || w.lease != 0)
}

// settle brings one key to its value, or to nothing. It reports whether the
// key is as it should be.
func (w *writer) settle(ctx context.Context, key string, v Value, wanted bool) (done bool, err error) {
	if !w.writable(key, v) {
		return false, nil
	}
	if w.matches(key, v, wanted) {
		return true, nil
	}
	it := w.items[key]
	if it.value.Equal(v) && time.Now().Before(it.retry) {
		return false, nil
	}
	if time.Since(it.at) > calm {
		it.pause.Reset()
	}
	// The pause also counts after success: two daemons that were given one
	// name must not overwrite each other at full speed.
	it.value, it.at, it.retry = v, time.Now(), time.Now().Add(it.pause.Next())
	if err := w.write(ctx, key, v, wanted); err != nil {
		return false, err
	}
	return true, nil
}

func (w *writer) matches(key string, v Value, wanted bool) bool {
	kv, exists := w.have[key]
	if !wanted || !exists {
		return wanted == exists
	}
	var lease int64
	if v.Leased {
		lease = w.lease
	}
	return kv.Lease == lease && bytes.Equal(kv.Value, v.Data)
}

func (w *writer) write(ctx context.Context, key string, v Value, wanted bool) error {
	if !wanted {
		if err := w.opts.Store.Delete(ctx, key); err != nil {
			return fmt.Errorf("withdraw %s: %w", key, err)
		}
		delete(w.have, key)
		return nil
	}
	var lease int64
	if v.Leased {
		lease = w.lease
	}
	rev, err := w.opts.Store.Put(ctx, key, v.Data, lease)
	if err != nil {
		return fmt.Errorf("publish %s: %w", key, err)
	}
	w.have[key] = kvstore.KV{Key: key, Value: v.Data, Lease: lease, ModRevision: rev}
	return nil
}

// report keeps the state for Status, and logs when it turns.
func (w *writer) report(pending int, err error) {
	w.mu.Lock()
	before := w.status
	if pending == 0 || err != nil {
		w.status.Err = err
	}
	w.status.Pending = pending
	w.mu.Unlock()
	if before.Err == nil && err != nil {
		w.opts.Logger.Warn("cannot publish: trying again", "error", err)
	}
}
