package policy

import (
	"runtime"
	"testing"
)

// memoryBudget is what compiling for one host may allocate, in bytes.
const memoryBudget = 200 << 20

// TestCompilerKeepsItsBudget holds what does not depend on who else uses the
// machine: memory, and that a small change is a small part of the work. How long
// both take is told by the benchmarks.
func TestCompilerKeepsItsBudget(t *testing.T) {
	m := newBenchMesh(t, fitting)
	var c Compiler
	whole := allocated(func() {
		if v := c.Compile(m.policies, m.subject, m.world); v.Fits() != nil || len(v.Entries) < MaxVerdicts/2 {
			t.Fatalf("%d verdicts say little about a full host", len(v.Entries))
		}
	})
	if whole > memoryBudget {
		t.Errorf("the first time took %d MiB, may take %d", whole>>20, memoryBudget>>20)
	}
	for name, changed := range map[string]change{
		"one more identity": oneMoreIdentity, "one changed policy": otherPort,
		"one changed policy about everybody": otherPortOfAll, "one changed policy with a CIDR peer": otherPrefix,
	} {
		next := m.again()
		changed(t, &next)
		took := allocated(func() { c.Compile(next.policies, next.subject, next.world) })
		t.Logf("%s: %d KiB", name, took>>10)
		if took > whole/2 {
			t.Errorf("%s took %d KiB, and all of it %d: it was compiled anew", name, took>>10, whole>>10)
		}
		c.Compile(m.policies, m.subject, m.world)
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
