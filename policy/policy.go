package policy

import (
	"net/netip"

	"github.com/plexusmesh/plexus/identity"
)

// Kind is the kind of a policy document.
type Kind string

// The kinds that Parse reads, of apiVersion cilium.io/v2.
const (
	Namespaced  Kind = "CiliumNetworkPolicy"
	Clusterwide Kind = "CiliumClusterwideNetworkPolicy"
)

// Policy is one validated policy document.
type Policy struct {
	Kind      Kind
	Name      string
	Namespace string // "" for a clusterwide policy
	Rules     []Rule // spec first, then specs in order; at least one
	File      string // where it was read, as given to Parse
	Line      int    // of the document in File, from 1

	// Source is the document as written, comments included. Parse(Source)
	// returns the same policy, so that this text alone may be stored.
	Source string
}

// ID returns "namespace/name", or "name" for a clusterwide policy. No policy of
// the other kind has the same ID.
func (p Policy) ID() string {
	if p.Namespace == "" {
		return p.Name
	}
	return p.Namespace + "/" + p.Name
}

// Rule is what spec, or one item of specs, says about the hosts it selects.
type Rule struct {
	Path        string            // "spec" or "specs[1]"
	Subject     identity.Selector // as written: Compile adds the namespace
	Description string
	DefaultDeny [2]bool // by Direction: whether a selected host denies what no rule allows
	Clauses     []Clause
}

// Clause is one item of ingress, ingressDeny, egress or egressDeny. It is about
// the flows with one of its peers to one of its ports.
type Clause struct {
	Direction Direction
	Deny      bool
	Section   string // for example "ingressDeny[0]"
	Line      int    // in the document, from 1
	Peers     Peers
	Ports     []PortRange // none for every protocol and port
}

// Peers says who may be on the other side. The zero Peers is nobody.
type Peers struct {
	Any       bool                // everybody: the clause names ports and no peers
	Endpoints []identity.Selector // as written: Compile adds namespace and cluster
	Entities  []Entity
	CIDRs     []CIDR
}

// CIDR is a prefix without some parts of it.
type CIDR struct {
	Prefix netip.Prefix   // masked
	Except []netip.Prefix // masked, each inside Prefix
}

// Covers reports whether all of p is meant.
func (c CIDR) Covers(p netip.Prefix) bool {
	if !contains(c.Prefix, p) {
		return false
	}
	for _, e := range c.Except {
		if contains(e, p) {
			return false
		}
	}
	return true
}

func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
