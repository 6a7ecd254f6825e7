package registry

import (
	"errors"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

func TestRemoveNodeLeavesOnlyTheRevocation(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	tok := f.token(TokenOptions{})
	before := f.content()
	got, err := f.Enrol(t.Context(), joinRequest(t, tok, "n", "192.0.2.11"), netip.MustParseAddr("192.0.2.11"))
	f.must(err)
	leaf, err := ca.ParseCertificate([]byte(got.Certificate))
	f.must(err)
	serial := ca.SerialOf(leaf)
	f.must(f.Check(t.Context(), "n", serial))
	own := f.etcd.ClientAs(t, f.user("n"))
	_, err = own.Put(t.Context(), schema.LiveKey("n"), []byte("{}"), 0)
	f.must(err)
	watching := make(chan struct{})
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		for ev := range own.ListAndWatch(t.Context(), schema.PoliciesPrefix) {
			switch ev.Type {
			case kvstore.Listed:
				close(watching)
			case kvstore.Lost:
				return
			}
		}
	}()
	<-watching

	if err := f.RemoveNode(t.Context(), "n", Removal{Serial: "1234"}); !errors.Is(err, code(control.CodeNotFound)) {
		t.Errorf("removed by another's certificate: %v", err)
	}
	f.must(f.RemoveNode(t.Context(), "n", Removal{Author: "admin", Reason: "gone"}))
	select {
	case <-lost:
	case <-time.After(10 * time.Second):
		t.Error("a removed host goes on watching")
	}
	if _, _, err := own.Get(t.Context(), schema.ConfigKey); !errors.Is(err, kvstore.ErrUnauthenticated) && !errors.Is(err, kvstore.ErrPermission) {
		t.Errorf("a removed host reads: %v", err)
	}
	after := f.content()
	revoked, err := schema.DecodeRevoked(serial, []byte(after[schema.RevokedKey(serial)]))
	if err != nil || revoked.Node != "n" || revoked.Reason != "gone" || revoked.Expires.IsZero() {
		t.Errorf("revocation: %+v, %v", revoked, err)
	}
	delete(after, schema.RevokedKey(serial))
	maps.DeleteFunc(after, func(k, _ string) bool { return k == schema.TokenKey(tok.ID()) })
	maps.DeleteFunc(before, func(k, _ string) bool { return k == schema.TokenKey(tok.ID()) })
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("left behind: %s", diff)
	}
	if err := f.Check(t.Context(), "n", serial); !errors.Is(err, code(control.CodeForbidden)) {
		t.Errorf("its certificate: %v", err)
	}
	if err := f.RemoveNode(t.Context(), "n", Removal{}); !errors.Is(err, code(control.CodeNotFound)) {
		t.Errorf("again: %v", err)
	}
	f.join("n", "192.0.2.11") // the name is free
	if _, err := own.Put(t.Context(), schema.ClaimKey("n"), []byte("{}"), 0); !errors.Is(err, kvstore.ErrUnauthenticated) && !errors.Is(err, kvstore.ErrPermission) {
		t.Errorf("the certificate of the removed host speaks for the next one of its name: %v", err)
	}
}

func TestInterruptedRemovalIsFinished(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.join("n", "192.0.2.11")
	user := f.user("n")
	f.store.fail["delete user"] = errors.New("planted")
	if err := f.RemoveNode(t.Context(), "n", Removal{}); err == nil {
		t.Fatal("no error")
	}
	if nodes, err := f.Nodes(t.Context()); err != nil || len(nodes) != 0 {
		t.Errorf("still listed: %v, %v", nodes, err)
	}
	if _, err := f.Enrol(t.Context(), joinRequest(t, f.token(TokenOptions{}), "n"), netip.Addr{}); !errors.Is(err, code(control.CodeUnavailable)) {
		t.Errorf("its name before the end: %v", err)
	}
	f.must(f.RemoveNode(t.Context(), "n", Removal{}))
	content := f.content()
	if _, left := content["user "+user]; left {
		t.Error("its user is left")
	}
	if _, left := content[schema.HostKey("n")]; left {
		t.Error("its record is left")
	}
}

func TestHostCanWriteOnlyItsOwn(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.join("a", "192.0.2.11")
	f.join("b", "192.0.2.12")
	client := f.etcd.ClientAs(t, f.user("a"))
	layout := schema.Layout{Cluster: "vms"}
	for _, key := range []string{
		schema.ClaimKey("b"), schema.LiveKey("b"), schema.HostKey("a"), schema.TokenKey("0011223344556677"), schema.PolicyKey("p"),
		schema.PolicyRevisionKey, schema.PolicyHistoryKey(1), schema.ConfigKey, schema.EnrolmentKey, schema.RefusalKey("a"), schema.RevokedKey("1"),
		layout.Node("a"), layout.Node("b"), layout.Endpoint(netip.MustParsePrefix("10.210.0.2/32")), layout.Identity(459008),
		schema.ClusterConfigKey("vms"), schema.HeartbeatKey, layout.Synced(schema.Nodes),
	} {
		if _, err := client.Put(t.Context(), key, []byte("x"), 0); !errors.Is(err, kvstore.ErrPermission) {
			t.Errorf("write %s: %v", key, err)
		}
	}
	for _, prefix := range []string{schema.TokensPrefix, schema.HostsPrefix, schema.ClaimsPrefix, schema.AuditPrefix, schema.PolicyHistoryPrefix, schema.RefusalKey("b")} {
		if _, _, err := client.List(t.Context(), prefix); !errors.Is(err, kvstore.ErrPermission) {
			t.Errorf("read %s: %v", prefix, err)
		}
	}
	for _, key := range []string{schema.ClaimKey("a"), schema.LiveKey("a")} {
		if _, err := client.Put(t.Context(), key, []byte("x"), 0); err != nil {
			t.Errorf("write %s: %v", key, err)
		}
	}
	if _, _, err := client.Get(t.Context(), schema.RefusalKey("a")); err != nil {
		t.Errorf("read own refusals: %v", err)
	}
}
