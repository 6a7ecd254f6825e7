package observe

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// match reports whether an endpoint is among those that were asked for.
type match func(Endpoint) bool

// parseSelector decodes what --from and --to take: "label=app=web,tier=x", an
// address, a prefix, or the name of a host, with or without its cluster.
func parseSelector(s string) (match, error) {
	if terms, ok := strings.CutPrefix(s, "label="); ok {
		return parseLabels(terms)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return inPrefix(mesh.HostPrefix(a.Unmap())), nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return inPrefix(p.Masked()), nil
	}
	if strings.Contains(s, ":") || strings.Trim(s, "0123456789./") == "" {
		return nil, fmt.Errorf("selector %q is neither an address nor a prefix", s)
	}
	return parseHost(s)
}

// parseLabels decodes terms that all must hold: "key=value", "key!=value",
// "key" (has it), "!key" (has it not).
func parseLabels(terms string) (match, error) {
	var sel identity.Selector
	for term := range strings.SplitSeq(terms, ",") {
		r := parseTerm(strings.TrimSpace(term))
		if r.Key == "" || strings.ContainsAny(r.Key, "!= ") {
			return nil, fmt.Errorf("selector %q: term %q is malformed: want key=value, key!=value, key or !key", "label="+terms, term)
		}
		sel = append(sel, r)
	}
	return func(e Endpoint) bool {
		labels, err := identity.ParseLabels(strings.Join(e.Labels, ";"))
		if len(e.Labels) == 0 {
			labels, err = nil, nil
		}
		return err == nil && sel.Matches(labels)
	}, nil
}

func parseTerm(term string) identity.Requirement {
	name, value, hasValue := strings.Cut(term, "=")
	r := identity.Requirement{Operator: identity.Exists}
	switch {
	case hasValue && strings.HasSuffix(name, "!"):
		name, r.Operator, r.Values = strings.TrimSuffix(name, "!"), identity.NotIn, []string{value}
	case hasValue:
		r.Operator, r.Values = identity.In, []string{value}
	case strings.HasPrefix(name, "!"):
		name, r.Operator = name[1:], identity.DoesNotExist
	}
	r.Source, r.Key = identity.SplitKey(name)
	return r
}

func inPrefix(p netip.Prefix) match {
	return func(e Endpoint) bool {
		a, err := netip.ParseAddr(e.IP)
		return err == nil && p.Contains(a.Unmap())
	}
}

// parseHost matches "name" in every cluster, and "cluster/name" in that one.
// A flow names hosts of its own cluster without the cluster.
func parseHost(s string) (match, error) {
	cluster, name, qualified := strings.Cut(s, "/")
	if !qualified {
		name = s
	}
	if mesh.ValidateNodeName(name) != nil || qualified && mesh.ValidateClusterName(cluster) != nil {
		return nil, fmt.Errorf("selector %q is malformed: want label=key=value,…, an address, a prefix or the name of a host", s)
	}
	return func(e Endpoint) bool {
		return e.Node == s || !qualified && strings.HasSuffix(e.Node, "/"+name)
	}, nil
}
