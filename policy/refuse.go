package policy

import (
	"fmt"
	"strings"
)

// notEnforced says of Cilium's own fields why a host cannot honour them, and
// what to write instead.
var notEnforced = map[string]string{
	"toFQDNs":           "DNS names are not enforced yet: write the addresses in toCIDR",
	"toServices":        "Kubernetes services are not enforced: write toEndpoints or toCIDR",
	"toGroups":          "cloud provider groups are not enforced: write toCIDR",
	"fromGroups":        "cloud provider groups are not enforced: write fromCIDR",
	"fromRequires":      "Cilium has retired it: put the labels into every selector of fromEndpoints",
	"toRequires":        "Cilium has retired it: put the labels into every selector of toEndpoints",
	"rules":             "application rules (http, dns, kafka) are not enforced: keep to ports, or filter in the application",
	"listener":          "Envoy listeners are not enforced: keep to ports",
	"terminatingTLS":    "TLS is not inspected: remove it",
	"originatingTLS":    "TLS is not inspected: remove it",
	"serverNames":       "TLS is not inspected: remove it, and select peers by address or label",
	"authentication":    "it is not needed: every peer with labels is authenticated by its WireGuard key; remove it",
	"status":            "it is written by a Kubernetes cluster: remove it",
	"creationTimestamp": "it is written by a Kubernetes cluster: remove it",
	"generation":        "it is written by a Kubernetes cluster: remove it",
	"managedFields":     "it is written by a Kubernetes cluster: remove it",
	"ownerReferences":   "it is written by a Kubernetes cluster: remove it",
	"finalizers":        "it is written by a Kubernetes cluster: remove it",
	"resourceVersion":   "it is written by a Kubernetes cluster: remove it",
	"uid":               "it is written by a Kubernetes cluster: remove it",
}

// whyRefused says why name is none of fields, and what to do.
func whyRefused(name string, fields map[string]reader) string {
	if why, known := notEnforced[name]; known {
		return name + " is not accepted: " + why
	}
	if like, ok := nearest(name, fields); ok {
		return fmt.Sprintf("unknown field %q: did you mean %s?", shorten(name), like)
	}
	return fmt.Sprintf("unknown field %q: use %s", shorten(name), strings.Join(sortedKeys(fields), ", "))
}

// nearest returns the field that was probably meant: the same of the other
// direction, or one that few typing errors turn into name.
func nearest(name string, fields map[string]reader) (string, bool) {
	for _, swap := range [][2]string{{"from", "to"}, {"to", "from"}} {
		if rest, ok := strings.CutPrefix(name, swap[0]); ok && fields[swap[1]+rest] != nil {
			return swap[1] + rest, true
		}
	}
	best, found := 1+len(name)/3, ""
	if len(name) > 40 {
		return "", false
	}
	for _, f := range sortedKeys(fields) {
		if n := edits(strings.ToLower(name), strings.ToLower(f)); n < best {
			best, found = n, f
		}
	}
	return found, found != ""
}

// edits returns how many insertions, deletions and replacements of bytes turn a
// into b (Levenshtein's distance).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
