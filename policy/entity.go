package policy

import (
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// Entity is a name for peers of one sort, as in fromEntities.
type Entity string

// The entities, with Cilium's names.
const (
	EntityAll           Entity = "all"            // everybody, known or not
	EntityWorld         Entity = "world"          // everybody outside all meshes and clusters
	EntityWorldIPv4     Entity = "world-ipv4"     // the world's IPv4 addresses
	EntityWorldIPv6     Entity = "world-ipv6"     // the world's IPv6 addresses
	EntityCluster       Entity = "cluster"        // every host of this mesh, and what belongs to no namespace
	EntityClusterMesh   Entity = "cluster-mesh"   // the same of all meshes and clusters that federate
	EntityHost          Entity = "host"           // the host that judges
	EntityRemoteNode    Entity = "remote-node"    // nodes of Cilium clusters, and every host of this mesh, as each is a node
	EntityKubeAPIServer Entity = "kube-apiserver" // API servers of Cilium clusters
	EntityIngress       Entity = "ingress"        // Cilium's ingress proxies
	EntityInit          Entity = "init"           // Cilium endpoints without labels yet
	EntityHealth        Entity = "health"         // Cilium's health endpoints
	EntityUnmanaged     Entity = "unmanaged"      // Kubernetes pods that Cilium does not manage
	EntityNone          Entity = "none"           // nobody
)

var entities = []Entity{
	EntityAll, EntityWorld, EntityWorldIPv4, EntityWorldIPv6, EntityCluster, EntityClusterMesh, EntityHost,
	EntityRemoteNode, EntityKubeAPIServer, EntityIngress, EntityInit, EntityHealth, EntityUnmanaged, EntityNone,
}

func (e Entity) known() bool { return slices.Contains(entities, e) }

func entityNames() string {
	names := make([]string, len(entities))
	for i, e := range entities {
		names[i] = string(e)
	}
	return strings.Join(names, ", ")
}

// inCluster are the reserved identities that belong to the cluster.
var inCluster = []mesh.Identity{
	identity.Host, identity.RemoteNode, identity.Init, identity.Ingress,
	identity.Health, identity.Unmanaged, identity.KubeAPIServer,
}

// reservedOf are the reserved identities of each entity, apart from "all".
var reservedOf = map[Entity][]mesh.Identity{
	EntityWorld:         {identity.World, identity.WorldIPv4, identity.WorldIPv6},
	EntityWorldIPv4:     {identity.WorldIPv4},
	EntityWorldIPv6:     {identity.WorldIPv6},
	EntityCluster:       inCluster,
	EntityClusterMesh:   inCluster,
	EntityHost:          {identity.Host},
	EntityRemoteNode:    {identity.RemoteNode, identity.KubeAPIServer},
	EntityKubeAPIServer: {identity.KubeAPIServer},
	EntityIngress:       {identity.Ingress},
	EntityInit:          {identity.Init},
	EntityHealth:        {identity.Health},
	EntityUnmanaged:     {identity.Unmanaged},
}
