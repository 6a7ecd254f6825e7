package control

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/mesh"
)

var compareAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func addrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func key(b byte) mesh.Key { return mesh.Key{b} }

// world has the hosts a and b, seen at 192.0.2.1 and .2; both were seen at the
// shared address .9.
func world() World {
	w := World{
		Hosts: map[string]Host{}, Claims: map[string]mesh.Claim{}, Facts: map[string]mesh.Node{},
		Pools: []netip.Prefix{netip.MustParsePrefix("10.210.0.0/16"), netip.MustParsePrefix("fd01::/64")},
	}
	for i, name := range []string{"a", "b"} {
		n := byte(i + 1)
		w.Hosts[name] = Host{
			Node: name, Cluster: mesh.Cluster{Name: "vms", ID: 7}, Key: key(n), Port: 51871,
			Mesh4: netip.AddrFrom4([4]byte{10, 210, 0, n}), Seen: addrs(fmt.Sprintf("192.0.2.%d", n), fmt.Sprintf("2001:db8::%d", n), "192.0.2.9"),
		}
	}
	return w
}

func claim(node string, k mesh.Key, addresses ...string) mesh.Claim {
	return mesh.Claim{Node: node, Key: k, Port: 51871, Version: "1", Addresses: addrs(addresses...)}
}

func TestJudge(t *testing.T) {
	type change = func(*World)
	claims := func(cs ...mesh.Claim) change {
		return func(w *World) {
			for _, c := range cs {
				w.Claims[c.Node] = c
			}
		}
	}
	for _, tt := range []struct {
		name    string
		given   change
		want    []netip.Addr // of a
		key     mesh.Key
		refused []Refusal // of a; reasons only where they are asked for
	}{
		{"a seen address is accepted", claims(claim("a", key(1), "192.0.2.1", "2001:db8::1")), addrs("192.0.2.1", "2001:db8::1"), key(1), nil},
		{"in the order claimed, once", claims(claim("a", key(1), "2001:db8::1", "192.0.2.1", "192.0.2.1")), addrs("2001:db8::1", "192.0.2.1"), key(1), nil},
		{"mapped IPv4 is IPv4", claims(claim("a", key(1), "::ffff:192.0.2.1")), addrs("192.0.2.1"), key(1), nil},
		{
			"an unseen one is refused alone", claims(claim("a", key(1), "198.51.100.1", "192.0.2.1")), addrs("192.0.2.1"), key(1),
			[]Refusal{{"address", "198.51.100.1", "no server has seen the host at it, and no administrator set it"}},
		},
		{"an address of an administrator needs no sighting", func(w *World) {
			h := w.Hosts["a"]
			h.Set = addrs("198.51.100.1")
			w.Hosts["a"] = h
			claims(claim("a", key(1), "198.51.100.1"))(w)
		}, addrs("198.51.100.1"), key(1), nil},
		{
			"another's seen address is refused", claims(claim("a", key(1), "192.0.2.2")), nil, key(1),
			[]Refusal{{"address", "192.0.2.2", "no server has seen the host at it, and no administrator set it"}},
		},
		{"a fact of another is refused", func(w *World) {
			w.Facts["b"] = mesh.Node{Name: "b", Addresses: addrs("192.0.2.9")}
			claims(claim("a", key(1), "192.0.2.9"), claim("b", key(2), "192.0.2.9"))(w)
		}, nil, key(1), []Refusal{{"address", "192.0.2.9", "host b has this address"}}},
		{"a fact that another gave up is free", func(w *World) {
			w.Facts["b"] = mesh.Node{Name: "b", Addresses: addrs("192.0.2.9")}
			claims(claim("a", key(1), "192.0.2.9"), claim("b", key(2), "192.0.2.2"))(w)
		}, addrs("192.0.2.9"), key(1), nil},
		{"an address that an administrator gave to another", func(w *World) {
			h := w.Hosts["b"]
			h.Set = addrs("192.0.2.9")
			w.Hosts["b"] = h
			w.Facts["a"] = mesh.Node{Name: "a", Addresses: addrs("192.0.2.9")}
			claims(claim("a", key(1), "192.0.2.9"))(w)
		}, nil, key(1), []Refusal{{"address", "192.0.2.9", "host b has this address"}}},
		{"silence keeps no address that an administrator gave to another", func(w *World) {
			h := w.Hosts["b"]
			h.Set = addrs("192.0.2.9")
			w.Hosts["b"] = h
			w.Facts["a"] = mesh.Node{Name: "a", Addresses: addrs("192.0.2.9", "192.0.2.1")}
		}, addrs("192.0.2.1"), key(1), nil},
		{"of two claims by name, the first gets it", claims(claim("a", key(1), "192.0.2.9"), claim("b", key(2), "192.0.2.9")), addrs("192.0.2.9"), key(1), nil},
		{"a mesh address, even if seen at it", func(w *World) {
			h := w.Hosts["a"]
			h.Seen = append(h.Seen, addrs("10.210.0.1", "fd01::5")...)
			w.Hosts["a"] = h
			claims(claim("a", key(1), "10.210.0.1", "fd01::5"))(w)
		}, nil, key(1), []Refusal{{"address", "10.210.0.1", "it is a mesh address"}, {"address", "fd01::5", "it is a mesh address"}}},
		{"loopback, even if seen at it", func(w *World) {
			h := w.Hosts["a"]
			h.Seen = append(h.Seen, addrs("127.0.0.1", "fe80::1")...)
			w.Hosts["a"] = h
			claims(claim("a", key(1), "127.0.0.1", "fe80::1%eth0"))(w)
		}, nil, key(1), []Refusal{
			{"address", "127.0.0.1", "it is no unicast address that other hosts can reach"},
			{"address", "fe80::1%eth0", "it is no unicast address that other hosts can reach"},
		}},
		{"another's key", claims(claim("a", key(2), "192.0.2.1")), addrs("192.0.2.1"), key(1), []Refusal{{"key", key(2).String(), "host b has this key"}}},
		{"a key that another has turned to", func(w *World) {
			w.Facts["b"] = mesh.Node{Name: "b", Key: key(5)}
			claims(claim("a", key(5), "192.0.2.1"), claim("b", key(5), "192.0.2.2"))(w)
		}, addrs("192.0.2.1"), key(1), []Refusal{{"key", key(5).String(), "host b has this key"}}},
		{"a new key", claims(claim("a", key(5), "192.0.2.1")), addrs("192.0.2.1"), key(5), nil},
		{"no key", claims(claim("a", mesh.Key{}, "192.0.2.1")), addrs("192.0.2.1"), key(1), []Refusal{{"key", "", "the key is empty"}}},
		{"in another's name", func(w *World) {
			w.Facts["a"] = mesh.Node{Name: "a", Addresses: addrs("192.0.2.9")}
			w.Claims["a"] = claim("b", key(1), "192.0.2.1")
		}, addrs("192.0.2.9"), key(1), []Refusal{{"node", "b", "the claim is written by a"}}},
		{"no port", func(w *World) { w.Claims["a"] = mesh.Claim{Node: "a", Key: key(1)} }, nil, key(1), []Refusal{{"node", "a", "WireGuard port is 0"}}},
		{"silence keeps facts", func(w *World) { w.Facts["a"] = mesh.Node{Name: "a", Key: key(5), Addresses: addrs("192.0.2.1")} }, addrs("192.0.2.1"), key(5), nil},
		{"silence keeps no fact that stands no more", func(w *World) { w.Facts["a"] = mesh.Node{Name: "a", Addresses: addrs("192.0.2.77")} }, nil, key(1), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := world()
			tt.given(&w)
			facts, refused := Judge(w)
			if diff := cmp.Diff(tt.want, facts["a"].Addresses, compareAddr); diff != "" {
				t.Errorf("addresses: %s", diff)
			}
			if facts["a"].Key != tt.key {
				t.Errorf("key %v, want %v", facts["a"].Key, tt.key)
			}
			if diff := cmp.Diff(tt.refused, refused["a"]); diff != "" {
				t.Errorf("refused: %s", diff)
			}
		})
	}
}

