package observe

import (
	"net/netip"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Resolver puts names to the numbers of an event. Its answers are those of the
// moment; lists that it returns are shared and never changed afterwards. It is
// called for every event, so it must be quick and must not wait for anything.
type Resolver interface {
	// Labels returns the labels of an identity, nil where it is unknown.
	Labels(mesh.Identity) []string
	// Address returns the identity of an address, and the name of the host that
	// has it; zero values where they are unknown. This host's own addresses
	// have this host's identity.
	Address(netip.Addr) (mesh.Identity, string)
	// Rule returns where a rule stands ("policy section"), "" if unknown.
	Rule(policy.RuleID) string
	// Log returns what a rule wants shown with the flows that it decides
	// (log.value of its policy), "" for nothing.
	Log(policy.RuleID) string
	// Staged returns what would have happened to the packet of an event if staged
	// rules had effect, and the rule that would decide, "" if none. ok is false
	// where no staged rule selects this host, or where it cannot be told.
	Staged(datapath.Event) (allowed bool, rule string, ok bool)
	// LinkName returns the name of a network interface, "" if unknown.
	LinkName(ifindex uint32) string
}
