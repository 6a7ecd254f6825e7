package agent

import (
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
)

// TestPolicyBeyondTheLimitKeepsTheOneBefore has policy grow by what an apply
// could not know of, such as members that come: the host says that it cannot
// hold it, each time, and takes up again what fits.
func TestPolicyBeyondTheLimitKeepsTheOneBefore(t *testing.T) {
	fits := func(port uint16) plan.Desired {
		k := policy.Key{Direction: policy.Ingress, Protocol: 6, Port: port, PortBits: 16}
		return plan.Desired{Verdicts: policy.Verdicts{Entries: map[policy.Key]policy.Entry{k: {Rule: 1}}}}
	}
	large := plan.Desired{Verdicts: policy.Verdicts{Entries: map[policy.Key]policy.Entry{}}}
	for i := range policy.MaxVerdicts + 1 {
		large.Verdicts.Entries[policy.Key{Direction: policy.Direction(i >> 16), Protocol: 6, Port: uint16(i), PortBits: 16}] = policy.Entry{}
	}
	have := &rulebook{}
	v := &verdicts{maps: have, host: "db-1"}
	if err := v.Ensure(t.Context(), fits(80)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := v.Ensure(t.Context(), large)
		if err == nil || !strings.Contains(err.Error(), "host db-1 keeps the policy that it enforces: 65537 verdicts, of which a host can hold 65536") {
			t.Errorf("error %v does not say what stays in force and why", err)
		}
		if !have.passes(80) || have.passes(81) || v.Stage().Entries != 1 {
			t.Errorf("in force: %+v, stage %+v; want what was before", have.have, v.Stage())
		}
	}
	if err := v.Ensure(t.Context(), fits(81)); err != nil || have.passes(80) || !have.passes(81) {
		t.Errorf("what fits again is not in force: %v", err)
	}
}
