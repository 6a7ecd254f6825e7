package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
)

// idleAfter is how long a tunnel counts as connected after a handshake: a used
// one shakes hands every two minutes and its keys die after three (WireGuard
// paper, section 6.1).
const idleAfter = 3 * time.Minute

// Status says how this host is.
func (a *agent) Status(ctx context.Context) (api.Status, error) {
	m, err := a.joined()
	if err != nil {
		return api.Status{State: "unjoined", Version: a.opts.Version}, nil
	}
	return m.status(ctx), nil
}

func (m *member) status(ctx context.Context) api.Status {
	desired, applied := m.plans()
	st := api.Status{Version: m.opts.Version, Node: m.self(desired)}
	snapshot := m.store.Snapshot()
	for i, s := range snapshot.Sources {
		src := api.SourceStatus{Name: s.Name, Synced: s.Synced}
		if err := m.mirrors[i].Status().Err; err != nil {
			src.Error = err.Error()
		}
		st.Sources = append(st.Sources, src)
	}
	st.Datapath = m.datapath(desired)
	st.Warnings = m.warnings(desired)
	peers, err := m.peers(ctx, desired)
	if err != nil && applied != nil {
		st.Warnings = append(st.Warnings, api.Warning{Code: "wireguard-unreadable", Severity: "error", Text: err.Error()})
	}
	st.Peers = peers
	st.State = stateOf(applied != nil, st.Warnings)
	return st
}

// plans returns what was planned and what was applied last; nil before.
func (m *member) plans() (desired, applied *plan.Desired) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.desired, m.applied
}

func stateOf(applied bool, warnings []api.Warning) string {
	switch {
	case slices.ContainsFunc(warnings, func(w api.Warning) bool { return w.Severity == "error" }):
		return "degraded"
	case !applied:
		return "starting"
	}
	return "ready"
}

// self is this host by its enrolment, with the labels that the mesh knows.
func (m *member) self(d *plan.Desired) api.NodeStatus {
	e := m.enrolment
	n := api.NodeStatus{
		Name: e.Node, Cluster: e.Cluster.Name, MeshIPv4: e.Mesh4, MeshIPv6: e.Mesh6,
		Identity: uint32(e.Identity), Labels: e.Labels.Strings(), Server: e.Server,
	}
	if d != nil {
		n.Identity, n.Labels = uint32(d.Self), m.names.Labels(d.Self)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.uplinks != nil {
		n.Addresses = m.uplinks.Addresses
	}
	return n
}

func (m *member) datapath(d *plan.Desired) api.DatapathStatus {
	stage := m.kernel.verdicts.Stage()
	st := api.DatapathStatus{
		WireGuard: string(m.kernel.Kind()), PolicyRevision: stage.Mesh,
		Posture: posture(d, stage.Enforced), PolicyEntries: stage.Entries,
	}
	links, err := m.kernel.programs.ListLinks()
	if err == nil {
		for _, l := range links {
			st.Interfaces = append(st.Interfaces, l.Name)
		}
	}
	if flows, err := m.kernel.maps.Flows.List(); err == nil {
		st.Flows = len(flows)
	}
	return st
}

// posture says what happens to a new flow that no rule names.
func posture(d *plan.Desired, enforced [2]bool) string {
	in, out := enforced[policy.Ingress], enforced[policy.Egress]
	switch {
	case d == nil:
		return "not known yet: what an earlier run enforced stays in force"
	case in && out:
		return "closed: policy selects this host; only flows that a rule allows pass, in both directions"
	case in:
		return "closed for ingress: policy selects this host; only incoming flows that a rule allows pass; outgoing flows pass"
	case out:
		return "closed for egress: policy selects this host; only outgoing flows that a rule allows pass; incoming flows pass"
	}
	return "open: no policy selects this host; every flow passes that no rule denies"
}

func (m *member) peers(ctx context.Context, d *plan.Desired) ([]api.PeerStatus, error) {
	if d == nil {
		return nil, nil
	}
	have, err := m.kernel.wireguard.ListPeers(ctx)
	byKey := make(map[mesh.Key]wg.PeerStatus, len(have))
	for _, p := range have {
		byKey[p.Key] = p
	}
	snapshot := m.store.Snapshot()
	var out []api.PeerStatus
	for _, n := range snapshot.Nodes {
		if n.Name == m.enrolment.Node && n.Cluster == m.enrolment.Cluster {
			continue
		}
		_, wanted := d.Peers[n.Key]
		out = append(out, peerStatus(n, byKey[n.Key], wanted))
	}
	slices.SortFunc(out, func(a, b api.PeerStatus) int {
		return cmp.Or(strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Name, b.Name))
	})
	return out, err
}

