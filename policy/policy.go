package policy

import (
	"net/netip"

	"github.com/plexusmesh/plexus/identity"
)

// Kind is the kind of a policy document.
type Kind string

// The kinds that Parse reads: of apiVersion cilium.io/v2, and NetworkPolicy of
// networking.k8s.io/v1, which it translates.
const (
	Namespaced  Kind = "CiliumNetworkPolicy"
	Clusterwide Kind = "CiliumClusterwideNetworkPolicy"
	CIDRGroup   Kind = "CiliumCIDRGroup" // prefixes under a name, for rules to refer to
	Kubernetes  Kind = "NetworkPolicy"
)

// idPrefix keeps apart documents of different kinds that share a name. Neither
// names nor namespaces have a colon.
var idPrefix = map[Kind]string{CIDRGroup: "cidrgroup:", Kubernetes: "networkpolicy:"}

// localPrefix marks policies of a host's own files.
const localPrefix = "local:"

// Policy is one validated policy document.
type Policy struct {
	Kind      Kind
	Name      string
	Namespace string          // "" for a clusterwide policy or a CIDR group
	Labels    identity.Labels // metadata.labels, by which cidrGroupSelector finds a CIDR group
	Rules     []Rule          // spec first, then specs in order; at least one, and none in a CIDR group
	Prefixes  []netip.Prefix  // of a CIDR group: masked
	Local     bool            // read from the host's own files: not part of the mesh's policies
	File      string          // where it was read, as given to Parse
	Line      int             // of the document in File, from 1

	// Source is the document as written, comments included. Parse(Source)
	// returns the same policy, so that this text alone may be stored.
	Source string
}

// ID returns "namespace/name", or "name" for a clusterwide policy, with
// "cidrgroup:" or "networkpolicy:" before it for those kinds, and "local:" before
// all that for a policy of the host's own files. No other document has the same
// ID.
func (p Policy) ID() string {
	id := idPrefix[p.Kind]
	if p.Local {
		id = localPrefix + id
	}
	if p.Namespace != "" {
		id += p.Namespace + "/"
	}
	return id + p.Name
}

// Rule is what spec, or one item of specs, says about the hosts it selects.
type Rule struct {
	Path        string            // "spec" or "specs[1]"
	Subject     identity.Selector // as written: Compile adds the namespace
	Description string
	Labels      identity.Labels // spec.labels, for people; their source may be ""
	Log         string          // log.value: shown with flows that the rule decides
	Staged      bool            // judged and reported, without effect (spec.enforcement: staged)
	DefaultDeny [2]bool         // by Direction: whether a selected host denies what no rule allows
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
	Ports     []PortRange // a union with PortNames; none of both for every protocol and port
	PortNames []PortName
}

// Peers says who may be on the other side. The zero Peers is nobody.
type Peers struct {
	Any       bool                // everybody: the clause names no peers, and ports if it is Cilium's
	Endpoints []identity.Selector // as written: Compile adds namespace and cluster
	Entities  []Entity
	Nodes     []identity.Selector // of hosts by their labels, whatever their namespace
	CIDRs     []CIDR
	Groups    []GroupRef
}

// GroupRef means the prefixes of CIDR groups, without some parts of them.
type GroupRef struct {
	Name     string            // of one group; "" where Selector chooses
	Selector identity.Selector // by labels of groups
	Except   []netip.Prefix    // masked
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
