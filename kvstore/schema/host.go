package schema

import (
	"net/netip"
	"time"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// Host is an enrolled host, as servers keep it: what a claim is checked against.
type Host struct {
	Node      string            `json:"node"`
	Labels    map[string]string `json:"labels,omitempty"` // from the token or an administrator
	Namespace string            `json:"namespace"`
	Identity  mesh.Identity     `json:"identity"`
	Mesh4     netip.Addr        `json:"meshIPv4"`
	Mesh6     netip.Addr        `json:"meshIPv6"`
	Advertise []netip.Addr      `json:"advertise,omitempty"` // node addresses that an administrator allowed
	LastSeen  netip.Addr        `json:"lastSeen"`            // where a server last saw it; zero if never
	SeenAt    time.Time         `json:"seenAt,omitzero"`
	Key       mesh.Key          `json:"-"`      // WireGuard
	Serial    string            `json:"serial"` // of its certificate, lower-case hex
	Ephemeral bool              `json:"ephemeral,omitempty"`
	Server    bool              `json:"server,omitempty"`
	Enrolled  time.Time         `json:"enrolled"`
	Token     string            `json:"token,omitempty"` // id of the token it joined with

	Seen        []netip.Addr `json:"seen,omitempty"` // all addresses at which a server has seen it, newest first
	Port        uint16       `json:"port,omitempty"` // WireGuard, UDP, that it enrolled with
	Phase       Phase        `json:"phase,omitempty"`
	Changed     time.Time    `json:"changed,omitzero"`  // when Phase was entered
	CertKey     string       `json:"certKey,omitempty"` // SHA-256 of the public key in its certificate, lower-case hex
	CertExpires time.Time    `json:"certExpires,omitzero"`
}

// User is the etcd user of h.
func (h Host) User() string { return HostUser(h.Node, h.CertKey) }

// Phase says whether a host is wholly enrolled. Its etcd user exists only while
// its record does.
type Phase string

// Phases of a host. What is reserved for a host that joins or leaves is not
// given to another.
const (
	Enrolled Phase = ""
	Joining  Phase = "joining" // its facts are not published yet
	Leaving  Phase = "leaving" // its facts are withdrawn, its user may still exist
)

// hostJSON writes the key in base64.
type hostJSON struct {
	Host
	WireGuardKey string `json:"wireGuardKey,omitempty"`
}

// EncodeHost renders a host for [HostKey].
func EncodeHost(h Host) ([]byte, error) { return encode(hostJSON{h, h.Key.String()}) }

// DecodeHost reads the host found under that name.
func DecodeHost(name string, value []byte) (Host, error) {
	key := HostKey(name)
	in, err := decode[hostJSON](key, value)
	if err != nil {
		return Host{}, err
	}
	if err := checkNode(key, name, in.Node); err != nil {
		return Host{}, err
	}
	if err := in.checkAddresses(key); err != nil {
		return Host{}, err
	}
	if identity.IsReserved(in.Identity) {
		return Host{}, refuse(key, "identity", "%d is reserved", in.Identity)
	}
	in.Key, err = decodeKey(key, in.WireGuardKey)
	return in.Host, err
}

func (h *Host) checkAddresses(key string) error {
	switch {
	case h.Mesh4.IsValid() && !h.Mesh4.Is4():
		return refuse(key, "meshIPv4", "%s is no IPv4 address", h.Mesh4)
	case h.Mesh6.IsValid() && (!h.Mesh6.Is6() || h.Mesh6.Is4In6()):
		return refuse(key, "meshIPv6", "%s is no IPv6 address", h.Mesh6)
	}
	return nil
}

// checkNode refuses what another node's record would be.
func checkNode(key, name, node string) error {
	if node != name {
		return refuse(key, "node", "is %q, unlike the key", node)
	}
	if err := mesh.ValidateNodeName(node); err != nil {
		return refuse(key, "node", "%v", err)
	}
	return nil
}

func decodeKey(key, s string) (mesh.Key, error) {
	if s == "" {
		return mesh.Key{}, nil
	}
	k, err := mesh.ParseKey(s)
	if err != nil {
		return mesh.Key{}, refuse(key, "wireGuardKey", "%v", err)
	}
	return k, nil
}

// Live shows that a host lives. Its key is leased.
type Live struct {
	Node    string    `json:"node"`
	Started time.Time `json:"started"` // of the daemon
}

// EncodeLive renders it for [LiveKey].
func EncodeLive(l Live) ([]byte, error) { return encode(l) }

// DecodeLive reads the sign of life found under that name.
func DecodeLive(name string, value []byte) (Live, error) {
	key := LiveKey(name)
	l, err := decode[Live](key, value)
	if err != nil {
		return Live{}, err
	}
	return l, checkNode(key, name, l.Node)
}
