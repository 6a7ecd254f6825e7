package mesh

import (
	"fmt"
	"regexp"
)

// MaxClusterID is the largest cluster id in a mesh of at most 255 clusters
// (Cilium: max-connected-clusters 255).
const MaxClusterID = 255

// MaxPlainClusterID is the largest cluster id that collides with no packet mark
// of the AWS and Alibaba CNI modes of Cilium (bit 0x80; cilium#21330).
const MaxPlainClusterID = 127

// Cluster names one mesh, or one Kubernetes cluster, among those that federate.
type Cluster struct {
	Name string // see [ValidateClusterName]
	ID   uint32 // 1 to MaxClusterID; the upper bits of its identities
}

// clusterName is Cilium's own pattern (pkg/clustermesh/types, ValidateClusterName).
var clusterName = regexp.MustCompile(`^([a-z0-9][-a-z0-9]*)?[a-z0-9]$`)

// ValidateClusterName reports why name cannot name a cluster: Cilium takes at
// most 32 lower-case letters, digits and inner dashes, and keeps "default" for
// clusters that do not federate.
func ValidateClusterName(name string) error {
	switch {
	case len(name) > 32:
		return fmt.Errorf("cluster name %q has %d characters: use at most 32", name, len(name))
	case !clusterName.MatchString(name):
		return fmt.Errorf("cluster name %q is malformed: use lower-case letters, digits and inner dashes", name)
	case name == "default":
		return fmt.Errorf("cluster name %q is kept for clusters that never federate: choose another", name)
	}
	return nil
}

// ValidateClusterID reports why id cannot number a mesh. Ids over
// [MaxPlainClusterID] are refused unless forced.
func ValidateClusterID(id uint32, force bool) error {
	switch {
	case id == 0 || id > MaxClusterID:
		return fmt.Errorf("cluster id %d is out of range: use 1 to %d", id, MaxPlainClusterID)
	case id > MaxPlainClusterID && !force:
		return fmt.Errorf("cluster id %d collides with packet marks of AWS and Alibaba CNI modes in Cilium clusters: use 1 to %d, or force it", id, MaxPlainClusterID)
	}
	return nil
}
