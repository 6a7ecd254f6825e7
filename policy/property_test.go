package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// keptSeeds are those that found a mistake: so far planted ones, as 1 did with
// an allow under a broader deny and with a lookup of AnyIdentity left out, and
// the next with a deny one bit broader than the allow; the last found "::/0" to
// hold IPv4 in the kernel's map.
var keptSeeds = []uint64{1, 11229042837124134751, 10041359327951475218}

// TestCompileAgreesWithRules compares the compiled verdicts of random policies
// with what their rules say when read one by one.
func TestCompileAgreesWithRules(t *testing.T) {
	const cases = 600
	for _, seed := range keptSeeds {
		checkSeed(t, seed)
	}
	base := rand.Uint64()
	for i := range uint64(cases) {
		if checkSeed(t, base+i); t.Failed() {
			return
		}
	}
}

func checkSeed(t *testing.T, seed uint64) {
	t.Helper()
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	doc := g.file()
	policies, err := Parse("random.yaml", []byte(doc))
	if err != nil {
		t.Fatalf("seed %d: generated policies are refused:\n%v\n%s", seed, err, doc)
	}
	labels := g.hostLabels()
	subject := Subject{Identity: 1<<16 | 300, Labels: labels, Cluster: "mesh", EveryCluster: g.one(4)}
	world := g.world()
	v := Compile(policies, subject, World{Labels: world})
	g.Shuffle(len(policies), func(i, j int) { policies[i], policies[j] = policies[j], policies[i] })
	if diff := cmp.Diff(v, Compile(policies, subject, World{Labels: world}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Fatalf("seed %d: verdicts depend on the order of policies:\n%s\n%s", seed, diff, doc)
	}
	reference := slow{policies, subject, toMap(labels)}
	for _, p := range g.peers(v, world) {
		for range 12 {
			f := g.flow(p.identity)
			got := v.Judge(f)
			want, by := reference.judge(p, f)
			if got.Allowed != want || !slices.Contains(by, got.Ref.String()) || (got.Rule == 0) != (got.Ref == RuleRef{}) {
				t.Errorf("seed %d: peer %v flow %+v: got %+v, want allowed %v by one of %q\nsubject %v\n%s", seed, p, f, got, want, by, labels, doc)
				return
			}
		}
	}
}

func toMap(ls identity.Labels) map[string]string {
	out := make(map[string]string, len(ls))
	for _, l := range ls {
		out[l.Source+":"+l.Key] = l.Value
	}
	return out
}

// generator makes random policies out of few words, so that they meet.
type generator struct{ *rand.Rand }

func (g generator) one(in int) bool            { return g.IntN(in) == 0 }
func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }
func (g generator) some(n int, f func() string) string {
	items := make([]string, g.IntN(n)+1)
	for i := range items {
		items[i] = f()
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func (g generator) hostLabels() identity.Labels {
	given := map[string]string{"app": g.pick("web", "db"), "tier": g.pick("a", "b")}
	ls := identity.HostLabels(given, g.pick("default", "prod"), mesh.Cluster{Name: g.pick("mesh", "mesh", "other")})
	return identity.NewLabels(append(ls, identity.Label{Source: "k8s", Key: "io.cilium.k8s.namespace.labels.team", Value: g.pick("a", "b")})...)
}

func (g generator) world() map[mesh.Identity]identity.Labels {
	out := make(map[mesh.Identity]identity.Labels)
	for n := range mesh.Identity(12) {
		out[1<<16|300+n] = g.hostLabels()
	}
	return out
}

func (g generator) peers(v Verdicts, world map[mesh.Identity]identity.Labels) []peer {
	var out []peer
	for id, ls := range world {
		out = append(out, peer{identity: id, labels: toMap(ls)})
	}
	for id := identity.Host; id <= identity.WorldIPv6; id++ {
		if id != identity.WorldIPv4 && id != identity.WorldIPv6 {
			out = append(out, peer{identity: id, labels: toMap(identity.ReservedLabels(id))})
		}
	}
	for _, a := range []string{"10.0.0.1", "10.1.0.1", "10.1.2.3", "10.1.2.200", "192.0.2.1", "2001:db8::1", "2001:db8:1::1", "fe80::1"} {
		addr := netip.MustParseAddr(a)
		labels := map[string]string{"reserved:world": "", "reserved:world-ipv4": ""}
		if addr.Is6() {
			labels = map[string]string{"reserved:world": "", "reserved:world-ipv6": ""}
		}
		out = append(out, peer{address: addr, identity: kernelIdentity(v, addr), labels: labels})
	}
	return out
}

func (g generator) flow(id mesh.Identity) Flow {
	f := Flow{Peer: id, Direction: Direction(g.IntN(2)), Protocol: []uint8{1, 6, 6, 17, 132, 47}[g.IntN(6)]}
	if f.Protocol != 1 && f.Protocol != 47 {
		f.Port = []uint16{0, 1, 79, 80, 81, 88, 90, 443, 1023, 1024, 65535}[g.IntN(11)]
	}
	return f
}

func (g generator) file() string {
	var b strings.Builder
	for i := range g.IntN(5) + 1 {
		kind, ns, selector := Clusterwide, "", g.pick("endpointSelector", "nodeSelector")
		if g.one(2) {
			kind, ns, selector = Namespaced, ", namespace: "+g.pick("default", "prod"), "endpointSelector"
		}
		fmt.Fprintf(&b, "---\napiVersion: cilium.io/v2\nkind: %s\nmetadata: {name: p%d%s}\n", kind, i, ns)
		if g.one(3) {
			fmt.Fprintf(&b, "specs:\n- %s\n- %s\n", g.spec(selector), g.spec(selector))
		} else {
			fmt.Fprintf(&b, "spec: %s\n", g.spec(selector))
		}
	}
	return b.String()
}

func (g generator) spec(selector string) string {
	subject := g.pick("{}", "{matchLabels: {app: db}}", "{matchExpressions: [{key: tier, operator: NotIn, values: [a]}]}")
	fields := []string{selector + ": " + subject}
	names := []string{"ingress", "ingressDeny", "egress", "egressDeny"}
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:g.IntN(4)+1] {
		fields = append(fields, name+": "+g.some(3, func() string { return g.clause(name) }))
	}
	if g.one(4) {
		fields = append(fields, "enableDefaultDeny: {"+g.pick("ingress", "egress")+": "+g.pick("true", "false")+"}")
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (g generator) clause(section string) string {
	from := "from"
	if strings.HasPrefix(section, "egress") {
		from = "to"
	}
	var fields []string
	switch g.IntN(6) {
	case 0:
		fields = append(fields, from+"Endpoints: "+g.some(2, g.selector))
	case 1:
		fields = append(fields, from+"Entities: "+g.some(2, func() string { return string(entities[g.IntN(len(entities))]) }))
	case 2:
		fields = append(fields, from+"CIDR: "+g.some(2, g.cidr))
	case 3:
		fields = append(fields, from+"CIDRSet: "+g.some(2, g.cidrRule))
	case 4:
		fields = append(fields, from+g.pick("Endpoints", "Entities", "CIDR", "CIDRSet")+": []")
	}
	if g.one(2) || len(fields) == 0 && strings.HasSuffix(section, "Deny") {
		fields = append(fields, "toPorts: "+g.some(2, func() string { return "{ports: " + g.some(2, g.port) + "}" }))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (g generator) selector() string {
	return g.pick("{}", "{matchLabels: {app: web}}", "{matchLabels: {k8s:tier: a, app: db}}",
		"{matchLabels: {io.kubernetes.pod.namespace: prod}}", "{matchLabels: {k8s:io.cilium.k8s.policy.cluster: other}}",
		"{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}",
		"{matchExpressions: [{key: tier, operator: In, values: [b, a]}]}",
		"{matchExpressions: [{key: absent, operator: DoesNotExist}, {key: app, operator: Exists}]}",
		"{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}, {key: io.kubernetes.pod.namespace, operator: Exists}]}",
		"{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: DoesNotExist}, {key: io.kubernetes.pod.namespace, operator: DoesNotExist}]}",
		"{matchLabels: {io.cilium.k8s.namespace.labels.team: a}}",
		"{matchLabels: {\"reserved:world\": \"\"}}", "{matchExpressions: [{key: \"reserved:world-ipv6\", operator: DoesNotExist}]}")
}

func (g generator) cidr() string {
	return g.pick("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "10.1.2.77/25", `"::/0"`, `"2001:db8::/32"`, `"2001:db8:1::/48"`)
}

func (g generator) cidrRule() string {
	return g.pick("{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}", "{cidr: 0.0.0.0/0, except: [10.1.2.0/24, 192.0.2.0/24]}",
		"{cidr: 10.1.0.0/16, except: []}", `{cidr: "::/0", except: ["2001:db8::/32"]}`, "{cidr: 0.0.0.0/0, except: [0.0.0.0/0]}")
}

func (g generator) port() string {
	protocol := g.pick("", ", protocol: TCP", ", protocol: UDP", ", protocol: SCTP", ", protocol: ANY")
	ports := g.pick(`port: "80"`, `port: "80", endPort: 90`, `port: "1", endPort: 65535`, `port: "0"`, `port: "443", endPort: 0`,
		`port: "81", endPort: 1023`, `port: "1024", endPort: 65535`, `port: "79", endPort: 80`)
	return "{" + ports + protocol + "}"
}
