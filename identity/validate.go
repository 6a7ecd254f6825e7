package identity

import (
	"fmt"
	"regexp"
	"strings"
)

// Kubernetes' own patterns (apimachinery, util/validation): a label's name and
// value, and the DNS subdomain that may stand before the name.
var (
	labelName  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	labelScope = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// ValidateLabel reports why key=value cannot be a label that an administrator
// gives to a host.
func ValidateLabel(key, value string) error {
	scope, name, scoped := strings.Cut(key, "/")
	if !scoped {
		scope, name = "", key
	}
	switch {
	case scoped && (len(scope) > 253 || !labelScope.MatchString(scope)):
		return fmt.Errorf("label key %q: the part before the slash must be a DNS name", key)
	case len(name) > 63 || !labelName.MatchString(name):
		return fmt.Errorf("label key %q is malformed: use at most 63 letters, digits, '-', '_' and '.'", key)
	case strings.HasPrefix(key, "io.cilium.") || strings.HasPrefix(key, "io.kubernetes."):
		return fmt.Errorf("label key %q is kept for the mesh: choose another", key)
	case value != "" && (len(value) > 63 || !labelName.MatchString(value)):
		return fmt.Errorf("label value %q of %q is malformed: use at most 63 letters, digits, '-', '_' and '.'", value, key)
	}
	return nil
}

// ParseLabelArgs decodes key=value arguments as given to --label.
func ParseLabelArgs(args []string) (map[string]string, error) {
	out := make(map[string]string, len(args))
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return nil, fmt.Errorf("label %q: want key=value", a)
		}
		if err := ValidateLabel(k, v); err != nil {
			return nil, err
		}
		if old, dup := out[k]; dup && old != v {
			return nil, fmt.Errorf("label %q is given as %q and as %q: give it once", k, old, v)
		}
		out[k] = v
	}
	return out, nil
}

// ValidateNamespace reports why ns cannot be a namespace (RFC 1123 label).
func ValidateNamespace(ns string) error {
	if len(ns) > 63 || strings.Contains(ns, ".") || !labelScope.MatchString(ns) {
		return fmt.Errorf("namespace %q is malformed: use at most 63 lower-case letters, digits and inner dashes", ns)
	}
	return nil
}
