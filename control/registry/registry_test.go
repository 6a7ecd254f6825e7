package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

func TestEnrol(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	tok := f.token(TokenOptions{Labels: map[string]string{"app": "web"}, Namespace: "prod"})
	r := joinRequest(t, tok, "web-1", "192.0.2.11", "198.51.100.1")
	got, err := f.Enrol(t.Context(), r, netip.MustParseAddr("::ffff:192.0.2.11"))
	f.must(err)

	first, _ := identity.Range(vms.ID)
	id := first + identity.MinimalNumber
	labels := identity.HostLabels(map[string]string{"app": "web"}, "prod", vms)
	if got.Mesh4 != netip.MustParseAddr("10.210.0.1") || got.Mesh6 != netip.MustParseAddr("fd01:2:3::1") ||
		mesh.Identity(got.Identity) != id || got.Labels != labels.String() || got.Namespace != "prod" || got.Cluster != "vms" || got.ClusterID != 7 {
		t.Errorf("became %+v", got)
	}
	nodes, err := f.Nodes(t.Context())
	f.must(err)
	if len(nodes) != 1 || !slices.Equal(nodes[0].Fact.Addresses, []netip.Addr{netip.MustParseAddr("192.0.2.11")}) || nodes[0].Fact.Key != wgKey("web-1") {
		t.Errorf("facts: %+v", nodes)
	}
	content := f.content()
	layout := schema.Layout{Cluster: "vms"}
	for _, p := range []string{"10.210.0.1/32", "fd01:2:3::1/128"} {
		prefix := netip.MustParsePrefix(p)
		e, err := schema.DecodeEndpoint(vms, schema.EndpointName(prefix), []byte(content[layout.Endpoint(prefix)]))
		want := mesh.Endpoint{Prefix: prefix, Identity: id, Host: netip.MustParseAddr("192.0.2.11"), Key: 255, Namespace: "prod", Name: "web-1", ServiceAccount: "default"}
		if err != nil || !e.Equal(want) {
			t.Errorf("ip entry %s: %+v, %v", p, e, err)
		}
	}
	if content[layout.Identity(id)] != labels.String() {
		t.Errorf("identity: %q", content[layout.Identity(id)])
	}
	refusals, err := schema.DecodeRefusals("web-1", []byte(content[schema.RefusalKey("web-1")]))
	if err != nil || len(refusals.Refused) != 1 || refusals.Refused[0].Value != "198.51.100.1" {
		t.Errorf("refusals: %+v, %v", refusals, err)
	}
	for key, value := range content {
		if strings.Contains(value, tok.Secret()) {
			t.Errorf("%s holds the secret", key)
		}
	}
}

func TestIdentitiesAreShared(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	tok := f.token(TokenOptions{Uses: 2, Labels: map[string]string{"app": "web"}})
	var ids []uint32
	for i, tok := range []token.Token{tok, tok, f.token(TokenOptions{Labels: map[string]string{"app": "db"}})} {
		got, err := f.Enrol(t.Context(), joinRequest(t, tok, fmt.Sprintf("h%d", i)), netip.Addr{})
		f.must(err)
		ids = append(ids, got.Identity)
	}
	if ids[0] != ids[1] || ids[2] != ids[0]+1 {
		t.Errorf("identities %v", ids)
	}
	listed, err := f.Identities(t.Context())
	f.must(err)
	if len(listed) != 2 || !slices.Equal(listed[0].Nodes, []string{"h0", "h1"}) {
		t.Errorf("listed %+v", listed)
	}
	f.must(f.RemoveNode(t.Context(), "h0", Removal{}))
	f.must(f.RemoveNode(t.Context(), "h1", Removal{}))
	if listed, err = f.Identities(t.Context()); err != nil || len(listed) != 1 || uint32(listed[0].ID) != ids[2] {
		t.Errorf("after the last user left: %+v, %v", listed, err)
	}
}

