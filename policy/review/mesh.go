package review

import (
	"net/netip"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Host is a host of the own mesh, as far as policy and its readers care.
type Host struct {
	Name      string
	Identity  mesh.Identity
	Labels    identity.Labels
	Server    bool         // whether it runs the control plane
	Addresses []netip.Addr // mesh and node addresses

	NamedPorts []mesh.NamedPort   // that it declares
	Listening  []mesh.Listener    // nil: not known
	Pinholes   []datapath.Pinhole // what passes there whatever policy says; nil: not known
}

// Mesh is everybody whom a change of policy could concern.
type Mesh struct {
	Cluster      string // name of the mesh
	EveryCluster bool   // see policy.Subject
	Hosts        []Host
	World        policy.World
	ControlPorts []uint16  // TCP, of the servers: etcd and the join API
	Terminal     *Terminal // nil where nobody types over the network
}

// Terminal is the connection over which somebody types.
type Terminal struct {
	Host   string     // where it ends
	Remote netip.Addr // where the person is
	Port   uint16     // TCP, on Host
}

// subject is h as the compiler knows it.
func (m Mesh) subject(h *Host) policy.Subject {
	return policy.Subject{Identity: h.Identity, Labels: h.Labels, Cluster: m.Cluster, Ports: h.NamedPorts, EveryCluster: m.EveryCluster}
}
