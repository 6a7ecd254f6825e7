package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wide returns a policy by which everybody has n places of a port range that
// cuts into as many blocks as a range can.
func wide(t *testing.T, name string, n int) []Policy {
	t.Helper()
	var ports []string
	for i := range n {
		ports = append(ports, fmt.Sprintf(`{port: "%d", endPort: %d}`, 1+i, 65534-i))
	}
	return mustParse(t, clusterwide(name, "endpointSelector: {}, ingress: [{fromEntities: [cluster], toPorts: [{ports: ["+strings.Join(ports, ", ")+"]}]}]"))
}

// TestWhatDoesNotFitTakesBoundedMemory has seventeen million verdicts asked for.
func TestWhatDoesNotFitTakesBoundedMemory(t *testing.T) {
	m := newBenchMesh(t, fitting)
	policies := append(wide(t, "wide", 40), m.policies...)
	var c Compiler
	var v Verdicts
	if took := allocated(func() { v = c.Compile(policies, m.subject, m.world) }); took > memoryBudget {
		t.Errorf("%d MiB were allocated, may be %d", took>>20, memoryBudget>>20)
	}
	err := v.Fits()
	if err == nil || !strings.Contains(err.Error(), "at least 1") || len(v.Entries) <= MaxVerdicts || len(v.Entries) > mostKept+MaxVerdicts {
		t.Errorf("%d verdicts kept, and said to fit: %v", len(v.Entries), err)
	}
	if diff := cmp.Diff(compileAnew(m.policies, m.subject, m.world), c.Compile(m.policies, m.subject, m.world), samePrefixes); diff != "" {
		t.Errorf("once it fits again (-anew +remembered):\n%s", diff)
	}
}

// TestFromOneFullSetToAnother has no room for both at a time.
func TestFromOneFullSetToAnother(t *testing.T) {
	m := newBenchMesh(t, fitting)
	var c Compiler
	for i, policies := range [][]Policy{m.policies, wide(t, "few", 1)[:1], append(wide(t, "few", 1), m.policies...), m.policies} {
		want, got := compileAnew(policies, m.subject, m.world), c.Compile(policies, m.subject, m.world)
		if (want.Fits() == nil) != (got.Fits() == nil) || want.Fits() == nil && !cmp.Equal(want, got, samePrefixes) {
			t.Errorf("set %d: %d verdicts anew (%v), %d remembered (%v)", i, len(want.Entries), want.Fits(), len(got.Entries), got.Fits())
		}
	}
}
