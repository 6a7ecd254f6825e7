package contest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/policy"
)

// TestSamePolicy checks that all filters are given the same rules, and that the
// ones about the load come last where an order counts.
func TestSamePolicy(t *testing.T) {
	for s, direction := range map[side]policy.Direction{client: policy.Egress, server: policy.Ingress} {
		for _, n := range ruleCounts {
			rules := ruleset(s, n)
			v, err := compiled(s, rules)
			if err != nil {
				t.Fatal(err)
			}
			chain, set := flatChain(s, rules), setAndState(s, rules)
			got := []int{len(rules), len(v.Entries), strings.Count(chain, "dport"), strings.Count(chain, "sport"), strings.Count(set, " . ") - 2 - 2 - n}
			if want := []int{n, n, n, n, n}; !cmp.Equal(got, want) {
				t.Errorf("side %v, rules, verdicts, lines for them, for answers, and elements: %v, want %v", direction, got, want)
			}
			for k := range v.Entries {
				if k.Direction != direction || k.PortBits != 16 {
					t.Errorf("verdict %+v: want one on a port, %v", k, direction)
				}
			}
		}
	}
}

func TestRulesAboutTheLoadAreLast(t *testing.T) {
	for s, peer := range map[side]string{client: serverAddress.String(), server: clientAddress.String()} {
		rules := ruleset(s, 10)
		var got []string
		for _, r := range rules[8:] {
			got = append(got, fmt.Sprint(r.peer, r.protocol, r.port))
		}
		want := []string{fmt.Sprint(peer, "tcp", loadPort), fmt.Sprint(peer, "udp", loadPort)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("last rules of side %d (-want +got):\n%s", s, diff)
		}
		for _, r := range rules[:8] {
			if r.peer.String() == peer {
				t.Errorf("rule %v matches the load too early", r)
			}
		}
	}
}