func TestRefusedJoinsLeaveNothing(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.join("taken", "192.0.2.11")
	usedUp, revoked, good := f.token(TokenOptions{}), f.token(TokenOptions{}), f.token(TokenOptions{Uses: 3})
	if _, err := f.Enrol(t.Context(), joinRequest(t, usedUp, "first"), netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	f.must(f.RevokeToken(t.Context(), revoked.ID()))
	expired := f.expire(f.token(TokenOptions{}))
	foreign, err := token.New([]string{"192.0.2.1:7443"}, [32]byte{})
	f.must(err)
	guess := joinRequest(t, good, "guess")
	guess.Secret = foreign.Secret()
	clone := joinRequest(t, good, "clone")
	clone.Key = wgKey("taken").String()
	badCSR := joinRequest(t, good, "csr")
	badCSR.CSR = "nonsense"
	badID := joinRequest(t, good, "id")
	badID.TokenID = "../hosts/taken"

	for name, tt := range map[string]struct {
		r    control.JoinRequest
		code control.Code
		says string
	}{
		"used up":      {joinRequest(t, usedUp, "n"), control.CodeTokenUsedUp, "used up"},
		"revoked":      {joinRequest(t, revoked, "n"), control.CodeTokenRevoked, "was revoked at"},
		"expired":      {joinRequest(t, expired, "n"), control.CodeTokenExpired, "has expired at"},
		"foreign":      {joinRequest(t, foreign, "n"), control.CodeTokenUnknown, "another mesh"},
		"wrong secret": {guess, control.CodeTokenUnknown, "not known"},
		"odd id":       {badID, control.CodeTokenUnknown, "not known"},
		"name in use":  {joinRequest(t, good, "taken"), control.CodeNameInUse, "plexus node remove taken"},
		"key in use":   {clone, control.CodeKeyInUse, "host taken has this host's WireGuard key"},
		"bad request":  {badCSR, control.CodeInvalid, "certificate request"},
		"slashes":      {joinRequest(t, good, "a/b"), control.CodeInvalid, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			before := f.content()
			_, err := f.Enrol(t.Context(), tt.r, netip.MustParseAddr("192.0.2.99"))
			if !errors.Is(err, code(tt.code)) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			f.unchanged(before)
		})
	}
}

// expire rewrites the stored token as one whose time has passed.
func (f *fixture) expire(tok token.Token) token.Token {
	f.t.Helper()
	v, err := f.Service.token(f.t.Context(), tok.ID())
	f.must(err)
	v.Expires = time.Now().Add(-time.Minute)
	value, err := schema.EncodeToken(v.Token)
	f.must(err)
	_, err = f.store.Put(f.t.Context(), schema.TokenKey(tok.ID()), value, 0)
	f.must(err)
	return tok
}

func TestFullMesh(t *testing.T) {
	f := newMesh(t, "10.210.0.0/30")
	f.join("a", "192.0.2.11")
	f.join("b", "192.0.2.12")
	tok := f.token(TokenOptions{})
	before := f.content()
	if _, err := f.Enrol(t.Context(), joinRequest(t, tok, "c"), netip.Addr{}); !errors.Is(err, code(control.CodeMeshFull)) {
		t.Errorf("third host in a pool for two: %v", err)
	}
	f.unchanged(before)
	f.must(f.RemoveNode(t.Context(), "a", Removal{}))
	if got, err := f.Enrol(t.Context(), joinRequest(t, tok, "c"), netip.Addr{}); err != nil || got.Mesh4 != netip.MustParseAddr("10.210.0.1") {
		t.Errorf("after a host left: %v, %v", got.Mesh4, err)
	}
}

// A failure of any step leaves nothing; an answer that got lost is found out.
func TestFailuresLeaveNothing(t *testing.T) {
	down := &kvstore.Error{Op: "test", Cause: kvstore.ErrUnavailable, Err: errors.New("planted")}
	other := errors.New("planted")
	for _, tt := range []struct {
		name  string
		plant func(*planted)
		joins bool
	}{
		{"settings not read", func(p *planted) { p.fail["read settings"] = down }, false},
		{"settings not read in the middle", func(p *planted) { p.fail["read settings"] = down; p.later("read settings"); p.later("read settings") }, false},
		{"user not created", func(p *planted) { p.fail["ensure user"] = down }, false},
		{"user created, answer lost", func(p *planted) { p.broken["ensure user"] = down }, false},
		{"reservation refused", func(p *planted) { p.fail["commit"] = other }, false},
		{"reservation not made", func(p *planted) { p.fail["commit"] = down }, true},
		{"reservation made, answer lost", func(p *planted) { p.broken["commit"] = down }, true},
		{"publication refused", func(p *planted) { p.fail["commit"] = other; p.later("commit") }, false},
		{"publication not made", func(p *planted) { p.fail["commit"] = down; p.later("commit") }, true},
		{"published, answer lost", func(p *planted) { p.broken["commit"] = down; p.later("commit") }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newMesh(t, "10.210.0.0/16")
			tok := f.token(TokenOptions{})
			before := f.content()
			tt.plant(f.store)
			_, err := f.Enrol(t.Context(), joinRequest(t, tok, "n"), netip.Addr{})
			if (err == nil) != tt.joins {
				t.Fatalf("join: %v", err)
			}
			if !tt.joins {
				f.unchanged(before)
				_, err = f.Enrol(t.Context(), joinRequest(t, tok, "n"), netip.Addr{})
				f.must(err) // the token still has its use
			}
			if list, err := f.Tokens(t.Context()); err != nil || list[0].State != TokenUsedUp {
				t.Errorf("token: %+v, %v", list, err)
			}
		})
	}
}

