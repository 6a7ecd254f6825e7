package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

func TestCompileEntries(t *testing.T) {
	policies := mustParse(t, clusterwide("a", toDB+`ingress: [{fromEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: "80", endPort: 81, protocol: TCP}]}]}], ingressDeny: [{fromEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: staging}}]}, {fromCIDR: [192.0.2.0/24]}]`))
	v := Compile(policies, castSubject("db"), castWorld())
	rules := make(map[string]RuleID)
	for id, ref := range v.Rules {
		rules[ref.Section] = id
	}
	prefix := netip.MustParsePrefix("192.0.2.0/24")
	number := identity.NumberPrefixes([]netip.Prefix{prefix})[prefix]
	want := Verdicts{
		Entries: map[Key]Entry{
			{Identity: cast["web"].id, Protocol: 6, Port: 80, PortBits: 15}: {Rule: rules["ingress[0]"]},
			{Identity: cast["stage"].id}:                                    {Deny: true, Rule: rules["ingressDeny[0]"]},
			{Identity: number}:                                              {Deny: true, Rule: rules["ingressDeny[1]"]},
			{Direction: Egress}:                                             {}, // nothing enforces egress
		},
		Prefixes: map[netip.Prefix]mesh.Identity{prefix: number},
		Rules: map[RuleID]RuleRef{
			rules["ingress[0]"]:     {"a", "ingress[0]", 4},
			rules["ingressDeny[0]"]: {"a", "ingressDeny[0]", 4},
			rules["ingressDeny[1]"]: {"a", "ingressDeny[1]", 4},
		},
		Enforced: [2]bool{true, false},
	}
	if diff := cmp.Diff(want, v, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

func TestCompileWithoutPoliciesIsOpen(t *testing.T) {
	v := Compile(nil, castSubject("db"), castWorld())
	want := map[Key]Entry{{}: {}, {Direction: Egress}: {}}
	if diff := cmp.Diff(want, v.Entries); diff != "" || v.Enforced != [2]bool{} {
		t.Errorf("enforced %v, entries (-want +got):\n%s", v.Enforced, diff)
	}
}

// TestAllowUnderDenyIsDropped looks at entries, as a longest match would give
// the dropped ones precedence.
func TestAllowUnderDenyIsDropped(t *testing.T) {
	policies := mustParse(t, clusterwide("a", toDB+`ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}, {fromEndpoints: [{}]}],
  ingressDeny: [{fromEndpoints: [{}], toPorts: [{ports: [{port: "64", endPort: 127, protocol: TCP}]}]}]`))
	v := Compile(policies, castSubject("db"), castWorld())
	keys := slices.SortedFunc(maps.Keys(v.Entries), Key.Compare)
	web := slices.DeleteFunc(keys, func(k Key) bool { return k.Identity != cast["web"].id })
	want := []Key{{Identity: cast["web"].id}, {Identity: cast["web"].id, Protocol: 6, Port: 64, PortBits: 10}}
	if diff := cmp.Diff(want, web); diff != "" {
		t.Errorf("keys of web (-want +got):\n%s", diff)
	}
}

func TestCompileIgnoresReservedNumbersOfTheWorld(t *testing.T) {
	world := castWorld()
	world.Labels[identity.World] = castLabels("web") // a forged or broken entry
	world.Labels[1<<24|5] = castLabels("web")
	v := Compile(mustParse(t, clusterwide("a", toDB+"ingress: [{fromEndpoints: [{}]}, {fromEntities: [cluster]}]")), castSubject("db"), world)
	for _, id := range []mesh.Identity{identity.World, 1<<24 | 5} {
		if v.Judge(Flow{Peer: id, Protocol: 6}).Allowed {
			t.Errorf("identity %d counts as managed", id)
		}
	}
}

// TestRuleIDsAreKept pins the hash: flows of an earlier release carry it.
func TestRuleIDsAreKept(t *testing.T) {
	const kept = RuleID(3452485396)
	v := Compile(mustParse(t, namespaced("default", "a", toDB+"ingress: [{}]")), castSubject("db"), World{})
	if _, ok := v.Rules[kept]; !ok || len(v.Rules) != 1 {
		t.Errorf("rules are %v, want %d", v.Rules, kept)
	}
}

func TestRuleIDsMoveOnWhenTheyCollide(t *testing.T) {
	r := make(rules)
	first := r.add(Clusterwide, RuleRef{Policy: "a"})
	second := r.add(Clusterwide, RuleRef{Policy: "a"})
	if second != first+1 || len(r) != 2 {
		t.Errorf("same place twice: %d and %d", first, second)
	}
	if other := r.add(Namespaced, RuleRef{Policy: "a"}); other == first || other == 0 {
		t.Errorf("another kind gets %d", other)
	}
}

func TestIdentify(t *testing.T) {
	policies := mustParse(t, clusterwide("a", toDB+`egress: [{toCIDR: [10.0.0.0/8, 10.1.0.0/16, "2001:db8::/32"]}]`))
	v := Compile(policies, castSubject("db"), castWorld())
	for address, want := range map[string]mesh.Identity{
		"10.2.0.1": v.Prefixes[netip.MustParsePrefix("10.0.0.0/8")], "10.1.0.1": v.Prefixes[netip.MustParsePrefix("10.1.0.0/16")],
		"::ffff:10.1.0.1": v.Prefixes[netip.MustParsePrefix("10.1.0.0/16")], "2001:db8::1": v.Prefixes[netip.MustParsePrefix("2001:db8::/32")],
		"192.0.2.1": identity.WorldIPv4, "fe80::1%eth0": identity.WorldIPv6,
	} {
		if got := v.Identify(netip.MustParseAddr(address)); got != want || got == 0 {
			t.Errorf("%s is %d, want %d", address, got, want)
		}
	}
	if got := v.Identify(netip.Addr{}); got != identity.Unknown {
		t.Errorf("no address is %d", got)
	}
}

// kernelIdentity looks an address up as bpf/lib/ipcache.h does: in one map of
// both families, where IPv4 stands as ::ffff:0:0/96.
func kernelIdentity(v Verdicts, a netip.Addr) mesh.Identity {
	longest, found := -1, identity.WorldIPv6
	if a.Is4() {
		found = identity.WorldIPv4
	}
	key := a.As16()
	for p, id := range v.Prefixes {
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		if bits > longest && samePrefix(key, p.Addr().As16(), bits) {
			longest, found = bits, id
		}
	}
	return found
}

func samePrefix(a, b [16]byte, bits int) bool {
	for i := range bits {
		if (a[i/8]^b[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

// TestIPv6PrefixesNeverHoldIPv4 looks as the kernel does, which keeps both
// families in one map.
func TestIPv6PrefixesNeverHoldIPv4(t *testing.T) {
	for _, prefix := range []string{"::/0", "::/64", "::fffe:0:0/95"} {
		v := Compile(mustParse(t, clusterwide("a", toDB+`egress: [{toCIDR: ["`+prefix+`"]}, {toEntities: [world-ipv4], toPorts: [{ports: [{port: "1"}]}]}]`)), castSubject("db"), castWorld())
		id := kernelIdentity(v, netip.MustParseAddr("192.0.2.1"))
		if id != v.Identify(netip.MustParseAddr("192.0.2.1")) {
			t.Errorf("%s: the kernel takes 192.0.2.1 for %d", prefix, id)
		}
		if v.Judge(Flow{Peer: id, Direction: Egress, Protocol: 6, Port: 2}).Allowed {
			t.Errorf("%s opens IPv4", prefix)
		}
		if !v.Judge(Flow{Peer: id, Direction: Egress, Protocol: 6, Port: 1}).Allowed {
			t.Errorf("%s closes what world-ipv4 opens", prefix)
		}
	}
}

// FuzzSelector checks that no selector crashes the reader, and that the index
// finds for it what a look at every identity finds.
func FuzzSelector(f *testing.F) {
	for _, seed := range []string{"{}", "{matchLabels: {app: web}}", "{matchLabels: {k8s:app: web, role: admin}}",
		"{matchExpressions: [{key: app, operator: In, values: [web, db]}]}", "{matchExpressions: [{key: tier, operator: DoesNotExist}]}",
		`{matchLabels: {"reserved:host": ""}}`, "{matchExpressions: [{key: app, operator: NotIn, values: [db, \"\"]}]}"} {
		f.Add(seed)
	}
	world := castWorld()
	c := compiler{peers: newIndex(world.Labels)}
	c.number(nil)
	f.Fuzz(func(t *testing.T, text string) {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil || len(n.Content) == 0 {
			return
		}
		d := new(decoder)
		s := d.selector(n.Content[0], "selector")
		if len(d.problems) > 0 {
			return
		}
		var want []mesh.Identity
		for id, ls := range world.Labels {
			if s.Matches(ls) {
				want = append(want, id)
			}
		}
		for id := identity.Host; id <= identity.WorldIPv6; id++ {
			if s.Matches(identity.ReservedLabels(id)) {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		if got := c.matching(s); !slices.Equal(got, want) {
			t.Errorf("%s: the index finds %v, a scan %v", text, got, want)
		}
	})
}

func TestCompileAllIsCompileOfEach(t *testing.T) {
	policies := mustParse(t, clusterwide("a", toDB+"ingress: [{fromEndpoints: [{}]}]")+
		clusterwide("b", "endpointSelector: {}, egress: [{toEntities: [cluster]}, {toCIDR: [192.0.2.0/24]}]"))
	var subjects []Subject
	for _, name := range []string{"db", "web", "db", "admin", "pod", "web"} {
		subjects = append(subjects, castSubject(name))
	}
	subjects = append(subjects, subjects[0])
	subjects[6].EveryCluster = true
	got := CompileAll(policies, subjects, castWorld())
	for i, s := range subjects {
		if diff := cmp.Diff(compileAnew(policies, s, castWorld()), got[i], samePrefixes); diff != "" {
			t.Errorf("subject %d (-want +got):\n%s", i, diff)
		}
	}
	if len(CompileAll(policies, nil, castWorld())) != 0 {
		t.Error("verdicts for nobody")
	}
}

func TestFits(t *testing.T) {
	v := Verdicts{Entries: make(map[Key]Entry), Prefixes: make(map[netip.Prefix]mesh.Identity)}
	for i := range MaxVerdicts {
		v.Entries[Key{Identity: mesh.Identity(i)}] = Entry{}
		v.Prefixes[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)] = 1
	}
	if err := v.Fits(); err != nil {
		t.Errorf("as many as fit: %v", err)
	}
	v.Prefixes[netip.MustParsePrefix("::/0")] = 2
	if err := v.Fits(); err == nil || !strings.Contains(err.Error(), "65537 CIDR prefixes") {
		t.Errorf("one prefix more: %v", err)
	}
	v.Entries[Key{Identity: 1 << 20}] = Entry{}
	if err := v.Fits(); err == nil || !strings.Contains(err.Error(), "65537 verdicts") {
		t.Errorf("one verdict more: %v", err)
	}
}
