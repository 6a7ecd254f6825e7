package schema

import (
	"strconv"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// EncodeIdentity renders the labels of an identity for [Layout.Identity].
func EncodeIdentity(ls identity.Labels) []byte { return []byte(ls.String()) }

// DecodeIdentity reads the identity of cluster found under that name, which is
// its number in decimal. Its labels must say that it is of that cluster, in
// the source k8s, or it could pass for a workload of another.
func DecodeIdentity(cluster mesh.Cluster, name string, value []byte) (mesh.Identity, identity.Labels, error) {
	key := Layout{Cluster: cluster.Name}.Prefix(Identities) + name
	id, err := identity.ParseNumber(name)
	if err != nil || strconv.FormatUint(uint64(id), 10) != name {
		return 0, nil, refuse(key, "key", "%q is no decimal number", name)
	}
	if first, last := identity.Range(cluster.ID); id < first || id > last {
		return 0, nil, refuse(key, "key", "%d is outside %d to %d of cluster %q", id, first, last, cluster.Name)
	}
	ls, err := identity.ParseLabels(string(value))
	if err != nil {
		return 0, nil, refuse(key, "labels", "%v", err)
	}
	return id, ls, checkCluster(key, cluster.Name, ls)
}

func checkCluster(key, cluster string, ls identity.Labels) error {
	found := false
	for _, l := range ls {
		if l.Key != identity.KeyCluster {
			continue
		}
		if l.Source != identity.SourceK8s || l.Value != cluster {
			return refuse(key, identity.KeyCluster, "is %q, want %q from source k8s", l.String(), cluster)
		}
		found = true
	}
	if !found {
		return refuse(key, identity.KeyCluster, "is missing, want %q", cluster)
	}
	return nil
}
