package plan

import (
	"cmp"
	"maps"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// lapsed reports whether the revision on trial has ended here: then the policies
// before it count.
func lapsed(s state.Snapshot, l Local) bool {
	return s.Revision.Pending() && l.Lapsed == s.Revision.Number
}

// policies are those that count for this host: the mesh's, and those of its own
// files.
func policies(s state.Snapshot, l Local) []policy.Policy {
	byID := s.Policies
	if lapsed(s, l) {
		byID = maps.Clone(byID)
		for id, before := range s.Revision.Undo {
			delete(byID, id)
			if before != nil {
				byID[id] = *before
			}
		}
	}
	return slices.AppendSeq(slices.Clone(l.Policies), maps.Values(byID))
}

func subject(s state.Snapshot, l Local, self mesh.Identity) policy.Subject {
	return policy.Subject{Identity: self, Labels: s.Identities[self], Cluster: l.Cluster.Name, Ports: l.NamedPorts, EveryCluster: l.EveryCluster}
}

// everybody is the mesh as policy sees it. An identity has the ports of all of
// its endpoints.
func everybody(s state.Snapshot) policy.World {
	ports := make(map[mesh.Identity][]mesh.NamedPort)
	for _, e := range s.Endpoints {
		if len(e.NamedPorts) > 0 {
			ports[e.Identity] = append(ports[e.Identity], e.NamedPorts...)
		}
	}
	for id, ps := range ports {
		slices.SortFunc(ps, comparePorts)
		ports[id] = slices.Compact(ps)
	}
	return policy.World{Labels: s.Identities, Ports: ports}
}

func comparePorts(a, b mesh.NamedPort) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// disarmed are the verdicts of a host on which policy is suspended: everybody may
// do everything.
func disarmed() policy.Verdicts {
	return policy.Compile(nil, policy.Subject{}, policy.World{})
}
