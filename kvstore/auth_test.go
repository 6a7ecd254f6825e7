package kvstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// enrol makes a host's user and connects with its certificate.
func enrol(t *testing.T, s *kvtest.Server, node string) *kvstore.Client {
	t.Helper()
	if err := s.Client(t).EnsureUser(t.Context(), schema.HostUser(node, ""), schema.HostGrants(node)); err != nil {
		t.Fatalf("enrol %s: %v", node, err)
	}
	return s.ClientAs(t, schema.HostUser(node, ""))
}

// foreign are keys that a host must not write, and those of them that it must
// not even read.
var foreign = []struct {
	key    string
	secret bool
}{
	{schema.ClaimKey("db"), true},
	{schema.ClaimKey("web-2"), true},
	{schema.LiveKey("db"), false},
	{schema.Layout{Cluster: "vms"}.Node("web"), false},
	{schema.Layout{Cluster: "vms"}.Node("db"), false},
	{"cilium/state/ip/v1/default/10.210.0.7", false},
	{"cilium/state/identities/v1/id/2752600", false},
	{schema.ClusterConfigKey("vms"), false},
	{schema.Layout{Cluster: "vms"}.Synced(schema.Nodes), false},
	{schema.HeartbeatKey, false},
	{schema.PolicyKey("allow-all"), false},
	{schema.PolicyRevisionKey, false},
	{schema.PolicyHistoryKey(1), true},
	{schema.ConfigKey, false},
	{schema.RevokedKey("01"), false},
	{schema.TokenKey("t1"), true},
	{schema.HostKey("web"), true},
	{schema.HostKey("db"), true},
	{schema.AuditKey(time.Unix(0, 0), "1"), true},
	{schema.LeaderPrefix("facts") + "1", true},
	{"anything", true},
}

func TestHostMayWriteOnlyItsOwn(t *testing.T) {
	s := kvtest.StartAuth(t)
	admin, host := s.Client(t), enrol(t, s, "web")
	for _, tt := range foreign {
		t.Run(tt.key, func(t *testing.T) {
			if _, err := admin.Put(t.Context(), tt.key, []byte("genuine"), 0); err != nil {
				t.Fatalf("write as admin: %v", err)
			}
			_, err := host.Put(t.Context(), tt.key, []byte("forged"), 0)
			wantRefused(t, "put", err)
			wantRefused(t, "delete", host.Delete(t.Context(), tt.key))
			_, err = host.Commit(t.Context(), nil, []kvstore.Op{kvstore.OpPut(tt.key, []byte("forged"), 0)})
			wantRefused(t, "commit", err)
			kv, ok, err := host.Get(t.Context(), tt.key)
			if tt.secret {
				wantRefused(t, "get", err)
			} else if err != nil || !ok || string(kv.Value) != "genuine" {
				t.Errorf("get = %q, %v, %v; want what the admin wrote", kv.Value, ok, err)
			}
		})
	}
}

func TestHostMayNotListOrWatchSecrets(t *testing.T) {
	s := kvtest.StartAuth(t)
	host := enrol(t, s, "web")
	for _, prefix := range []string{schema.TokensPrefix, schema.HostsPrefix, schema.AuditPrefix, schema.PolicyHistoryPrefix, schema.ClaimsPrefix, "plexus/", "plexus/v1/", "/"} {
		_, _, err := host.List(t.Context(), prefix)
		wantRefused(t, "list "+prefix, err)
		for ev := range host.ListAndWatch(soon(t), prefix) {
			if ev.Type != kvstore.Lost {
				t.Errorf("watch %s: got %v, want to be refused", prefix, ev.Type)
			}
			wantRefused(t, "watch "+prefix, ev.Err)
			break
		}
	}
}

func TestHostMayNotAdministrate(t *testing.T) {
	s := kvtest.StartAuth(t)
	host := enrol(t, s, "web")
	wantRefused(t, "become admin", host.EnsureAdmin(t.Context(), schema.HostUser("web", "")))
	wantRefused(t, "widen rights", host.EnsureUser(t.Context(), schema.HostUser("web", ""), []schema.Grant{{Key: "plexus/", Read: true, Write: true}}))
	wantRefused(t, "delete user", host.DeleteUser(t.Context(), schema.HostUser("db", "")))
	_, err := host.Users(t.Context())
	wantRefused(t, "list users", err)
}

