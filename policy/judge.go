package policy

import (
	"net/netip"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// Flow is a new flow, seen from the host that judges it.
type Flow struct {
	Peer      mesh.Identity // of the remote address, see [Verdicts.Identify]
	Direction Direction
	Protocol  uint8  // IANA number
	Port      uint16 // destination port; for ICMP the type in the upper byte, as in Key
}

// Decision is what policy says to a flow.
type Decision struct {
	Allowed bool
	Rule    RuleID  // 0 where no rule decided: nothing matched, or nothing selects the host
	Ref     RuleRef // where the rule stands; zero if Rule is 0
}

// Judge decides a flow as the kernel does (bpf/lib/policy.h, policy_judge). Of the two entries found, the peer's
// own and the one of AnyIdentity, it names the rule of the first that denies;
// if none denies, that of the first.
func (v Verdicts) Judge(f Flow) Decision {
	exact, foundExact := v.lookup(f.Peer, f)
	other, foundOther := v.lookup(AnyIdentity, f)
	switch {
	case foundExact && (exact.Deny || !foundOther || !other.Deny):
		return v.decide(exact)
	case foundOther:
		return v.decide(other)
	}
	return Decision{}
}

func (v Verdicts) decide(e Entry) Decision {
	return Decision{Allowed: !e.Deny, Rule: e.Rule, Ref: v.Rules[e.Rule]}
}

// lookup returns the entry with the longest key that is about f, for peer.
func (v Verdicts) lookup(peer mesh.Identity, f Flow) (Entry, bool) {
	k := Key{Identity: peer, Direction: f.Direction, Protocol: f.Protocol}
	for bits := 16; bits >= 0; bits-- {
		k.PortBits = uint8(bits)
		k.Port = f.Port & portMask(k.PortBits)
		if e, ok := v.Entries[k]; ok {
			return e, true
		}
	}
	e, ok := v.Entries[Key{Identity: peer, Direction: f.Direction}]
	return e, ok
}

func portMask(bits uint8) uint16 { return uint16(0xffff << (16 - bits)) }

// Identify returns the identity of an address that no mesh knows: that of the
// longest CIDR peer that holds it, or the world of its family.
func (v Verdicts) Identify(a netip.Addr) mesh.Identity {
	a = a.Unmap().WithZone("")
	for bits := a.BitLen(); bits >= 0 && a.IsValid(); bits-- {
		if id, ok := v.Prefixes[netip.PrefixFrom(a, bits).Masked()]; ok {
			return id
		}
	}
	switch {
	case a.Is4():
		return identity.WorldIPv4
	case a.Is6():
		return identity.WorldIPv6
	}
	return identity.Unknown
}
