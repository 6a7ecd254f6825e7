package agent

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/agent/facts"
	"github.com/plexusmesh/plexus/agent/trial"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/state"
)

// lookPeriod is how often this host is looked at: an SSH server that has moved to
// another port is protected no later than this. Everything is planned anew then,
// so that a clock which was asleep with the host closes no window much later.
const lookPeriod = 10 * time.Second

// secureWithin bounds how long a revision on trial waits for a disk.
const secureWithin = time.Second

// setUplinks takes what the watcher found.
func (m *member) setUplinks(s device.State) {
	m.mu.Lock()
	m.uplinks = &s
	m.mu.Unlock()
	m.reminder.links(s.Uplinks)
	signal(m.news)
	signal(m.moved)
}

// signal leaves a token, unless one is waiting.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// planning computes what this host should be whenever anything that it depends
// on changes, the end of a trial included.
func (m *member) planning(ctx context.Context) error {
	tick := time.NewTicker(lookPeriod)
	defer tick.Stop()
	deadline := time.NewTimer(lookPeriod)
	defer deadline.Stop()
	m.look()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.store.Changed():
		case <-m.news:
		case <-deadline.C:
		case <-tick.C:
			m.look()
		}
		deadline.Stop()
		if left := m.replan(ctx); left > 0 {
			deadline.Reset(left)
		}
		m.publish()
	}
}

// look finds out who listens on this host.
func (m *member) look() {
	found, err := m.looks.Look()
	if err != nil {
		m.logger.Warn("listening programs not found: what was found before counts", "error", err)
		return
	}
	m.reminder.ssh(found.SSH)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.found = found
}

// replan sets a new desired state, unless too little is known to have one:
// before every source was heard, by this run or the one before, what is missing
// may only be unheard of. It returns when the trial of the newest revision ends
// here, 0 for none.
func (m *member) replan(ctx context.Context) time.Duration {
	snapshot := m.store.Snapshot()
	if !snapshot.Known() {
		return 0
	}
	if r := snapshot.Revision; m.secured.Revision != 0 && r.Number == m.secured.Revision && !r.Pending() {
		m.secured = trial.Trial{}
		m.keeper.Hurry() // confirmed: a restart must not judge it anew
	}
	outcome := m.probation.judge(snapshot.Revision)
	local, ok := m.local()
	if !ok || m.blind(snapshot) {
		return outcome.Left
	}
	if outcome.Left > 0 {
		m.secure(ctx, *outcome.Trial)
	}
	local.Lapsed = outcome.Lapsed
	d := m.planner.Build(snapshot, local)
	m.mu.Lock()
	m.unlisted = d.Self == identity.Unknown
	if !m.unlisted {
		m.desired = &d
	}
	unlisted := m.unlisted
	m.mu.Unlock()
	if !unlisted { // else what was in force stays in force
		m.names.book.Store(newBook(snapshot, d))
		m.conductor.Set(d)
	}
	return outcome.Left
}

// secure has a revision that is new on trial, and with it what was before, on
// disk before it is enforced: a host that is cut off and restarts must know what
// to go back to. A disk that hangs delays that, and does not prevent it.
func (m *member) secure(ctx context.Context, t trial.Trial) {
	if m.secured == t {
		return
	}
	m.secured = t
	ctx, cancel := context.WithTimeout(ctx, secureWithin)
	defer cancel()
	for _, tried := range []<-chan struct{}{m.keeper.Hurry(), m.probation.remember()} {
		select {
		case <-tried:
		case <-ctx.Done():
		}
	}
}

// blind reports whether some restored policy is known by name alone, since this
// agent does not understand it. What it allows or denies here cannot be told, so
// that what was in force stays in force.
func (m *member) blind(s state.Snapshot) bool {
	for _, name := range m.unreadable(s, "policies") {
		if _, known := s.Policies[name]; !known {
			return true
		}
	}
	return false
}

// local gathers the facts of this host; false while its uplinks are unknown.
func (m *member) local() (plan.Local, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.uplinks == nil || len(m.uplinks.Uplinks) == 0 {
		return plan.Local{}, false
	}
	return m.localLocked(*m.uplinks), true
}

// localLocked gathers the facts of this host, were these its uplinks.
func (m *member) localLocked(uplinks device.State) plan.Local {
	cfg := m.opts.Config
	l := plan.Local{
		Node: m.enrolment.Node, Cluster: m.enrolment.Cluster,
		Mesh4: m.enrolment.Mesh4, Mesh6: m.enrolment.Mesh6, Pools: m.enrolment.Pools,
		Device: cfg.WireGuard.Device, Addresses: uplinks.Addresses, MTU: uplinks.MTU,
		Port: uint16(cfg.WireGuard.Port), Server: m.enrolment.Server, Control: portsIn(slices.Concat(m.enrolment.Servers, m.enrolment.Etcd)),
		Services: m.servicesLocked(), PeerPinholes: m.failsafe.PeerRemotes(),
		Policies: m.own.Policies, NamedPorts: m.namedPorts,
		EveryCluster: !cfg.Policy.DefaultLocalCluster, Disarmed: m.suspension != nil,
	}
	for _, u := range uplinks.Uplinks {
		l.Uplinks = append(l.Uplinks, u.Name)
	}
	return l
}

// servicesLocked are what must stay reachable here.
func (m *member) servicesLocked() map[datapath.Pinhole]string {
	return facts.Services(facts.Ports{
		WireGuard: uint16(m.opts.Config.WireGuard.Port), API: portsIn(m.enrolment.Servers), Etcd: portsIn(m.enrolment.Etcd),
		Server: m.enrolment.Server, SSH: m.found.SSH,
	}, m.failsafe)
}

// portsIn returns the ports of "host:port", with or without a scheme. Others
// could not be dialled, which status tells.
func portsIn(servers []string) []uint16 {
	var ports []uint16
	for _, s := range servers {
		if _, after, ok := strings.Cut(s, "://"); ok {
			s = after
		}
		if _, text, err := net.SplitHostPort(s); err == nil {
			if port, err := strconv.ParseUint(text, 10, 16); err == nil {
				ports = append(ports, uint16(port))
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