// What a server that died leaves is swept, and not before its time.
func TestSweep(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	tok := f.token(TokenOptions{})
	before := f.content()
	// The user is created, but its answer is lost and taking it back fails too: as after a crash.
	f.store.broken["ensure user"] = errors.New("planted")
	f.store.fail["delete user"] = errors.New("planted")
	if _, err := f.Enrol(t.Context(), joinRequest(t, tok, "n"), netip.Addr{}); err == nil {
		t.Fatal("joined in spite of a planted failure")
	}
	f.must(f.Sweep(t.Context()))
	if _, left := f.content()[schema.HostKey("n")]; !left {
		t.Fatal("swept before its time")
	}
	f.age("n")
	f.must(f.Sweep(t.Context()))
	f.unchanged(before)
}

func TestSweepDropsStaleRecords(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	fresh, stale := f.token(TokenOptions{}), f.token(TokenOptions{})
	before := f.content()
	v, err := f.Service.token(t.Context(), stale.ID())
	f.must(err)
	v.Expires = time.Now().Add(-keepTokens - time.Hour)
	token, err := schema.EncodeToken(v.Token)
	f.must(err)
	for serial, end := range map[string]time.Time{"aa": time.Now().Add(-time.Hour), "bb": time.Now().Add(time.Hour)} {
		value, err := schema.EncodeRevoked(schema.Revoked{Serial: serial, Expires: end})
		f.must(err)
		_, err = f.store.Put(t.Context(), schema.RevokedKey(serial), value, 0)
		f.must(err)
	}
	_, err = f.store.Put(t.Context(), schema.TokenKey(stale.ID()), token, 0)
	f.must(err)
	f.must(f.Sweep(t.Context()))
	after := f.content()
	if _, kept := after[schema.RevokedKey("bb")]; !kept {
		t.Error("a revocation in force was dropped")
	}
	delete(after, schema.RevokedKey("bb"))
	delete(before, schema.TokenKey(stale.ID()))
	if diff := cmp.Diff(before, after); diff != "" || after[schema.TokenKey(fresh.ID())] == "" {
		t.Error(diff)
	}
}

// age makes the phase of a host look old.
func (f *fixture) age(node string) {
	f.t.Helper()
	kv, _, err := f.store.Get(f.t.Context(), schema.HostKey(node))
	f.must(err)
	h, err := schema.DecodeHost(node, kv.Value)
	f.must(err)
	h.Changed = time.Now().Add(-time.Hour)
	value, err := schema.EncodeHost(h)
	f.must(err)
	_, err = f.store.Put(f.t.Context(), schema.HostKey(node), value, 0)
	f.must(err)
}

