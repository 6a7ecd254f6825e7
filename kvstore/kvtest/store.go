package kvtest

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/kvstore"
)

// Operations of a [Store] that can be made to fail.
const (
	OpList   = "list"
	OpPut    = "put"
	OpDelete = "delete"
	OpLease  = "lease"
)

// errDown is what a store says while it is down.
var errDown = errors.Join(kvstore.ErrUnavailable, errors.New("store is down"))

// Store is a stand-in for etcd that keeps its state in memory, counts calls and
// fails when told to. It repeats what fails without a pause, so that tests need
// not wait.
type Store struct {
	mu       sync.Mutex
	kvs      map[string]kvstore.KV
	log      []kvstore.Event
	revision int64
	epoch    int // of connections; another one means that a watch has broken
	down     bool
	fail     map[string]error
	calls    map[string]int
	leases   int64         // the newest
	changed  chan struct{} // closed at every change
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		kvs: make(map[string]kvstore.KV), fail: make(map[string]error),
		calls: make(map[string]int), changed: make(chan struct{}),
	}
}

// FailNext makes the next call of op fail with err and change nothing.
func (s *Store) FailNext(op string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[op] = err
}

// Calls returns how often op was called.
func (s *Store) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Break ends all watches, which then list again.
func (s *Store) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.notifyLocked()
}

// SetDown makes every call fail, and watches end, until it is set back.
func (s *Store) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	s.epoch++
	s.notifyLocked()
}

// Wipe loses all data without a word, as an etcd does that is built anew.
func (s *Store) Wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.kvs)
	s.revision = 0
	s.epoch++
	s.notifyLocked()
}

// RevokeLeases ends all leases and removes their keys.
func (s *Store) RevokeLeases() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.kvs)) {
		if s.kvs[key].Lease != 0 {
			s.deleteLocked(key)
		}
	}
	s.leases++
	s.notifyLocked()
}

// Values returns all keys and values.
func (s *Store) Values() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]string, len(s.kvs))
	for k, kv := range s.kvs {
		out[k] = string(kv.Value)
	}
	return out
}

// Put implements the writing half of kvstore.Client.
func (s *Store) Put(_ context.Context, key string, value []byte, lease int64) (int64, error) {
	return s.write(map[string][]byte{key: value}, lease)
}

// PutAll writes keys as one transaction does: at one revision.
func (s *Store) PutAll(_ context.Context, values map[string][]byte) error {
	_, err := s.write(values, 0)
	return err
}

func (s *Store) write(values map[string][]byte, lease int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.beginLocked(OpPut); err != nil {
		return 0, err
	}
	s.revision++
	for _, key := range slices.Sorted(maps.Keys(values)) {
		kv := kvstore.KV{Key: key, Value: slices.Clone(values[key]), ModRevision: s.revision, CreateRevision: s.revision, Lease: lease}
		s.kvs[key] = kv
		s.log = append(s.log, kvstore.Event{Type: kvstore.Put, KV: kv, Revision: s.revision})
	}
	s.notifyLocked()
	return s.revision, nil
}

// Delete implements the writing half of kvstore.Client.
func (s *Store) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.beginLocked(OpDelete); err != nil {
		return err
	}
	s.deleteLocked(key)
	return nil
}

func (s *Store) deleteLocked(key string) {
	if _, ok := s.kvs[key]; !ok {
		return
	}
	s.revision++
	delete(s.kvs, key)
	s.log = append(s.log, kvstore.Event{
		Type: kvstore.Delete, KV: kvstore.KV{Key: key, ModRevision: s.revision}, Revision: s.revision,
	})
	s.notifyLocked()
}

// KeepLease implements the writing half of kvstore.Client.
func (s *Store) KeepLease(ctx context.Context, _ time.Duration, granted func(int64)) error {
	for ctx.Err() == nil {
		s.mu.Lock()
		err := s.beginLocked(OpLease)
		if err == nil {
			s.leases++
		}
		id := s.leases
		s.mu.Unlock()
		if err != nil {
			s.await(ctx, func() bool { return !s.down })
			continue
		}
		granted(id)
		s.await(ctx, func() bool { return s.leases != id })
	}
	return nil
}

// await blocks until cond, which is called with the lock held, is true.
func (s *Store) await(ctx context.Context, cond func() bool) {
	for ctx.Err() == nil {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		wait(ctx, changed)
	}
}

func wait(ctx context.Context, changed <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-changed:
	}
}

// ListAndWatch implements the reading half of kvstore.Client.
func (s *Store) ListAndWatch(ctx context.Context, prefix string) iter.Seq[kvstore.Event] {
	return func(yield func(kvstore.Event) bool) {
		for ctx.Err() == nil {
			events, at, err := s.list(prefix)
			if err != nil {
				if !yield(kvstore.Event{Type: kvstore.Lost, Err: err}) {
					return
				}
				s.await(ctx, func() bool { return !s.down })
				continue
			}
			for _, ev := range events {
				if !yield(ev) {
					return
				}
			}
			if !s.follow(ctx, prefix, at, yield) {
				return
			}
		}
	}
}

// position is a place in the log of one connection.
type position struct{ epoch, next int }

func (s *Store) list(prefix string) ([]kvstore.Event, position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := position{s.epoch, len(s.log)}
	if err := s.beginLocked(OpList); err != nil {
		return nil, at, err
	}
	var out []kvstore.Event
	for _, key := range slices.Sorted(maps.Keys(s.kvs)) {
		if covers(prefix, key) {
			out = append(out, kvstore.Event{Type: kvstore.Put, KV: s.kvs[key], Revision: s.kvs[key].ModRevision, More: true})
		}
	}
	return append(out, kvstore.Event{Type: kvstore.Listed, Revision: s.revision}), at, nil
}

// follow yields changes until the connection breaks. It reports whether the
// consumer wants more.
func (s *Store) follow(ctx context.Context, prefix string, at position, yield func(kvstore.Event) bool) bool {
	for ctx.Err() == nil {
		s.mu.Lock()
		events, epoch, changed := s.log[at.next:], s.epoch, s.changed
		s.mu.Unlock()
		if epoch != at.epoch {
			return yield(kvstore.Event{Type: kvstore.Lost, Err: errDown})
		}
		at.next += len(events)
		seen := slices.DeleteFunc(slices.Clone(events), func(ev kvstore.Event) bool { return !covers(prefix, ev.KV.Key) })
		for i, ev := range seen {
			ev.More = i+1 < len(seen) && seen[i+1].Revision == ev.Revision
			if !yield(ev) {
				return false
			}
		}
		if len(events) == 0 {
			wait(ctx, changed)
		}
	}
	return false
}

// beginLocked counts a call and says whether it fails.
func (s *Store) beginLocked(op string) error {
	s.calls[op]++
	if err := s.fail[op]; err != nil {
		delete(s.fail, op)
		return err
	}
	if s.down {
		return errDown
	}
	return nil
}

func (s *Store) notifyLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func covers(prefix, key string) bool {
	return key == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(key, prefix)
}
