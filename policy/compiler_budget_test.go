package policy

import (
	"runtime"
	"testing"
	"time"
)

// What compiling 1,000 policies in a mesh of 10,000 identities may take.
const (
	firstBudget  = time.Second
	memoryBudget = 200 << 20 // bytes allocated
	changeBudget = 10 * time.Millisecond
)

// TestCompilerKeepsItsBudget tries again while it is too slow, since other tests
// and other people use the same processors. The race detector makes everything
// slower by about ten; it looks for other mistakes.
func TestCompilerKeepsItsBudget(t *testing.T) {
	if raceDetector {
		t.Skip("times with the race detector say nothing")
	}
	m := newBenchMesh(t, fitting)
	took, bytes := best(firstBudget, func() { new(Compiler).Compile(m.policies, m.subject, m.world) })
	if took > firstBudget || bytes > memoryBudget {
		t.Errorf("the first time took %s and %d MiB, may take %s and %d MiB", took, bytes>>20, firstBudget, memoryBudget>>20)
	}
	for name, changed := range map[string]change{
		"one more identity": oneMoreIdentity, "one changed policy": otherPort,
		"one changed policy about everybody": otherPortOfAll, "one changed policy with a CIDR peer": otherPrefix,
	} {
		turns := [2]benchMesh{m.again(), m.again()}
		changed(t, &turns[1])
		var c Compiler
		if v := c.Compile(m.policies, m.subject, m.world); v.Fits() != nil || len(v.Entries) < MaxVerdicts/2 {
			t.Fatalf("%d verdicts say little about a full host", len(v.Entries))
		}
		n := 0
		took, _ := best(changeBudget, func() {
			n++
			c.Compile(turns[n%2].policies, m.subject, turns[n%2].world)
		})
		t.Logf("%s: %s", name, took)
		if took > changeBudget {
			t.Errorf("%s took %s, may take %s", name, took, changeBudget)
		}
	}
}

// best runs f until it has taken no more than a budget, and returns the least
// that it took. It gives up after some time.
func best(budget time.Duration, f func()) (took time.Duration, bytes uint64) {
	const most = 500
	for i, began := 0, time.Now(); i == 0 || took > budget && i < most && time.Since(began) < 10*time.Second; i++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		f()
		t := time.Since(start)
		runtime.ReadMemStats(&after)
		if i == 0 || t < took {
			took, bytes = t, after.TotalAlloc-before.TotalAlloc
		}
	}
	return took, bytes
}
