package datapath

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/plexusmesh/plexus/policy"
)

// Pinhole is a new flow that passes whatever policy says, so that no policy can
// cut a host from its mesh or its operator (struct pinhole_key).
type Pinhole struct {
	Direction policy.Direction
	Protocol  uint8
	Port      uint16       // destination port
	Remote    netip.Prefix // of the other side, masked; the zero Prefix for everybody of both families
}

// String is the pinhole as the configuration key failsafe takes it: "ingress
// 22/TCP from 192.0.2.0/24".
func (p Pinhole) String() string {
	text := fmt.Sprintf("%s %d/%s", p.Direction, p.Port, policy.ProtocolName(p.Protocol))
	switch {
	case !p.Remote.IsValid():
		return text
	case p.Direction == policy.Egress:
		return text + " to " + p.Remote.String()
	}
	return text + " from " + p.Remote.String()
}

// Compare orders pinholes by direction, protocol, port and remote.
func (p Pinhole) Compare(o Pinhole) int {
	return cmp.Or(cmp.Compare(p.Direction, o.Direction), cmp.Compare(p.Protocol, o.Protocol),
		cmp.Compare(p.Port, o.Port), p.Remote.Compare(o.Remote))
}

// ParsePinhole reads what String writes, with the remote also as an address. The
// protocol is TCP, UDP or SCTP, the port 1 to 65535.
func ParsePinhole(text string) (Pinhole, error) {
	flow, remote, limited := strings.Cut(text, " from ")
	word := "from"
	if !limited {
		flow, remote, limited = strings.Cut(text, " to ")
		word = "to"
	}
	h, err := parseFlow(flow)
	switch {
	case err != nil || !limited:
		return h, err
	case (h.Direction == policy.Egress) != (word == "to"):
		return Pinhole{}, fmt.Errorf("pinhole %.80q: write from for ingress, and to for egress", text)
	}
	h.Remote, err = ParseRemote(remote)
	return h, err
}

// parseFlow reads "ingress 22/TCP".
func parseFlow(text string) (Pinhole, error) {
	fault := func() (Pinhole, error) {
		return Pinhole{}, fmt.Errorf("pinhole %.80q is malformed: write it as \"ingress 8443/TCP\" or \"egress 53/UDP\", with TCP, UDP or SCTP", text)
	}
	var h Pinhole
	direction, rest, _ := strings.Cut(text, " ")
	number, protocol, _ := strings.Cut(rest, "/")
	switch direction {
	case policy.Ingress.String():
		h.Direction = policy.Ingress
	case policy.Egress.String():
		h.Direction = policy.Egress
	default:
		return fault()
	}
	switch strings.ToUpper(protocol) {
	case "TCP", "UDP", "SCTP":
		h.Protocol, _ = policy.ParseProtocol(protocol) // knows these three
	default:
		return fault()
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 || strings.HasPrefix(number, "0") {
		return fault()
	}
	h.Port = uint16(port)
	return h, nil
}

// ParseRemote reads the other side of a pinhole: a prefix, or an address, which
// stands for itself alone.
func ParseRemote(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, notAddress := netip.ParseAddr(text); notAddress == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%.80q is neither a prefix nor an address: write it as 192.0.2.0/24 or 2001:db8::/32", text)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("prefix %s has bits behind its length: write %s", p, p.Masked())
	case HoldsMapped(p):
		return netip.Prefix{}, fmt.Errorf("prefix %s holds IPv4 addresses in their IPv6 form: write IPv4 prefixes for those, and 2000::/3, fc00::/7 and fe80::/10 for all of IPv6", p)
	}
	return p, nil
}

// mapped is where the kernel's maps hold IPv4 addresses (RFC 4291, section 2.5.5.2).
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// HoldsMapped reports whether p is an IPv6 prefix in which the mapped form of an
// IPv4 address lies: ::/0, for one. No pinhole can be for such a prefix alone.
func HoldsMapped(p netip.Prefix) bool { return p.Addr().Is6() && p.Overlaps(mapped) }
