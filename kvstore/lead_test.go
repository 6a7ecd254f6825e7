package kvstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

var office = schema.LeaderPrefix("facts")

// campaign runs Lead in the background; terms tells when id begins to lead.
func campaign(ctx context.Context, c *kvstore.Client, id string, terms chan<- string) <-chan error {
	done := make(chan error, 1)
	go func() {
		done <- c.Lead(ctx, office, id, func(ctx context.Context) error {
			terms <- id
			<-ctx.Done()
			return nil
		})
	}()
	return done
}

func next[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s in 20 s", what)
		panic("unreachable")
	}
}

func TestOneLeadsAtATime(t *testing.T) {
	s := kvtest.StartAuth(t)
	terms := make(chan string, 4)
	ctxA, stopA := context.WithCancel(t.Context())
	doneA := campaign(ctxA, s.Client(t), "a", terms)
	if got := next(t, terms, "leader"); got != "a" {
		t.Fatalf("leader = %s, want a", got)
	}
	ctxB, stopB := context.WithCancel(t.Context())
	doneB := campaign(ctxB, s.Client(t), "b", terms)
	if id, ok, err := s.Client(t).Leader(t.Context(), office); err != nil || !ok || id != "a" {
		t.Errorf("Leader = %q, %v, %v; want a", id, ok, err)
	}
	began := time.Now()
	stopA()
	if err := next(t, doneA, "end of a"); err != nil {
		t.Errorf("Lead = %v, want nil when asked to stop", err)
	}
	if got := next(t, terms, "second leader"); got != "b" {
		t.Errorf("second leader = %s, want b", got)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("handing over took %v: the lease should be given up, not lapse", took)
	}
	stopB()
	if err := next(t, doneB, "end of b"); err != nil {
		t.Errorf("Lead = %v, want nil when asked to stop", err)
	}
}

func TestDeposedLeaderCompetesAgain(t *testing.T) {
	s := kvtest.Start(t)
	c := s.Client(t)
	terms := make(chan string, 4)
	ctx, stop := context.WithCancel(t.Context())
	done := campaign(ctx, c, "a", terms)
	next(t, terms, "leader")
	kvs, _, err := c.List(t.Context(), office)
	if err != nil || len(kvs) != 1 {
		t.Fatalf("list = %v, %v", kvs, err)
	}
	if err := c.Revoke(t.Context(), kvs[0].Lease); err != nil {
		t.Fatal(err)
	}
	next(t, terms, "second term")
	stop()
	if err := next(t, done, "end"); err != nil {
		t.Errorf("Lead = %v, want nil when asked to stop", err)
	}
}

func TestLeadReturnsWhatItsFunctionDoes(t *testing.T) {
	s := kvtest.Start(t)
	want := errors.New("cannot govern")
	err := s.Client(t).Lead(t.Context(), office, "a", func(context.Context) error { return want })
	if !errors.Is(err, want) {
		t.Errorf("Lead = %v, want %v", err, want)
	}
	if _, ok, err := s.Client(t).Leader(t.Context(), office); ok || err != nil {
		t.Errorf("Leader = %v, %v; want nobody", ok, err)
	}
}
