package api

import (
	"net/netip"
	"time"
)

// Status says how one host is.
type Status struct {
	State    string         `json:"state"` // "unjoined", "starting", "ready" or "degraded"
	Version  string         `json:"version"`
	Node     NodeStatus     `json:"node"`
	Peers    []PeerStatus   `json:"peers"`
	Sources  []SourceStatus `json:"sources"`
	Datapath DatapathStatus `json:"datapath"`
	Warnings []Warning      `json:"warnings"`
}

// NodeStatus is this host; empty while it is unjoined.
type NodeStatus struct {
	Name      string       `json:"name"`
	Cluster   string       `json:"cluster"`
	MeshIPv4  netip.Addr   `json:"meshIPv4"`
	MeshIPv6  netip.Addr   `json:"meshIPv6"`
	Addresses []netip.Addr `json:"addresses"`
	Identity  uint32       `json:"identity"`
	Labels    []string     `json:"labels"`
	Server    bool         `json:"server"`
}

// PeerStatus is one tunnel of this host.
type PeerStatus struct {
	Name          string       `json:"name"`
	Cluster       string       `json:"cluster"`
	MeshIPv4      netip.Addr   `json:"meshIPv4"`
	MeshIPv6      netip.Addr   `json:"meshIPv6"`
	Endpoint      string       `json:"endpoint"`
	Path          string       `json:"path"`          // "direct"
	LastHandshake *time.Time   `json:"lastHandshake"` // null before the first
	RxBytes       int64        `json:"rxBytes"`
	TxBytes       int64        `json:"txBytes"`
	NodeAddresses []netip.Addr `json:"nodeAddresses"` // of the peer, whose traffic goes through the tunnel; others are judged and not encrypted
	State         string       `json:"state"`         // "connected", "idle" (no handshake for 3 min), "new", or "refused"
}

// SourceStatus is one thing that this host learns the mesh from.
type SourceStatus struct {
	Name   string `json:"name"`
	Synced bool   `json:"synced"`
	Error  string `json:"error,omitempty"`
}

// DatapathStatus is what the kernel enforces.
type DatapathStatus struct {
	Interfaces     []string `json:"interfaces"`
	WireGuard      string   `json:"wireguard"`      // "kernel" or "userspace"
	PolicyRevision uint64   `json:"policyRevision"` // of the mesh's policies, as enforced here
	Posture        string   `json:"posture"`        // in words: what happens to a flow that no rule names
	PolicyEntries  int      `json:"policyEntries"`
	Flows          int      `json:"flows"` // tracked connections

	// SourceLimit is how many flows one stranger may open in a second; 0 for any number.
	SourceLimit int `json:"sourceLimit,omitempty"`
	// EarlyDrop is present while policy denies some prefix, or strangers have a limit,
	// and datapath.xdp is not off.
	EarlyDrop *EarlyDrop `json:"earlyDrop,omitempty"`
	// Pending is the revision on trial that is enforced here; absent otherwise.
	Pending *Pending `json:"pending,omitempty"`
	// Lapsed is a revision whose trial has ended here unconfirmed: what was before
	// it is enforced, whatever the mesh says. 0 for none.
	Lapsed uint64 `json:"lapsed,omitempty"`
	// Disarmed is present while an administrator of this host has suspended policy.
	Disarmed *Disarmed `json:"disarmed,omitempty"`
}

// EarlyDrop is the early stage of the datapath, which drops what comes from denied
// prefixes, or from strangers beyond their limit, by XDP. The same is dropped without it, at greater expense.
type EarlyDrop struct {
	Prefixes   int       `json:"prefixes"` // denied
	Interfaces []string  `json:"interfaces"`
	Without    []Without `json:"without,omitempty"`
	Dropped    uint64    `json:"dropped"`    // packets, since the maps were made
	Unreported uint64    `json:"unreported"` // those of them that no event told of
}

// Without is an interface that the early stage is not attached to.
type Without struct {
	Interface string `json:"interface"`
	Reason    string `json:"reason"`
}

// Warning is something that a person should know.
type Warning struct {
	Code     string `json:"code"`     // stable, for machines: "etcd-unreachable"
	Severity string `json:"severity"` // "warning" or "error"
	Text     string `json:"text"`
}

// Node is one host of the mesh.
type Node struct {
	Name      string       `json:"name"`
	Cluster   string       `json:"cluster"`
	Addresses []netip.Addr `json:"addresses"`
	MeshIPv4  netip.Addr   `json:"meshIPv4"`
	MeshIPv6  netip.Addr   `json:"meshIPv6"`
	Identity  uint32       `json:"identity"`
	Labels    []string     `json:"labels"`
	PublicKey string       `json:"publicKey"`
	Port      uint16       `json:"port"`
	Server    bool         `json:"server"`
	Version   string       `json:"version"`
}

// Identity is one numbered set of labels.
type Identity struct {
	ID     uint32   `json:"id"`
	Labels []string `json:"labels"`
	Nodes  []string `json:"nodes"` // hosts that carry it
}

