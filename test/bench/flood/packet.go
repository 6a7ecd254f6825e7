package flood

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// blocklist denies a thousand prefixes of each family that share nothing with
// each other, and allows the rest.
func blocklist() bpfmap.Ruleset {
	set := bpfmap.Ruleset{
		Entries:  map[policy.Key]policy.Entry{{Direction: policy.Ingress}: {}, {Direction: policy.Egress}: {}},
		Prefixes: make(map[netip.Prefix]mesh.Identity),
	}
	for i := range prefixes {
		for family, a := range blocked(i) {
			id := mesh.Identity(1<<24 | 2*i | family)
			bits := [...]int{24, 48}[family]
			set.Prefixes[netip.PrefixFrom(a, bits).Masked()] = id
			set.Entries[policy.Key{Identity: id, Direction: policy.Ingress}] = policy.Entry{Deny: true, Rule: 1}
		}
	}
	return set
}

// blocked are addresses in the i-th denied prefixes (RFC 1918, RFC 5180).
func blocked(i int) [2]netip.Addr {
	four, six := [4]byte{10, byte(i >> 8), byte(i), 7}, [16]byte{0x20, 0x01, 0x00, 0x02}
	binary.BigEndian.PutUint16(six[4:], uint16(i))
	six[15] = 7
	return [2]netip.Addr{netip.AddrFrom4(four), netip.AddrFrom16(six)}
}

// datagram is a small UDP packet in an Ethernet frame.
func datagram(from netip.Addr) []byte {
	const payload = 18
	udp := make([]byte, 8+payload)
	binary.BigEndian.PutUint16(udp[2:], 9)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	frame := make([]byte, 12, 96)
	if from.Is4() {
		to := netip.MustParseAddr("198.51.100.1").As4()
		frame = append(frame, 0x08, 0x00, 0x45, 0, 0, byte(20+len(udp)), 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
		return append(append(append(frame, from.AsSlice()...), to[:]...), udp...)
	}
	to := netip.MustParseAddr("2001:db8::1").As16()
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(udp)), unix.IPPROTO_UDP, 64)
	return append(append(append(frame, from.AsSlice()...), to[:]...), udp...)
}
