package loader

import (
	"encoding/binary"
	"net/netip"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// sight is what the model sees in a packet.
type sight struct {
	src, dst     netip.Addr
	protocol     uint8
	sport, dport uint16 // of its flow; of ICMP as the model's transport says
	port         uint16 // that policy is asked about
	flags        uint8  // of TCP; those of SCTP that mean the same
	length       uint64 // bytes from the IP header on
	nd           bool
	refused      bool   // an ICMP error
	quoted       []byte // what it quotes

	onLink         bool // of IPv6, with hop limit 255
	later, first   bool // which fragment it is
	fragment       uint32
	fragmentHolder uint8 // protocol in the header that tells of fragments
}

// Short names for the reasons.
const (
	fine      = bpfobj.PlexusDropReasonDROP_NONE
	truncated = bpfobj.PlexusDropReasonDROP_TRUNCATED
	malformed = bpfobj.PlexusDropReasonDROP_MALFORMED
)

// see reads a frame. It reports false for what is not IP.
func see(frame []byte) (sight, bpfobj.PlexusDropReason, bool) {
	ethertype, body := unframe(frame[:len(frame):len(frame)])
	if ethertype != 0x0800 && ethertype != 0x86dd {
		return sight{}, fine, false
	}
	s, reason := seeIP(body, ethertype == 0x86dd, false)
	return s, reason, true
}

// unframe returns what stands behind the Ethernet header and up to two tags.
func unframe(b []byte) (uint16, []byte) {
	ethertype, b := binary.BigEndian.Uint16(b[12:]), b[14:]
	for range 2 {
		if ethertype != 0x8100 && ethertype != 0x88a8 {
			break
		}
		if len(b) < 4 {
			return 0, nil
		}
		ethertype, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	return ethertype, b
}

// seeIP reads a packet, or as much of one as an ICMP error quotes.
func seeIP(b []byte, v6, quoted bool) (sight, bpfobj.PlexusDropReason) {
	if v6 {
		return see6(b, quoted)
	}
	return see4(b, quoted)
}

func see4(b []byte, quoted bool) (sight, bpfobj.PlexusDropReason) {
	if len(b) < 20 {
		return sight{}, truncated
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || header < 20 || total != 0 && total < header {
		return sight{}, malformed
	}
	if !quoted && (len(b) < header || len(b) < total) {
		return sight{}, truncated
	}
	if total != 0 && !quoted {
		b = b[:total]
	}
	flags := binary.BigEndian.Uint16(b[6:])
	s := sight{
		src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])), protocol: b[9], length: uint64(len(b)),
		later: flags&0x1fff != 0, first: flags&0x3fff == 0x2000,
		fragment: uint32(binary.BigEndian.Uint16(b[4:])), fragmentHolder: b[9],
	}
	if s.later {
		return s, fine
	}
	return s.transport(b[min(header, len(b)):], quoted)
}

func see6(b []byte, quoted bool) (sight, bpfobj.PlexusDropReason) {
	if len(b) < 40 {
		return sight{}, truncated
	}
	if b[0]>>4 != 6 {
		return sight{}, malformed
	}
	if n := int(binary.BigEndian.Uint16(b[4:])); n != 0 && !quoted {
		if len(b) < 40+n {
			return sight{}, truncated
		}
		b = b[: 40+n : len(b)]
	}
	s := sight{
		src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])), protocol: b[6],
		length: uint64(len(b)), onLink: b[7] == 255,
	}
	if s.src.Is4In6() || s.dst.Is4In6() {
		return s, bpfobj.PlexusDropReasonDROP_MAPPED_ADDRESS
	}
	return s.extensions(b, quoted)
}

// extensions walks the chain. A header may begin where the stated length ends and
// lie in what pads the frame: the next one, or the transport, is then outside.
func (s sight) extensions(b []byte, quoted bool) (sight, bpfobj.PlexusDropReason) {
	whole, at := b[:cap(b)], 40
	for range 9 {
		if at > len(b) {
			return s, truncated
		}
		size := 2
		switch s.protocol {
		case fragmentHeader:
			size = 8
		case hopByHop, routing, destinationOptions, authentication:
		default:
			return s.transport(b[at:], quoted)
		}
		if at+size > len(whole) {
			return s, truncated
		}
		h := whole[at:]
		switch s.protocol {
		case fragmentHeader:
			off := binary.BigEndian.Uint16(h[2:])
			s.protocol, at = h[0], at+8
			s.fragment, s.fragmentHolder = binary.BigEndian.Uint32(h[4:]), h[0]
			if off&0xfff8 != 0 {
				s.later, s.first = true, false
				return s, fine
			}
			s.first = s.first || off&1 != 0
		case authentication:
			s.protocol, at = h[0], at+(int(h[1])+2)*4
		default:
			s.protocol, at = h[0], at+(int(h[1])+1)*8
		}
	}
	return s, bpfobj.PlexusDropReasonDROP_EXTENSION_HEADERS
}

// transport reads ports. What is quoted need have no more than 8 bytes.
func (s sight) transport(b []byte, quoted bool) (sight, bpfobj.PlexusDropReason) {
	v6 := s.src.Is6()
	need := map[uint8]int{tcp: 20, udp: 8, sctp: 16}[s.protocol]
	icmp := s.protocol == icmp4 && !v6 || s.protocol == icmp6 && v6
	if icmp || quoted && need > 0 {
		need = 8
	}
	if len(b) < need {
		return s, truncated
	}
	switch {
	case icmp:
		return s.icmp(b), fine
	case need > 0:
		s.sport, s.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		s.port = s.dport
	}
	switch {
	case quoted:
	case s.protocol == tcp:
		s.flags = b[13]
	case s.protocol == sctp:
		s.flags = map[uint8]uint8{1: syn, 6: rst, 14: rst}[b[12]]
		if s.flags == 0 {
			s.flags = ack
		}
	}
	return s, fine
}

// icmp has an echo's identifier on the side that asks, and type and code on
// both sides of anything else.
func (s sight) icmp(b []byte) sight {
	s.port = binary.BigEndian.Uint16(b)
	kind, id := b[0], binary.BigEndian.Uint16(b[4:])
	asks, answers := kind == 8, kind == 0
	s.refused = kind == 3 || kind == 11 || kind == 12
	if s.protocol == icmp6 {
		asks, answers, s.refused = kind == 128, kind == 129, kind < 128
		s.nd = s.onLink && kind >= 133 && kind <= 137 && !s.first
	}
	switch {
	case asks:
		s.sport, s.dport = id, 0
	case answers:
		s.sport, s.dport = 0, id
	default:
		s.sport, s.dport = s.port, s.port
	}
	s.quoted = b[8:cap(b)]
	return s
}
