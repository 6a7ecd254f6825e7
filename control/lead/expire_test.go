package lead

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

func policyFor(app string) string {
	return "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: a}\n" +
		"spec:\n  endpointSelector: {matchLabels: {app: " + app + "}}\n  ingress: [{}]\n"
}

func (f *fixture) apply(app string) schema.PolicyRevision {
	f.t.Helper()
	policies, err := registry.ParsePolicies([]registry.File{{Name: "a.yaml", Data: []byte(policyFor(app))}})
	f.must(err)
	r, _, err := f.registry.ApplyPolicies(f.t.Context(), registry.ApplyOptions{Author: "alice"}, policies)
	f.must(err)
	return r
}

// onTrial puts the newest revision on a trial that closes after d.
func (f *fixture) onTrial(r schema.PolicyRevision, d time.Duration) schema.PolicyRevision {
	f.t.Helper()
	r.State, r.WindowSeconds, r.ConfirmBy = "", 10, time.Now().UTC().Add(d)
	value, err := schema.EncodePolicyRevision(r)
	f.must(err)
	_, err = f.store.Put(f.t.Context(), schema.PolicyRevisionKey, value, 0)
	f.must(err)
	return r
}

// takenBack waits until r is taken back, and returns when that was seen.
func (f *fixture) takenBack(r schema.PolicyRevision) time.Time {
	f.t.Helper()
	f.wait("the revision is taken back", func() bool {
		now, err := f.registry.PolicyRevision(f.t.Context())
		f.must(err)
		return now.Expired && now.Of == r.Revision
	})
	return time.Now()
}

func (f *fixture) stands(app string) {
	f.t.Helper()
	p, err := f.registry.Policy(f.t.Context(), "a")
	f.must(err)
	if !strings.Contains(p.Source, "app: "+app+"}") {
		f.t.Errorf("policy is %s, want that for %s", p.Source, app)
	}
}

func TestLeaderTakesBackWhatNobodyConfirms(t *testing.T) {
	f := newFixture(t)
	f.apply("web")
	f.run("s1")
	f.wait("a leader", func() bool { _, found := f.get(schema.HeartbeatKey); return found })
	r := f.onTrial(f.apply("db"), time.Second)
	if late := f.takenBack(r).Sub(r.ConfirmBy); late < 0 || late > time.Second {
		t.Errorf("taken back %s after the end of its window, want within a second", late)
	}
	f.stands("web")
}

// What closed while nobody led is taken back at the start of a term.
func TestNewLeaderTakesBackWhatClosedBefore(t *testing.T) {
	f := newFixture(t)
	f.apply("web")
	r := f.onTrial(f.apply("db"), -time.Minute)
	f.run("s1")
	f.takenBack(r)
	f.stands("web")
}

func TestLeaderLeavesWhatIsConfirmed(t *testing.T) {
	f := newFixture(t)
	f.apply("web")
	f.run("s1")
	f.wait("a leader", func() bool { _, found := f.get(schema.HeartbeatKey); return found })
	r := f.onTrial(f.apply("db"), time.Second)
	_, err := f.registry.ConfirmPolicies(t.Context(), "bob", r.Revision)
	f.must(err)
	f.takenBack(f.onTrial(f.apply("cache"), 2*time.Second)) // after the window of r, too
	f.stands("db")
}

// trial is one revision on trial, on the clock of the test. Being asked to take
// it back fails a few times first.
type trial struct {
	mu     sync.Mutex
	closes time.Time // zero: nothing is on trial
	fails  int
	asked  []time.Duration // since start
	back   []time.Duration
	start  time.Time
}

func (p *trial) RollbackExpired(_ context.Context, now time.Time) (time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, now.Sub(p.start))
	if p.closes.IsZero() || now.Before(p.closes) {
		return p.closes, nil
	}
	if p.fails > 0 {
		p.fails--
		return time.Time{}, errors.New("planted")
	}
	p.closes = time.Time{}
	p.back = append(p.back, now.Sub(p.start))
	return time.Time{}, nil
}

func (p *trial) set(closes time.Time, fails int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closes, p.fails = closes, fails
}

// take returns what happened since the last call.
func (p *trial) take() (asked, back []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, back = p.asked, p.back
	p.asked, p.back = nil, nil
	return asked, back
}

func TestExpireOnTheDot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &trial{start: time.Now()}
		l := &Leader{Options{Policies: p, Logger: kvtest.Logger(t)}}
		ctx, stop := context.WithCancel(t.Context())
		revised, done := make(chan struct{}, 1), make(chan struct{})
		go func() { defer close(done); l.expire(ctx, revised) }()
		after := func(d time.Duration) (asked, back []time.Duration) {
			time.Sleep(d) // of the bubble's clock
			synctest.Wait()
			return p.take()
		}
		if asked, _ := after(time.Hour); len(asked) != 1 {
			t.Errorf("asked %v while nothing is on trial, want once", asked)
		}
		begin := time.Since(p.start)
		p.set(p.start.Add(begin+90*time.Second), 0)
		revised <- struct{}{}
		if asked, back := after(89 * time.Second); len(asked) != 1 || len(back) != 0 {
			t.Errorf("asked %v, taken back %v before the end", asked, back)
		}
		if _, back := after(2 * time.Second); len(back) != 1 || back[0] != begin+90*time.Second {
			t.Errorf("taken back %v, want once at %s", back, begin+90*time.Second)
		}

		begin = time.Since(p.start)
		p.set(p.start.Add(begin+10*time.Second), 2)
		revised <- struct{}{}
		if asked, back := after(11 * time.Second); len(asked) != 4 || len(back) != 1 {
			t.Errorf("asked %v, taken back %v, want tries again until it works, within a second", asked, back)
		}
		stop()
		<-done
	})
}
