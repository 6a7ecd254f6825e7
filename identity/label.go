package identity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
)

// Sources of labels. SourceAny is for selectors only: it matches every source.
const (
	SourceK8s      = "k8s"
	SourceReserved = "reserved"
	SourceCIDR     = "cidr"
	SourceAny      = "any"
)

// Keys that every host's identity carries, or Cilium refuses it or never
// matches it.
const (
	KeyCluster        = "io.cilium.k8s.policy.cluster"
	KeyNamespace      = "io.kubernetes.pod.namespace"
	KeyServiceAccount = "io.cilium.k8s.policy.serviceaccount"
)

// NamespaceLabels begins the keys under which an identity carries the labels of
// its namespace. KeyNamespaceName is the one that every Kubernetes namespace
// has, its own name; selectors of namespaces are mostly written with it.
const (
	NamespaceLabels  = "io.cilium.k8s.namespace.labels."
	KeyNamespaceName = NamespaceLabels + "kubernetes.io/metadata.name"
)

// DefaultNamespace is where a host belongs unless its token says otherwise.
const DefaultNamespace = "default"

// Label is one statement about a workload.
type Label struct {
	Source string // who says so: "k8s", "reserved", "cidr"
	Key    string
	Value  string
}

// String returns source:key=value, or source:key without a value.
func (l Label) String() string {
	if l.Value == "" && l.Source == SourceReserved {
		return l.Source + ":" + l.Key
	}
	return l.Source + ":" + l.Key + "=" + l.Value
}

// Labels are the labels of one identity, sorted by key, each key and source once.
type Labels []Label

// NewLabels returns ls sorted, with later duplicates of a source and key taking
// the place of earlier ones.
func NewLabels(ls ...Label) Labels {
	type name struct{ source, key string }
	byName := make(map[name]Label, len(ls))
	for _, l := range ls {
		byName[name{l.Source, l.Key}] = l
	}
	out := make(Labels, 0, len(byName))
	for _, l := range byName {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Label) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Source, b.Source))
	})
	return out
}

// HostLabels returns the labels of a host's identity: what its token or an
// administrator gave it, and what the protocol asks for.
func HostLabels(given map[string]string, namespace string, cluster mesh.Cluster) Labels {
	ls := make([]Label, 0, len(given)+4)
	for k, v := range given {
		ls = append(ls, Label{SourceK8s, k, v})
	}
	ls = append(ls,
		Label{SourceK8s, KeyCluster, cluster.Name},
		Label{SourceK8s, KeyNamespace, namespace},
		Label{SourceK8s, KeyNamespaceName, namespace},
		Label{SourceK8s, KeyServiceAccount, "default"})
	return NewLabels(ls...)
}

// ReservedLabels returns the labels of a reserved identity. Those of the world's
// halves have that of the whole too, as prefixes do ([PrefixLabels]), so that a
// selector of the world does not depend on which prefixes policy names.
func ReservedLabels(id mesh.Identity) Labels {
	name, ok := reservedNames[id]
	if !ok {
		return nil
	}
	ls := []Label{{Source: SourceReserved, Key: name}}
	switch id {
	case KubeAPIServer:
		ls = append(ls, Label{Source: SourceReserved, Key: reservedNames[RemoteNode]})
	case WorldIPv4, WorldIPv6:
		ls = append(ls, Label{Source: SourceReserved, Key: reservedNames[World]})
	}
	return NewLabels(ls...)
}

// Get returns the value of the first label with key, from source or, with
// SourceAny, from any source.
func (ls Labels) Get(source, key string) (string, bool) {
	for _, l := range ls {
		if l.Key == key && (source == SourceAny || l.Source == source) {
			return l.Value, true
		}
	}
	return "", false
}

// String returns Cilium's encoding, the value of cilium/state/identities/v1/id/<n>.
func (ls Labels) String() string {
	var b strings.Builder
	for _, l := range ls {
		b.WriteString(l.Source + ":" + l.Key + "=" + l.Value + ";")
	}
	return b.String()
}

// Strings returns the labels one by one, for people and for flows.
func (ls Labels) Strings() []string {
	out := make([]string, len(ls))
	for i, l := range ls {
		out[i] = l.String()
	}
	return out
}

// ParseLabels decodes Cilium's encoding: source:key=value; repeated.
func ParseLabels(s string) (Labels, error) {
	var ls []Label
	for part := range strings.SplitSeq(strings.TrimSuffix(s, ";"), ";") {
		name, value, _ := strings.Cut(part, "=")
		source, key, ok := strings.Cut(name, ":")
		if !ok || source == "" || key == "" {
			return nil, fmt.Errorf("decode label %q: want source:key=value", part)
		}
		ls = append(ls, Label{source, key, value})
	}
	return NewLabels(ls...), nil
}
