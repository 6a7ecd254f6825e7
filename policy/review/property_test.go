package review

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/policy"
)

// TestDiffAgreesWithJudge reviews random changes: a flow whose verdict or rule
// changes falls under an entry that the difference holds, and a host that the
// review leaves out judges every flow as before.
func TestDiffAgreesWithJudge(t *testing.T) {
	base := rand.Uint64()
	moved := 0
	failed := []uint64{13550556262604802393} // seeds that once did
	for i := range uint64(300) {
		seed := base + i
		if i < uint64(len(failed)) {
			seed = failed[i]
		}
		g := generator{rand.New(rand.NewPCG(seed, 0))}
		before, after := g.policies(), g.policies()
		if g.IntN(4) > 0 { // most changes touch a part
			after += before
		}
		m := small()
		m.EveryCluster = g.IntN(4) == 0
		was, is := parseSome(t, before), parseSome(t, after)
		r := Review(was, is, m, Options{AllowEmpty: true})
		for h := range m.Hosts {
			c := change{m: m, was: was, is: is, review: r}
			moved += c.checkHost(t, g, &m.Hosts[h])
		}
		if t.Failed() {
			t.Fatalf("seed %d\nbefore:\n%s\nafter:\n%s", seed, before, after)
		}
	}
	if moved < 100 {
		t.Errorf("only %d flows changed: the test says little", moved)
	}
}

// change is one that was reviewed.
type change struct {
	m       Mesh
	was, is []policy.Policy
	review  Result
}

// checkHost compares random flows at h and returns how many the change moves.
func (c change) checkHost(t *testing.T, g generator, h *Host) (moved int) {
	t.Helper()
	m, r := c.m, c.review
	was := policy.Compile(c.was, m.subject(h), m.World)
	is := policy.Compile(c.is, m.subject(h), m.World)
	listed := slices.ContainsFunc(r.Hosts, func(hc HostChange) bool { return hc.Host == h.Name })
	one := reviewer{before: c.was, after: c.is, mesh: m, subjects: []*subject{{Subject: m.subject(h), before: was, after: is}}}
	said := one.parted()[0]
	d := compare(said.before, said.after)
	for range 60 {
		f := g.flow(h.Name)
		before, after := judge(was, f, m.owners()), judge(is, f, m.owners())
		b, a, ok := r.Judge(f)
		if ok && (b != before || a != after) || !ok && (before.Allowed != after.Allowed || before.Ref.String() != after.Ref.String()) {
			t.Errorf("%+v: the review says %v, %v (%v), the compiler %v, %v", f, b, a, ok, before, after)
		}
		if before.Allowed == after.Allowed {
			continue
		}
		moved++
		if !listed || !covered(d, f, m) {
			t.Errorf("%+v turns from %v to %v, which no line of %+v is about", f, before, after, r.Hosts)
		}
	}
	return moved
}