func TestConcurrentJoinsOnTwoServers(t *testing.T) {
	const uses, tries = 5, 12
	f := newMesh(t, "10.210.0.0/16")
	second, err := New(Options{Store: f.etcd.Client(t), CA: f.opts.CA, Logger: f.opts.Logger})
	f.must(err)
	tok := f.token(TokenOptions{Uses: uses})
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		joined  = map[netip.Addr]bool{}
		ids     = map[uint32]bool{}
		usedUp  int
		strange []error
	)
	for i := range tries {
		r := joinRequest(t, tok, fmt.Sprintf("h%d", i))
		wg.Go(func() {
			got, err := []*Service{f.Service, second}[i%2].Enrol(t.Context(), r, netip.Addr{})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				joined[got.Mesh4], ids[got.Identity] = true, true
			case errors.Is(err, code(control.CodeTokenUsedUp)):
				usedUp++
			default:
				strange = append(strange, err)
			}
		})
	}
	wg.Wait()
	if len(joined) != uses || usedUp != tries-uses || len(strange) != 0 || len(ids) != 1 {
		t.Errorf("%d joined, %d found the token used up, %d identities, others: %v", len(joined), usedUp, len(ids), strange)
	}
	nodes, err := f.Nodes(t.Context())
	if err != nil || len(nodes) != uses {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
}

func TestRepeatedJoinIsRecognised(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	r := joinRequest(t, f.token(TokenOptions{}), "n", "192.0.2.11")
	first, err := f.Enrol(t.Context(), r, netip.MustParseAddr("192.0.2.11"))
	f.must(err)
	again, err := f.Enrol(t.Context(), r, netip.MustParseAddr("192.0.2.11"))
	f.must(err)
	if again.Mesh4 != first.Mesh4 || again.Identity != first.Identity || again.Certificate == first.Certificate {
		t.Errorf("first %v, again %v", first.Mesh4, again.Mesh4)
	}
	other := joinRequest(t, f.token(TokenOptions{}), "n", "192.0.2.11")
	if _, err := f.Enrol(t.Context(), other, netip.Addr{}); !errors.Is(err, code(control.CodeNameInUse)) {
		t.Errorf("another token: %v", err)
	}
}

func TestTokens(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	for name, o := range map[string]TokenOptions{
		"for a server": {Server: true}, "for an ephemeral host": {Ephemeral: true}, "negative time": {TTL: -1}, "ten years": {TTL: 10 * maxTTL}, "negative uses": {Uses: -1},
		"bad label": {Labels: map[string]string{"io.cilium.k8s.policy.cluster": "x"}}, "bad namespace": {Namespace: "a/b"},
	} {
		if _, _, err := f.CreateToken(t.Context(), o); !errors.Is(err, code(control.CodeInvalid)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tok := f.token(TokenOptions{Uses: 3, Labels: map[string]string{"app": "web"}, Description: "d", Author: "me"})
	list, err := f.Tokens(t.Context())
	f.must(err)
	want := []Token{{ID: tok.ID(), State: TokenValid, Uses: 3, UsesLeft: 3, Labels: map[string]string{"app": "web"}, Namespace: "default", Description: "d", Author: "me"}}
	if diff := cmp.Diff(want, list, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Created" || p.String() == "Expires" }, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
	if left := time.Until(list[0].Expires); left > DefaultTTL || left < DefaultTTL-time.Minute {
		t.Errorf("lives for %v", left)
	}
	f.expire(tok)
	if list, err = f.Tokens(t.Context()); err != nil || list[0].State != TokenExpired {
		t.Errorf("%+v, %v", list, err)
	}
	f.must(f.RevokeToken(t.Context(), tok.ID()))
	f.must(f.RevokeToken(t.Context(), tok.ID()))
	if list, err = f.Tokens(t.Context()); err != nil || list[0].State != TokenRevoked {
		t.Errorf("%+v, %v", list, err)
	}
	if err := f.RevokeToken(t.Context(), "0011223344556677"); !errors.Is(err, code(control.CodeNotFound)) {
		t.Errorf("unknown: %v", err)
	}
	if err := f.RevokeToken(t.Context(), "x"); !errors.Is(err, code(control.CodeInvalid)) {
		t.Errorf("malformed: %v", err)
	}
}

// Nobody who has no good token holds up those who have.
func TestBadTokensDoNotQueue(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	stranger, err := token.New([]string{"192.0.2.1:7443"}, f.opts.CA.Hash())
	f.must(err)
	f.mu.Lock() // as while another host joins
	defer f.mu.Unlock()
	answer := make(chan error, 1)
	go func() {
		_, err := f.Enrol(t.Context(), joinRequest(t, stranger, "n"), netip.Addr{})
		answer <- err
	}()
	select {
	case err := <-answer:
		if !errors.Is(err, code(control.CodeTokenUnknown)) {
			t.Errorf("answer %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no answer while another host joins")
	}
}
