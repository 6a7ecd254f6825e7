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

// The protocols that have ports or types, with their IANA numbers.
const (
	protocolICMP   uint8 = 1
	protocolTCP    uint8 = 6
	protocolUDP    uint8 = 17
	protocolICMPv6 uint8 = 58
	protocolSCTP   uint8 = 132
)

// hasPorts reports whether flows of a protocol have a destination port.
func hasPorts(protocol uint8) bool {
	return protocol == protocolTCP || protocol == protocolUDP || protocol == protocolSCTP
}

// PortRange is a run of destination ports of one protocol.
type PortRange struct {
	Protocol    uint8  // 0 for TCP, UDP and SCTP
	First, Last uint16 // 0 and 65535 for all; of ICMP, the type in the upper byte and all codes
}

// PortName stands for the ports that hosts declare under it: for ingress the
// judging host's own, for egress those of each peer.
type PortName struct {
	Protocol uint8 // 0 for TCP, UDP and SCTP
	Name     string
}

// keys returns the keys of the range, without peer and direction: at most 30
// blocks for each protocol.
func (r PortRange) keys() []Key {
	if r.Protocol != 0 {
		return r.blocks(r.Protocol)
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
func (d *decoder) toPorts(n *yaml.Node, path string, c *Clause) {
	d.list(n, path, func(n *yaml.Node, path string) {
		var ports *yaml.Node
		d.object(n, path, map[string]reader{"ports": func(n *yaml.Node, path string) {
			ports = n
			d.ports(n, path, c)
		}})
		if ports == nil && n.Kind == yaml.MappingNode && empty(n) {
			d.refuse(n, path, "names no port: write ports, or leave toPorts out for every port")
		}
	})
	if n.Kind == yaml.SequenceNode && empty(n) {
		d.refuse(n, path, "is an empty list: leave it out for every port, or name ports")
	}
}

func (d *decoder) ports(n *yaml.Node, path string, c *Clause) {
	if n.Kind == yaml.SequenceNode && (empty(n) || len(n.Content) > maxPorts) {
		d.refuse(n, path, "has %d ports: write 1 to %d, and further ones as another item of toPorts", len(n.Content), maxPorts)
		return
	}
	d.list(n, path, func(n *yaml.Node, path string) {
		if p, ok := d.port(n, path); ok {
			p.into(c)
		}
	})
}

// port is one port, range or name as written. name is "" for a number.
type port struct {
	PortRange
	name string
}

func (p port) into(c *Clause) {
	if p.name != "" {
		c.PortNames = append(c.PortNames, PortName{Protocol: p.Protocol, Name: p.name})
		return
	}
	c.Ports = append(c.Ports, p.PortRange)
}

func (d *decoder) port(n *yaml.Node, path string) (p port, ok bool) {
	before := len(d.problems)
	var number, end *yaml.Node
	d.object(n, path, map[string]reader{
		"port":     func(n *yaml.Node, _ string) { number = n },
		"endPort":  func(n *yaml.Node, _ string) { end = n },
		"protocol": func(n *yaml.Node, path string) { p.Protocol = d.protocol(n, path) },
	})
	if len(d.problems) > before {
		return p, false
	}
	at := join(path, "port")
	switch portless := p.Protocol != 0 && !hasPorts(p.Protocol); {
	case number == nil && !portless:
		d.refuse(n, at, "is missing: write a number in quotes, \"0\" for every port")
		return p, false
	case number != nil && !d.portNumber(number, at, &p):
		return p, false
	case portless && (p.First != 0 || p.name != "" || end != nil):
		d.refuse(n, at, "protocol %s has no ports: leave port out, or write \"0\"", ProtocolName(p.Protocol))
		return p, false
	}
	p.Last = p.First
	if p.First == 0 {
		p.Last = 65535
	}
	return p, end == nil || d.endPort(end, join(path, "endPort"), &p)
}

// endPort reads the last port of a range. Cilium takes 0 for none.
func (d *decoder) endPort(n *yaml.Node, path string, p *port) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" && n.Value == "0" || d.lastPort(n, path, p)
}

func (d *decoder) lastPort(n *yaml.Node, path string, p *port) bool {
	last, ok := d.number(n, path)
	switch {
	case !ok:
		return false
	case p.name != "":
		d.refuse(n, path, "a range cannot begin at the name %q: write its first port as a number", p.name)
	case p.First == 0:
		d.refuse(n, path, "port \"0\" means every port and begins no range: begin it at \"1\"")
	case last < int(p.First) || last > 65535:
		d.refuse(n, path, "%d is out of range: write a number from port, %d, to 65535", last, p.First)
	default:
		p.Last = uint16(last)
		return true
	}
	return false
}

// portName is an IANA service name (RFC 6335, section 5.1) without the rules for
// its length and letters.
var portName = regexp.MustCompile(`^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$`)

func isPortName(s string) bool {
	return len(s) <= 15 && portName.MatchString(s) &&
		strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

// portNumber reads a port, which Cilium wants as text because it may be a name.
// Names are compared in lower case (RFC 6335).
func (d *decoder) portNumber(n *yaml.Node, path string, p *port) bool {
	s, ok := d.text(n, path)
	if !ok {
		return false
	}
	v, err := strconv.ParseUint(s, 10, 16)
	switch {
	case err == nil && (s == "0" || !strings.HasPrefix(s, "0")):
		p.First = uint16(v)
	case isPortName(s):
		p.name = strings.ToLower(s)
	default:
		d.refuse(n, path, "%q is not a port: write a number from 1 to 65535, 0 for every port, or a name of at most 15 letters, digits and inner dashes", shorten(s))
		return false
	}
	return true
}

func (d *decoder) protocol(n *yaml.Node, path string) uint8 {
	s, ok := d.text(n, path)
	if !ok {
		return 0
	}
	p, err := ParseProtocol(s)
	switch {
	case err != nil || s == "":
		d.refuse(n, path, "protocol %q is unknown: use TCP, UDP, SCTP, ANY, VRRP, IGMP, GRE, IPIP, IPV6, ESP or AH", shorten(s))
	case p == protocolICMP || p == protocolICMPv6:
		d.refuse(n, path, "protocol %s has types, not ports: write icmps instead of toPorts", s)
	}
	return p
}