// covered reports whether an entry that comes, goes or turns is about f.
func covered(d diff, f Flow, m Mesh) bool {
	about := func(e ruled) bool {
		for _, v := range []policy.Verdicts{d.before, d.after} {
			peer := m.owners()[f.Remote]
			if peer == 0 {
				peer = v.Identify(f.Remote)
			}
			k := policy.Key{Identity: peer, Direction: f.Direction, Protocol: f.Protocol, Port: f.Port, PortBits: 16}
			anybody := k
			anybody.Identity = policy.AnyIdentity
			if e.key.Covers(k) || e.key.Covers(anybody) {
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(d.come, about) || slices.ContainsFunc(d.gone, about)
}

type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g generator) policies() string {
	var b strings.Builder
	for range g.IntN(4) {
		b.WriteString("---\n" + doc(fmt.Sprintf("p%d", g.Uint64()), "endpointSelector: "+g.pick("{}", "{matchLabels: {app: db}}", "{matchLabels: {app: web}}")+", "+g.section()))
	}
	return b.String()
}

func (g generator) section() string {
	section := g.pick("ingress", "ingress", "ingressDeny", "egress", "egressDeny")
	peer := map[bool]string{true: "from", false: "to"}[strings.HasPrefix(section, "ingress")]
	who := peer + g.pick("Entities: [all]", "Entities: [cluster]", "Endpoints: [{matchLabels: {app: web}}]", "CIDR: [10.0.0.0/8]", "CIDR: [10.1.0.0/16, 192.0.2.0/24]",
		"CIDRSet: [{cidr: 0.0.0.0/0, except: [10.1.2.0/24]}]")
	ports := g.pick("", "", `, toPorts: [{ports: [{port: "80", endPort: 90}]}]`, `, toPorts: [{ports: [{port: "5432", protocol: TCP}]}]`)
	return section + ": [{" + who + ports + "}]"
}

func (g generator) flow(host string) Flow {
	return Flow{
		Host: host, Direction: policy.Direction(g.IntN(2)), Protocol: []uint8{6, 17, 47}[g.IntN(3)], Port: []uint16{80, 88, 91, 5432}[g.IntN(4)],
		Remote: netip.MustParseAddr(g.pick("192.0.2.1", "192.0.2.2", "192.0.2.3", "10.0.0.1", "10.1.0.1", "10.1.2.3", "198.51.100.1", "2001:db8::1")),
	}
}

func parseSome(t *testing.T, docs string) []policy.Policy {
	t.Helper()
	if docs == "" {
		return nil
	}
	policies, err := policy.Parse("random.yaml", []byte(docs))
	if err != nil {
		t.Fatalf("%v\n%s", err, docs)
	}
	return policies
}

// BenchmarkReview reviews a change of one policy among 200 that select every one
// of 200 hosts, each with an identity of its own.
func BenchmarkReview(b *testing.B) {
	m, before := big(b, 200, 200)
	after := slices.Clone(before)
	after[7] = parse(b, doc("p7", benchRule(7, "9999")))[0]
	b.ReportAllocs()
	for b.Loop() {
		if r := Review(before, after, m, Options{}); len(r.Hosts) != 200 || r.Refused() {
			b.Fatalf("%d hosts, findings %v", len(r.Hosts), r.Findings)
		}
	}
}

// BenchmarkReviewFirst reviews 200 policies for 200 hosts, all of them new.
func BenchmarkReviewFirst(b *testing.B) {
	m, after := big(b, 200, 200)
	b.ReportAllocs()
	for b.Loop() {
		if r := Review(nil, after, m, Options{}); len(r.Hosts) != 200 || r.Refused() {
			b.Fatalf("%d hosts, findings %v", len(r.Hosts), r.Findings)
		}
	}
}

func big(b *testing.B, hosts, policies int) (Mesh, []policy.Policy) {
	b.Helper()
	var hs []Host
	for i := range hosts {
		h := host(i, fmt.Sprintf("h%d", i), "env=prod", fmt.Sprintf("app=app-%d", i%50), fmt.Sprintf("host=h%d", i))
		h.Server = i < 3
		h.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})}
		hs = append(hs, h)
	}
	var docs []string
	for i := range policies {
		docs = append(docs, doc(fmt.Sprintf("p%d", i), benchRule(i, fmt.Sprint(1000+i))))
	}
	m := meshOf(hs...)
	m.Terminal = &Terminal{Host: "h9", Remote: netip.MustParseAddr("203.0.113.7"), Port: 22}
	return m, parse(b, docs...)
}

func benchRule(i int, port string) string {
	return fmt.Sprintf(`endpointSelector: {matchLabels: {env: prod}}, ingress: [{fromEndpoints: [{matchLabels: {app: app-%d}}], toPorts: [{ports: [{port: "%s", protocol: TCP}]}]}, {fromCIDR: [10.%d.0.0/16]}]`, i%50, port, i%250)
}
