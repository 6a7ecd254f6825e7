package contest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// loadPort is where all load goes.
const loadPort = 5201

// The benchmark's networks (RFC 2544, appendix C.2.2): both ends of the wire are
// in the first, and the peers that other rules are about in the second.
var (
	clientAddress = netip.MustParseAddr("198.18.0.1")
	serverAddress = netip.MustParseAddr("198.18.0.2")
	othersBase    = netip.MustParseAddr("198.19.0.0").As4()
)

// side is an end of the wire, and what its host may do.
type side int

const (
	client side = iota // may open flows to the peers of the rules, and nothing else
	server             // may be opened flows to by them, and nothing else
)

// rule allows flows with one peer on one port.
type rule struct {
	peer     netip.Addr
	protocol string // tcp or udp
	port     int
}

// ruleset returns a policy of n rules, each about a peer of its own. The last two
// are about the other end of the wire, where a chain has them last too.
func ruleset(s side, n int) []rule {
	var rules []rule
	for i := range max(n-2, 0) {
		a := othersBase
		a[2], a[3] = byte(i>>8), byte(i)
		rules = append(rules, rule{netip.AddrFrom4(a), [...]string{"tcp", "udp"}[i%2], 1024 + i})
	}
	other := serverAddress
	if s == server {
		other = clientAddress
	}
	return append(rules, rule{other, "tcp", loadPort}, rule{other, "udp", loadPort})
}

// compiled has Plexus read the rules as a policy, and returns its verdicts.
func compiled(s side, rules []rule) (bpfmap.Ruleset, error) {
	policies, err := policy.Parse("bench", []byte(document(s, rules)))
	if err != nil {
		return bpfmap.Ruleset{}, fmt.Errorf("read policy of %d rules: %w", len(rules), err)
	}
	subject := policy.Subject{
		Identity: 1<<16 | 256,
		Labels:   identity.HostLabels(map[string]string{"app": "bench"}, "default", mesh.Cluster{Name: "bench"}),
		Cluster:  "bench",
	}
	v := policy.Compile(policies, subject, policy.World{})
	return bpfmap.Ruleset{Entries: v.Entries, Prefixes: v.Prefixes}, nil
}

func document(s side, rules []rule) string {
	ours, peers, theirs := "egress", "toCIDR", "ingress"
	if s == server {
		ours, peers, theirs = "ingress", "fromCIDR", "egress"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: bench}\n"+
		"spec:\n  endpointSelector: {matchLabels: {app: bench}}\n  %s: [{}]\n  %s:\n", theirs, ours)
	for _, r := range rules {
		fmt.Fprintf(&b, "  - {%s: [%s/32], toPorts: [{ports: [{port: \"%d\", protocol: %s}]}]}\n", peers, r.peer, r.port, strings.ToUpper(r.protocol))
	}
	return b.String()
}

// flatChain is the policy for nft without state: one line for a rule, and one in
// the other chain for its answers.
func flatChain(s side, rules []rule) string {
	opens, answers := "output", "input"
	theirs, ours := "daddr", "dport"
	back, from := "saddr", "sport"
	if s == server {
		opens, answers, theirs, back = answers, opens, back, theirs
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table inet bench {\nchain %s {\ntype filter hook %[1]s priority 0; policy drop;\n", opens)
	for _, r := range rules {
		fmt.Fprintf(&b, "ip %s %s %s %s %d accept\n", theirs, r.peer, r.protocol, ours, r.port)
	}
	fmt.Fprintf(&b, "}\nchain %s {\ntype filter hook %[1]s priority 0; policy drop;\n", answers)
	for _, r := range rules {
		fmt.Fprintf(&b, "ip %s %s %s %s %d accept\n", back, r.peer, r.protocol, from, r.port)
	}
	return b.String() + "}\n}\n"
}

// setAndState is the policy for nft as one would write it: what belongs to a known
// connection passes, and what opens one is looked for in a set, by hash.
func setAndState(s side, rules []rule) string {
	opens, answers, theirs := "output", "input", "daddr"
	if s == server {
		opens, answers, theirs = answers, opens, "saddr"
	}
	elements := make([]string, len(rules))
	for i, r := range rules {
		elements[i] = fmt.Sprintf("%s . %s . %d", r.peer, r.protocol, r.port)
	}
	return fmt.Sprintf(`table inet bench {
set allowed { type ipv4_addr . inet_proto . inet_service; elements = { %s }; }
chain %s {
type filter hook %[2]s priority 0; policy drop;
ct state established,related accept
ip %s . meta l4proto . th dport @allowed accept
}
chain %s {
type filter hook %[4]s priority 0; policy drop;
ct state established,related accept
}
}
`, strings.Join(elements, ", "), opens, theirs, answers)
}
