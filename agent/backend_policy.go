package agent

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// Policies lists the mesh's policies, and then those of this host's own files. A
// host that is no server knows their documents, and neither who changed them nor
// when.
func (a *agent) Policies(ctx context.Context) ([]api.Policy, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	snapshot := m.store.Snapshot()
	out := knownPolicies(snapshot)
	if service, _, err := a.registry(); err == nil {
		if out, err = storedPolicies(ctx, service, snapshot); err != nil {
			return nil, err
		}
	}
	return append(out, m.ownPolicies(snapshot)...), nil
}

// knownPolicies are those of s, by ID.
func knownPolicies(s state.Snapshot) []api.Policy {
	out := make([]api.Policy, 0, len(s.Policies))
	for _, p := range s.Policies {
		out = append(out, listedPolicy(p, selected(s, p)))
	}
	slices.SortFunc(out, func(a, b api.Policy) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// storedPolicies are those that servers keep, by ID.
func storedPolicies(ctx context.Context, service *registry.Service, s state.Snapshot) ([]api.Policy, error) {
	policies, _, err := service.Policies(ctx)
	if err != nil {
		return nil, worded(err)
	}
	out := make([]api.Policy, 0, len(policies))
	for _, p := range policies {
		listed := listedPolicy(p.Policy, selected(s, p.Policy))
		listed.Revision, listed.Author, listed.Changed = p.Revision, p.Author, p.Time
		out = append(out, listed)
	}
	return out, nil
}

// ownPolicies are those of this host's own files, in their order. They are about
// no other host.
func (m *member) ownPolicies(s state.Snapshot) []api.Policy {
	m.mu.Lock()
	policies := m.own.Policies
	m.mu.Unlock()
	var out []api.Policy
	for _, p := range policies {
		listed := listedPolicy(p, nil)
		listed.File = p.File
		if slices.Contains(selected(s, p), m.enrolment.Node) {
			listed.Selects = []string{m.enrolment.Node}
		}
		out = append(out, listed)
	}
	return out
}

func listedPolicy(p policy.Policy, selects []string) api.Policy {
	return api.Policy{Name: p.Name, Namespace: p.Namespace, Kind: string(p.Kind), ID: p.ID(), Selects: selects, Source: p.Source}
}

// selected returns the hosts of s that p is about, sorted.
func selected(s state.Snapshot, p policy.Policy) []string {
	names := []string{}
	for _, n := range s.Nodes {
		for _, prefix := range n.MeshPrefixes() {
			if labels, known := s.Identities[s.Endpoints[prefix].Identity]; known && p.Selects(labels) {
				names = append(names, n.Name)
				break
			}
		}
	}
	slices.Sort(names)
	return names
}

// ReviewPolicies says what a change would do.
func (a *agent) ReviewPolicies(ctx context.Context, r api.ReviewRequest) (api.Review, error) {
	service, m, err := a.registry()
	if err != nil {
		return api.Review{}, err
	}
	parsed, err := parsePolicies(r.Files, r.Delete)
	if err != nil {
		return api.Review{}, err
	}
	return m.review(ctx, service, proposal{store: parsed, remove: r.Delete, allowEmpty: r.AllowEmpty, terminal: r.Terminal})
}

// parsePolicies reads a change of the mesh's policies.
func parsePolicies(files []api.PolicyFile, remove []string) ([]policy.Policy, error) {
	for _, id := range remove {
		if strings.HasPrefix(id, localPrefix) {
			return nil, api.Errorf(api.CodeInvalid, "policy %s is of a host's own files, and no policy of the mesh: remove it from its file there", id)
		}
	}
	parsed, err := documents(files)
	return parsed, worded(err)
}

// localPrefix begins the IDs of policies of a host's own files (policy.Policy.ID).
const localPrefix = "local:"

// ApplyPolicies changes the mesh's policies: all that r names, or none.
func (a *agent) ApplyPolicies(ctx context.Context, r api.ApplyRequest) (api.ApplyResult, error) {
	service, m, err := a.registry()
	if err != nil {
		return api.ApplyResult{}, err
	}
	parsed, err := parsePolicies(r.Files, r.Delete)
	if err != nil {
		return api.ApplyResult{}, err
	}
	if len(parsed)+len(r.Delete) == 0 {
		return api.ApplyResult{}, api.Errorf(api.CodeInvalid, "change policy: neither a document nor a policy to delete is named")
	}
	if err := m.admit(ctx, service, proposal{store: parsed, remove: r.Delete, allowEmpty: r.AllowEmpty}, r.Base); err != nil {
		return api.ApplyResult{}, err
	}
	current, changes, err := service.ApplyPolicies(ctx, registry.ApplyOptions{
		Author: localAuthor, Message: r.Message, Window: r.ConfirmWithin, Base: r.Base, Delete: r.Delete,
	}, parsed)
	if err != nil {
		return api.ApplyResult{}, worded(err)
	}
	return api.ApplyResult{
		Revision: current.Revision, Pending: pending(current, time.Now()), Policies: listedChanges(m.store.Snapshot(), changes),
	}, nil
}

// admit refuses a change to the revision base that a review finds errors in. It
// makes the review itself, unless that was done a moment ago: not every client
// asks for one.
func (m *member) admit(ctx context.Context, service *registry.Service, p proposal, base *uint64) error {
	if m.passed.has(p.digest(), base, time.Now()) {
		return nil
	}
	review, err := m.review(ctx, service, p)
	if err != nil {
		return err
	}
	return refusal(review.Findings)
}

// refusal is the error that the errors of a review are; nil where it has none.
func refusal(findings []api.Finding) error {
	var lines []string
	for _, f := range findings {
		if f.Severity == api.SeverityError {
			p := policy.Problem{File: cmp.Or(f.File, f.Policy), Line: f.Line, Path: f.Path, Text: f.Text}
			lines = append(lines, p.Error())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return &api.Error{Code: api.CodeInvalid, Text: strings.Join(lines, "\n")}
}

// pending says until when r is on trial; nil if it stands.
func pending(r schema.PolicyRevision, now time.Time) *api.Pending {
	if !r.Pending() {
		return nil
	}
	left := max(0, r.ConfirmBy.Sub(now).Round(time.Second))
	return &api.Pending{Revision: r.Revision, ConfirmBy: r.ConfirmBy, Seconds: int64(left / time.Second)}
}

// ConfirmPolicies keeps the revision on trial.
func (a *agent) ConfirmPolicies(ctx context.Context, r api.ConfirmRequest) (api.Revision, error) {
	service, _, err := a.registry()
	if err != nil {
		return api.Revision{}, err
	}
	current, err := service.ConfirmPolicies(ctx, localAuthor, r.Revision)
	if err != nil {
		return api.Revision{}, worded(err)
	}
	return listedRevision(current), nil
}

// RollbackPolicies undoes changes by a new one.
func (a *agent) RollbackPolicies(ctx context.Context, r api.RollbackRequest) (api.ApplyResult, error) {
	service, m, err := a.registry()
	if err != nil {
		return api.ApplyResult{}, err
	}
	current, err := service.RollbackPolicies(ctx, registry.RollbackOptions{Author: localAuthor, To: r.To})
	if err != nil {
		return api.ApplyResult{}, worded(err)
	}
	stored, err := service.Basis(ctx)
	if err != nil {
		return api.ApplyResult{}, worded(err)
	}
	out := api.ApplyResult{Revision: current.Revision}
	snapshot := m.store.Snapshot()
	for _, c := range current.Changes {
		out.Policies = append(out.Policies, api.PolicyChange{Name: c.Name, Change: c.Change, Selects: selectedBy(snapshot, stored.Policies, c.Name)})
	}
	return out, nil
}

// selectedBy returns the hosts that the policy of that ID is about; none if it is
// not there.
func selectedBy(s state.Snapshot, policies []policy.Policy, id string) []string {
	for _, p := range policies {
		if p.ID() == id {
			return selected(s, p)
		}
	}
	return nil
}

// PolicyHistory lists the changes of policy, the last one first.
func (a *agent) PolicyHistory(ctx context.Context) ([]api.Revision, error) {
	service, _, err := a.registry()
	if err != nil {
		return nil, err
	}
	history, err := service.History(ctx)
	if err != nil {
		return nil, worded(err)
	}
	out := make([]api.Revision, 0, len(history))
	for _, r := range history {
		out = append(out, listedRevision(r))
	}
	return out, nil
}

func listedRevision(r schema.PolicyRevision) api.Revision {
	out := api.Revision{
		Revision: r.Revision, Author: r.Author, Time: r.Time, Action: r.Action, State: r.State, ConfirmBy: r.ConfirmBy, Message: r.Message,
		Of: r.Of, To: r.To, Expired: r.Expired,
	}
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, api.RevisedPolicy{Name: c.Name, Change: c.Change})
	}
	return out
}
