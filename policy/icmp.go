package policy

import "go.yaml.in/yaml/v3"

// maxICMPFields is Cilium's bound on the types of one item of icmps.
const maxICMPFields = 40

// icmpFamily is ICMP of one IP version, with Cilium's names for its types
// (pkg/policy/api/icmp.go; the numbers are IANA's).
type icmpFamily struct {
	protocol uint8
	types    map[string]uint8
}

var icmpFamilies = map[string]icmpFamily{
	"IPv4": {protocolICMP, map[string]uint8{
		"EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8,
		"RouterAdvertisement": 9, "RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12,
		"Timestamp": 13, "TimestampReply": 14, "Photuris": 40, "ExtendedEchoRequest": 42, "ExtendedEchoReply": 43,
	}},
	"IPv6": {protocolICMPv6, map[string]uint8{
		"DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4,
		"EchoRequest": 128, "EchoReply": 129, "MulticastListenerQuery": 130, "MulticastListenerReport": 131,
		"MulticastListenerDone": 132, "RouterSolicitation": 133, "RouterAdvertisement": 134,
		"NeighborSolicitation": 135, "NeighborAdvertisement": 136, "RedirectMessage": 137, "RouterRenumbering": 138,
		"ICMPNodeInformationQuery": 139, "ICMPNodeInformationResponse": 140,
		"InverseNeighborDiscoverySolicitation": 141, "InverseNeighborDiscoveryAdvertisement": 142,
		"HomeAgentAddressDiscoveryRequest": 144, "HomeAgentAddressDiscoveryReply": 145,
		"MobilePrefixSolicitation": 146, "MobilePrefixAdvertisement": 147,
		"DuplicateAddressRequestCodeSuffix": 157, "DuplicateAddressConfirmationCodeSuffix": 158,
		"ExtendedEchoRequest": 160, "ExtendedEchoReply": 161,
	}},
}

// ICMPType returns what flows carry for a type of ICMP with any code, as in
// Key: the type in the upper byte.
func ICMPType(t uint8) uint16 { return uint16(t) << 8 }

// icmps reads the ICMP types of a clause; several items are a union.
func (d *decoder) icmps(n *yaml.Node, path string) []PortRange {
	var out []PortRange
	d.list(n, path, func(n *yaml.Node, path string) {
		var fields *yaml.Node
		whole := d.object(n, path, map[string]reader{"fields": func(n *yaml.Node, path string) {
			fields = n
			out = append(out, d.icmpFields(n, path)...)
		}})
		if whole && fields == nil {
			d.refuse(n, path, "names no type: write fields, or leave icmps out for every protocol")
		}
	})
	if empty(n) {
		d.refuse(n, path, "is an empty list: leave it out for every protocol, or name types")
	}
	return out
}

func (d *decoder) icmpFields(n *yaml.Node, path string) []PortRange {
	if n.Kind == yaml.SequenceNode && (empty(n) || len(n.Content) > maxICMPFields) {
		d.refuse(n, path, "has %d types: write 1 to %d, and further ones as another item of icmps", len(n.Content), maxICMPFields)
		return nil
	}
	var out []PortRange
	d.list(n, path, func(n *yaml.Node, path string) {
		if r, ok := d.icmpField(n, path); ok {
			out = append(out, r)
		}
	})
	return out
}

func (d *decoder) icmpField(n *yaml.Node, path string) (r PortRange, ok bool) {
	before := len(d.problems)
	family := "IPv4"
	var kind *yaml.Node
	whole := d.object(n, path, map[string]reader{
		"family": d.into(&family),
		"type":   func(n *yaml.Node, _ string) { kind = n },
	})
	_, known := icmpFamilies[family]
	at := join(path, "type")
	switch {
	case len(d.problems) > before || !whole:
		return r, false
	case !known:
		d.refuse(n, join(path, "family"), "%q is no family: write IPv4 or IPv6", shorten(family))
		return r, false
	case kind == nil:
		d.refuse(n, at, "is missing: write a number from 0 to 255, or a name such as EchoRequest")
		return r, false
	case kind.Kind != yaml.ScalarNode || kind.ShortTag() != "!!int" && kind.ShortTag() != "!!str":
		d.refuse(kind, at, "want a number from 0 to 255 or a name, not %s", describe(kind))
		return r, false
	}
	protocol, first, err := ParseICMP(family, kind.Value) // Cilium takes numbers with quotes too
	if err != nil {
		d.refuse(kind, at, "%s", err)
		return r, false
	}
	return PortRange{Protocol: protocol, First: first, Last: first | 0xff}, true
}
