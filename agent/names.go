package agent

import (
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// names puts words to the numbers that the kernel speaks in. A book of them is
// made after each plan and never changed, so that looking up costs no lock.
type names struct {
	book  atomic.Pointer[book]
	rules func(policy.RuleID) string
	links sync.Map // ifindex → name
}

type book struct {
	labels map[mesh.Identity][]string
	owners map[netip.Addr]owner
	spans  map[netip.Prefix]mesh.Identity // CIDR peers of policy
	nodes  map[mesh.Identity][]string     // hosts by identity

	logs     map[policy.RuleID]string
	staged   *policy.Verdicts // nil where no staged rule selects this host
	pinholes map[datapath.Pinhole]string
}

type owner struct {
	identity mesh.Identity
	node     string
}

// newBook writes down what s and d call things.
func newBook(s state.Snapshot, d plan.Desired) *book {
	b := &book{
		labels: make(map[mesh.Identity][]string), owners: make(map[netip.Addr]owner),
		spans: d.Verdicts.Prefixes, nodes: make(map[mesh.Identity][]string),
		logs: d.Logs, staged: d.Verdicts.Staged, pinholes: d.Pinholes,
	}
	for id, labels := range s.Identities {
		b.labels[id] = labels.Strings()
	}
	for p, id := range d.Verdicts.Prefixes {
		b.labels[id] = identity.PrefixLabels(p, d.Verdicts.Prefixes).Strings()
	}
	for p, peer := range d.IPCache {
		b.owners[p.Addr()] = owner{identity: peer.Identity}
	}
	for _, n := range s.Nodes {
		b.enter(n)
	}
	return b
}

// enter names the addresses and the identity of n.
func (b *book) enter(n mesh.Node) {
	var id mesh.Identity
	for _, a := range append([]netip.Addr{n.Mesh4, n.Mesh6}, n.Addresses...) {
		if o, ok := b.owners[a]; ok {
			o.node, id = n.Name, o.identity
			b.owners[a] = o
		}
	}
	if id != identity.Unknown {
		b.nodes[id] = append(b.nodes[id], n.Name)
	}
}

func (n *names) read() *book {
	if b := n.book.Load(); b != nil {
		return b
	}
	return &book{}
}

// Labels returns the labels of an identity.
func (n *names) Labels(id mesh.Identity) []string {
	if labels, ok := n.read().labels[id]; ok {
		return labels
	}
	return identity.ReservedLabels(id).Strings()
}

// Address returns the identity of an address and the host that has it.
func (n *names) Address(a netip.Addr) (mesh.Identity, string) {
	b := n.read()
	if o, ok := b.owners[a]; ok {
		return o.identity, o.node
	}
	return b.world(a), ""
}

// world is the identity of an address that no host has: that of the longest CIDR
// peer around it, as the datapath looks it up.
func (b *book) world(a netip.Addr) mesh.Identity {
	best, bits := identity.WorldIPv4, -1
	if a.Is6() {
		best = identity.WorldIPv6
	}
	for p, id := range maps.All(b.spans) {
		if p.Contains(a) && p.Bits() > bits {
			best, bits = id, p.Bits()
		}
	}
	return best
}

// Rule returns where a rule stands.
func (n *names) Rule(id policy.RuleID) string { return n.rules(id) }

// Log returns what a rule wants shown with the flows that it decides.
func (n *names) Log(id policy.RuleID) string { return n.read().logs[id] }

// LinkName returns the name of a network interface. Indexes are never used
// again while the kernel runs, so names are remembered.
func (n *names) LinkName(index uint32) string {
	if name, ok := n.links.Load(index); ok {
		return name.(string)
	}
	link, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return ""
	}
	n.links.Store(index, link.Name)
	return link.Name
}
