package plan

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

var east = mesh.Cluster{Name: "east", ID: 1}

// world is what a mesh may say at one moment.
type world struct {
	hosts    []host
	policies string // YAML
}

type host struct {
	n   int    // addresses end in it
	app string // label
}

func (h host) name() string { return fmt.Sprintf("h%d", h.n) }

func (h host) id() mesh.Identity { return mesh.Identity(1<<16 + 256 + h.n) }

func addr(format string, n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, n)) }

func (h host) node() mesh.Node {
	return mesh.Node{
		Name: h.name(), Cluster: east, Key: mesh.Key{byte(h.n)}, Port: mesh.WireGuardPort,
		Addresses: []netip.Addr{addr("192.0.2.%d", h.n), addr("2001:db8::%d", h.n)},
		Mesh4:     addr("10.210.0.%d", h.n), Mesh6: addr("fd00::%d", h.n),
	}
}

func (h host) endpoints() []mesh.Endpoint {
	var out []mesh.Endpoint
	for _, p := range h.node().MeshPrefixes() {
		out = append(out, mesh.Endpoint{Prefix: p, Identity: h.id(), Host: addr("192.0.2.%d", h.n), Key: mesh.EncryptedWireGuard})
	}
	return out
}

func (h host) labels() identity.Labels {
	return identity.HostLabels(map[string]string{"app": h.app}, "default", east)
}

// say makes source say exactly w.
func (w world) say(t testing.TB, s *state.Store) {
	t.Helper()
	var policies []policy.Policy
	if w.policies != "" {
		var err error
		if policies, err = policy.Parse("test.yaml", []byte(w.policies)); err != nil {
			t.Fatal(err)
		}
	}
	s.Update("own", func(tables *state.Tables) {
		clear(tables.Nodes)
		clear(tables.Endpoints)
		clear(tables.Identities)
		clear(tables.Policies)
		for _, h := range w.hosts {
			tables.Nodes[h.node().ID()] = h.node()
			tables.Identities[h.id()] = h.labels()
			for _, e := range h.endpoints() {
				tables.Endpoints[e.Prefix] = e
			}
		}
		for _, p := range policies {
			tables.Policies[p.ID()] = p
		}
	})
}

// local is the view of host 1.
func local() Local {
	n := host{n: 1}.node()
	return Local{
		Node: n.Name, Cluster: east, Mesh4: n.Mesh4, Mesh6: n.Mesh6, Device: "plexus0",
		Pools:   []netip.Prefix{netip.MustParsePrefix("10.210.0.0/16"), netip.MustParsePrefix("fd00::/64")},
		Uplinks: []string{"eth0"}, Addresses: n.Addresses, MTU: 1500,
	}
}

func build(t testing.TB, w world) Desired {
	s := state.New("own")
	w.say(t, s)
	return Build(s.Snapshot(), local())
}

const dbPolicy = `
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: db}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "5432", protocol: TCP}]}]
`

var (
	db    = host{1, "db"}
	web   = host{2, "web"}
	other = host{3, "other"}
	full  = world{hosts: []host{db, web, other}, policies: dbPolicy}
)

