package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/agent/facts"
	"github.com/plexusmesh/plexus/control/client"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/publish"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/state"
)

// sshPeriod is how often SSH servers are looked for: one that has moved to
// another port is protected no later than this.
const sshPeriod = 10 * time.Second

// Servers are shown our addresses again after reportSoonest when that failed,
// then twice as late each time, up to reportLatest.
const (
	reportSoonest = 2 * time.Second
	reportLatest  = time.Minute
)

// setUplinks takes what the watcher found.
func (m *member) setUplinks(s device.State) {
	m.mu.Lock()
	m.uplinks = &s
	m.mu.Unlock()
	m.publish(s.Addresses)
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

// publish claims addresses, and life.
func (m *member) publish(addresses []netip.Addr) {
	claim, cerr := schema.EncodeClaim(m.claim(addresses))
	live, lerr := schema.EncodeLive(schema.Live{Node: m.enrolment.Node, Started: m.started})
	for _, err := range []error{cerr, lerr} {
		if err != nil {
			m.logger.Error("claim not written", "error", err)
			return
		}
	}
	err := m.publisher.Set(map[string]publish.Value{
		schema.ClaimKey(m.enrolment.Node): {Data: claim},
		schema.LiveKey(m.enrolment.Node):  {Data: live, Leased: true},
	})
	if err != nil {
		m.logger.Error("claim not written", "error", err)
	}
}

// planning computes what this host should be whenever anything that it depends
// on changes.
func (m *member) planning(ctx context.Context) error {
	tick := time.NewTicker(sshPeriod)
	defer tick.Stop()
	m.lookForSSH()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.store.Changed():
		case <-m.news:
		case <-tick.C:
			m.lookForSSH()
		}
		m.replan()
	}
}

// lookForSSH keeps what the look before found: a server that is being restarted
// listens nowhere for a moment.
func (m *member) lookForSSH() {
	ports, err := facts.SSHPorts("/proc")
	if err != nil {
		m.logger.Warn("SSH servers not found", "error", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ssh, m.sshBefore = ports, m.ssh
}

// replan sets a new desired state, unless too little is known to have one:
// before every source has synced, what is missing may only be unheard of.
func (m *member) replan() {
	local, ok := m.local()
	snapshot := m.store.Snapshot()
	if !ok || !snapshot.Synced() || m.blind(snapshot) {
		return
	}
	d := plan.Build(snapshot, local)
	m.mu.Lock()
	m.unlisted = d.Self == identity.Unknown
	if !m.unlisted {
		m.desired = &d
	}
	unlisted := m.unlisted
	m.mu.Unlock()
	if unlisted {
		return // what was in force stays in force
	}
	m.names.book.Store(newBook(snapshot, d))
	m.conductor.Set(d)
}

// blind reports whether some policy is known by name alone, since this agent
// does not understand any version of it that it has seen. What it allows or
// denies here cannot be told, so that what was in force stays in force.
func (m *member) blind(s state.Snapshot) bool {
	for _, name := range m.refused.names("policies") {
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
	cfg := m.opts.Config
	failsafe, _ := facts.ParseFailsafe(cfg.Failsafe) // Validate has checked it
	l := plan.Local{
		Node: m.enrolment.Node, Cluster: m.enrolment.Cluster,
		Mesh4: m.enrolment.Mesh4, Mesh6: m.enrolment.Mesh6, Pools: m.enrolment.Pools,
		Device: cfg.WireGuard.Device, Addresses: m.uplinks.Addresses, MTU: m.uplinks.MTU,
		Services: facts.Services(facts.Ports{
			WireGuard: uint16(cfg.WireGuard.Port), API: portsIn(m.enrolment.Servers), Etcd: portsIn(m.enrolment.Etcd),
			Server: m.enrolment.Server, SSH: slices.Concat(m.ssh, m.sshBefore),
		}, failsafe),
		PeerPinholes: failsafe.PeerRemotes(),
	}
	for _, u := range m.uplinks.Uplinks {
		l.Uplinks = append(l.Uplinks, u.Name)
	}
	return l, true
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

// reporting shows this host to a server at each of its addresses, since a claim
// to an address counts only where a server saw the host at it.
func (m *member) reporting(ctx context.Context) error {
	wait := reportSoonest
	var shown []netip.Addr
	for {
		m.mu.Lock()
		uplinks := m.uplinks
		m.mu.Unlock()
		if uplinks != nil && !slices.Equal(shown, uplinks.Addresses) {
			_, err := client.ReportAddresses(ctx, m.enrolment, uplinks.Addresses)
			m.noteReported(err)
			if err == nil {
				shown = uplinks.Addresses
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.moved:
			wait = reportSoonest
		case <-time.After(wait):
			wait = min(2*wait, reportLatest)
		}
	}
}

func (m *member) noteReported(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && m.reported == nil {
		m.logger.Warn("servers do not see all addresses", "error", err)
	}
	m.reported = err
	if err != nil {
		m.reported = fmt.Errorf("show this host's addresses to a server: %w", err)
	}
}
