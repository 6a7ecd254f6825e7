package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
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
	st.Datapath = m.datapath(desired, snapshot)
	st.Warnings = m.warnings(desired, snapshot)
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

func (m *member) datapath(d *plan.Desired, s state.Snapshot) api.DatapathStatus {
	stage := m.kernel.verdicts.Stage()
	st := api.DatapathStatus{
		WireGuard: string(m.kernel.Kind()), PolicyRevision: stage.Mesh,
		Posture: posture(d, stage, m.suspended()), PolicyEntries: stage.Entries,
	}
	m.exceptions(&st, stage, s.Revision)
	links, err := m.kernel.programs.ListLinks()
	if err == nil {
		for _, l := range links {
			st.Interfaces = append(st.Interfaces, l.Name)
		}
	}
	st.EarlyDrop = m.kernel.earlyDrop()
	st.SourceLimit = m.opts.Config.Datapath.SourceLimit
	if flows, err := m.kernel.maps.Flows.List(); err == nil {
		st.Flows = len(flows)
	}
	return st
}

// exceptions say why the kernel does not, or not for good, enforce the newest
// revision r.
func (m *member) exceptions(st *api.DatapathStatus, stage policyStage, r state.Revision) {
	if stage.Lapsed {
		st.Lapsed = stage.Mesh
	}
	if o := m.probation.look(r); o.Left > 0 && stage.Mesh == r.Number && !stage.Lapsed && !stage.Disarmed {
		st.Pending = &api.Pending{Revision: r.Number, ConfirmBy: time.Now().Add(o.Left), Seconds: int64(o.Left.Seconds())}
	}
	if s := m.suspended(); s != nil && stage.Disarmed {
		answer := api.Disarmed(*s)
		st.Disarmed = &answer
	}
}

// posture says what happens to a new flow that no rule names.
func posture(d *plan.Desired, stage policyStage, s *suspension) string {
	in, out := stage.Enforced[policy.Ingress], stage.Enforced[policy.Egress]
	switch {
	case s != nil && !stage.Disarmed:
		return "not open yet after plexus disarm: what was enforced before stays in force"
	case s != nil:
		return fmt.Sprintf("POLICY IS SUSPENDED since %s: EVERY FLOW PASSES; plexus arm puts policy back", s.Since.Format(time.RFC3339))
	case stage.Disarmed:
		return "POLICY IS NOT ENFORCED YET after plexus arm: EVERY FLOW PASSES"
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
		st := peerStatus(n, byKey[n.Key], wanted)
		st.NodeAddresses = led(n.Direct, d.Detour)
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b api.PeerStatus) int {
		return cmp.Or(strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Name, b.Name))
	})
	return out, err
}

// led returns those of a peer's addresses that d leads into the tunnel.
func led(addrs []netip.Addr, d datapath.Detour) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !slices.Contains(d.To, a) })
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
