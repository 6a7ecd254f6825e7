package policy

import (
	"math/bits"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxPorts is Cilium's bound on the ports of one item of toPorts.
const maxPorts = 40

// The protocols that have ports, with their IANA numbers.
const (
	protocolTCP  uint8 = 6
	protocolUDP  uint8 = 17
	protocolSCTP uint8 = 132
)

// PortRange is a run of destination ports of one protocol.
type PortRange struct {
	Protocol    uint8  // 0 for TCP, UDP and SCTP, or for every protocol where all ports are meant
	First, Last uint16 // 0 and 65535 for all; of ICMP, the type in the upper byte and all codes
}

// PortName stands for the ports that hosts declare under it: for ingress the
// judging host's own, for egress those of each peer.
type PortName struct {
	Protocol uint8 // 0 for TCP, UDP and SCTP
	Name     string
}

func (r PortRange) all() bool { return r.First == 0 && r.Last == 65535 }

// keys returns the keys of the range, without peer and direction: at most 30
// blocks for each protocol.
func (r PortRange) keys() []Key {
	if r.Protocol != 0 {
		return r.blocks(r.Protocol)
	}
	if r.all() {
		return []Key{{}}
	}
	var out []Key
	for _, p := range []uint8{protocolTCP, protocolUDP, protocolSCTP} {
		out = append(out, r.blocks(p)...)
	}
	return out
}

// blocks cuts the range into the fewest aligned blocks of a power of two, as a
// longest-prefix match needs them.
func (r PortRange) blocks(protocol uint8) []Key {
	var out []Key
	for first, end := uint32(r.First), uint32(r.Last)+1; first < end; {
		size := uint32(1) << min(bits.TrailingZeros32(first|1<<16), bits.Len32(end-first)-1)
		out = append(out, Key{Protocol: protocol, Port: uint16(first), PortBits: uint8(16 - bits.TrailingZeros32(size))})
		first += size
	}
	return out
}

// toPorts reads the ports of a clause; several items are a union.
func (d *decoder) toPorts(n *yaml.Node, path string) []PortRange {
	var out []PortRange
	d.list(n, path, func(n *yaml.Node, path string) {
		var ports *yaml.Node
		d.object(n, path, map[string]reader{"ports": func(n *yaml.Node, path string) {
			ports = n
			out = append(out, d.ports(n, path)...)
		}})
		if ports == nil && n.Kind == yaml.MappingNode && len(n.Content) == 0 {
			d.refuse(n, path, "names no port: write ports, or leave toPorts out for every port")
		}
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.refuse(n, path, "is an empty list: leave it out for every port, or name ports")
	}
	return out
}

func (d *decoder) ports(n *yaml.Node, path string) []PortRange {
	if n.Kind == yaml.SequenceNode && (len(n.Content) == 0 || len(n.Content) > maxPorts) {
		d.refuse(n, path, "has %d ports: write 1 to %d, and further ones as another item of toPorts", len(n.Content), maxPorts)
		return nil
	}
	var out []PortRange
	d.list(n, path, func(n *yaml.Node, path string) {
		if r, ok := d.port(n, path); ok {
			out = append(out, r)
		}
	})
	return out
}

func (d *decoder) port(n *yaml.Node, path string) (r PortRange, ok bool) {
	before := len(d.problems)
	var (
		named bool
		end   *yaml.Node
	)
	d.object(n, path, map[string]reader{
		"port": func(n *yaml.Node, path string) {
			named = true
			r.First = d.portNumber(n, path)
		},
		"endPort":  func(n *yaml.Node, _ string) { end = n },
		"protocol": func(n *yaml.Node, path string) { r.Protocol = d.protocol(n, path) },
	})
	if len(d.problems) > before {
		return r, false
	}
	if !named {
		d.refuse(n, join(path, "port"), "is missing: write a number in quotes, \"0\" for every port")
		return r, false
	}
	r.Last = r.First
	if r.First == 0 {
		r.Last = 65535
	}
	return r, end == nil || d.endPort(end, join(path, "endPort"), &r)
}

// endPort reads the last port of a range. Cilium takes 0 for none.
func (d *decoder) endPort(n *yaml.Node, path string, r *PortRange) bool {
	last, ok := d.number(n, path)
	switch {
	case !ok:
		return false
	case last == 0:
		return true
	case r.First == 0:
		d.refuse(n, path, "port \"0\" means every port and begins no range: begin it at \"1\"")
	case last < int(r.First) || last > 65535:
		d.refuse(n, path, "%d is out of range: write a number from port, %d, to 65535", last, r.First)
	default:
		r.Last = uint16(last)
		return true
	}
	return false
}

// portName is an IANA service name (RFC 6335, section 5.1).
var portName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]{0,13}[A-Za-z0-9])?$`)

// portNumber reads a port, which Cilium wants as text because it may be a name.
func (d *decoder) portNumber(n *yaml.Node, path string) uint16 {
	s, ok := d.text(n, path)
	if !ok {
		return 0
	}
	v, err := strconv.ParseUint(s, 10, 16)
	switch {
	case err == nil && (s == "0" || !strings.HasPrefix(s, "0")):
		return uint16(v)
	case portName.MatchString(s) && strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"):
		d.refuse(n, path, "port names such as %q are not enforced yet: write the number", s)
	default:
		d.refuse(n, path, "%q is not a port: write a number from 1 to 65535, or 0 for every port", shorten(s))
	}
	return 0
}

func (d *decoder) protocol(n *yaml.Node, path string) uint8 {
	s, ok := d.text(n, path)
	if !ok {
		return 0
	}
	p, err := ParseProtocol(s)
	hasPorts := p == protocolTCP || p == protocolUDP || p == protocolSCTP
	switch {
	case err != nil || s == "":
		d.refuse(n, path, "protocol %q is unknown: use TCP, UDP, SCTP or ANY", shorten(s))
	case p != 0 && !hasPorts:
		d.refuse(n, path, "protocol %s has no ports and is not enforced by type yet: leave toPorts out to cover it", s)
	}
	return p
}