func peerStatus(n mesh.Node, p wg.PeerStatus, wanted bool) api.PeerStatus {
	st := api.PeerStatus{
		Name: n.Name, Cluster: n.Cluster.Name, MeshIPv4: n.Mesh4, MeshIPv6: n.Mesh6,
		Path: "direct", RxBytes: p.RxBytes, TxBytes: p.TxBytes, State: "new",
	}
	if p.Endpoint.IsValid() {
		st.Endpoint = p.Endpoint.String()
	}
	if !p.LastHandshake.IsZero() {
		st.LastHandshake = &p.LastHandshake
		st.State = "connected"
		if time.Since(p.LastHandshake) > idleAfter {
			st.State = "idle"
		}
	}
	if !wanted {
		st.State, st.Path = "refused", ""
	}
	return st
}

// warnings collects what a person should know, from every part.
func (m *member) warnings(d *plan.Desired) []api.Warning {
	var out []api.Warning
	add := func(code, severity, text string) {
		out = append(out, api.Warning{Code: code, Severity: severity, Text: text})
	}
	for _, mir := range m.mirrors {
		if st := mir.Status(); st.Err != nil {
			out = append(out, m.unread(st.Err))
			break // the others say the same
		}
	}
	for _, h := range m.conductor.Health() {
		if h.Err != nil {
			add("resource-failing", "error", h.Err.Error())
		}
	}
	for _, err := range m.refused.List() {
		add("entry-refused", "warning", err.Error())
	}
	if st := m.publisher.Status(); st.Err != nil {
		add("claim-pending", "warning", fmt.Sprintf("this host's claim is not written yet: %v", st.Err))
	}
	if d != nil {
		for _, w := range d.Warnings {
			add(w.Code, "warning", w.Text)
		}
	}
	if m.blind(m.store.Snapshot()) {
		add("policy-unreadable", "error", "some policy cannot be understood by this agent, so that what was in force stays in force: upgrade plexusd")
	}
	return append(out, m.ownWarnings()...)
}

// unread says why etcd cannot be read: it is away, or it does not take this host
// for a member any more, which then never hears of its own removal.
func (m *member) unread(err error) api.Warning {
	if errors.Is(err, kvstore.ErrPermission) || errors.Is(err, kvstore.ErrUnauthenticated) {
		return api.Warning{Code: "access-refused", Severity: "error",
			Text: fmt.Sprintf("the mesh refuses this host: it was removed, or its certificate was revoked; what was in force stays so: leave with plexus leave --force and join again: %v", err)}
	}
	return api.Warning{Code: "etcd-unreachable", Severity: "warning",
		Text: fmt.Sprintf("etcd cannot be read (%s): what is known stays in force: %v", strings.Join(m.enrolment.Etcd, ", "), err)}
}

func (m *member) ownWarnings() []api.Warning {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []api.Warning
	if m.unlisted {
		out = append(out, api.Warning{Code: "not-in-mesh", Severity: "error",
			Text: "the mesh does not know this host: it was removed, or its identity is gone; what was in force stays so: leave with plexus leave --force and join again"})
	}
	if m.uplinks != nil && len(m.uplinks.Uplinks) == 0 {
		out = append(out, api.Warning{Code: "no-uplink", Severity: "error",
			Text: "no network interface is managed: none has a default route or a global address; name them with the setting interfaces"})
	}
	if m.reported != nil {
		out = append(out, api.Warning{Code: "address-unseen", Severity: "warning", Text: m.reported.Error()})
	}
	return out
}

// serverNames names the mesh's servers, for people.
func (m *member) serverNames() string {
	var names []string
	for _, n := range m.store.Snapshot().Nodes {
		if n.Server {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return "a server (" + strings.Join(m.enrolment.Servers, ", ") + ")"
	}
	slices.Sort(names)
	return strings.Join(names, " or ")
}

// Nodes lists every host that the mesh knows.
func (a *agent) Nodes(context.Context) ([]api.Node, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	out := []api.Node{}
	for _, n := range m.store.Snapshot().Nodes {
		id, _ := m.names.Address(firstValid(n.Mesh4, n.Mesh6))
		out = append(out, api.Node{
			Name: n.Name, Cluster: n.Cluster.Name, Addresses: n.Addresses, MeshIPv4: n.Mesh4, MeshIPv6: n.Mesh6,
			Identity: uint32(id), Labels: m.names.Labels(id), PublicKey: n.Key.String(), Port: n.Port,
			Server: n.Server, Version: n.Version,
		})
	}
	slices.SortFunc(out, func(a, b api.Node) int {
		return cmp.Or(strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

func firstValid(addrs ...netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// Identities lists every identity of the mesh.
func (a *agent) Identities(context.Context) ([]api.Identity, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	out := []api.Identity{}
	book := m.names.read()
	for id, labels := range maps.All(m.store.Snapshot().Identities) {
		nodes := slices.Sorted(slices.Values(book.nodes[id]))
		out = append(out, api.Identity{ID: uint32(id), Labels: labels.Strings(), Nodes: nodes})
	}
	slices.SortFunc(out, func(a, b api.Identity) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}
