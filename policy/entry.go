package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
)

// Direction is that of a flow's first packet, from the view of the host that
// judges it.
type Direction uint8

// The directions, with the numbers that bpf/lib/types.h gives them.
const (
	Ingress Direction = iota
	Egress
)

func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// AnyIdentity in a Key stands for every peer, also one that no entry knows.
const AnyIdentity mesh.Identity = 0

// Key says which new flows an Entry is about: those of one peer in one
// direction, of one protocol, with a destination port under one prefix. It is
// what the kernel's policy map is keyed with (bpf/lib/types.h, struct policy_key).
type Key struct {
	Identity  mesh.Identity // of the remote peer, or AnyIdentity
	Direction Direction
	Protocol  uint8  // IANA protocol number; 0 for every protocol, with PortBits 0
	Port      uint16 // first port of the aligned block; ICMP type in the upper byte
	PortBits  uint8  // leading bits of Port that count, 0 (every port) to 16 (this one)
}

// Covers reports whether every flow that o is about is one that k is about.
// Both must be of the same identity and direction.
func (k Key) Covers(o Key) bool {
	switch {
	case k.Identity != o.Identity || k.Direction != o.Direction:
		return false
	case k.Protocol == 0:
		return true
	case k.Protocol != o.Protocol || k.PortBits > o.PortBits:
		return false
	}
	return (k.Port^o.Port)>>(16-k.PortBits) == 0
}

// Compare orders keys for output: by direction, identity, protocol, port.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Direction, o.Direction), cmp.Compare(k.Identity, o.Identity),
		cmp.Compare(k.Protocol, o.Protocol), cmp.Compare(k.Port, o.Port), cmp.Compare(k.PortBits, o.PortBits))
}

// RuleID names a rule in the kernel's maps and in flow events. It is a hash of
// where the rule stands, so that flows pinned by an earlier run still name it.
// 0 means that no rule decided.
type RuleID uint32

// Entry is the verdict for the flows of a Key.
type Entry struct {
	Deny bool
	Rule RuleID // the rule that decided; 0 for "no policy selects this host in this direction"
}

// RuleRef says where a rule stands.
type RuleRef struct {
	Policy  string // "namespace/name", or "name" for a clusterwide policy
	Section string // for example "ingressDeny[0]", with "specs[1]." before it where a policy has specs
	Line    int    // in the policy's document, from 1
}

func (r RuleRef) String() string {
	if r.Policy == "" {
		return ""
	}
	return r.Policy + " " + r.Section
}

// Verdicts is what policy says to one host: every verdict that the kernel may
// have to give for it. A flow is looked up twice, by its peer's identity and by
// AnyIdentity, the longest key first; it is denied if either entry denies or
// neither exists, and allowed otherwise.
type Verdicts struct {
	Entries  map[Key]Entry
	Prefixes map[netip.Prefix]mesh.Identity // CIDR peers, numbered for this host alone
	Rules    map[RuleID]RuleRef             // every rule that selects the host
	Enforced [2]bool                        // by Direction: whether some policy selects the host, so that the rest is denied

	// AtLeast is how many entries there would be at least, where that is so many
	// that not all were made: Entries has more than MaxVerdicts then, so that
	// nobody can take them for the whole. Otherwise it is 0.
	AtLeast int

	// Staged is what policy would say if staged rules had effect too; nil where no
	// staged rule selects the host.
	Staged *Verdicts
}

// What one host can hold: the sizes of the maps behind plexus_policy_v1 and
// plexus_cidr_v1 (bpf/lib/maps.h).
const (
	MaxVerdicts = 65536 // entries
	MaxPrefixes = 65536 // of CIDR peers
)

// Fits reports why no host could hold v.
func (v Verdicts) Fits() error {
	if v.AtLeast > 0 {
		return fmt.Errorf("at least %d verdicts, of which a host can hold %d: use fewer rules, wider port ranges or fewer selected peers", v.AtLeast, MaxVerdicts)
	}
	if n := len(v.Entries); n > MaxVerdicts {
		return fmt.Errorf("%d verdicts, of which a host can hold %d: use fewer rules, wider port ranges or fewer selected peers", n, MaxVerdicts)
	}
	if n := len(v.Prefixes); n > MaxPrefixes {
		return fmt.Errorf("%d CIDR prefixes, of which a host can hold %d: use fewer or wider ones", n, MaxPrefixes)
	}
	return nil
}

// protocolNames are those of policy documents, with IANA's numbers
// (Cilium: pkg/u8proto).
var protocolNames = map[uint8]string{
	1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 17: "UDP", 41: "IPV6", 47: "GRE", 50: "ESP", 51: "AH",
	58: "ICMPv6", 112: "VRRP", 132: "SCTP",
}

// ProtocolName returns the name of an IANA protocol number as policy writes it.
func ProtocolName(p uint8) string {
	if p == 0 {
		return "ANY"
	}
	if n, ok := protocolNames[p]; ok {
		return n
	}
	return fmt.Sprint(p)
}

// ParseProtocol is the reverse of ProtocolName, in either case.
func ParseProtocol(s string) (uint8, error) {
	if strings.EqualFold(s, "ANY") || s == "" {
		return 0, nil
	}
	for n, name := range protocolNames {
		if strings.EqualFold(s, name) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("protocol %q is unknown: use TCP, UDP, SCTP, ICMP, ICMPv6, VRRP, IGMP, GRE, IPIP, IPV6, ESP, AH or ANY", s)
}
