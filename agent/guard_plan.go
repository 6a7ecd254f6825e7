package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/agent/facts"
	"github.com/plexusmesh/plexus/agent/trial"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/state"
)

// recall plans from what an earlier run knew, as planning does from what the mesh
// says. m is not running.
func (m *member) recall(b bootFacts) (plan.Desired, error) {
	s, err := m.recalled()
	if err != nil {
		return plan.Desired{}, err
	}
	outcome := m.recallTrial(s.Revision)
	m.mu.Lock()
	m.found = facts.Found{SSH: sshPorts(b)}
	l := m.localLocked(device.State{Addresses: m.lastAddresses(b, s)})
	m.mu.Unlock()
	l.Lapsed = outcome.Lapsed
	d := m.planner.Build(s, l)
	if d.Self == identity.Unknown {
		return d, fmt.Errorf("the saved state of mesh %s has no host %s: it was removed, or its identity is gone: leave with plexus leave --force and join again", m.enrolment.Cluster.Name, m.enrolment.Node)
	}
	return d, nil
}

// recalled reads the snapshot into a store, and returns what it says if that is
// everything.
func (m *member) recalled() (state.Snapshot, error) {
	img := m.keeper.Earlier()
	if img == nil {
		return state.Snapshot{}, cmp.Or(m.keeper.Refused(), fmt.Errorf("%s is missing: plexusd writes it once it has heard the mesh", snapshotFile(m.opts.Config.StateDir)))
	}
	m.store = newStore(m.sources)
	for _, s := range m.sources {
		m.restore(s, img.Sources[s.name])
	}
	s := m.store.Snapshot()
	switch {
	case !s.Known():
		return s, fmt.Errorf("snapshot of %v does not hold all that this plexusd knows of: it is of another version", img.Saved)
	case m.blind(s):
		return s, fmt.Errorf("a saved policy is not understood by this plexusd, so that what it allows cannot be told: upgrade plexusd: %v", m.unreadable(s, "policies"))
	}
	return s, nil
}

// recallTrial judges the trial of r, and has a window that begins here begin on
// disk too.
func (m *member) recallTrial(r state.Revision) trial.Outcome {
	outcome := m.probation.judge(r)
	select {
	case <-m.probation.news:
		_ = m.probation.save() // it has logged why not
	default:
	}
	return outcome
}

// lastAddresses are those that this host has now, or had when it last ran, or that
// the mesh knows it by. Nobody else may speak with one of them: of two hosts with
// one address, this one would take the other for itself.
func (m *member) lastAddresses(b bootFacts, s state.Snapshot) []netip.Addr {
	out := b.addresses()
	if now, err := device.Discover(m.deviceOptions()); err == nil { // else only what was
		out = append(out, now.Addresses...)
	}
	self := mesh.Node{Name: m.enrolment.Node, Cluster: m.enrolment.Cluster}.ID()
	out = append(out, s.Nodes[self].Addresses...)
	out = append(out, m.enrolment.Advertise...)
	return sortedSet(out, netip.Addr.Compare)
}

// sshPorts are those that SSH servers listen on now, as with socket activation,
// and those that they listened on last.
func sshPorts(b bootFacts) []uint16 {
	ports := b.ports()
	if now, err := facts.SSHPorts("/proc"); err == nil { // else only those of before
		ports = append(ports, now...)
	}
	return sortedSet(ports, cmp.Compare[uint16])
}

// failsafe is what passes on a host that is closed, with SSH servers on these
// ports, or on the usual one where none is known: as the configuration says, of the
// mesh as far as it is known, or else of a mesh with this host's own ports.
func (g *guard) failsafe(have known, ssh []uint16) ([]datapath.Pinhole, error) {
	if len(ssh) == 0 {
		ssh = []uint16{22} // one of a host that noted none may listen there once it has booted
	}
	cfg := g.opts.Config
	open, err := facts.ParseFailsafe(cfg.Failsafe)
	if err != nil {
		return nil, err
	}
	p := facts.Ports{
		WireGuard: uint16(cfg.WireGuard.Port), SSH: ssh,
		API: []uint16{uint16(cfg.API.Port)}, Etcd: []uint16{uint16(cfg.Etcd.ClientPort)},
	}
	if e := have.enrolment; e != nil {
		p.API, p.Etcd, p.Server = portsIn(e.Servers), portsIn(e.Etcd), e.Server
	}
	services := facts.Services(p, open)
	out := make([]datapath.Pinhole, 0, len(services))
	for h := range services {
		out = append(out, h)
	}
	slices.SortFunc(out, datapath.Pinhole.Compare)
	return out, nil
}
