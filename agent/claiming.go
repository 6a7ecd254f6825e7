package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/agent/facts"
	"github.com/plexusmesh/plexus/control/client"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/kvstore/publish"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// Servers are shown our addresses again after reportSoonest when that failed,
// then twice as late each time, up to reportLatest.
const (
	reportSoonest = 2 * time.Second
	reportLatest  = time.Minute
)

// publish claims what this host is, and life, once its addresses are known and
// whenever anything of it has changed.
func (m *member) publish() {
	c, known := m.claim()
	if !known || m.claimed != nil && m.claimed.Equal(c) {
		return
	}
	claim, cerr := schema.EncodeClaim(c)
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
		return
	}
	m.claimed = &c
}

// claim is what this host says of itself; false while its addresses are unknown.
func (m *member) claim() (mesh.Claim, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.uplinks == nil {
		return mesh.Claim{}, false
	}
	open := m.servicesLocked()
	if m.desired != nil {
		open = m.desired.Pinholes
	}
	return mesh.Claim{
		Node: m.enrolment.Node, Addresses: m.uplinks.Addresses, Direct: m.directLocked(), Key: m.kernel.key.Public(),
		Port: uint16(m.opts.Config.WireGuard.Port), Version: m.opts.Version,
		NamedPorts: m.namedPorts, Listening: m.found.Listening, Pinholes: facts.Words(slices.Collect(maps.Keys(open))),
	}, true
}

// directLocked are the node addresses that others may reach through the tunnel:
// those on this host's own interfaces. One that only address translation has, and
// an administrator advertises, would come out of the tunnel as nobody's.
func (m *member) directLocked() []netip.Addr {
	if !m.opts.Config.Encryption.NodeAddresses {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(m.uplinks.Addresses), func(a netip.Addr) bool {
		return !slices.ContainsFunc(m.uplinks.Uplinks, func(u device.Uplink) bool { return slices.Contains(u.Addresses, a) })
	})
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
