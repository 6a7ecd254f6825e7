package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/mirror"
)

const prefix = "cilium/state/nodes/v1/vms/"

// copyOf is a consumer.
type copyOf struct {
	*mirror.Mirror
	mu     sync.Mutex
	values map[string]string
	small  int // fewest keys held since the last mark
	syncs  int
}

func follow(t *testing.T, l mirror.Lister) *copyOf {
	t.Helper()
	c := &copyOf{values: make(map[string]string)}
	m, err := mirror.New(mirror.Options{
		Lister: l, Prefix: prefix, Logger: kvtest.Logger(t),
		OnPut:    func(name string, value []byte) { c.change(func() { c.values[name] = string(value) }) },
		OnDelete: func(name string) { c.change(func() { delete(c.values, name) }) },
		OnSynced: func() { c.change(func() { c.syncs++ }) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Mirror = m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil when asked to stop", err)
		}
	})
	return c
}

func (c *copyOf) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.small = min(c.small, len(c.values))
}

func (c *copyOf) read() (map[string]string, int, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.values), c.small, c.syncs
}

// mark makes read tell the fewest keys held from now on.
func (c *copyOf) mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.small = len(c.values)
}

func (c *copyOf) await(t *testing.T, want map[string]string) {
	t.Helper()
	eventually(t, func() bool {
		got, _, _ := c.read()
		return cmp.Equal(got, want) && c.Status().Connected
	}, func() string {
		got, _, _ := c.read()
		return cmp.Diff(want, got)
	})
}

func eventually(t *testing.T, cond func() bool, state func() string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not reached in 20 s: %s", state())
		}
		time.Sleep(5 * time.Millisecond) // poll
	}
}

