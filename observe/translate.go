package observe

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// IANA protocol numbers that flows show more of.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoICMPv6 = 58
)

// tcpFlagNames are by bit (RFC 9293, section 3.1), the lowest first.
var tcpFlagNames = [8]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

// translate puts names to an event that the host node saw.
func translate(e datapath.Event, node string, names Resolver) Flow {
	f := Flow{
		Time:      e.Time,
		Node:      node,
		Verdict:   Forwarded,
		Direction: e.Direction.String(),
		Reply:     e.Reply,
		Protocol:  policy.ProtocolName(e.Protocol),
		Rule:      ruleName(e.Rule, names),
		PolicyLog: names.Log(e.Rule),
		Interface: cmp.Or(names.LinkName(e.Link), fmt.Sprintf("if%d", e.Link)),
		Encrypted: e.Tunnel,
		Bytes:     e.Length,
	}
	if e.Dropped {
		f.Verdict, f.DropReason = Dropped, e.Reason
	}
	if allowed, rule, ok := names.Staged(e); ok {
		f.StagedVerdict, f.StagedRule = verdict(allowed), rule
	}
	// A reply travels against the flow's direction.
	if incoming := (e.Direction == policy.Ingress) != e.Reply; incoming {
		f.Source, f.Destination = remoteEndpoint(e.Src, e.Remote, names), localEndpoint(e.Dst, node, names)
	} else {
		f.Source, f.Destination = localEndpoint(e.Src, node, names), remoteEndpoint(e.Dst, e.Remote, names)
	}
	setTransport(&f, e)
	return f
}

func verdict(allowed bool) string {
	if allowed {
		return Forwarded
	}
	return Dropped
}

// setTransport fills what depends on the protocol. The ports of an ICMP event
// are no ports: they carry its type and identifier.
func setTransport(f *Flow, e datapath.Event) {
	switch e.Protocol {
	case protoICMP, protoICMPv6:
		f.Source.Port, f.Destination.Port = 0, 0
		icmpType := e.ICMPType // a copy, or the flow would keep the whole event
		f.ICMPType = &icmpType
	case protoTCP:
		f.TCPFlags = tcpFlags(e.TCPFlags)
	}
}

func tcpFlags(bits uint8) []string {
	var out []string
	for i, name := range tcpFlagNames {
		if bits>>i&1 == 1 {
			out = append(out, name)
		}
	}
	return out
}

// localEndpoint is the side that is this host, under whichever of its
// addresses: also a broadcast one that nobody has.
func localEndpoint(a netip.AddrPort, node string, names Resolver) Endpoint {
	id, _ := names.Address(a.Addr())
	return endpoint(a, cmp.Or(id, identity.Host), node, names)
}

// remoteEndpoint is the other side, with the identity that the kernel judged it by.
func remoteEndpoint(a netip.AddrPort, id mesh.Identity, names Resolver) Endpoint {
	_, node := names.Address(a.Addr())
	return endpoint(a, id, node, names)
}

func endpoint(a netip.AddrPort, id mesh.Identity, node string, names Resolver) Endpoint {
	labels := names.Labels(id)
	if labels == nil {
		labels = []string{}
	}
	return Endpoint{IP: a.Addr().String(), Port: a.Port(), Identity: uint32(id), Labels: labels, Node: node}
}

// ruleName never returns "" for a rule: that means that no policy decided.
func ruleName(id policy.RuleID, names Resolver) string {
	if id == 0 {
		return ""
	}
	return cmp.Or(names.Rule(id), fmt.Sprintf("unknown rule %08x", uint32(id)))
}
