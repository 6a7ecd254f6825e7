package publish_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/publish"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

var (
	claimKey = schema.ClaimKey("web")
	liveKey  = schema.LiveKey("web")
)

func run(t *testing.T, s publish.Store) *publish.Publisher {
	t.Helper()
	p, err := publish.New(publish.Options{
		Store: s, Scopes: []string{claimKey, liveKey}, TTL: 2 * time.Second, Logger: kvtest.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil when asked to stop", err)
		}
	})
	return p
}

func set(t *testing.T, p *publish.Publisher, claim, live string) {
	t.Helper()
	err := p.Set(map[string]publish.Value{
		claimKey: {Data: []byte(claim)}, liveKey: {Data: []byte(live), Leased: true},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, read func() map[string]string, want map[string]string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		diff := cmp.Diff(want, read())
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not reached in 20 s (-want +got):\n%s", diff)
		}
		time.Sleep(5 * time.Millisecond) // poll
	}
}

// TestPublishes runs the same steps with a failure of each kind before each of
// them; the end must be the same.
func TestPublishes(t *testing.T) {
	planted := errors.Join(kvstore.ErrUnavailable, errors.New("planted"))
	for name, fail := range map[string]func(*kvtest.Store){
		"nothing fails": func(*kvtest.Store) {},
		"put fails":     func(s *kvtest.Store) { s.FailNext(kvtest.OpPut, planted) },
		"delete fails":  func(s *kvtest.Store) { s.FailNext(kvtest.OpDelete, planted) },
		"list fails":    func(s *kvtest.Store) { s.FailNext(kvtest.OpList, planted); s.Break() },
		"lease fails":   func(s *kvtest.Store) { s.FailNext(kvtest.OpLease, planted); s.RevokeLeases() },
		"watch breaks":  func(s *kvtest.Store) { s.Break() },
		"down and up":   func(s *kvtest.Store) { s.SetDown(true); s.SetDown(false) },
		"data is lost":  func(s *kvtest.Store) { s.Wipe() },
	} {
		t.Run(name, func(t *testing.T) {
			s := kvtest.NewStore()
			fail(s)
			p := run(t, s)
			set(t, p, "1", "up")
			await(t, s.Values, map[string]string{claimKey: "1", liveKey: "up"})
			fail(s)
			set(t, p, "2", "up")
			await(t, s.Values, map[string]string{claimKey: "2", liveKey: "up"})
			fail(s)
			if err := p.Set(map[string]publish.Value{liveKey: {Data: []byte("up"), Leased: true}}); err != nil {
				t.Fatal(err)
			}
			await(t, s.Values, map[string]string{liveKey: "up"})
			awaitStatus(t, p)
		})
	}
}

func awaitStatus(t *testing.T, p *publish.Publisher) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for p.Status() != (publish.Status{}) {
		if time.Now().After(deadline) {
			t.Fatalf("status = %+v, want nothing pending", p.Status())
		}
		time.Sleep(5 * time.Millisecond) // poll
	}
}

func TestWritesAgainWhatOthersChange(t *testing.T) {
	s := kvtest.NewStore()
	want := map[string]string{claimKey: "1", liveKey: "up"}
	set(t, run(t, s), "1", "up")
	await(t, s.Values, want)
	if err := s.Delete(t.Context(), claimKey); err != nil {
		t.Fatal(err)
	}
	await(t, s.Values, want)
	if _, err := s.Put(t.Context(), claimKey, []byte("forged"), 0); err != nil {
		t.Fatal(err)
	}
	await(t, s.Values, want)
	s.RevokeLeases()
	await(t, s.Values, want)
}

func TestLeavesForeignKeysAlone(t *testing.T) {
	s := kvtest.NewStore()
	if _, err := s.Put(t.Context(), schema.ClaimKey("web-2"), []byte("other"), 0); err != nil {
		t.Fatal(err)
	}
	p := run(t, s)
	if err := p.Set(map[string]publish.Value{schema.ClaimKey("web-2"): {}}); err == nil {
		t.Errorf("Set took a key outside the scopes")
	}
	set(t, p, "1", "up")
	await(t, s.Values, map[string]string{claimKey: "1", liveKey: "up", schema.ClaimKey("web-2"): "other"})
	if err := p.Set(nil); err != nil {
		t.Fatal(err)
	}
	await(t, s.Values, map[string]string{schema.ClaimKey("web-2"): "other"})
}

// TestRivalsDoNotRace gives two publishers one key. Each corrects the other,
// but not at full speed.
func TestRivalsDoNotRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kvtest.NewStore()
		set(t, run(t, s), "mine", "up")
		set(t, run(t, s), "no, mine", "up")
		time.Sleep(time.Minute) // of the bubble's clock
		if n := s.Calls(kvtest.OpPut); n < 4 || n > 120 {
			t.Errorf("%d writes in a minute, want some, with pauses that grow", n)
		}
	})
}

// TestOnEtcd publishes as a host, with its rights, through loss of the lease
// and of the server.
func TestOnEtcd(t *testing.T) {
	s := kvtest.StartAuth(t)
	admin := s.Client(t)
	if err := admin.EnsureUser(t.Context(), schema.HostUser("web", ""), schema.HostGrants("web")); err != nil {
		t.Fatal(err)
	}
	values := func() map[string]string {
		out := make(map[string]string)
		kvs, _, err := admin.List(t.Context(), "plexus/v1/")
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range kvs {
			out[kv.Key] = string(kv.Value)
		}
		return out
	}
	want := map[string]string{claimKey: "1", liveKey: "up"}
	set(t, run(t, s.ClientAs(t, schema.HostUser("web", ""))), "1", "up")
	await(t, values, want)

	kv, ok, err := admin.Get(t.Context(), liveKey)
	if err != nil || !ok || kv.Lease == 0 {
		t.Fatalf("live key = %+v, %v, %v; want it leased", kv, ok, err)
	}
	if err := admin.Revoke(t.Context(), kv.Lease); err != nil {
		t.Fatal(err)
	}
	await(t, values, want)
	if err := admin.Delete(t.Context(), claimKey); err != nil {
		t.Fatal(err)
	}
	await(t, values, want)
	s.Restart(t)
	if err := admin.Delete(t.Context(), liveKey); err != nil {
		t.Fatal(err)
	}
	await(t, values, want)
}
