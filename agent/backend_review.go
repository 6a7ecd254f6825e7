package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/review"
	"github.com/plexusmesh/plexus/policy/scenario"
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
	if refusal(out.Findings) == nil {
		m.passed.note(p.digest(), basis.Revision, time.Now())
	}
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

// reviewed is the own mesh as s and the hosts' claims have it. Policies of hosts'
// own files are no part of it.
func (m *member) reviewed(s state.Snapshot, claims map[string]mesh.Claim, t *api.Terminal) review.Mesh {
	e := m.enrolment
	local, known := m.local()
	if !known { // then this host is one like the others
		local = plan.Local{Cluster: e.Cluster, EveryCluster: !m.opts.Config.Policy.DefaultLocalCluster}
	}
	_, scene := plan.Scene(s, local)
	out := review.Mesh{
		Cluster: scene.Cluster, EveryCluster: scene.EveryCluster, World: scene.World,
		ControlPorts: portsIn(slices.Concat(e.Servers, e.Etcd)),
	}
	for _, h := range scene.Hosts {
		server := s.Nodes[mesh.Node{Name: h.Name, Cluster: e.Cluster}.ID()].Server
		out.Hosts = append(out.Hosts, reviewedHost(h, server, claims[h.Name]))
	}
	if t != nil {
		out.Terminal = &review.Terminal{Host: e.Node, Remote: t.Remote, Port: t.Port}
	}
	return out
}

// reviewedHost is h with what it says of itself.
func reviewedHost(h scenario.Host, server bool, claim mesh.Claim) review.Host {
	out := review.Host{
		Name: h.Name, Identity: h.Identity, Labels: h.Labels, Server: server, Addresses: h.Addresses, NamedPorts: h.NamedPorts,
		Listening: claim.Listening, Pinholes: claimedPinholes(claim.Pinholes),
	}
	if h.Pinholes != nil { // of this host, which knows them best
		out.Pinholes = slices.Collect(maps.Keys(h.Pinholes))
	}
	return out
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
