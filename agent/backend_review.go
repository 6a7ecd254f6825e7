package agent

import (
	"context"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/review"
	"github.com/plexusmesh/plexus/state"
)

// proposal is a change of policy that somebody asks for.
type proposal struct {
	store      []policy.Policy
	remove     []string // IDs
	allowEmpty bool
	terminal   *api.Terminal
}

// review says what p would do to the mesh as this server knows it.
func (m *member) review(ctx context.Context, service *registry.Service, p proposal) (api.Review, error) {
	basis, err := service.Basis(ctx)
	if err != nil {
		return api.Review{}, worded(err)
	}
	after, changes, err := basis.Change(p.store, p.remove)
	if err != nil {
		return api.Review{}, worded(err)
	}
	snapshot := m.store.Snapshot()
	found := review.Review(basis.Policies, after, m.reviewed(snapshot, basis.Claims, p.terminal), review.Options{AllowEmpty: p.allowEmpty})
	out := listedReview(found)
	out.Revision, out.Policies = basis.Revision, listedChanges(snapshot, changes)
	out.Findings = append(out.Findings, unread(basis.Unreadable, changes)...)
	return out, nil
}

// unread says which policies the review could not take into account.
func unread(ids []string, changes []registry.Change) []api.Finding {
	var out []api.Finding
	for _, id := range ids {
		if slices.ContainsFunc(changes, func(c registry.Change) bool { return c.ID == id }) {
			continue // it is replaced or deleted
		}
		out = append(out, api.Finding{Severity: api.SeverityWarning, Code: codeUnread, Policy: id,
			Text: "this server cannot read the stored policy, so that the review leaves it out: replace it, delete it, or upgrade plexusd"})
	}
	return out
}

// codeUnread is the code of a finding that package review cannot have.
const codeUnread = "policy-unreadable"

// reviewed is the own mesh as s and the hosts' claims have it.
func (m *member) reviewed(s state.Snapshot, claims map[string]mesh.Claim, t *api.Terminal) review.Mesh {
	e := m.enrolment
	out := review.Mesh{
		Cluster: e.Cluster.Name, World: world(s), ControlPorts: portsIn(slices.Concat(e.Servers, e.Etcd)),
	}
	for _, n := range s.Nodes {
		if h, known := reviewedHost(s, n, claims[n.Name]); known && n.Cluster == e.Cluster {
			out.Hosts = append(out.Hosts, h)
		}
	}
	slices.SortFunc(out.Hosts, func(a, b review.Host) int { return strings.Compare(a.Name, b.Name) })
	if t != nil {
		out.Terminal = &review.Terminal{Host: e.Node, Remote: t.Remote, Port: t.Port}
	}
	return out
}

// reviewedHost is n as policy sees it; false while its labels are unknown.
func reviewedHost(s state.Snapshot, n mesh.Node, claim mesh.Claim) (review.Host, bool) {
	endpoint, labels, known := endpointOf(s, n)
	h := review.Host{
		Name: n.Name, Identity: endpoint.Identity, Labels: labels, Server: n.Server, Addresses: slices.Clone(n.Addresses),
		NamedPorts: endpoint.NamedPorts, Listening: claim.Listening, Pinholes: claimedPinholes(claim.Pinholes),
	}
	for _, p := range n.MeshPrefixes() {
		h.Addresses = append(h.Addresses, p.Addr())
	}
	return h, known
}

// claimedPinholes reads those of a claim; nil, not known, if one of them makes no
// sense here.
func claimedPinholes(texts []string) []datapath.Pinhole {
	if texts == nil {
		return nil
	}
	out := make([]datapath.Pinhole, 0, len(texts))
	for _, text := range texts {
		p, err := datapath.ParsePinhole(text)
		if err != nil {
			return nil
		}
		out = append(out, p)
	}
	return out
}

// endpointOf returns the endpoint and the labels of n; false while they are
// unknown.
func endpointOf(s state.Snapshot, n mesh.Node) (mesh.Endpoint, identity.Labels, bool) {
	for _, prefix := range n.MeshPrefixes() {
		e := s.Endpoints[prefix]
		if labels, known := s.Identities[e.Identity]; known {
			return e, labels, true
		}
	}
	return mesh.Endpoint{}, nil, false
}

// world is everybody whom policies can name.
func world(s state.Snapshot) policy.World {
	out := policy.World{Labels: s.Identities, Ports: make(map[mesh.Identity][]mesh.NamedPort)}
	for _, e := range s.Endpoints {
		for _, p := range e.NamedPorts {
			if !slices.Contains(out.Ports[e.Identity], p) {
				out.Ports[e.Identity] = append(out.Ports[e.Identity], p)
			}
		}
	}
	return out
}

func listedReview(r review.Result) api.Review {
	var out api.Review
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, api.Finding{
			Severity: f.Severity, Code: f.Code, Policy: f.Policy, File: f.File, Line: f.Line, Path: f.Path, Text: f.Text,
		})
	}
	for _, h := range r.Hosts {
		out.Hosts = append(out.Hosts, api.HostChange{
			Host: h.Host, Before: h.Before, After: h.After, Added: h.Added, Removed: h.Removed, Changed: h.Changed, Lines: h.Lines,
		})
	}
	for _, c := range r.Cuts {
		out.Cuts = append(out.Cuts, api.Cut{Host: c.Host, What: c.What})
	}
	return out
}

func listedChanges(s state.Snapshot, changes []registry.Change) []api.PolicyChange {
	var out []api.PolicyChange
	for _, c := range changes {
		out = append(out, api.PolicyChange{Name: c.ID, Change: c.Change, Selects: selected(s, c.Policy)})
	}
	return out
}
