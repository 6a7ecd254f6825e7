package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/plexusmesh/plexus/policy"
)

// Numbers of protocols (IANA).
const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
	protocolSCTP   = 132
)

// Flow is a protocol and what of it a new flow begins with.
type Flow struct {
	Protocol uint8
	Port     uint16 // as in policy.Flow
	Name     string // of a port that the receiving side declares, instead of Port
}

// ParsePort reads "443/TCP", a named port as "pg/TCP", or a protocol without
// ports as "GRE".
func ParsePort(s string) (Flow, error) {
	port, protocol, hasPort := strings.Cut(s, "/")
	if !hasPort {
		port, protocol = "", s
	}
	n, err := policy.ParseProtocol(protocol)
	ported := n == protocolTCP || n == protocolUDP || n == protocolSCTP
	switch {
	case err != nil:
		return Flow{}, fmt.Errorf("port %q: %w", s, err)
	case n == 0:
		return Flow{}, fmt.Errorf("port %q names no protocol: write it as 443/TCP", s)
	case n == protocolICMP || n == protocolICMPv6:
		return Flow{}, fmt.Errorf("port %q: ICMP has types instead of ports: ask for the type, such as EchoRequest", s)
	case ported && port == "":
		return Flow{}, fmt.Errorf("port %q has no number: write it as 443/%s", s, policy.ProtocolName(n))
	case !ported && hasPort:
		return Flow{}, fmt.Errorf("port %q: %s has no ports: write the protocol alone", s, policy.ProtocolName(n))
	case !ported:
		return Flow{Protocol: n}, nil
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err == nil && number > 0 && port[0] != '0':
		return Flow{Protocol: n, Port: uint16(number)}, nil
	case policy.ValidPortName(port):
		return Flow{Protocol: n, Name: port}, nil
	}
	return Flow{}, fmt.Errorf("port %q is malformed: write a number from 1 to 65535, or the name of a port, before /%s", s, policy.ProtocolName(n))
}

// at returns f with the number that to declares under its name.
func (f Flow) at(to side) (Flow, error) {
	if f.Name == "" {
		return f, nil
	}
	found := policy.PortName{Protocol: f.Protocol, Name: f.Name}.Among(to.ports)
	if len(found) == 0 {
		return f, fmt.Errorf("%s declares no port %s/%s: write the number", to.name, f.Name, policy.ProtocolName(f.Protocol))
	}
	f.Port = found[0].First
	return f, nil
}

// neighbourDiscovery reports whether f is ICMPv6 that a link needs (RFC 4861).
func (f Flow) neighbourDiscovery() bool {
	return f.Protocol == protocolICMPv6 && slices.Contains([]uint16{133, 134, 135, 136, 137}, f.Port>>8)
}

// String is f as a test file has it.
func (f Flow) String() string {
	name := policy.ProtocolName(f.Protocol)
	switch {
	case f.Protocol == protocolICMP || f.Protocol == protocolICMPv6:
		return fmt.Sprintf("%s type %d", name, f.Port>>8)
	case f.Name != "":
		return f.Name + "/" + name
	case f.Protocol == protocolTCP || f.Protocol == protocolUDP || f.Protocol == protocolSCTP:
		return fmt.Sprintf("%d/%s", f.Port, name)
	}
	return name
}
