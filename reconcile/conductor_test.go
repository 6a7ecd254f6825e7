package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shelf is a resource that keeps state, records its calls and can fail the next.
type shelf struct {
	name string
	log  *journal
	fail error
	mine Ledger[string]

	mu   sync.Mutex
	have map[string]int
}

// meddle changes what the shelf holds, as somebody else might.
func (s *shelf) meddle(f func(have map[string]int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.have)
}

// holds returns what the shelf holds.
func (s *shelf) holds() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.have)
}

type journal struct {
	mu    sync.Mutex
	calls []string
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, s)
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := j.calls
	j.calls = nil
	return out
}

func (s *shelf) Name() string { return s.name }

func (s *shelf) Ensure(_ context.Context, want map[string]int) error {
	s.log.add("ensure " + s.name)
	if err := s.fail; err != nil {
		s.fail = nil
		return err
	}
	for k := range want {
		s.mine.Note(k)
	}
	upsert, _ := Diff(want, s.holds(), func(a, b int) bool { return a == b })
	s.meddle(func(have map[string]int) { maps.Copy(have, upsert) })
	return nil
}

func (s *shelf) Prune(_ context.Context, want map[string]int, orphans bool) error {
	s.log.add("prune " + s.name)
	_, remove := Diff(want, s.holds(), func(a, b int) bool { return a == b })
	for _, k := range s.mine.Removable(remove, orphans) {
		s.meddle(func(have map[string]int) { delete(have, k) })
		s.mine.Forget(k)
	}
	return nil
}

type stage struct {
	log    *journal
	a, b   *shelf
	synced bool
	c      *Conductor[map[string]int]
}

func newStage() *stage {
	j := &journal{}
	s := &stage{log: j, synced: true}
	s.a = &shelf{name: "a", log: j, have: map[string]int{}}
	s.b = &shelf{name: "b", log: j, have: map[string]int{}}
	s.c = New(Options[map[string]int]{
		Name: "test", Logger: slog.New(slog.DiscardHandler), Synced: func() bool { return s.synced },
		Steps: []Step[map[string]int]{{Resource: s.a}, {Resource: s.b, Needs: []string{"a"}}},
	})
	return s
}

// play runs f beside the conductor in a bubble where time is fake.
func play(t *testing.T, f func(*stage)) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.c.Run(ctx) }()
		f(s)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil when asked to stop", err)
		}
	})
}

func settled() {
	time.Sleep(Latest + Quiet) // fake time: lets the conductor settle
	synctest.Wait()
}

func TestEnsureForwardPruneBackward(t *testing.T) {
	play(t, func(s *stage) {
		s.c.Set(map[string]int{"x": 1})
		settled()
		want := []string{"ensure a", "ensure b", "prune b", "prune a"}
		if diff := cmp.Diff(want, s.log.take()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestChangesCoalesce(t *testing.T) {
	play(t, func(s *stage) {
		for i := range 50 {
			s.c.Set(map[string]int{"x": i})
			time.Sleep(time.Millisecond)
		}
		settled()
		if passes := len(s.log.take()) / 4; passes != 1 {
			t.Errorf("50 changes in 50 ms took %d passes, want 1", passes)
		}
		if s.b.holds()["x"] != 49 {
			t.Errorf("applied %d, want the last value, 49", s.b.holds()["x"])
		}
	})
}

func TestChangesWithoutPauseAreAppliedInTime(t *testing.T) {
	play(t, func(s *stage) {
		for i := range 60 {
			s.c.Set(map[string]int{"x": i})
			time.Sleep(Quiet / 2)
		}
		if passes := len(s.log.take()) / 4; passes < 2 {
			t.Errorf("%d passes in 300 ms of changes, want one every %v", passes, Latest)
		}
	})
}

func TestFailureHoldsBackOnlyDependents(t *testing.T) {
	play(t, func(s *stage) {
		s.a.fail = errors.New("no")
		s.c.Set(map[string]int{"x": 1})
		time.Sleep(2 * Quiet)
		synctest.Wait()
		if calls := s.log.take(); slices.Contains(calls, "ensure b") {
			t.Errorf("calls %v: b ran although a, which it needs, failed", calls)
		}
		h := s.c.Health()
		if h[0].Err == nil || h[1].Err == nil || !h[1].Held {
			t.Errorf("health %+v, want a failed and b held", h)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s.b.holds()["x"] != 1 {
			t.Error("b is still held after a recovered")
		}
		if h := s.c.Health(); h[0].Err != nil || h[1].Err != nil {
			t.Errorf("health %+v, want all well", h)
		}
	})
}

// Revocation never waits: what hinders adding must not keep what is unwanted.
func TestAHeldStepStillPrunes(t *testing.T) {
	play(t, func(s *stage) {
		s.c.Set(map[string]int{"x": 1, "gone": 1})
		settled()
		s.a.fail = errors.New("no")
		s.c.Set(map[string]int{"x": 1})
		time.Sleep(2 * Quiet)
		synctest.Wait()
		if h := s.c.Health(); !h[1].Held {
			t.Fatalf("health %+v, want b held", h)
		}
		if diff := cmp.Diff(map[string]int{"x": 1}, s.b.holds()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFailureRetriesWithBackOff(t *testing.T) {
	for n, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 8: 10 * time.Second, 1000: 10 * time.Second} {
		if got := retryDelay(n); got != want {
			t.Errorf("retryDelay(%d) = %v, want %v", n, got, want)
		}
	}
}

func TestResyncPutsRightWhatOthersDid(t *testing.T) {
	play(t, func(s *stage) {
		s.c.Set(map[string]int{"x": 1})
		settled()
		s.b.meddle(func(have map[string]int) { delete(have, "x") })
		time.Sleep(Resync + time.Second)
		synctest.Wait()
		if s.b.holds()["x"] != 1 {
			t.Error("what somebody else removed was not put back")
		}
	})
}

// Three removals, three rules: what this run gave up goes at once; what an
// earlier run left waits for every source; stopping removes nothing.
func TestRemovals(t *testing.T) {
	play(t, func(s *stage) {
		s.synced = false
		s.b.meddle(func(have map[string]int) { have["left"] = 7 })
		s.c.Set(map[string]int{"x": 1, "y": 1})
		settled()
		s.c.Set(map[string]int{"x": 1})
		settled()
		if diff := cmp.Diff(map[string]int{"x": 1, "left": 7}, s.b.holds()); diff != "" {
			t.Errorf("before every source synced: %s", diff)
		}
		s.synced = true
		s.c.Kick()
		settled()
		if diff := cmp.Diff(map[string]int{"x": 1}, s.b.holds()); diff != "" {
			t.Errorf("after every source synced: %s", diff)
		}
	})
}

func TestNothingHappensBeforeTheFirstDesiredState(t *testing.T) {
	play(t, func(s *stage) {
		s.c.Kick()
		settled()
		if calls := s.log.take(); len(calls) != 0 {
			t.Errorf("calls %v before anything was desired", calls)
		}
	})
}
