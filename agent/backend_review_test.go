package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/review"
	"github.com/plexusmesh/plexus/policy/scenario"
	"github.com/plexusmesh/plexus/state"
)

// hostLabels are those of a host that joined with label.
func hostLabels(t *testing.T, label string) identity.Labels {
	t.Helper()
	args, err := identity.ParseLabelArgs([]string{label})
	if err != nil {
		t.Fatal(err)
	}
	return identity.HostLabels(args, identity.DefaultNamespace, meshEast)
}

var plain = []cmp.Option{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestReviewedMesh(t *testing.T) {
	m := newKnowing(t)
	m.store.Update("mesh", func(tables *state.Tables) {
		for _, n := range []mesh.Node{
			{Name: "new", Cluster: meshEast, Mesh4: netip.MustParseAddr("10.210.0.2")}, // its identity has not come yet
			{Name: "far", Cluster: mesh.Cluster{Name: "west", ID: 2}, Mesh4: netip.MustParseAddr("10.210.0.1")},
		} {
			tables.Nodes[n.ID()] = n
		}
	})
	claims := map[string]mesh.Claim{"web-1": {
		Listening: []mesh.Listener{{Protocol: "TCP", Port: 443}}, Pinholes: []string{"ingress 22/TCP from 192.0.2.0/24"},
	}}
	pg := []mesh.NamedPort{{Name: "pg", Port: 5432, Protocol: "TCP"}}
	want := review.Mesh{
		Cluster: "east", ControlPorts: []uint16{2379, 7443},
		World: policy.World{
			Labels: map[mesh.Identity]identity.Labels{webID: hostLabels(t, "app=web")}, Ports: map[mesh.Identity][]mesh.NamedPort{webID: pg},
		},
		Hosts: []review.Host{{
			Name: "web-1", Identity: webID, Labels: hostLabels(t, "app=web"), Server: true,
			Addresses:  []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.210.0.1")},
			NamedPorts: pg, Listening: claims["web-1"].Listening,
			Pinholes: []datapath.Pinhole{{Direction: policy.Ingress, Protocol: 6, Port: 22, Remote: netip.MustParsePrefix("192.0.2.0/24")}},
		}},
		Terminal: &review.Terminal{Host: "web-1", Remote: netip.MustParseAddr("192.0.2.9"), Port: 22},
	}
	got := m.reviewed(m.store.Snapshot(), claims, &api.Terminal{Remote: netip.MustParseAddr("192.0.2.9"), Port: 22})
	if diff := cmp.Diff(want, got, plain...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := m.reviewed(m.store.Snapshot(), nil, nil); got.Terminal != nil || got.Hosts[0].Listening != nil || got.Hosts[0].Pinholes != nil {
		t.Errorf("what nobody has said is known: %+v", got)
	}
}

// This host knows its own pinholes better than its claim, which may be on its way.
func TestReviewedHostIsThisOne(t *testing.T) {
	hole := datapath.Pinhole{Direction: policy.Ingress, Protocol: 6, Port: 22}
	own := scenario.Host{Name: "web-1", Pinholes: map[datapath.Pinhole]string{hole: "SSH"}}
	got := reviewedHost(own, false, mesh.Claim{Pinholes: []string{"ingress 23/TCP"}})
	if diff := cmp.Diff([]datapath.Pinhole{hole}, got.Pinholes, plain...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a host says and this server does not understand is not known, rather than
// none: a pinhole may be among it.
func TestClaimedPinholes(t *testing.T) {
	if got := claimedPinholes(nil); got != nil {
		t.Errorf("none claimed: %v", got)
	}
	if got := claimedPinholes([]string{}); got == nil || len(got) != 0 {
		t.Errorf("a host without pinholes: %v, want them known to be none", got)
	}
	if got := claimedPinholes([]string{"ingress 22/TCP", "through the wall"}); got != nil {
		t.Errorf("one that makes no sense: %v", got)
	}
}

func TestPending(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	if p := pending(schema.PolicyRevision{Revision: 3}, now); p != nil {
		t.Errorf("a revision that stands is pending: %+v", p)
	}
	r := schema.PolicyRevision{Revision: 3, WindowSeconds: 60, ConfirmBy: now.Add(59600 * time.Millisecond)}
	for at, want := range map[time.Time]int64{now: 60, now.Add(time.Hour): 0} {
		if p := pending(r, at); p == nil || p.Revision != 3 || p.Seconds != want || !p.ConfirmBy.Equal(r.ConfirmBy) {
			t.Errorf("at %v: %+v, want %d s", at, p, want)
		}
	}
}

// A review counts for the change that was reviewed, to the revision that it was
// made to, and not for long.
func TestPassedReviews(t *testing.T) {
	now, three, four := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), uint64(3), uint64(4)
	change := proposal{store: []policy.Policy{{Source: "a"}}, remove: []string{"b"}}
	var p passed
	zero := uint64(0)
	if p.has(change.digest(), &zero, now) || p.has([32]byte{}, &zero, now) {
		t.Error("a review counts that nobody has made")
	}
	p.note(change.digest(), three, now)
	for _, tt := range []struct {
		name   string
		change proposal
		base   *uint64
		after  time.Duration
		want   bool
	}{
		{"the same", proposal{store: []policy.Policy{{Source: "a", File: "another"}}, remove: []string{"b"}}, &three, passedFor - 1, true},
		{"later", change, &three, passedFor, false},
		{"to another revision", change, &four, 0, false},
		{"to any revision", change, nil, 0, false},
		{"another document", proposal{store: []policy.Policy{{Source: "c"}}, remove: []string{"b"}}, &three, 0, false},
		{"another deletion", proposal{store: []policy.Policy{{Source: "a"}}}, &three, 0, false},
		{"for nobody", proposal{store: change.store, remove: change.remove, allowEmpty: true}, &three, 0, false},
	} {
		if got := p.has(tt.change.digest(), tt.base, now.Add(tt.after)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
