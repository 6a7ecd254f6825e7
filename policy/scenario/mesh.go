package scenario

import (
	"net/netip"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Host is a host that enforces policy.
type Host struct {
	Name       string
	Identity   mesh.Identity
	Labels     identity.Labels
	Addresses  []netip.Addr
	NamedPorts []mesh.NamedPort

	Pinholes map[datapath.Pinhole]string // what passes there whatever policy says, and why; nil: not known
	Policies []policy.Policy             // of the host's own files, that join those of the mesh
	Disarmed bool                        // whether an administrator suspended policy there
}

// Mesh is everybody whom a question could be about.
type Mesh struct {
	Cluster      string // name of the own mesh
	EveryCluster bool   // see policy.Subject
	Hosts        []Host // of the own mesh
	World        policy.World
	Owners       map[netip.Prefix]mesh.Identity // of addresses, also those that none of Hosts has, such as those of pods
}

// Party is one side of a flow, named by one of its fields.
type Party struct {
	Host     string
	Address  netip.Addr
	Identity mesh.Identity
	Labels   identity.Selector // everybody whom it selects; at least one requirement
}

// side is a party once it is known who it is.
type side struct {
	name     string
	as       string        // its name where it judges
	identity mesh.Identity // identity.Unknown for an address of the world
	labels   identity.Labels
	ports    []mesh.NamedPort
	addrs    []netip.Addr // that it may have in the flow
	host     *Host        // nil where it is no known host of the own mesh
	judges   bool         // whether the policies in question are enforced there
}

// subject is s as the compiler knows it.
func (s side) subject(m Mesh) policy.Subject {
	return policy.Subject{Identity: s.identity, Labels: s.labels, Cluster: m.Cluster, Ports: s.ports, EveryCluster: m.EveryCluster}
}
