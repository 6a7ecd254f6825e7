package datapath

import (
	"net/netip"
	"time"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Event is one report of the kernel about a packet: the verdict on the first of
// a flow, or a drop (struct flow_event).
type Event struct {
	Time       time.Time
	Direction  policy.Direction
	Dropped    bool
	Reason     string // why it was dropped, in words; "" otherwise
	ReasonCode uint8  // enum drop_reason
	Protocol   uint8
	Src, Dst   netip.AddrPort // for ICMP, the type stands as destination port
	ICMPType   uint8
	TCPFlags   uint8
	Remote     mesh.Identity // of the address that is not ours
	Rule       policy.RuleID
	Revision   uint32 // of the policy that judged, as the policy map counts
	Length     uint32 // bytes of the packet, from the IP header
	Link       uint32 // ifindex
	Tunnel     bool   // whether it was seen on the tunnel device
	Reply      bool
}

// Flow is one entry of the connection-tracking map.
type Flow struct {
	Direction     policy.Direction // of the first packet
	Protocol      uint8
	Local, Remote netip.AddrPort
	Identity      mesh.Identity // of Remote
	Rule          policy.RuleID
	Revision      uint32
	Tunnel        bool          // whether it crosses the tunnel device
	Open          bool          // whether both sides went on with it: no flood makes it forgotten
	State         string        // of a TCP flow: "syn", "established", "closing"; else ""
	Expires       time.Duration // from now; negative once over
	RxPackets     uint64
	RxBytes       uint64
	TxPackets     uint64
	TxBytes       uint64
}

// Counter is one entry of the packet counters, summed over CPUs.
type Counter struct {
	Direction policy.Direction
	Tunnel    bool
	Reason    string // "forwarded", or why packets were dropped
	Packets   uint64
	Bytes     uint64
}

// Tables of the kernel, in the words of Fill.
const (
	TableOpen       = "open flows"
	TableOpening    = "opening flows"
	TableFragments  = "fragments"
	TableVerdicts   = "policy verdicts"
	TablePrefixes   = "policy prefixes"
	TableAddresses  = "addresses"
	TablePinholes   = "pinholes"
	TableExemptions = "exemptions"
)

// Fill says how full a table of the kernel is.
type Fill struct {
	Table     string // one of the above
	Used, Max int    // entries
}

// Share returns how much of the table is used, in percent.
func (f Fill) Share() int {
	if f.Max == 0 {
		return 0
	}
	return f.Used * 100 / f.Max
}
