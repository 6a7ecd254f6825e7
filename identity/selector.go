package identity

import (
	"fmt"
	"slices"
	"strings"
)

// Operator compares the value of a label, as in a Kubernetes label selector.
type Operator string

// The operators of matchExpressions.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn"
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
)

// Requirement is one condition of a Selector.
type Requirement struct {
	Source   string // SourceAny unless the key named one
	Key      string
	Operator Operator
	Values   []string // for In and NotIn, at least one; sorted
}

// Selector matches the labels that fulfil all of its requirements. The empty
// Selector matches everything.
type Selector []Requirement

// SplitKey parts a selector's key into source and key. Only the prefixes that
// Cilium gives a meaning are sources: "app" is any:app.
func SplitKey(s string) (source, key string) {
	for _, known := range []string{SourceAny, SourceK8s, SourceReserved, SourceCIDR} {
		if rest, ok := strings.CutPrefix(s, known+":"); ok {
			return known, rest
		}
	}
	return SourceAny, s
}

// Matches reports whether ls fulfil every requirement.
func (s Selector) Matches(ls Labels) bool {
	for _, r := range s {
		if !r.matches(ls) {
			return false
		}
	}
	return true
}

func (r Requirement) matches(ls Labels) bool {
	switch r.Operator {
	case In:
		return slices.ContainsFunc(ls, r.hasValue)
	case NotIn:
		return !slices.ContainsFunc(ls, r.hasValue)
	case Exists:
		return slices.ContainsFunc(ls, r.names)
	case DoesNotExist:
		return !slices.ContainsFunc(ls, r.names)
	}
	return false
}

// names reports whether l is a label that r is about. With SourceAny there may
// be several, and each counts.
func (r Requirement) names(l Label) bool {
	return l.Key == r.Key && (r.Source == SourceAny || l.Source == r.Source)
}

func (r Requirement) hasValue(l Label) bool { return r.names(l) && slices.Contains(r.Values, l.Value) }

// Mentions reports whether a requirement is about key, whatever its source.
func (s Selector) Mentions(key string) bool {
	return slices.ContainsFunc(s, func(r Requirement) bool { return r.Key == key })
}

// Validate reports why r means nothing.
func (r Requirement) Validate() error {
	switch r.Operator {
	case In, NotIn:
		if len(r.Values) == 0 {
			return fmt.Errorf("operator %s on %q needs at least one value", r.Operator, r.Key)
		}
	case Exists, DoesNotExist:
		if len(r.Values) != 0 {
			return fmt.Errorf("operator %s on %q takes no values", r.Operator, r.Key)
		}
	default:
		return fmt.Errorf("operator %q on %q is unknown: use In, NotIn, Exists or DoesNotExist", r.Operator, r.Key)
	}
	if r.Key == "" {
		return fmt.Errorf("selector key is empty")
	}
	return nil
}
