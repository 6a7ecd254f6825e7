package policy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var samePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// stage returns the policies with the rules of those named made staged, or made
// effective.
func stage(policies []Policy, staged bool, names ...string) []Policy {
	var out []Policy
	for _, p := range policies {
		rules := append([]Rule(nil), p.Rules...)
		for i := range rules {
			for _, name := range names {
				rules[i].Staged = rules[i].Staged && p.Name != name || staged && p.Name == name
			}
		}
		p.Rules = rules
		out = append(out, p)
	}
	return out
}

func TestStagedRulesHaveNoEffect(t *testing.T) {
	docs := mustParse(t, clusterwide("open", toDB+"ingress: [{fromEndpoints: [{}]}]")+
		clusterwide("close", toDB+`ingressDeny: [{fromEndpoints: [{matchLabels: {app: web}}]}], egress: [{toCIDR: [192.0.2.0/24]}]`))
	subject, world := castSubject("db"), castWorld()
	without := Compile(docs[:1], subject, world)
	with := Compile(docs, subject, world)
	got := Compile(stage(docs, true, "close"), subject, world)
	if got.Staged == nil {
		t.Fatal("nothing is said of what the staged rules would do")
	}
	if diff := cmp.Diff(with, *got.Staged, samePrefixes); diff != "" {
		t.Errorf("as if staged rules had effect (-want +got):\n%s", diff)
	}
	got.Staged = nil
	if diff := cmp.Diff(without, got, samePrefixes); diff != "" {
		t.Errorf("staged rules have effect (-without them +with):\n%s", diff)
	}
}

func TestStagedRulesOfOtherHostsSayNothing(t *testing.T) {
	docs := stage(mustParse(t, clusterwide("a", toDB+"ingress: [{}]")), true, "a")
	if v := Compile(docs, castSubject("web"), castWorld()); v.Staged != nil {
		t.Errorf("a rule that does not select the host is staged there: %+v", v.Staged)
	}
}

// TestTheFirstStagedRuleClosesOnlyAsStaged has no other policy: the host stays
// open, although the staged verdicts close it.
func TestTheFirstStagedRuleClosesOnlyAsStaged(t *testing.T) {
	v := Compile(stage(mustParse(t, clusterwide("a", toDB+"ingress: [{}]")), true, "a"), castSubject("db"), castWorld())
	f := Flow{Peer: cast["web"].id, Protocol: 6, Port: 80}
	if !v.Judge(f).Allowed || v.Enforced != [2]bool{} || len(v.Rules) != 0 {
		t.Errorf("a staged rule has effect: %+v", v)
	}
	if v.Staged.Judge(f).Allowed || v.Staged.Enforced != [2]bool{true, false} || len(v.Staged.Rules) != 1 {
		t.Errorf("a staged rule is not shown: %+v", v.Staged)
	}
}
