package registry

import (
	"context"
	"maps"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// Node is an enrolled host: its enrolment and the facts about it.
type Node struct {
	Host   schema.Host
	Fact   mesh.Node
	Labels identity.Labels
}

// Identity is a published identity and the hosts that have it.
type Identity struct {
	ID     mesh.Identity
	Labels identity.Labels
	Nodes  []string // sorted
}

// Nodes lists the enrolled hosts by name.
func (s *Service) Nodes(ctx context.Context) ([]Node, error) {
	snap, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, name := range slices.Sorted(maps.Keys(snap.hosts)) {
		h := snap.hosts[name]
		if h.Phase == schema.Enrolled {
			out = append(out, Node{Host: h, Fact: snap.facts[name], Labels: snap.labels(h)})
		}
	}
	return out, nil
}

// Identities lists the identities by number.
func (s *Service) Identities(ctx context.Context) ([]Identity, error) {
	snap, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	nodes := make(map[mesh.Identity][]string)
	for _, name := range slices.Sorted(maps.Keys(snap.hosts)) {
		if h := snap.hosts[name]; h.Phase == schema.Enrolled {
			nodes[h.Identity] = append(nodes[h.Identity], name)
		}
	}
	var out []Identity
	for _, id := range slices.Sorted(maps.Keys(snap.ids)) {
		labels, err := identity.ParseLabels(snap.ids[id])
		if err != nil {
			return nil, err
		}
		out = append(out, Identity{ID: id, Labels: labels, Nodes: nodes[id]})
	}
	return out, nil
}
