package schema

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
)

// claim is a mesh.Claim. What older agents do not write is not known.
type claim struct {
	Node         string       `json:"node"`
	Addresses    []netip.Addr `json:"addresses,omitempty"`
	Direct       []netip.Addr `json:"direct,omitempty"`
	WireGuardKey string       `json:"wireGuardKey,omitempty"`
	Port         uint16       `json:"port,omitempty"`
	Version      string       `json:"version,omitempty"`
	NamedPorts   []claimPort  `json:"namedPorts,omitempty"`
	Listening    []listener   `json:"listening,omitzero"` // null or missing: not known
	Pinholes     []string     `json:"pinholes,omitzero"`  // null or missing: not known
}

type claimPort struct {
	Name     string `json:"name"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
}

type listener struct {
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
}

// Limits of a claim, which any host may fill as it likes.
const (
	maxClaimAddresses  = 64
	maxClaimVersion    = 128
	maxClaimNamedPorts = 64
	maxClaimListeners  = 256
	maxClaimPinholes   = 512
	maxClaimPinhole    = 96 // bytes; the longest that there is has 70
)

// EncodeClaim renders a claim for [ClaimKey].
func EncodeClaim(c mesh.Claim) ([]byte, error) {
	out := claim{
		Node: c.Node, Addresses: c.Addresses, Direct: c.Direct, WireGuardKey: c.Key.String(), Port: c.Port, Version: c.Version,
		Listening: convert(c.Listening, func(l mesh.Listener) listener { return listener(l) }), Pinholes: c.Pinholes,
	}
	out.NamedPorts = convert(c.NamedPorts, func(p mesh.NamedPort) claimPort { return claimPort(p) })
	return encode(out)
}

// DecodeClaim reads the claim found under that name. It says whether the claim
// is well formed, never whether it is true. Named ports, listeners and pinholes
// come sorted, each once.
func DecodeClaim(name string, value []byte) (mesh.Claim, error) {
	key := ClaimKey(name)
	in, err := decode[claim](key, value)
	if err != nil {
		return mesh.Claim{}, err
	}
	if err := checkNode(key, name, in.Node); err != nil {
		return mesh.Claim{}, err
	}
	if err := in.checkSizes(key); err != nil {
		return mesh.Claim{}, err
	}
	if err := errors.Join(nodeAddresses(key, "addresses", in.Addresses), nodeAddresses(key, "direct", in.Direct)); err != nil {
		return mesh.Claim{}, err
	}
	c := mesh.Claim{Node: in.Node, Addresses: in.Addresses, Direct: in.Direct, Port: in.Port, Version: in.Version}
	if c.Key, err = decodeKey(key, in.WireGuardKey); err != nil {
		return mesh.Claim{}, err
	}
	return c, in.ports(key, &c)
}

// nodeAddresses brings claimed addresses into their plain form, in place.
func nodeAddresses(key, field string, claimed []netip.Addr) error {
	for i, a := range claimed {
		a = a.Unmap()
		if !a.IsValid() || a.Zone() != "" || !reachable(a) {
			return refuse(key, field, "%q can be no node's address", a)
		}
		claimed[i] = a
	}
	return nil
}

func (in *claim) checkSizes(key string) error {
	for _, list := range []struct {
		field     string
		have, max int
	}{
		{"addresses", len(in.Addresses), maxClaimAddresses},
		{"direct", len(in.Direct), maxClaimAddresses},
		{"namedPorts", len(in.NamedPorts), maxClaimNamedPorts},
		{"listening", len(in.Listening), maxClaimListeners},
		{"pinholes", len(in.Pinholes), maxClaimPinholes},
	} {
		if list.have > list.max {
			return refuse(key, list.field, "%d of them: at most %d count", list.have, list.max)
		}
	}
	if len(in.Version) > maxClaimVersion {
		return refuse(key, "version", "is longer than %d bytes", maxClaimVersion)
	}
	return nil
}

// ports adds to c what the claim says of ports.
func (in *claim) ports(key string, c *mesh.Claim) error {
	for _, p := range in.NamedPorts {
		if err := mesh.NamedPort(p).Validate(); err != nil {
			return refuse(key, "namedPorts", "%v", err)
		}
	}
	for _, l := range in.Listening {
		if err := mesh.Listener(l).Validate(); err != nil {
			return refuse(key, "listening", "%v", err)
		}
	}
	for _, text := range in.Pinholes {
		if len(text) == 0 || len(text) > maxClaimPinhole || strings.ContainsFunc(text, unprintable) {
			return refuse(key, "pinholes", "%.40q is no text of 1 to %d printable characters", text, maxClaimPinhole)
		}
	}
	if len(in.NamedPorts) > 0 {
		c.NamedPorts = ordered(convert(in.NamedPorts, func(p claimPort) mesh.NamedPort { return mesh.NamedPort(p) }), mesh.NamedPort.Compare)
	}
	c.Listening = ordered(convert(in.Listening, func(l listener) mesh.Listener { return mesh.Listener(l) }), mesh.Listener.Compare)
	c.Pinholes = ordered(in.Pinholes, strings.Compare)
	return nil
}

// unprintable keeps out what would command the terminal of whoever reads it.
func unprintable(r rune) bool { return r < ' ' || r > '~' }

// convert maps a list, and nil to nil.
func convert[A, B any](in []A, to func(A) B) []B {
	if in == nil {
		return nil
	}
	out := make([]B, 0, len(in))
	for _, a := range in {
		out = append(out, to(a))
	}
	return out
}

// ordered sorts a list in place and leaves out what stands twice.
func ordered[T comparable](in []T, compare func(a, b T) int) []T {
	slices.SortFunc(in, compare)
	return slices.Compact(in)
}
