package bpfmap

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Where a policy key's prefix may end (bpf/lib/types.h, struct policy_key).
const (
	anyProtocolBits = 40 // behind identity and direction
	anyPortBits     = 48 // behind the protocol
)

func policyKeyOf(k policy.Key) bpfobj.PlexusPolicyKey {
	key := bpfobj.PlexusPolicyKey{
		Prefixlen: anyProtocolBits,
		Identity:  uint32(k.Identity),
		Direction: uint8(k.Direction),
	}
	if k.Protocol == 0 {
		return key
	}
	key.Prefixlen = anyPortBits + uint32(k.PortBits)
	key.Protocol = k.Protocol
	key.Port = bpfobj.NetworkOrder(k.Port)
	return key
}

func policyKeyFrom(key bpfobj.PlexusPolicyKey) policy.Key {
	k := policy.Key{Identity: mesh.Identity(key.Identity), Direction: policy.Direction(key.Direction)}
	if key.Prefixlen < anyPortBits {
		return k
	}
	k.Protocol = key.Protocol
	k.Port = bpfobj.NetworkOrder(key.Port)
	k.PortBits = uint8(key.Prefixlen - anyPortBits)
	return k
}

func fillVerdicts(m *ebpf.Map, entries map[policy.Key]policy.Entry) error {
	for k, e := range entries {
		key, value := policyKeyOf(k), bpfobj.PlexusPolicyValue{Rule: uint32(e.Rule)}
		if e.Deny {
			value.Deny = 1
		}
		if err := m.Update(&key, &value, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("write verdict %+v: %w", k, err)
		}
	}
	return nil
}

func readVerdicts(m *ebpf.Map, into map[policy.Key]policy.Entry) error {
	var key bpfobj.PlexusPolicyKey
	var value bpfobj.PlexusPolicyValue
	it := m.Iterate()
	for it.Next(&key, &value) {
		into[policyKeyFrom(key)] = policy.Entry{Deny: value.Deny != 0, Rule: policy.RuleID(value.Rule)}
	}
	return it.Err()
}

func fillPrefixes(m *ebpf.Map, prefixes map[netip.Prefix]mesh.Identity) error {
	for p, id := range prefixes {
		key := bpfobj.PrefixKeyOf(p.Masked())
		if err := m.Update(&key, uint32(id), ebpf.UpdateAny); err != nil {
			return fmt.Errorf("write identity of CIDR peer %s: %w", p, err)
		}
	}
	return nil
}

func readPrefixes(m *ebpf.Map, into map[netip.Prefix]mesh.Identity) error {
	var key bpfobj.PlexusPrefixKey
	var id uint32
	it := m.Iterate()
	for it.Next(&key, &id) {
		into[key.Netip()] = mesh.Identity(id)
	}
	return it.Err()
}
