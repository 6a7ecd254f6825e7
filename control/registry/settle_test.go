package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// claims writes a claim as its host does, with its own certificate.
func (f *fixture) claims(c mesh.Claim) {
	f.t.Helper()
	value, err := schema.EncodeClaim(c)
	f.must(err)
	_, err = f.etcd.ClientAs(f.t, f.user(c.Node)).Put(f.t.Context(), schema.ClaimKey(c.Node), value, 0)
	f.must(err)
}

func (f *fixture) settled() map[string]mesh.Node {
	f.t.Helper()
	_, err := f.Settle(f.t.Context())
	f.must(err)
	before := f.content()
	if n, err := f.Settle(f.t.Context()); err != nil || n != 0 {
		f.t.Errorf("settling again changed %d, %v", n, err)
	}
	f.unchanged(before)
	nodes, err := f.Nodes(f.t.Context())
	f.must(err)
	out := make(map[string]mesh.Node)
	for _, n := range nodes {
		out[n.Host.Node] = n.Fact
	}
	return out
}

func serialOf(t testing.TB, r control.JoinResponse) string {
	t.Helper()
	cert, err := ca.ParseCertificate([]byte(r.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	return ca.SerialOf(cert)
}

func TestSettle(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	a := f.join("a", "192.0.2.11")
	f.join("b", "192.0.2.12")
	f.settled()

	two := []netip.Addr{netip.MustParseAddr("2001:db8::11"), netip.MustParseAddr("192.0.2.11")}
	c := mesh.Claim{Node: "a", Addresses: append(slices.Clone(two), netip.MustParseAddr("192.0.2.12"), a.Mesh4), Key: wgKey("a"), Port: 4500, Version: "2"}
	f.claims(c)
	if got := f.settled()["a"]; !slices.Equal(got.Addresses, two[1:]) || got.Port != 4500 || got.Version != "2" {
		t.Errorf("before it is seen there: %+v", got)
	}
	f.must(f.Saw(t.Context(), "a", serialOf(t, a), two[0]))
	if got := f.settled()["a"]; !slices.Equal(got.Addresses, two) {
		t.Errorf("after it was seen there: %v", got.Addresses)
	}
	content := f.content()
	e, err := schema.DecodeEndpoint(vms, a.Mesh4.String(), []byte(content[schema.Layout{Cluster: "vms"}.Endpoint(mesh.HostPrefix(a.Mesh4))]))
	if err != nil || e.Host != two[0] {
		t.Errorf("ip entry: %+v, %v", e, err)
	}
	told, err := schema.DecodeRefusals("a", []byte(content[schema.RefusalKey("a")]))
	if err != nil || len(told.Refused) != 2 {
		t.Errorf("told %+v, %v", told, err)
	}
	c.Addresses = two
	f.claims(c)
	f.settled()
	if told, left := f.content()[schema.RefusalKey("a")]; left {
		t.Errorf("still told: %s", told)
	}
}

func TestClaimsThatCannotBeRead(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.join("a", "192.0.2.11")
	before := f.settled()
	for _, value := range []string{"", "{", `{"node":"b"}`, `{"node":"a","addresses":["127.0.0.1"]}`, `{"node":"a","wireGuardKey":"x"}`, `{"node":"a","wireGuardKey":"` + strings.Repeat("x", 100000) + `"}`} {
		_, err := f.etcd.ClientAs(t, f.user("a")).Put(t.Context(), schema.ClaimKey("a"), []byte(value), 0)
		f.must(err)
		if diff := cmp.Diff(before["a"].Addresses, f.settled()["a"].Addresses, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%q: %s", value, diff)
		}
		if told := f.content()[schema.RefusalKey("a")]; told == "" || len(told) > 1000 {
			t.Errorf("%.100q: the host is told %d bytes", value, len(told))
		}
	}
}

func TestSaw(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	serial := serialOf(t, f.join("a", "192.0.2.11"))
	for i := range maxSeen + 4 {
		f.must(f.Saw(t.Context(), "a", serial, netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", 20+i))))
	}
	nodes, err := f.Nodes(t.Context())
	f.must(err)
	h := nodes[0].Host
	if len(h.Seen) != maxSeen || h.Seen[0] != h.LastSeen || h.LastSeen != netip.MustParseAddr("192.0.2.39") {
		t.Errorf("remembers %v, last %v", h.Seen, h.LastSeen)
	}
	before := f.content()
	f.must(f.Saw(t.Context(), "a", serial, netip.MustParseAddr("::ffff:192.0.2.39")))
	for _, who := range [][2]string{{"a", "1234"}, {"b", serial}} {
		if err := f.Saw(t.Context(), who[0], who[1], netip.MustParseAddr("192.0.2.99")); !errors.Is(err, code(control.CodeForbidden)) {
			t.Errorf("%v: %v", who, err)
		}
	}
	f.unchanged(before)
}

// More hosts change than one transaction can carry.
func TestSettleManyHosts(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	const n = 40
	tok := f.token(TokenOptions{Uses: n})
	for i := range n {
		_, err := f.Enrol(t.Context(), joinRequest(t, tok, fmt.Sprintf("h%02d", i), fmt.Sprintf("192.0.2.%d", 10+i)), netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", 10+i)))
		f.must(err)
	}
	for i := range n { // as an administrator's tool would, in one go
		value, err := schema.EncodeClaim(mesh.Claim{Node: fmt.Sprintf("h%02d", i), Key: wgKey(fmt.Sprintf("h%02d", i)), Port: 51871})
		f.must(err)
		_, err = f.store.Put(t.Context(), schema.ClaimKey(fmt.Sprintf("h%02d", i)), value, 0)
		f.must(err)
	}
	if changed, err := f.Settle(t.Context()); err != nil || changed != n {
		t.Errorf("changed %d, %v", changed, err)
	}
	for name, fact := range f.settled() {
		if len(fact.Addresses) != 0 {
			t.Errorf("%s still has %v", name, fact.Addresses)
		}
	}
}

// TestRestlessClaim rewrites a claim, each time to something else that is
// refused, as soon as the claim before it has been judged.
func TestRestlessClaim(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	var log bytes.Buffer
	f.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	f.join("a", "192.0.2.11")
	host := f.etcd.ClientAs(t, f.user("a"))
	commits := 0
	restless := func() {
		commits++
		value, err := schema.EncodeClaim(mesh.Claim{
			Node: "a", Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(commits)})}, Key: wgKey("a"), Port: 1, Version: "1",
		})
		f.must(err)
		_, err = host.Put(t.Context(), schema.ClaimKey("a"), value, 0)
		f.must(err)
	}
	restless()
	f.store.after = restless
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n, err := f.Settle(ctx)
	if err != nil || n == 0 || n > maxRounds {
		t.Errorf("settled %d times, %v: one host keeps the leader busy", n, err)
	}
	if lines := strings.Count(log.String(), "claim refused"); lines != 1 {
		t.Errorf("%d lines about refusals, want 1:\n%s", lines, &log)
	}
	if kv, found, err := f.store.Get(t.Context(), schema.RefusalKey("a")); err != nil || !found || !strings.Contains(string(kv.Value), "198.51.100.") {
		t.Errorf("the host is told %q, %v", kv.Value, err)
	}
}