func TestAddressesHaveTheIdentityOfTheirHost(t *testing.T) {
	got := build(t, full).IPCache
	want := map[string]datapath.Peer{
		"10.210.0.1/32":   {Identity: db.id(), Flags: datapath.PeerMesh | datapath.PeerLocal},
		"fd00::1/128":     {Identity: db.id(), Flags: datapath.PeerMesh | datapath.PeerLocal},
		"192.0.2.1/32":    {Identity: db.id(), Flags: datapath.PeerLocal},
		"2001:db8::1/128": {Identity: db.id(), Flags: datapath.PeerLocal},
		"127.0.0.0/8":     {Identity: db.id(), Flags: datapath.PeerLocal},
		"::1/128":         {Identity: db.id(), Flags: datapath.PeerLocal},
		"10.210.0.2/32":   {Identity: web.id(), Flags: datapath.PeerMesh},
		"fd00::2/128":     {Identity: web.id(), Flags: datapath.PeerMesh},
		"192.0.2.2/32":    {Identity: web.id()},
		"2001:db8::2/128": {Identity: web.id()},
		"10.210.0.3/32":   {Identity: other.id(), Flags: datapath.PeerMesh},
		"fd00::3/128":     {Identity: other.id(), Flags: datapath.PeerMesh},
		"192.0.2.3/32":    {Identity: other.id()},
		"2001:db8::3/128": {Identity: other.id()},
	}
	have := make(map[string]datapath.Peer, len(got))
	for p, peer := range got {
		have[p.String()] = peer
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// Were it now this host and now that one, every pass would write the map and have
// all flows judged again.
func TestAnAddressOfTwoHostsGoesToAlwaysTheSame(t *testing.T) {
	s := state.New("own")
	full.say(t, s)
	s.Update("own", func(tables *state.Tables) {
		n := tables.Nodes[web.node().ID()]
		n.Addresses = other.node().Addresses
		tables.Nodes[n.ID()] = n
	})
	first := Build(s.Snapshot(), local()).IPCache
	for range 20 { // the order of a map's keys changes
		if diff := cmp.Diff(first, Build(s.Snapshot(), local()).IPCache, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Fatalf("the same state was planned in two ways:\n%s", diff)
		}
	}
}

func TestVerdictsFollowPolicy(t *testing.T) {
	v := build(t, full).Verdicts
	if !v.Enforced[policy.Ingress] || v.Enforced[policy.Egress] {
		t.Errorf("enforced %v, want ingress alone", v.Enforced)
	}
	key := policy.Key{Identity: web.id(), Direction: policy.Ingress, Protocol: 6, Port: 5432, PortBits: 16}
	if e, ok := v.Entries[key]; !ok || e.Deny {
		t.Errorf("entry for web on 5432/TCP: %+v, %v; want an allow", e, ok)
	}
}

func TestPoolsNeverFollowTheDefaultRoute(t *testing.T) {
	d := build(t, full)
	for _, pool := range local().Pools {
		if !slices.ContainsFunc(d.Routes, func(r datapath.Route) bool { return r.Prefix == pool && r.Unreachable }) {
			t.Errorf("no unreachable route for %s: without the tunnel device its traffic would leave in plaintext", pool)
		}
	}
}

// A host whose own identity or labels are unknown would take itself for one
// that no policy selects, and open itself.
func TestAHostThatTheMeshDoesNotKnowHasNoIdentity(t *testing.T) {
	if got := build(t, world{hosts: []host{web}, policies: dbPolicy}).Self; got != identity.Unknown {
		t.Errorf("Self = %d for a host without endpoints", got)
	}
	s := state.New("own")
	full.say(t, s)
	s.Update("own", func(tables *state.Tables) { delete(tables.Identities, db.id()) })
	if got := Build(s.Snapshot(), local()).Self; got != identity.Unknown {
		t.Errorf("Self = %d for a host whose labels are unknown", got)
	}
}

func TestAnAddressWithoutLabelsIsLeftOutAndSaid(t *testing.T) {
	s := state.New("own")
	full.say(t, s)
	s.Update("own", func(tables *state.Tables) { delete(tables.Identities, web.id()) })
	d := Build(s.Snapshot(), local())
	if p, ok := d.IPCache[netip.MustParsePrefix("10.210.0.2/32")]; ok {
		t.Errorf("an address with unknown labels is known to the datapath as %+v", p)
	}
	if !slices.ContainsFunc(d.Warnings, func(w Warning) bool {
		return w.Code == "identity-unknown" && strings.Contains(w.Text, "10.210.0.2/32")
	}) {
		t.Errorf("warnings %v, want one about the address", d.Warnings)
	}
}

func TestPeersOnOtherPortsStayReachable(t *testing.T) {
	s := state.New("own")
	full.say(t, s)
	s.Update("own", func(tables *state.Tables) {
		n := tables.Nodes["east/h2"]
		n.Port = 53 // which must not open the way to every name server
		tables.Nodes["east/h2"] = n
	})
	hole := func(remote string) datapath.Pinhole {
		return datapath.Pinhole{Direction: policy.Egress, Protocol: 17, Port: 53, Remote: netip.MustParsePrefix(remote)}
	}
	common := datapath.Pinhole{Direction: policy.Egress, Protocol: 17, Port: mesh.WireGuardPort}
	for _, tt := range []struct {
		name    string
		remotes []netip.Prefix
		want    []datapath.Pinhole
	}{
		{"anywhere", []netip.Prefix{{}}, []datapath.Pinhole{common, hole("192.0.2.2/32"), hole("2001:db8::2/128")}},
		{"in a prefix", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []datapath.Pinhole{common, hole("192.0.2.2/32")}},
		{"elsewhere", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, []datapath.Pinhole{common}},
		{"nowhere", nil, []datapath.Pinhole{common}},
		{"wider by itself", []netip.Prefix{{}}, []datapath.Pinhole{common, hole("192.0.2.0/24"), hole("2001:db8::2/128")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := local()
			l.Services, l.PeerPinholes = map[datapath.Pinhole]string{common: "WireGuard of peers"}, tt.remotes
			if tt.name == "wider by itself" {
				l.Services[hole("192.0.2.0/24")] = "configured"
			}
			got := slices.Collect(maps.Keys(Build(s.Snapshot(), l).Pinholes))
			unordered := cmpopts.SortSlices(func(a, b datapath.Pinhole) bool { return a.String() < b.String() })
			if diff := cmp.Diff(tt.want, got, unordered, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("pinholes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWarnsOfPeersThatShareAKey(t *testing.T) {
	s := state.New("own")
	full.say(t, s)
	s.Update("own", func(tables *state.Tables) {
		n := tables.Nodes["east/h3"]
		n.Key = web.node().Key
		tables.Nodes["east/h3"] = n
	})
	d := Build(s.Snapshot(), local())
	if len(d.Peers) != 0 {
		t.Errorf("peers %v, want none: guessing who is genuine hands traffic over", d.Peers)
	}
	if !slices.ContainsFunc(d.Warnings, func(w Warning) bool { return w.Code == "peer-refused" }) {
		t.Errorf("warnings %v", d.Warnings)
	}
}

// variants yields rewrites of one history. Whatever the route taken, the plan
// after the last step must be the plan of that step alone.
func variants(steps []world) iter.Seq2[string, []world] {
	return func(yield func(string, []world) bool) {
		var gaps []world
		for _, s := range steps {
			gaps = append(gaps, world{}, s)
		}
		back := slices.Clone(steps)
		slices.Reverse(back)
		_ = yield("as written", steps) &&
			yield("only the end", steps[len(steps)-1:]) &&
			yield("empty between", gaps) &&
			yield("there and back", append(back, steps...)) &&
			yield("every step twice", slices.Concat(steps, steps))
	}
}

func TestThePlanDependsOnTheLastStateAlone(t *testing.T) {
	histories := map[string][]world{
		"hosts come":     {{}, {hosts: []host{db}}, {hosts: []host{db, web}}, full},
		"hosts leave":    {full, {hosts: []host{db, web}, policies: dbPolicy}, {hosts: []host{db}, policies: dbPolicy}},
		"labels change":  {full, {hosts: []host{db, {2, "intruder"}, other}, policies: dbPolicy}},
		"policy comes":   {{hosts: []host{db, web}}, {hosts: []host{db, web}, policies: dbPolicy}},
		"policy goes":    {full, {hosts: []host{db, web, other}}},
		"we are unknown": {full, {hosts: []host{web, other}, policies: dbPolicy}},
	}
	for name, steps := range histories {
		want := build(t, steps[len(steps)-1])
		for variant, seq := range variants(steps) {
			t.Run(name+"/"+variant, func(t *testing.T) {
				s := state.New("own")
				var b Builder
				var got Desired
				for _, w := range seq {
					w.say(t, s)
					got = b.Build(s.Snapshot(), local())
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{}),
					cmpopts.SortSlices(func(a, b Warning) bool { return a.Text < b.Text })); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func BenchmarkBuild5000Hosts(b *testing.B) {
	w := world{policies: dbPolicy}
	s := state.New("own")
	w.say(b, s)
	s.Update("own", func(tables *state.Tables) {
		for i := range 5000 {
			n := mesh.Node{
				Name: fmt.Sprintf("n%d", i), Cluster: east, Key: mesh.Key{byte(i), byte(i >> 8), 1}, Port: mesh.WireGuardPort,
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})},
				Mesh4:     netip.AddrFrom4([4]byte{10, 210, byte(i >> 8), byte(i)}),
			}
			id := mesh.Identity(1<<16 + 256 + i%200)
			tables.Nodes[n.ID()] = n
			tables.Identities[id] = identity.HostLabels(map[string]string{"app": fmt.Sprint(i % 200)}, "default", east)
			p := mesh.HostPrefix(n.Mesh4)
			tables.Endpoints[p] = mesh.Endpoint{Prefix: p, Identity: id, Host: n.Addresses[0]}
		}
	})
	var builder Builder
	for b.Loop() {
		builder.Build(s.Snapshot(), local())
	}
}
