package schema

import (
	"time"

	"github.com/plexusmesh/plexus/mesh"
)

// ClusterConfig is what a cluster says of itself before anybody reads its
// state (CiliumClusterConfig).
type ClusterConfig struct {
	ID             uint32
	SyncedCanaries bool // a canary stands for each complete resource
	Cached         bool // state is under cilium/cache
	MaxClusters    uint32
	ServiceExports *bool // nil: knows nothing of the multi-cluster services API
	SliceMode      string
}

// Modes of exporting services that a reader must know to read any of them.
const (
	SlicesOff  = ""
	SlicesToo  = "services-and-endpointslices"
	SlicesOnly = "endpointslices-only"
)

type clusterConfig struct {
	ID           uint32       `json:"id,omitempty"`
	Capabilities capabilities `json:"capabilities"`
}

type capabilities struct {
	SyncedCanaries           bool   `json:"syncedCanaries,omitempty"`
	Cached                   bool   `json:"cached,omitempty"`
	MaxConnectedClusters     uint32 `json:"maxConnectedClusters,omitempty"`
	ServiceExportsEnabled    *bool  `json:"serviceExportsEnabled,omitempty"`
	EndpointSlicesExportMode string `json:"endpointSlicesExportMode,omitempty"`
}

// OwnClusterConfig is what a Plexus mesh says of itself.
func OwnClusterConfig(c mesh.Cluster) ClusterConfig {
	return ClusterConfig{ID: c.ID, SyncedCanaries: true, MaxClusters: mesh.MaxClusterID}
}

// EncodeClusterConfig renders it for [ClusterConfigKey].
func EncodeClusterConfig(c ClusterConfig) ([]byte, error) {
	return encode(clusterConfig{c.ID, capabilities{c.SyncedCanaries, c.Cached, c.MaxClusters, c.ServiceExports, c.SliceMode}})
}

// DecodeClusterConfig reads what the cluster of that name says. A cluster that
// counts identities in another way is refused: its numbers would mean other
// workloads here.
func DecodeClusterConfig(cluster string, value []byte) (ClusterConfig, error) {
	key := ClusterConfigKey(cluster)
	in, err := decode[clusterConfig](key, value)
	if err != nil {
		return ClusterConfig{}, err
	}
	caps := in.Capabilities
	if caps.MaxConnectedClusters == 0 {
		caps.MaxConnectedClusters = mesh.MaxClusterID // writers before Cilium 1.15 say nothing
	}
	switch {
	case in.ID == 0 || in.ID > mesh.MaxClusterID:
		return ClusterConfig{}, refuse(key, "id", "%d is out of range: want 1 to %d", in.ID, mesh.MaxClusterID)
	case caps.MaxConnectedClusters != mesh.MaxClusterID:
		return ClusterConfig{}, refuse(key, "maxConnectedClusters", "is %d: its identities are numbered in another way; want %d",
			caps.MaxConnectedClusters, mesh.MaxClusterID)
	}
	switch caps.EndpointSlicesExportMode {
	case SlicesOff, SlicesToo, SlicesOnly:
	default:
		return ClusterConfig{}, refuse(key, "endpointSlicesExportMode", "%q is unknown", caps.EndpointSlicesExportMode)
	}
	return ClusterConfig{in.ID, caps.SyncedCanaries, caps.Cached, caps.MaxConnectedClusters,
		caps.ServiceExportsEnabled, caps.EndpointSlicesExportMode}, nil
}

// EncodeTime renders the value of a canary or of the heartbeat.
func EncodeTime(t time.Time) []byte { return []byte(t.UTC().Format(time.RFC3339)) }

// DecodeTime reads the value of a canary or of the heartbeat at key.
func DecodeTime(key string, value []byte) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, string(value))
	if err != nil {
		return time.Time{}, refuse(key, "value", "%q is no RFC 3339 time", value)
	}
	return t, nil
}
