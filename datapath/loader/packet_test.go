package loader

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// packet describes a frame to build. The zero value of a field leaves it out.
type packet struct {
	src, dst     string
	proto        uint8
	sport, dport uint16
	flags        uint8 // TCP
	chunk        uint8 // SCTP
	icmp         [2]uint8
	id           uint16 // ICMP echo
	vlan         int    // how many tags
	hops         uint8  // hop limit; 64 if not said
	options      int    // bytes of IPv4 options
	extensions   []uint8
	fragment     fragment
	payload      []byte
	raw          []byte // instead of a transport header and payload
	checked      bool   // whether the transport has its checksum, which real stacks want
	cut          int    // bytes to cut from the end, behind the headers' back
}

type fragment struct {
	id     uint32
	offset uint16 // bytes
	more   bool
	dont   bool // IPv4: may not be fragmented
}

const (
	fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	icmp4, tcp, udp    = 1, 6, 17
	icmp6, sctp        = 58, 132
	hopByHop, routing  = 0, 43
	fragmentHeader     = 44
	authentication     = 51
	destinationOptions = 60
)

// frame returns the packet behind an Ethernet header.
func (p packet) frame() []byte {
	b := make([]byte, 12, 128)
	for range p.vlan {
		b = append(b, 0x81, 0x00, 0x00, 0x64)
	}
	ethertype := uint16(0x0800)
	if p.v6() {
		ethertype = 0x86dd
	}
	return append(binary.BigEndian.AppendUint16(b, ethertype), p.ip()...)
}

func (p packet) v6() bool { return netip.MustParseAddr(p.src).Is6() }

// ip returns the packet from its IP header on.
func (p packet) ip() []byte {
	b := p.ipv4()
	if p.v6() {
		b = p.ipv6()
	}
	return b[:len(b)-p.cut]
}

func (p packet) ipv4() []byte {
	body := p.transport()
	h := make([]byte, 20+p.options)
	h[0] = 0x40 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(body)))
	binary.BigEndian.PutUint16(h[4:], uint16(p.fragment.id))
	off := p.fragment.offset / 8
	if p.fragment.more {
		off |= 0x2000
	}
	if p.fragment.dont {
		off |= 0x4000
	}
	binary.BigEndian.PutUint16(h[6:], off)
	h[8], h[9] = 64, p.proto
	copy(h[12:], netip.MustParseAddr(p.src).AsSlice())
	copy(h[16:], netip.MustParseAddr(p.dst).AsSlice())
	for i := range p.options {
		h[20+i] = 1 // no operation
	}
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, body...)
}

func (p packet) ipv6() []byte {
	body, next := p.transport(), p.proto
	for _, ext := range slices.Backward(p.extensions) {
		body, next = append(p.extension(ext, next), body...), ext
	}
	h := make([]byte, 40)
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	h[6], h[7] = next, cmp.Or(p.hops, 64)
	copy(h[8:], netip.MustParseAddr(p.src).AsSlice())
	copy(h[24:], netip.MustParseAddr(p.dst).AsSlice())
	return append(h, body...)
}

// extension returns an IPv6 extension header; all but a fragment's are 16 bytes long.
func (p packet) extension(kind, next uint8) []byte {
	switch kind {
	case fragmentHeader:
		h := []byte{next, 0, 0, 0, 0, 0, 0, 0}
		off := p.fragment.offset
		if p.fragment.more {
			off |= 1
		}
		binary.BigEndian.PutUint16(h[2:], off)
		binary.BigEndian.PutUint32(h[4:], p.fragment.id)
		return h
	case authentication:
		return append([]byte{next, 2}, make([]byte, 14)...) // (2+2)*4 bytes
	}
	return append([]byte{next, 1, 1, 12}, make([]byte, 12)...) // one PadN option
}

func (p packet) transport() []byte {
	if p.raw != nil {
		return p.raw
	}
	if p.fragment.offset > 0 {
		return append([]byte("later fragment.."), p.payload...)
	}
	var b []byte
	switch p.proto {
	case tcp:
		b = make([]byte, 20)
		b[12], b[13] = 5<<4, p.flags
	case udp:
		b = make([]byte, 8)
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(p.payload)))
	case sctp:
		b = make([]byte, 16)
		b[12], b[15] = p.chunk, 4
	case icmp4, icmp6:
		b = []byte{p.icmp[0], p.icmp[1], 0, 0, 0, 0, 0, 1}
		binary.BigEndian.PutUint16(b[4:], p.id)
		return p.check(append(b, p.payload...), 2)
	default:
		return append([]byte("no ports of mine"), p.payload...)
	}
	binary.BigEndian.PutUint16(b[0:], p.sport)
	binary.BigEndian.PutUint16(b[2:], p.dport)
	return p.check(append(b, p.payload...), map[uint8]int{tcp: 16, udp: 6}[p.proto])
}

// check puts the checksum there; that of ICMP covers no pseudo header (RFC 792).
func (p packet) check(b []byte, at int) []byte {
	if !p.checked {
		return b
	}
	covered := b
	if p.proto != icmp4 {
		covered = append(p.pseudoHeader(len(b)), b...)
	}
	binary.BigEndian.PutUint16(b[at:], checksum(covered))
	return b
}

// pseudoHeader is that of RFC 8200, section 8.1, which sums up as that of IPv4 does.
func (p packet) pseudoHeader(length int) []byte {
	b := append(netip.MustParseAddr(p.src).AsSlice(), netip.MustParseAddr(p.dst).AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, p.proto)
}

// reply returns the packet that answers p.
func (p packet) reply() packet {
	p.src, p.dst = p.dst, p.src
	p.sport, p.dport = p.dport, p.sport
	switch {
	case p.proto == tcp:
		p.flags |= ack
	case p.proto == icmp4 && p.icmp[0] == 8:
		p.icmp[0] = 0
	case p.proto == icmp6 && p.icmp[0] == 128:
		p.icmp[0] = 129
	}
	return p
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	if len(b)%2 == 1 {
		b = append(b[:len(b):len(b)], 0)
	}
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