// TestJudgeDirect: only what a server accepts as an address, and the host says
// that it has, is reached through the tunnel.
func TestJudgeDirect(t *testing.T) {
	given := func(change func(*World)) World {
		w := world()
		change(&w)
		return w
	}
	direct := func(c mesh.Claim, addresses ...string) mesh.Claim {
		c.Direct = addrs(addresses...)
		return c
	}
	for _, tt := range []struct {
		name  string
		given func(*World)
		want  []netip.Addr
	}{
		{"all of it", func(w *World) {
			w.Claims["a"] = direct(claim("a", key(1), "192.0.2.1", "2001:db8::1"), "2001:db8::1", "192.0.2.1")
		}, addrs("192.0.2.1", "2001:db8::1")},
		{"none", func(w *World) { w.Claims["a"] = claim("a", key(1), "192.0.2.1") }, nil},
		{"what no server has seen", func(w *World) {
			w.Claims["a"] = direct(claim("a", key(1), "192.0.2.1", "198.51.100.1"), "192.0.2.1", "198.51.100.1")
		}, addrs("192.0.2.1")},
		{"what is not among its addresses", func(w *World) {
			w.Claims["a"] = direct(claim("a", key(1), "192.0.2.1"), "2001:db8::1")
		}, nil},
		{"an administrator's address of translation", func(w *World) {
			h := w.Hosts["a"]
			h.Set = addrs("203.0.113.1")
			w.Hosts["a"] = h
			w.Claims["a"] = direct(claim("a", key(1), "203.0.113.1", "192.0.2.1"), "192.0.2.1")
		}, addrs("192.0.2.1")},
		{"silence keeps it", func(w *World) {
			w.Facts["a"] = mesh.Node{Name: "a", Addresses: addrs("192.0.2.1"), Direct: addrs("192.0.2.1")}
		}, addrs("192.0.2.1")},
		{"but not without the address", func(w *World) {
			w.Facts["a"] = mesh.Node{Name: "a", Addresses: addrs("192.0.2.77"), Direct: addrs("192.0.2.77")}
		}, nil},
	} {
		facts, _ := Judge(given(tt.given))
		if diff := cmp.Diff(tt.want, facts["a"].Direct, compareAddr); diff != "" {
			t.Errorf("%s: direct addresses (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestJudgeIgnoresStrangers(t *testing.T) {
	w := world()
	w.Claims["stranger"] = claim("stranger", key(9), "192.0.2.1")
	w.Facts["stranger"] = mesh.Node{Name: "stranger", Addresses: addrs("192.0.2.1")}
	w.Claims["a"] = claim("a", key(1), "192.0.2.1")
	facts, _ := Judge(w)
	if _, ok := facts["stranger"]; ok || len(facts) != 2 {
		t.Errorf("facts about %v", slices.Sorted(maps.Keys(facts)))
	}
	if diff := cmp.Diff(addrs("192.0.2.1"), facts["a"].Addresses, compareAddr); diff != "" {
		t.Error(diff)
	}
}

// histories rewrites one history of claims; see the style page, habit 8.
func histories(steps []map[string]mesh.Claim) iter.Seq2[string, []map[string]mesh.Claim] {
	last := steps[len(steps)-1]
	var gaps, back, single []map[string]mesh.Claim
	for _, s := range steps {
		gaps = append(gaps, map[string]mesh.Claim{}, s)
	}
	back = slices.Clone(steps)
	slices.Reverse(back)
	for _, s := range steps { // one host's change at a time
		for _, name := range slices.Sorted(maps.Keys(s)) {
			single = append(single, map[string]mesh.Claim{name: s[name]})
		}
	}
	return func(yield func(string, []map[string]mesh.Claim) bool) {
		_ = yield("as written", steps) &&
			yield("only the end", []map[string]mesh.Claim{last}) &&
			yield("empty between", gaps) &&
			yield("there and back", append(back, steps...)) &&
			yield("each step twice", slices.Concat(steps, steps)) &&
			yield("one host at a time", append(single, last))
	}
}

// Whatever the route, facts depend on the last claims where nobody contends, and
// no step ever shows one address or key at two hosts, or one that is not due.
func TestFactsDoNotDependOnTheRoute(t *testing.T) {
	steps := []map[string]mesh.Claim{
		{"a": claim("a", key(1), "192.0.2.1"), "b": claim("b", key(2), "192.0.2.9", "192.0.2.1")},
		{"a": claim("a", key(2), "192.0.2.9"), "b": claim("b", key(5), "192.0.2.2")},
		{"a": claim("a", key(5), "10.210.0.2"), "b": claim("b", key(1), "2001:db8::2", "192.0.2.9")},
		{"a": claim("a", key(6), "2001:db8::1", "198.51.100.3"), "b": claim("b", key(2), "192.0.2.2", "192.0.2.9")},
	}
	want := map[string][]netip.Addr{"a": addrs("2001:db8::1"), "b": addrs("192.0.2.2", "192.0.2.9")}
	for name, history := range histories(steps) {
		t.Run(name, func(t *testing.T) {
			w := world()
			for _, claims := range history {
				w.Claims = claims
				w.Facts, _ = Judge(w)
				checkFacts(t, w)
			}
			got := map[string][]netip.Addr{"a": w.Facts["a"].Addresses, "b": w.Facts["b"].Addresses}
			if diff := cmp.Diff(want, got, compareAddr); diff != "" {
				t.Error(diff)
			}
			if w.Facts["a"].Key != key(6) || w.Facts["b"].Key != key(2) {
				t.Errorf("keys %v %v", w.Facts["a"].Key, w.Facts["b"].Key)
			}
		})
	}
}

func checkFacts(t *testing.T, w World) {
	t.Helper()
	owner, holder := map[netip.Addr]string{}, map[mesh.Key]string{}
	for name, n := range w.Facts {
		if by, taken := holder[n.Key]; taken {
			t.Errorf("key %v is at %s and %s", n.Key, by, name)
		}
		holder[n.Key] = name
		for _, a := range n.Addresses {
			if by, taken := owner[a]; taken {
				t.Errorf("address %v is at %s and %s", a, by, name)
			}
			owner[a] = name
			if !slices.Contains(w.Hosts[name].Seen, a) {
				t.Errorf("%s has %v, where nobody saw it", name, a)
			}
		}
	}
}

func TestJudgeIsIdempotent(t *testing.T) {
	w := world()
	w.Claims["a"] = claim("a", key(5), "192.0.2.1", "192.0.2.9")
	w.Claims["b"] = claim("b", key(5), "192.0.2.9", "192.0.2.2")
	w.Facts, _ = Judge(w)
	again, _ := Judge(w)
	if diff := cmp.Diff(w.Facts, again, compareAddr); diff != "" {
		t.Error(diff)
	}
}
