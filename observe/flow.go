package observe

import (
	"time"
)

// Verdicts of a flow.
const (
	Forwarded = "FORWARDED"
	Dropped   = "DROPPED"
)

// Flow is one report about a packet, with names in place of numbers. Its JSON
// field names are a contract.
type Flow struct {
	Time        time.Time `json:"time"`
	Node        string    `json:"node"` // the host that saw it
	Verdict     string    `json:"verdict"`
	DropReason  string    `json:"dropReason,omitempty"`
	Direction   string    `json:"direction"` // of the flow's first packet: "ingress" or "egress"
	Reply       bool      `json:"reply"`
	Source      Endpoint  `json:"source"`
	Destination Endpoint  `json:"destination"`
	Protocol    string    `json:"protocol"`
	ICMPType    *uint8    `json:"icmpType,omitempty"`
	TCPFlags    []string  `json:"tcpFlags,omitempty"`
	Rule        string    `json:"rule,omitempty"` // that decided: "policy section"; "" where no policy selects the host

	// What the policy wants shown with the flows that this rule decides (log.value).
	PolicyLog string `json:"policyLog,omitempty"`

	// What the verdict would be, and the rule that would decide, if staged rules
	// had effect; "" where none selects the host.
	StagedVerdict string `json:"stagedVerdict,omitempty"`
	StagedRule    string `json:"stagedRule,omitempty"`

	Interface string `json:"interface"`
	Encrypted bool   `json:"encrypted"` // whether it crossed the tunnel
	Bytes     uint32 `json:"bytes"`     // of the packet, from the IP header
}

// Endpoint is one side of a flow.
type Endpoint struct {
	IP       string   `json:"ip"`
	Port     uint16   `json:"port,omitempty"`
	Identity uint32   `json:"identity"`
	Labels   []string `json:"labels"`
	Node     string   `json:"node,omitempty"` // the host that has the address
}

// Query asks for flows. Empty fields match everything.
type Query struct {
	Last     int       `json:"last"` // newest so many of those recorded that match; 0: all; negative: none
	Follow   bool      `json:"follow"`
	Since    time.Time `json:"since"`
	Verdict  string    `json:"verdict"`
	From     string    `json:"from"` // "label=k=v,…", an address, a prefix, or a host
	To       string    `json:"to"`
	Port     uint16    `json:"port"` // destination
	Protocol string    `json:"protocol"`

	StagedVerdict string `json:"stagedVerdict,omitempty"`
}
