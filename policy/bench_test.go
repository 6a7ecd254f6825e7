package policy

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// The benchmarks compile 1,000 policies for a host that all of them select, in a
// mesh of 10,000 identities. Each policy has a selector of its own that selects
// ten peers on a port, and a CIDR peer; some allow the whole mesh a port.
const benchHosts, benchPolicies = 10_000, 1_000

// scale is how many policies allow the whole mesh a port.
type scale int

const (
	fitting  scale = 4   // with which a host can hold the verdicts
	bursting scale = 100 // and with which it cannot
)

func (s scale) String() string {
	return map[scale]string{fitting: "fits", bursting: "does-not-fit"}[s]
}

type benchMesh struct {
	policies []Policy
	subject  Subject
	world    World
}

func newBenchMesh(b testing.TB, s scale) benchMesh {
	b.Helper()
	m := benchMesh{world: World{Labels: make(map[mesh.Identity]identity.Labels, benchHosts)}}
	for i := range benchHosts {
		m.world.Labels[1<<16|mesh.Identity(256+i)] = benchLabels(i, i%(benchHosts/10))
	}
	for i := range benchPolicies {
		m.policies = append(m.policies, mustParse(b, benchPolicy(i, s))...)
	}
	m.subject = Subject{Identity: 1<<16 | 256, Labels: m.world.Labels[1<<16|256], Cluster: "vms"}
	return m
}

func benchLabels(host, app int) identity.Labels {
	given := map[string]string{"app": fmt.Sprintf("app-%d", app), "zone": fmt.Sprintf("z%d", host%3), "env": "prod", "host": fmt.Sprintf("h%d", host)}
	return identity.HostLabels(given, "default", mesh.Cluster{Name: "vms"})
}

func benchPolicy(i int, s scale) string {
	clauses := []string{
		fmt.Sprintf(`{fromEndpoints: [{matchLabels: {app: app-%d}}], toPorts: [{ports: [{port: "%d", protocol: TCP}]}]}`, i, 1000+i),
		fmt.Sprintf(`{fromCIDR: [10.%d.%d.0/24]}`, i/256, i%256),
	}
	if i%(benchPolicies/int(s)) == 0 {
		clauses = append(clauses, fmt.Sprintf(`{fromEntities: [cluster], toPorts: [{ports: [{port: "%d", protocol: TCP}]}]}`, 20000+i))
	}
	return namespaced("default", fmt.Sprintf("p%d", i), "endpointSelector: {matchLabels: {env: prod}}, ingress: ["+strings.Join(clauses, ", ")+"]")
}

// again returns the mesh in maps and slices of its own, as every snapshot of the
// state has them.
func (m benchMesh) again() benchMesh {
	m.policies, m.world.Labels = slices.Clone(m.policies), maps.Clone(m.world.Labels)
	return m
}

// report adds how many entries there are, and what is live once the garbage is
// gone, in MiB, with the policies and the world.
func report(b *testing.B, v Verdicts, keep ...any) {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	b.ReportMetric(float64(len(v.Entries)), "entries")
	b.ReportMetric(float64(stats.HeapAlloc)/(1<<20), "live-MiB")
	runtime.KeepAlive(keep)
	runtime.KeepAlive(v)
}

func forScales(b *testing.B, f func(*testing.B, benchMesh)) {
	for _, s := range []scale{fitting, bursting} {
		b.Run(s.String(), func(b *testing.B) {
			m := newBenchMesh(b, s)
			b.ReportAllocs()
			f(b, m)
		})
	}
}

// BenchmarkCompilerFirst is the first time that a Compiler compiles.
func BenchmarkCompilerFirst(b *testing.B) {
	forScales(b, func(b *testing.B, m benchMesh) {
		var v Verdicts
		var c *Compiler
		for b.Loop() {
			c = new(Compiler)
			v = c.Compile(m.policies, m.subject, m.world)
		}
		report(b, v, m, c)
	})
}

// benchChange measures a Compiler after a change, which is made and taken back
// by turns.
func benchChange(b *testing.B, changed change) {
	forScales(b, func(b *testing.B, m benchMesh) {
		turns := [2]benchMesh{m, m.again()}
		changed(b, &turns[1])
		c := new(Compiler)
		v := c.Compile(m.policies, m.subject, m.world)
		for n := 1; b.Loop(); n++ {
			b.StopTimer()
			now := turns[n%2].again()
			b.StartTimer()
			v = c.Compile(now.policies, now.subject, now.world)
		}
		report(b, v, turns, c)
	})
}

// change is one to a mesh.
type change func(testing.TB, *benchMesh)

func oneMoreIdentity(_ testing.TB, m *benchMesh) {
	m.world.Labels[1<<16|60_000] = benchLabels(benchHosts, 7)
}

func otherPort(t testing.TB, m *benchMesh) {
	m.policies[7] = mustParse(t, strings.ReplaceAll(benchPolicy(7, fitting), `"1007"`, `"3007"`))[0]
}

func otherPrefix(t testing.TB, m *benchMesh) {
	m.policies[7] = mustParse(t, strings.ReplaceAll(benchPolicy(7, fitting), "10.0.7.0/24", "10.99.7.0/24"))[0]
}

// otherPortOfAll is of a policy about the whole mesh.
func otherPortOfAll(t testing.TB, m *benchMesh) {
	m.policies[0] = mustParse(t, strings.ReplaceAll(benchPolicy(0, fitting), `"20000"`, `"30000"`))[0]
}

func BenchmarkCompilerIdentity(b *testing.B)       { benchChange(b, oneMoreIdentity) }
func BenchmarkCompilerPolicy(b *testing.B)         { benchChange(b, otherPort) }
func BenchmarkCompilerPolicyOfAll(b *testing.B)    { benchChange(b, otherPortOfAll) }
func BenchmarkCompilerPolicyWithCIDR(b *testing.B) { benchChange(b, otherPrefix) }

// BenchmarkCompileAll compiles for 16 hosts with different labels.
func BenchmarkCompileAll(b *testing.B) {
	m := newBenchMesh(b, fitting)
	var subjects []Subject
	for i := range mesh.Identity(16) {
		subjects = append(subjects, Subject{Identity: 1<<16 | 256 + i, Labels: m.world.Labels[1<<16|256+i], Cluster: "vms"})
	}
	b.ReportAllocs()
	var all []Verdicts
	for b.Loop() {
		all = CompileAll(m.policies, subjects, m.world)
	}
	report(b, all[0], m, all)
}

// BenchmarkParse reads 1,000 policies in one file.
func BenchmarkParse(b *testing.B) {
	var file strings.Builder
	for i := range benchPolicies {
		file.WriteString(benchPolicy(i, bursting))
	}
	data := []byte(file.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("bench.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}
