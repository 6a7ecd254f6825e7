package policy

import (
	"slices"

	"github.com/plexusmesh/plexus/identity"
)

// Selects reports whether some rule of p is about hosts that carry labels.
func (p Policy) Selects(labels identity.Labels) bool {
	return slices.ContainsFunc(p.Rules, func(r Rule) bool { return p.selects(r, labels) })
}

// selects reports whether r, a rule of p, is about hosts that carry labels: a
// namespaced policy is about those of its namespace alone.
func (p Policy) selects(r Rule, labels identity.Labels) bool {
	if ns, _ := labels.Get(identity.SourceK8s, identity.KeyNamespace); p.Namespace != "" && ns != p.Namespace {
		return false
	}
	return r.Subject.Matches(labels)
}
