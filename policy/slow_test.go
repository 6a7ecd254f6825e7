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
}

func (s slow) judge(p peer, f Flow) (allowed bool, deciders []string) {
	var allow, deny []string
	enforced := false
	for _, pol := range s.policies {
		for _, r := range pol.Rules {
			if !s.selects(pol, r) {
				continue
			}
			enforced = enforced || r.DefaultDeny[f.Direction]
			for _, c := range r.Clauses {
				if c.Direction != f.Direction || !s.peerMatches(pol, c, p) || !portMatches(c.Ports, f) {
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

func (s slow) selects(pol Policy, r Rule) bool {
	if pol.Kind == Namespaced && s.labels["k8s:io.kubernetes.pod.namespace"] != pol.Namespace {
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
	for _, cidr := range c.Peers.CIDRs {
		if p.address.IsValid() && cidr.Prefix.Contains(p.address) &&
			!slices.ContainsFunc(cidr.Except, func(e netip.Prefix) bool { return e.Contains(p.address) }) {
			return true
		}
	}
	return false
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

func portMatches(ports []PortRange, f Flow) bool {
	hasPorts := f.Protocol == 6 || f.Protocol == 17 || f.Protocol == 132
	for _, r := range ports {
		every := r.First == 0 && r.Last == 65535
		switch {
		case r.Protocol == 0 && every:
			return true
		case r.Protocol != 0 && r.Protocol != f.Protocol, !hasPorts:
		case int(r.First) <= int(f.Port) && int(f.Port) <= int(r.Last):
			return true
		}
	}
	return len(ports) == 0
}
