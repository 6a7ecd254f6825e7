package agent

import (
	"net/netip"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Staged returns what would have happened to the packet of e if staged rules had
// effect, as the programs decide it: guards and what cannot be parsed come before
// pinholes, and these before policy.
func (n *names) Staged(e datapath.Event) (allowed bool, rule string, ok bool) {
	b := n.read()
	if b.staged == nil {
		return false, "", false
	}
	if e.Dropped && !byPolicy(e) {
		return false, "", true
	}
	remote, port, ok := asked(e)
	if !ok {
		return false, "", false
	}
	for h := range b.pinholes {
		if h.Passes(e.Direction, e.Protocol, port, remote) {
			return true, "", true
		}
	}
	d := b.staged.Judge(policy.Flow{Peer: b.peer(e.Remote, remote), Direction: e.Direction, Protocol: e.Protocol, Port: port})
	return d.Allowed, d.Ref.String(), true
}

// byPolicy reports whether policy, and nothing else, dropped the packet.
func byPolicy(e datapath.Event) bool {
	switch bpfobj.PlexusDropReason(e.ReasonCode) {
	case bpfobj.PlexusDropReasonDROP_POLICY, bpfobj.PlexusDropReasonDROP_POLICY_DENY:
		return true
	}
	return false
}

// peer is the identity that staged rules know a remote address by. They may name
// other prefixes than those in force, and number them anew.
func (b *book) peer(judged mesh.Identity, remote netip.Addr) mesh.Identity {
	switch {
	case judged == identity.WorldIPv4, judged == identity.WorldIPv6, identity.IsLocal(judged):
		return b.staged.Identify(remote)
	}
	return judged
}

// asked returns what policy was asked about a flow, from an event about any of
// its packets: the remote address and the destination port of the first packet.
// It cannot be told from the answers of ICMP, but for those to an echo request.
func asked(e datapath.Event) (remote netip.Addr, port uint16, ok bool) {
	from, to := e.Src, e.Dst
	if e.Reply {
		from, to = to, from
	}
	remote = from.Addr()
	if e.Direction == policy.Egress {
		remote = to.Addr()
	}
	switch e.Protocol {
	case protoICMP, protoICMPv6:
		kind, ok := request(e)
		return remote, uint16(kind) << 8, ok
	}
	return remote, to.Port(), true
}

// IANA protocol numbers, and the echo messages of both versions of ICMP (RFC 792,
// RFC 4443).
const (
	protoICMP   = 1
	protoICMPv6 = 58

	echoReply, echo   = 0, 8
	echoReply6, echo6 = 129, 128
)

// request returns the ICMP type that opened the flow of e.
func request(e datapath.Event) (kind uint8, ok bool) {
	switch {
	case !e.Reply:
		return e.ICMPType, true
	case e.Protocol == protoICMP && e.ICMPType == echoReply:
		return echo, true
	case e.Protocol == protoICMPv6 && e.ICMPType == echoReply6:
		return echo6, true
	}
	return 0, false
}