func TestHostMayDoItsWork(t *testing.T) {
	s := kvtest.StartAuth(t)
	admin, host := s.Client(t), enrol(t, s, "web")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := host.Put(ctx, schema.ClaimKey("web"), []byte("claim"), 0); err != nil {
		t.Errorf("write own claim: %v", err)
	}
	lease, err := host.Grant(ctx, 2*time.Second)
	if err != nil {
		t.Fatalf("take a lease: %v", err)
	}
	if _, err := host.Put(ctx, schema.LiveKey("web"), []byte("live"), lease); err != nil {
		t.Errorf("show to be alive: %v", err)
	}
	for _, prefix := range []string{"cilium/state/nodes/v1/vms/", "cilium/", schema.PoliciesPrefix, schema.LivePrefix, schema.ClaimKey("web"), schema.PolicyRevisionKey} {
		watchOne(ctx, t, host, prefix, func(key string) {
			if _, err := admin.Put(ctx, key, []byte("new"), 0); err != nil {
				t.Fatalf("write as admin: %v", err)
			}
		})
	}
}

// watchOne checks that a watch of prefix sees what write then writes there.
func watchOne(ctx context.Context, t *testing.T, c *kvstore.Client, prefix string, write func(key string)) {
	t.Helper()
	key := prefix
	if strings.HasSuffix(prefix, "/") {
		key += "x"
	}
	listed := false
	for ev := range c.ListAndWatch(ctx, prefix) {
		switch {
		case ev.Type == kvstore.Lost:
			t.Fatalf("watch %s: %v", prefix, ev.Err)
		case ev.Type == kvstore.Listed:
			listed = true
			write(key)
		case listed && ev.Type == kvstore.Put && ev.KV.Key == key:
			return
		}
	}
	t.Errorf("watch %s: saw no change", prefix)
}

func TestKeepLeaseAsHost(t *testing.T) {
	s := kvtest.StartAuth(t)
	host := enrol(t, s, "web")
	ctx, cancel := context.WithCancel(t.Context())
	ids := make(chan int64, 4)
	done := make(chan error)
	go func() { done <- host.KeepLease(ctx, 2*time.Second, func(id int64) { ids <- id }) }()
	first := <-ids
	if _, err := host.Put(ctx, schema.LiveKey("web"), nil, first); err != nil {
		t.Fatalf("put under lease: %v", err)
	}
	if err := s.Client(t).Revoke(ctx, first); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	select {
	case second := <-ids:
		if second == first {
			t.Errorf("new lease has the id of the old one")
		}
	case <-time.After(10 * time.Second):
		t.Errorf("no new lease after the old one was lost")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("KeepLease = %v, want nil when asked to stop", err)
	}
}

// TestRoleChangesUnderLoad changes roles while hosts work. Each change makes
// etcd turn requests in flight away; nobody may notice.
func TestRoleChangesUnderLoad(t *testing.T) {
	s := kvtest.StartAuth(t)
	admin, host := s.Client(t), enrol(t, s, "web")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 4)
	for range 4 {
		go func() {
			var err error
			for ctx.Err() == nil && err == nil {
				_, err = host.Put(t.Context(), schema.ClaimKey("web"), []byte("claim"), 0)
			}
			failed <- err
		}()
	}
	for _, node := range []string{"a", "b", "c", "d", "e", "f"} {
		if err := admin.EnsureUser(t.Context(), schema.HostUser(node, ""), schema.HostGrants(node)); err != nil {
			t.Errorf("enrol %s: %v", node, err)
		}
		if err := admin.DeleteUser(t.Context(), schema.HostUser(node, "")); err != nil {
			t.Errorf("remove %s: %v", node, err)
		}
	}
	cancel()
	for range 4 {
		if err := <-failed; err != nil {
			t.Errorf("host under role changes: %v", err)
		}
	}
}

func TestRemovedHostIsRefused(t *testing.T) {
	s := kvtest.StartAuth(t)
	admin, host := s.Client(t), enrol(t, s, "web")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []kvstore.EventType
	for ev := range host.ListAndWatch(ctx, schema.PoliciesPrefix) {
		got = append(got, ev.Type)
		if ev.Type == kvstore.Listed {
			if err := admin.DeleteUser(ctx, schema.HostUser("web", "")); err != nil {
				t.Fatalf("remove host: %v", err)
			}
			s.Disconnect(schema.HostUser("web", ""))
		}
		if errors.Is(ev.Err, kvstore.ErrUnauthenticated) || errors.Is(ev.Err, kvstore.ErrPermission) {
			break
		}
	}
	if ctx.Err() != nil {
		t.Fatalf("events %v: want the watch to end and a new list to be refused", got)
	}
	_, err := host.Put(ctx, schema.ClaimKey("web"), []byte("claim"), 0)
	wantRefused(t, "put after removal", err)
}

func wantRefused(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, kvstore.ErrPermission) && !errors.Is(err, kvstore.ErrUnauthenticated) {
		t.Errorf("%s = %v, want to be refused", what, err)
	}
}
