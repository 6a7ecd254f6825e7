package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
)

func mustPut(t *testing.T, c *kvstore.Client, key, value string) int64 {
	t.Helper()
	rev, err := c.Put(t.Context(), key, []byte(value), 0)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func keysOf(kvs []kvstore.KV) []string {
	var keys []string
	for _, kv := range kvs {
		keys = append(keys, kv.Key)
	}
	return keys
}

func TestGetPutDelete(t *testing.T) {
	c := kvtest.Start(t).Client(t)
	if _, ok, err := c.Get(t.Context(), "a"); ok || err != nil {
		t.Errorf("get of nothing = %v, %v", ok, err)
	}
	rev := mustPut(t, c, "a", "1")
	kv, ok, err := c.Get(t.Context(), "a")
	want := kvstore.KV{Key: "a", Value: []byte("1"), ModRevision: rev, CreateRevision: rev}
	if err != nil || !ok || !cmp.Equal(kv, want) {
		t.Errorf("get = %v, %v, %s", ok, err, cmp.Diff(want, kv))
	}
	for range 2 { // the second finds nothing, and that is fine
		if err := c.Delete(t.Context(), "a"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
}

// soon returns a context that ends a watch which sees nothing.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestListPages lists around page borders, while others write.
func TestListPages(t *testing.T) {
	s := kvtest.Start(t)
	writer := s.Client(t)
	c, err := kvstore.Open(kvstore.Options{Endpoints: []string{s.Endpoint()}, Logger: kvtest.Logger(t), PageSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustPut(t, writer, "q", "outside")
	var want []string
	for n := range 13 {
		kvs, _, err := c.List(t.Context(), "p/")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, keysOf(kvs)); diff != "" {
			t.Errorf("list of %d keys (-want +got):\n%s", n, diff)
		}
		key := fmt.Sprintf("p/%02d", n)
		mustPut(t, writer, key, "v")
		want = append(want, key)
	}
}

func TestKeyWithoutSlashIsOneKey(t *testing.T) {
	c := kvtest.Start(t).Client(t)
	mustPut(t, c, "hosts/web", "1")
	mustPut(t, c, "hosts/web-2", "2")
	kvs, _, err := c.List(t.Context(), "hosts/web")
	if diff := cmp.Diff([]string{"hosts/web"}, keysOf(kvs)); err != nil || diff != "" {
		t.Errorf("list = %v (-want +got):\n%s", err, diff)
	}
}

func TestCommit(t *testing.T) {
	c := kvtest.Start(t).Client(t)
	rev := mustPut(t, c, "a", "1")
	for _, tt := range []struct {
		name string
		cond kvstore.Cond
		want bool
	}{
		{"absent is not", kvstore.Absent("a"), false},
		{"absent is", kvstore.Absent("b"), true},
		{"present is", kvstore.Present("a"), true},
		{"present is not", kvstore.Present("b"), false},
		{"unchanged", kvstore.Unchanged("a", rev), true},
		{"changed", kvstore.Unchanged("a", rev-1), false},
		{"never there", kvstore.Unchanged("b", 0), true},
		{"value", kvstore.HasValue("a", []byte("1")), true},
		{"other value", kvstore.HasValue("a", []byte("2")), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ok, err := c.Commit(t.Context(), []kvstore.Cond{tt.cond}, []kvstore.Op{kvstore.OpPut("done/x", nil, 0)})
			if err != nil || ok != tt.want {
				t.Errorf("commit = %v, %v; want %v", ok, err, tt.want)
			}
			if _, done, err := c.Get(t.Context(), "done/x"); err != nil || done != tt.want {
				t.Errorf("effect = %v, %v; want %v", done, err, tt.want)
			}
			if ok, err := c.Commit(t.Context(), nil, []kvstore.Op{kvstore.OpDelete("done/")}); err != nil || !ok {
				t.Fatalf("clean up: %v, %v", ok, err)
			}
		})
	}
}

// TestEtcdAway asks a port where nobody listens, and one where somebody
// listens and never answers.
func TestEtcdAway(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, addr := range map[string]net.Addr{"nobody listens": closed.Addr(), "nobody answers": mute.Addr()} {
		t.Run(name, func(t *testing.T) {
			c, err := kvstore.Open(kvstore.Options{
				Endpoints: []string{"http://" + addr.String()}, Logger: kvtest.Logger(t), RequestTimeout: time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			began := time.Now()
			_, _, err = c.Get(context.Background(), "a") // no deadline of its own
			if !errors.Is(err, kvstore.ErrUnavailable) {
				t.Errorf("get = %v, want ErrUnavailable", err)
			}
			if _, err := c.Commit(context.Background(), nil, nil); !errors.Is(err, kvstore.ErrUnavailable) {
				t.Errorf("commit = %v, want ErrUnavailable", err)
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("two requests took %v, want about 2 s", took)
			}
		})
	}
}

func TestCallerGivesUp(t *testing.T) {
	s := kvtest.Start(t)
	c := s.Client(t)
	s.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := c.Get(ctx, "a")
	if !errors.Is(err, context.Canceled) || errors.Is(err, kvstore.ErrUnavailable) {
		t.Errorf("get = %v, want the caller's cancellation, which is no outage", err)
	}
}

// TestRestart checks that a client finds its server again soon.
func TestRestart(t *testing.T) {
	s := kvtest.StartTLS(t)
	c := s.Client(t)
	mustPut(t, c, "a", "1")
	s.Restart(t)
	began := time.Now()
	if kv, ok, err := c.Get(t.Context(), "a"); err != nil || !ok || string(kv.Value) != "1" {
		t.Errorf("get after restart = %q, %v, %v", kv.Value, ok, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v to find the server again", took)
	}
}

func TestForeignCertificate(t *testing.T) {
	ours, other := kvtest.StartTLS(t), kvtest.StartTLS(t)
	c, err := kvstore.Open(kvstore.Options{
		Endpoints: []string{ours.Endpoint()}, TLS: other.PKI.TLS(t, kvtest.Admin),
		Logger: kvtest.Logger(t), RequestTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Get(t.Context(), "a"); err == nil {
		t.Error("a certificate of another CA was let in")
	}
}

func TestUnknownUser(t *testing.T) {
	s := kvtest.StartAuth(t)
	_, _, err := s.ClientAs(t, "host:stranger").Get(t.Context(), "cilium/state/x")
	wantRefused(t, "get as a stranger", err)
}

func TestStatus(t *testing.T) {
	s := kvtest.StartAuth(t)
	st := s.Client(t).Status(t.Context())
	if len(st) != 1 || st[0].Err != nil || !st[0].Leader || st[0].Version == "" || st[0].Quota == 0 {
		t.Errorf("status = %+v, want one healthy leader", st)
	}
}

func TestWatchAfterCompaction(t *testing.T) {
	s := kvtest.Start(t)
	c, w := s.Client(t), s.Client(t)
	mustPut(t, w, "p/a", "1")
	var got []string
	compacted := false
	for ev := range c.ListAndWatch(soon(t), "p/") {
		got = append(got, ev.Type.String()+" "+ev.KV.Key+string(ev.KV.Value))
		switch {
		case ev.Type == kvstore.Listed && !compacted: // the watch starts after this
			mustPut(t, w, "p/a", "2")
			mustPut(t, w, "p/a", "2")
			s.Compact(t)
			mustPut(t, w, "p/a", "3")
			compacted = true
		case ev.Type == kvstore.Lost && !errors.Is(ev.Err, kvstore.ErrCompacted):
			t.Errorf("lost by %v, want ErrCompacted", ev.Err)
		}
		if len(got) == 5 {
			break
		}
	}
	want := []string{"put p/a1", "listed ", "lost ", "put p/a3", "listed "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWatchSeesEveryChange(t *testing.T) {
	s := kvtest.Start(t)
	c, w := s.Client(t), s.Client(t)
	var got []string
	for ev := range c.ListAndWatch(soon(t), "p/") {
		got = append(got, ev.Type.String()+" "+ev.KV.Key+string(ev.KV.Value))
		if ev.Type == kvstore.Listed {
			mustPut(t, w, "p/a", "1")
			mustPut(t, w, "q/a", "1")
			if err := w.Delete(t.Context(), "p/a"); err != nil {
				t.Fatal(err)
			}
		}
		if ev.Type == kvstore.Delete {
			break
		}
	}
	want := []string{"listed ", "put p/a1", "delete p/a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
