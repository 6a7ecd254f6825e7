package bpfobj

import (
	"encoding/binary"
	"net/netip"
)

// mappedBits is what an IPv4 prefix length gains in the common key space.
const mappedBits = 96

// AddrOf returns a as the programs write it: IPv4 as ::ffff:a.b.c.d.
func AddrOf(a netip.Addr) PlexusAddr { return PlexusAddr{Bytes: a.As16()} }

// Netip returns the address in its own family.
func (a PlexusAddr) Netip() netip.Addr { return netip.AddrFrom16(a.Bytes).Unmap() }

// PrefixKeyOf returns the key of p, whose host bits must be zero.
func PrefixKeyOf(p netip.Prefix) PlexusPrefixKey {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += mappedBits
	}
	return PlexusPrefixKey{Prefixlen: uint32(bits), Addr: AddrOf(p.Addr())}
}

// Netip returns the prefix in its own family.
func (k PlexusPrefixKey) Netip() netip.Prefix {
	a, bits := k.Addr.Netip(), int(k.Prefixlen)
	if a.Is4() && bits >= mappedBits {
		return netip.PrefixFrom(a, bits-mappedBits)
	}
	return netip.PrefixFrom(netip.AddrFrom16(k.Addr.Bytes), bits)
}

// NetworkOrder returns v as it stands in memory in network byte order, and the
// reverse.
func NetworkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
