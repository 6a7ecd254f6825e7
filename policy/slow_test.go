package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// peer is somebody on the other side of a flow: either an address of the
// world, or an identity with labels.
type peer struct {
	address  netip.Addr
	identity mesh.Identity
	labels   map[string]string // "source:key" to value
}

// slow decides flows by reading the rules one after the other. It shares no
// code with the compiler: that is its worth.
type slow struct {
	policies []Policy
	subject  Subject
	labels   map[string]string // of the subject
	ports    map[mesh.Identity][]mesh.NamedPort
	staged   bool // count staged rules too
}

func (s slow) judge(p peer, f Flow) (allowed bool, deciders []string) {
	var allow, deny []string
	enforced := false
	for _, pol := range s.policies {
		for _, r := range pol.Rules {
			if !s.selects(pol, r) || r.Staged && !s.staged {
				continue
			}
			enforced = enforced || r.DefaultDeny[f.Direction]
			for _, c := range r.Clauses {
				if c.Direction != f.Direction || !s.peerMatches(pol, c, p) || !s.portMatches(c, p, f) {
					continue
				}
				name := pol.ID() + " " + c.Section
				if c.Deny {
					deny = append(deny, name)
				} else {
					allow = append(allow, name)
				}
			}
		}
	}
	switch {
	case len(deny) > 0:
		return false, deny
	case len(allow) > 0 && !enforced:
		return true, append(allow, "")
	case len(allow) > 0:
		return true, allow
	}
	return !enforced, []string{""}
}

// anyStaged reports whether some staged rule selects the subject.
func (s slow) anyStaged() bool {
	for _, pol := range s.policies {
		for _, r := range pol.Rules {
			if r.Staged && s.selects(pol, r) {
				return true
			}
		}
	}
	return false
}

func (s slow) selects(pol Policy, r Rule) bool {
	if pol.Namespace != "" && s.labels["k8s:io.kubernetes.pod.namespace"] != pol.Namespace {
		return false
	}
	return slowMatch(r.Subject, s.labels)
}

func (s slow) peerMatches(pol Policy, c Clause, p peer) bool {
	if c.Peers.Any {
		return true
	}
	for _, sel := range c.Peers.Endpoints {
		if s.selectorMeans(pol, sel, p) {
			return true
		}
	}
	for _, e := range c.Peers.Entities {
		if s.entityMeans(e, p) {
			return true
		}
	}
	for _, sel := range c.Peers.Nodes {
		if s.nodeMeans(sel, p) {
			return true
		}
	}
	return p.address.IsValid() && s.addressMatches(c.Peers, p.address)
}

func (s slow) addressMatches(peers Peers, a netip.Addr) bool {
	in := func(ps []netip.Prefix) bool {
		return slices.ContainsFunc(ps, func(q netip.Prefix) bool { return q.Contains(a) })
	}
	for _, cidr := range peers.CIDRs {
		if in([]netip.Prefix{cidr.Prefix}) && !in(cidr.Except) {
			return true
		}
	}
	for _, ref := range peers.Groups {
		for _, group := range s.policies {
			labels := make(map[string]string)
			for _, l := range group.Labels {
				labels[l.Source+":"+l.Key] = l.Value
			}
			meant := group.Name == ref.Name || ref.Name == "" && slowMatch(ref.Selector, labels)
			if group.Kind == "CiliumCIDRGroup" && meant && in(group.Prefixes) && !in(ref.Except) {
				return true
			}
		}
	}
	return false
}

// nodeMeans reads a selector of nodes: a host of the mesh counts as one that
// carries the label of nodes.
func (s slow) nodeMeans(sel identity.Selector, p peer) bool {
	_, host := p.labels["k8s:io.cilium.k8s.policy.cluster"]
	_, node := p.labels["reserved:remote-node"]
	if !host && !node {
		return false
	}
	labels := map[string]string{"reserved:remote-node": ""}
	for k, v := range p.labels {
		labels[k] = v
	}
	speaks := slices.ContainsFunc(sel, func(r identity.Requirement) bool { return r.Key == "io.cilium.k8s.policy.cluster" })
	own := labels["k8s:io.cilium.k8s.policy.cluster"] == s.subject.Cluster
	return (s.subject.EveryCluster || speaks || own) && slowMatch(sel, labels)
}

func (s slow) selectorMeans(pol Policy, sel identity.Selector, p peer) bool {
	about := func(part string) bool {
		return slices.ContainsFunc(sel, func(r identity.Requirement) bool { return strings.Contains(r.Source+":"+r.Key, part) })
	}
	if about("reserved:") {
		return slowMatch(sel, p.labels)
	}
	namespace, has := p.labels["k8s:io.kubernetes.pod.namespace"]
	switch {
	case about("io.kubernetes.pod.namespace"):
	case pol.Namespace == "" && !has:
		return false
	case pol.Namespace != "" && !about("io.cilium.k8s.namespace.labels.") && namespace != pol.Namespace:
		return false
	}
	if !s.subject.EveryCluster && !about("io.cilium.k8s.policy.cluster") &&
		p.labels["k8s:io.cilium.k8s.policy.cluster"] != s.subject.Cluster {
		return false
	}
	return slowMatch(sel, p.labels)
}

func slowMatch(sel identity.Selector, labels map[string]string) bool {
	for _, r := range sel {
		value, has := "", false
		for k, v := range labels {
			source, key, _ := strings.Cut(k, ":")
			if key == r.Key && (r.Source == "any" || r.Source == source) {
				value, has = v, true
			}
		}
		in := has && slices.Contains(r.Values, value)
		ok := map[identity.Operator]bool{"In": in, "NotIn": !in, "Exists": has, "DoesNotExist": !has}[r.Operator]
		if !ok {
			return false
		}
	}
	return true
}

func (s slow) entityMeans(e Entity, p peer) bool {
	_, world := p.labels["reserved:world"]
	cluster, managed := p.labels["k8s:io.cilium.k8s.policy.cluster"]
	own := managed && cluster == s.subject.Cluster
	reservedOne := !managed && !world
	has := func(name string) bool { _, ok := p.labels["reserved:"+name]; return ok }
	switch e {
	case "all":
		return true
	case "none":
		return false
	case "cluster":
		return own || reservedOne
	case "cluster-mesh":
		return managed || reservedOne
	case "remote-node":
		return own || has("remote-node")
	}
	return has(string(e))
}

func (s slow) portMatches(c Clause, p peer, f Flow) bool {
	numbered := f.Protocol == 6 || f.Protocol == 17 || f.Protocol == 132
	for _, r := range c.Ports {
		switch {
		case r.Protocol != 0 && r.Protocol != f.Protocol, r.Protocol == 0 && !numbered:
		case int(r.First) <= int(f.Port) && int(f.Port) <= int(r.Last):
			return true
		}
	}
	declared := s.subject.Ports
	if f.Direction == Egress {
		declared = s.ports[p.identity]
	}
	for _, name := range c.PortNames {
		for _, d := range declared {
			protocol := map[string]uint8{"TCP": 6, "UDP": 17, "SCTP": 132}[d.Protocol]
			if strings.EqualFold(name.Name, d.Name) && (name.Protocol == 0 || name.Protocol == protocol) && protocol == f.Protocol && d.Port == f.Port {
				return true
			}
		}
	}
	return len(c.Ports)+len(c.PortNames) == 0
}