// TokenRequest describes a join token.
type TokenRequest struct {
	TTL         time.Duration     `json:"ttl"` // nanoseconds
	Uses        int               `json:"uses"`
	Labels      map[string]string `json:"labels"`
	Namespace   string            `json:"namespace"`
	Ephemeral   bool              `json:"ephemeral"`
	Server      bool              `json:"server"`
	Description string            `json:"description"`
}

// TokenCreated is the only place where a token's secret is ever shown.
type TokenCreated struct {
	Token   string    `json:"token"`
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
}

// Token is a join token without its secret.
type Token struct {
	ID          string            `json:"id"`
	State       string            `json:"state"` // "valid", "expired", "used up" or "revoked"
	Created     time.Time         `json:"created"`
	Expires     time.Time         `json:"expires"`
	UsesLeft    int               `json:"usesLeft"`
	Labels      map[string]string `json:"labels"`
	Namespace   string            `json:"namespace"`
	Ephemeral   bool              `json:"ephemeral"`
	Description string            `json:"description,omitempty"`
}

// InitRequest makes a mesh, with this host as its first server.
type InitRequest struct {
	ClusterName    string            `json:"clusterName"`
	ClusterID      uint32            `json:"clusterID"`
	ForceClusterID bool              `json:"forceClusterID"`
	NodeName       string            `json:"nodeName"`
	Advertise      []netip.Addr      `json:"advertise"`
	Labels         map[string]string `json:"labels"`
	Namespace      string            `json:"namespace"`
	Pool4          string            `json:"pool4"` // CIDR
}

// JoinRequest makes this host part of a mesh.
type JoinRequest struct {
	Token     string       `json:"token"`
	NodeName  string       `json:"nodeName"`
	Advertise []netip.Addr `json:"advertise"`
}

// Joined says what a host became by init or join.
type Joined struct {
	Node     NodeStatus    `json:"node"`
	Governed bool          `json:"governed"`           // whether tunnel and policy were in force when it was answered
	Warnings []Warning     `json:"warnings,omitempty"` // what hindered that
	Token    *TokenCreated `json:"token,omitempty"`    // after init: for the next host
}

// LeaveRequest takes this host out of its mesh.
type LeaveRequest struct {
	// Force leaves without telling a server, or takes the last server away.
	Force bool `json:"force"`
}

// IPCacheEntry is what the kernel knows of an address.
type IPCacheEntry struct {
	Prefix   netip.Prefix `json:"prefix"`
	Identity uint32       `json:"identity"`
	Flags    []string     `json:"flags"` // "mesh", "local"
	Labels   []string     `json:"labels"`
}

// PolicyEntry is one verdict in the kernel's policy map.
type PolicyEntry struct {
	Direction string   `json:"direction"`
	Identity  uint32   `json:"identity"` // 0: any
	Labels    []string `json:"labels"`
	Protocol  string   `json:"protocol"`
	Ports     string   `json:"ports"` // "443", "8000-8007" or "any"
	Verdict   string   `json:"verdict"`
	Rule      string   `json:"rule"`
}

// FlowEntry is one tracked connection.
type FlowEntry struct {
	Direction      string `json:"direction"`
	Protocol       string `json:"protocol"`
	Local          string `json:"local"`
	Remote         string `json:"remote"`
	Identity       uint32 `json:"identity"`
	Rule           string `json:"rule"`
	Revision       uint32 `json:"revision"`
	State          string `json:"state,omitempty"`
	Open           bool   `json:"open"` // whether both sides went on with it, so that no flood makes it forgotten
	ExpiresSeconds int64  `json:"expiresSeconds"`
	RxPackets      uint64 `json:"rxPackets"`
	RxBytes        uint64 `json:"rxBytes"`
	TxPackets      uint64 `json:"txPackets"`
	TxBytes        uint64 `json:"txBytes"`
}

// CounterEntry is one packet counter of the datapath.
type CounterEntry struct {
	Direction string `json:"direction"`
	Interface string `json:"interface"` // "uplink" or "tunnel"
	Reason    string `json:"reason"`
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
}

// TableEntry says how full a table of the datapath is.
type TableEntry struct {
	Table      string `json:"table"`
	Used       int    `json:"used"` // entries
	Max        int    `json:"max"`
	WhenFull   string `json:"whenFull"`   // what happens then
	TurnedAway uint64 `json:"turnedAway"` // packets of flows that found no room among the open ones; 0 for other tables
}

// Pinhole is a new flow that passes whatever policy says.
type Pinhole struct {
	Direction string       `json:"direction"`
	Protocol  string       `json:"protocol"`
	Port      uint16       `json:"port"`
	Remote    netip.Prefix `json:"remote"` // who is on the other side; "" for anybody
	Why       string       `json:"why"`
}

// Error is the body of every answer that is not a success.
type Error struct {
	Code string `json:"code"` // "unjoined", "invalid", "not-found", "conflict", "unavailable", "forbidden", "internal"
	Text string `json:"message"`
}

func (e *Error) Error() string { return e.Text }