func put(t *testing.T, w interface {
	Put(context.Context, string, []byte, int64) (int64, error)
}, name, value string) {
	t.Helper()
	if _, err := w.Put(t.Context(), prefix+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, w interface {
	Delete(context.Context, string) error
}, name string) {
	t.Helper()
	if err := w.Delete(t.Context(), prefix+name); err != nil {
		t.Fatal(err)
	}
}

func TestFollows(t *testing.T) {
	s := kvtest.NewStore()
	put(t, s, "a", "1")
	c := follow(t, s)
	c.await(t, map[string]string{"a": "1"})
	put(t, s, "b", "2")
	put(t, s, "a", "3")
	c.await(t, map[string]string{"a": "3", "b": "2"})
	remove(t, s, "a")
	c.await(t, map[string]string{"b": "2"})
	if got := c.Status(); !got.Synced || got.Err != nil || got.Keys != 1 || got.Revision != 4 {
		t.Errorf("status = %+v", got)
	}
}

// TestFailures makes each kind of failure happen between the same two states;
// the way there must not matter, and nothing that stays may go meanwhile.
func TestFailures(t *testing.T) {
	for name, fail := range map[string]func(*kvtest.Store){
		"none":        func(*kvtest.Store) {},
		"break":       func(s *kvtest.Store) { s.Break() },
		"list fails":  func(s *kvtest.Store) { s.FailNext(kvtest.OpList, kvstore.ErrUnavailable); s.Break() },
		"down and up": func(s *kvtest.Store) { s.SetDown(true); s.SetDown(false) },
	} {
		t.Run(name, func(t *testing.T) {
			s := kvtest.NewStore()
			put(t, s, "stays", "1")
			put(t, s, "goes", "1")
			c := follow(t, s)
			c.await(t, map[string]string{"stays": "1", "goes": "1"})
			c.mark()
			fail(s)
			remove(t, s, "goes")
			put(t, s, "comes", "1")
			c.await(t, map[string]string{"stays": "1", "comes": "1"})
			if _, small, _ := c.read(); small < 1 {
				t.Errorf("copy was empty on the way")
			}
		})
	}
}

func TestKeepsWhileDownAndSweepsAfterwards(t *testing.T) {
	s := kvtest.NewStore()
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	c := follow(t, s)
	c.await(t, map[string]string{"a": "1", "b": "1"})
	s.SetDown(true)
	eventually(t, func() bool { return !c.Status().Connected }, func() string { return "still connected" })
	if got, _, _ := c.read(); len(got) != 2 {
		t.Errorf("copy while down = %v, want all", got)
	}
	if st := c.Status(); !st.Synced || !errors.Is(st.Err, kvstore.ErrUnavailable) {
		t.Errorf("status while down = %+v, want synced, with the cause", st)
	}
}

func TestKeepsWhatEtcdForgot(t *testing.T) {
	s := kvtest.NewStore()
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	c := follow(t, s)
	c.await(t, map[string]string{"a": "1", "b": "1"})
	s.Wipe()
	eventually(t, func() bool { return errors.Is(c.Status().Err, mirror.ErrDataLost) },
		func() string { return "ErrDataLost is not reported" })
	if got, _, _ := c.read(); len(got) != 2 {
		t.Errorf("copy after etcd was built anew = %v, want all", got)
	}
	for _, lists := range []int{2, 3} {
		eventually(t, func() bool { _, _, n := c.read(); return n >= lists }, func() string { return "no new list" })
		s.Break()
	}
	if got, _, _ := c.read(); len(got) != 2 || !errors.Is(c.Status().Err, mirror.ErrDataLost) {
		t.Errorf("copy after one more reconnect = %v, %v, want all", got, c.Status().Err)
	}
	put(t, s, "a", "2")
	s.Break()
	c.await(t, map[string]string{"a": "2"})
}

// TestRestartUnderWatch is the same on a real etcd that really goes away.
func TestRestartUnderWatch(t *testing.T) {
	s := kvtest.Start(t)
	cl := s.Client(t)
	put(t, cl, "stays", "1")
	put(t, cl, "goes", "1")
	c := follow(t, s.Client(t))
	c.await(t, map[string]string{"stays": "1", "goes": "1"})
	c.mark()

	s.Stop()
	eventually(t, func() bool { return !c.Status().Connected }, func() string { return "still connected" })
	if got, _, _ := c.read(); len(got) != 2 {
		t.Errorf("copy while etcd is down = %v, want all", got)
	}
	s.Start(t)
	remove(t, cl, "goes")
	put(t, cl, "comes", "1")
	c.await(t, map[string]string{"stays": "1", "comes": "1"})
	if _, small, _ := c.read(); small < 1 {
		t.Errorf("copy was empty on the way")
	}
}

// gate is a lister that can be held away from etcd, so that changes happen
// unseen for certain.
type gate struct {
	mirror.Lister
	open chan struct{}
}

func (g gate) ListAndWatch(ctx context.Context, prefix string) iter.Seq[kvstore.Event] {
	return func(yield func(kvstore.Event) bool) {
		for ev := range g.Lister.ListAndWatch(ctx, prefix) {
			if !yield(ev) {
				return
			}
			if ev.Type == kvstore.Lost {
				<-g.open
			}
		}
	}
}

func TestDeletedWhileAwayIsSwept(t *testing.T) {
	s := kvtest.Start(t)
	cl := s.Client(t)
	put(t, cl, "stays", "1")
	put(t, cl, "goes", "1")
	g := gate{s.Client(t), make(chan struct{})}
	c := follow(t, g)
	c.await(t, map[string]string{"stays": "1", "goes": "1"})
	c.mark()
	s.Restart(t)
	eventually(t, func() bool { return !c.Status().Connected }, func() string { return "still connected" })
	remove(t, cl, "goes")
	s.Compact(t) // not even history tells of the delete
	close(g.open)
	c.await(t, map[string]string{"stays": "1"})
	if _, small, _ := c.read(); small < 1 {
		t.Errorf("copy was empty on the way")
	}
}

// between is a lister that does something between the first list and its watch.
type between struct {
	mirror.Lister
	once *sync.Once
	do   func()
}

func (b between) ListAndWatch(ctx context.Context, prefix string) iter.Seq[kvstore.Event] {
	return func(yield func(kvstore.Event) bool) {
		for ev := range b.Lister.ListAndWatch(ctx, prefix) {
			if !yield(ev) {
				return
			}
			if ev.Type == kvstore.Listed {
				b.once.Do(b.do)
			}
		}
	}
}

// TestCompactionUnderWatch takes the history away that the watch needs.
func TestCompactionUnderWatch(t *testing.T) {
	s := kvtest.Start(t)
	cl := s.Client(t)
	put(t, cl, "stays", "1")
	put(t, cl, "goes", "1")
	c := follow(t, between{s.Client(t), &sync.Once{}, func() {
		put(t, cl, "stays", "2")
		remove(t, cl, "goes")
		s.Compact(t)
	}})
	c.await(t, map[string]string{"stays": "2"})
	if _, _, syncs := c.read(); syncs != 2 {
		t.Errorf("synced %d times, want 2: at the start and after compaction", syncs)
	}
}

// record follows l and tells what it was told, revision by revision.
func record(t *testing.T, l mirror.Lister) (told func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	part := "" // since the last revision
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		part += what + " "
	}
	m, err := mirror.New(mirror.Options{
		Lister: l, Prefix: prefix, Logger: kvtest.Logger(t),
		OnPut:    func(name string, value []byte) { note(name + "=" + string(value)) },
		OnDelete: func(name string) { note("-" + name) },
		OnRevision: func(revision int64) {
			mu.Lock()
			defer mu.Unlock()
			all, part = append(all, fmt.Sprintf("%s@%d", part, revision)), ""
		},
		OnSynced: func() { note("synced") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil when asked to stop", err)
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// A list is one revision, what it lacks included, and so is each transaction.
func TestOnRevision(t *testing.T) {
	s := kvtest.NewStore()
	both := func(value string) {
		t.Helper()
		err := s.PutAll(t.Context(), map[string][]byte{prefix + "a": []byte(value), prefix + "b": []byte(value), "elsewhere": nil})
		if err != nil {
			t.Fatal(err)
		}
	}
	both("1")
	told := record(t, s)
	reached := func(n int) {
		t.Helper()
		eventually(t, func() bool { return len(told()) == n }, func() string { return fmt.Sprint(told()) })
	}
	reached(1)
	both("2")
	reached(2)
	s.SetDown(true)
	s.SetDown(false)
	reached(3)
	remove(t, s, "a")
	reached(4)
	want := []string{"a=1 b=1 @1", "synced a=2 b=2 @2", "a=2 b=2 @2", "synced -a @3"}
	if diff := cmp.Diff(want, told()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// What was deleted unseen goes in the same revision in which the rest comes.
func TestOnRevisionHasWhatTheListLacks(t *testing.T) {
	s := kvtest.NewStore()
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	g := gate{s, make(chan struct{})}
	told := record(t, g)
	eventually(t, func() bool { return len(told()) == 1 }, func() string { return "no list" })
	s.Break()
	remove(t, s, "a")
	put(t, s, "c", "1")
	close(g.open)
	eventually(t, func() bool { return len(told()) >= 2 }, func() string { return "no new list" })
	if diff := cmp.Diff([]string{"synced b=1 c=1 -a @4"}, told()[1:]); diff != "" {
		t.Errorf("told after the new list (-want +got):\n%s", diff)
	}
}
